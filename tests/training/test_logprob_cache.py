"""Cached log-probs are those of the model as it is, whoever wrote them and whatever became of the file."""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tests.models.families import make_model, mixed_units
from tests.tiny import make_tiny_model

from ridgeline.models.adapters import WithoutAdapter, add_adapter
from ridgeline.models.forward import PolicyForward
from ridgeline.models.load import load_model
from ridgeline.schema.stages.common import Adapter, Optimiser
from ridgeline.training import logprob_cache
from ridgeline.training.local import LocalEngine
from ridgeline.training.logprob_cache import reference_logprobs


def engine_with(module: Any, forward: Any = None) -> LocalEngine:
    engine = LocalEngine()
    engine.add("reference", module, forward or PolicyForward())
    return engine


def flat(found: list[np.ndarray]) -> np.ndarray:
    return np.concatenate(found)


def never(*arguments: Any) -> Any:
    raise AssertionError("the reference was scored again")


def test_second_time_comes_from_disk_in_any_order(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    units = mixed_units()
    engine = engine_with(make_model("llama"))
    first = reference_logprobs(engine, "reference", units, folder=tmp_path)
    direct = [score["logp"] for score in engine.score("reference", units)]
    np.testing.assert_allclose(flat(first), flat(direct), atol=1e-5)
    again = engine_with(make_model("llama"))  # another process, the same weights
    monkeypatch.setattr(again, "score", never)
    reordered = [units[index] for index in (3, 0, 5, 1, 4, 2)]
    second = reference_logprobs(again, "reference", reordered, folder=tmp_path)
    expected = iter(second)
    by_row = {row.ids.tobytes(): next(expected) for unit in reordered for row in unit}
    for row, logp in zip((row for unit in units for row in unit), first, strict=True):
        assert np.array_equal(by_row[row.ids.tobytes()], logp)


@pytest.mark.parametrize("what", ["weights", "temperature", "rows"])
def test_whatever_numbers_depend_on_makes_another_entry(what: str, tmp_path: Path) -> None:
    units = mixed_units()
    reference_logprobs(engine_with(make_model("llama")), "reference", units, folder=tmp_path)
    model = make_model("llama")
    forward = PolicyForward()
    if what == "weights":
        with torch.no_grad():
            next(model.parameters())[3, 5] += 1e-3
    elif what == "temperature":
        forward = PolicyForward(temperature=1.1)
    else:
        units = units[:-1]
    engine = engine_with(model, forward)
    found = reference_logprobs(engine, "reference", units, folder=tmp_path)
    assert len(list(tmp_path.glob("*.safetensors"))) == 2
    direct = [score["logp"] for score in engine.score("reference", units)]
    np.testing.assert_allclose(flat(found), flat(direct), atol=1e-5)


@pytest.mark.parametrize("damage", [b"", b"rubbish" * 50, None])
def test_a_damaged_entry_is_made_anew(damage: bytes | None, tmp_path: Path) -> None:
    units = mixed_units()
    engine = engine_with(make_model("llama"))
    first = flat(reference_logprobs(engine, "reference", units, folder=tmp_path))
    entry = next(tmp_path.glob("*.safetensors"))
    whole = entry.read_bytes()
    entry.write_bytes(whole[: len(whole) // 2] if damage is None else damage)
    assert np.array_equal(flat(reference_logprobs(engine, "reference", units, folder=tmp_path)), first)
    assert entry.read_bytes() == whole


def test_writers_at_once_leave_one_whole_entry(tmp_path: Path) -> None:
    units = mixed_units()
    engines = [engine_with(make_model("llama")) for _ in range(4)]
    with ThreadPoolExecutor(4) as pool:
        found = list(
            pool.map(
                lambda engine: flat(reference_logprobs(engine, "reference", units, folder=tmp_path)), engines
            )
        )
    assert all(np.allclose(each, found[0], atol=1e-6) for each in found)
    assert [path.suffix for path in tmp_path.iterdir()] == [".safetensors"]


def test_a_cache_that_cannot_be_written_stops_nothing(tmp_path: Path) -> None:
    file = tmp_path / "not-a-folder"
    file.write_text("")
    found = reference_logprobs(engine_with(make_model("llama")), "reference", mixed_units(), folder=file)
    assert np.isfinite(flat(found)).all()


def test_the_oldest_entries_go_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    units = mixed_units()
    engine = engine_with(make_model("llama"))
    for count in (1, 2, 3):
        reference_logprobs(engine, "reference", units[:count], folder=tmp_path)
        for path in tmp_path.glob("*.safetensors"):
            os.utime(path, (path.stat().st_atime, path.stat().st_mtime - 10))
    before = set(tmp_path.glob("*.safetensors"))
    oldest = min(before, key=lambda path: path.stat().st_mtime)
    monkeypatch.setattr(logprob_cache, "LIMIT", sum(path.stat().st_size for path in before))
    reference_logprobs(engine, "reference", units[:4], folder=tmp_path)
    after = set(tmp_path.glob("*.safetensors"))
    assert oldest not in after and after - before


def test_a_model_without_its_adapter_shares_the_entry(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A run that trains an adapter reads what a run that trains every weight has written."""
    folder = make_tiny_model(tmp_path / "model")
    units = mixed_units()
    plain = engine_with(load_model(str(folder)).module)
    first = reference_logprobs(plain, "reference", units, folder=tmp_path / "cache")
    model = load_model(str(folder))
    adapter = add_adapter(model.module, Adapter(rank=2), seed=1)
    engine = LocalEngine()
    engine.add("policy", model.module, PolicyForward(), optimiser=Optimiser())
    engine.add_view("reference", "policy", WithoutAdapter(adapter, PolicyForward()))
    monkeypatch.setattr(engine, "score", never)
    second = reference_logprobs(engine, "reference", units, folder=tmp_path / "cache")
    assert np.array_equal(flat(first), flat(second))
