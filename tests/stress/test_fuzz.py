"""Broken recipes and broken data lines: accepted, or refused in one sentence, and nothing else."""

from __future__ import annotations

import copy
import json
import random
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import tomli_w

from ridgeline.data.formats import instructions, preferences, prompts, unpaired
from ridgeline.data.sources import read_rows
from ridgeline.schema.errors import DataError, UsageError
from ridgeline.schema.recipe import load_recipe
from ridgeline.schema.run_folder import without_none
from tests.stages import recipes

pytestmark = pytest.mark.stress

JUNK: list[Any] = [
    0,
    -1,
    3.5,
    float("nan"),
    float("inf"),
    True,
    "",
    "x",
    "base",
    "policy",
    [],
    [1],
    ["x"],
    {},
]
JUNK += [{"x": 1}, [{}], [[1]], 10**30, "\u2028", "a/b.jsonl", "../..", "sft", {"function": 3}, "\x00"]


def _places(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Every place inside nested tables and lists."""
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, item in items:
        yield (*path, key)
        yield from _places(item, (*path, key))


def _mutated(values: Any, random_: random.Random) -> Any:
    """One to three places deleted, renamed, given junk, or given what belongs elsewhere."""
    values = copy.deepcopy(values)
    for _ in range(random_.choice((1, 1, 1, 2, 3))):
        places = list(_places(values))
        if not places:
            break
        *above, key = random_.choice(places)
        parent = values
        for part in above:
            parent = parent[part]
        kind = random_.choice(("delete", "rename", "junk", "junk", "retarget"))
        if kind == "delete":
            del parent[key]
        elif kind == "rename" and isinstance(parent, dict):
            parent[random_.choice((f"{key}s", str(key)[:-1], "x", "name", "type"))] = parent.pop(key)
        elif kind == "retarget":
            *other, last = random_.choice(places)
            source = values
            try:
                for part in (*other, last):
                    source = source[part]
            except (KeyError, IndexError, TypeError):
                continue
            parent[key] = copy.deepcopy(source)
        else:
            parent[key] = random_.choice(JUNK)
    return values


def _sentence(call: Callable[[], Any], note: str) -> bool:
    """Whether it was accepted; anything but our two errors fails the test."""
    try:
        call()
    except (UsageError, DataError) as error:
        text = str(error)
        assert text and "\n" not in text, f"{text!r} from {note}"
        assert len(text) < 1000, f"{text!r} from {note}"
        return False
    except Exception as error:
        raise AssertionError(f"{type(error).__name__}: {error} from {note}") from error
    return True


@pytest.mark.parametrize("seed", range(4))
def test_mutated_recipes(seed: int, tmp_path: Path) -> None:
    """200 in all, each through a TOML file, as a user would have it."""
    random_ = random.Random(seed)
    world = recipes.make_world(tmp_path / "world")
    good = without_none(recipes.recipe(world, *recipes.everything(world)).model_dump(mode="json"))
    path = tmp_path / "recipe.toml"
    accepted = 0
    for number in range(50):
        text = tomli_w.dumps(_mutated(good, random_))
        path.write_text(text, encoding="utf-8")
        accepted += _sentence(lambda: load_recipe(path), f"recipe {number} of seed {seed}:\n{text}")
    assert 0 < accepted < 50, "mutations that are all harmless, or all fatal, test little"


ROWS: dict[str, dict[str, Any]] = {
    "instructions": {"messages": [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]},
    "instructions, plain": {"instruction": "a", "input": "c", "output": "b"},
    "prompts": {"id": "p", "prompt": [{"role": "user", "content": "a"}], "topic": "x"},
    "preferences": {
        "prompt": "a",
        "chosen": [{"role": "assistant", "content": "b"}],
        "rejected": [{"role": "assistant", "content": "c"}],
        "scores": {"chosen": 1.0, "rejected": 0.0},
        "first_shown": "chosen",
        "chosen_stopped": True,
    },
    "unpaired": {"prompt": "a", "completion": "b", "label": True},
}
READERS: dict[str, Callable[[Any, str], Any]] = {
    "instructions": instructions,
    "prompts": prompts,
    "preferences": preferences,
    "unpaired": unpaired,
}


@pytest.mark.parametrize("kind", ROWS)
def test_mutated_rows(kind: str, tmp_path: Path) -> None:
    random_ = random.Random(kind)
    path = tmp_path / "rows.jsonl"
    parse = READERS[kind.split(",")[0]]
    for number in range(200):
        row = _mutated(ROWS[kind], random_)
        path.write_text(json.dumps(ROWS[kind]) + "\n" + json.dumps(row) + "\n", encoding="utf-8")
        _sentence(lambda: parse(read_rows(path), str(path)), f"row {number}: {row}")


@pytest.mark.parametrize("suffix", ["jsonl", "json", "csv", "parquet"])
def test_mutated_bytes(suffix: str, tmp_path: Path) -> None:
    """Bytes flipped, cut out, doubled or appended anywhere in a file of any format."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    random_ = random.Random(suffix)
    path = tmp_path / f"rows.{suffix}"
    rows = [{"prompt": f"a {n}", "completion": "bä"} for n in range(3)]
    if suffix == "parquet":
        pq.write_table(pa.Table.from_pylist(rows), path)
    elif suffix == "csv":
        path.write_text(
            "prompt,completion\n" + "".join(f'"{r["prompt"]}",bä\n' for r in rows), encoding="utf-8"
        )
    else:
        text = (
            json.dumps(rows)
            if suffix == "json"
            else "\n".join(json.dumps(r, ensure_ascii=False) for r in rows)
        )
        path.write_text(text, encoding="utf-8")
    good = path.read_bytes()
    for number in range(200):
        data = bytearray(good)
        at = random_.randrange(len(data))
        how = random_.choice(("flip", "cut", "insert", "truncate"))
        if how == "flip":
            data[at] ^= 1 << random_.randrange(8)
        elif how == "cut":
            del data[at : at + random_.randrange(1, 9)]
        elif how == "insert":
            data[at:at] = random_.choice((b"\x00", b'"', b"\n", b"\xff", b"{", b",", b"NaN"))
        else:
            del data[at:]
        path.write_bytes(bytes(data))
        _sentence(lambda: instructions(read_rows(path), str(path)), f"{how} at {at} (number {number})")
