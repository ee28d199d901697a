from __future__ import annotations

import functools
import sys
from pathlib import Path

import pytest

from ridgeline.rewards.builtin import BUILTIN
from ridgeline.rewards.resolve import reference_of, resolve
from ridgeline.schema.errors import UsageError
from tests.rewards import functions
from tests.rewards.samples import batch


@pytest.mark.parametrize("name", BUILTIN)
def test_every_builtin_resolves(name: str) -> None:
    resolved = resolve(name)
    assert resolved.name == name and resolved.builtin and resolved.reference == BUILTIN[name]
    assert resolved.function.__name__ == name


def test_module_and_function() -> None:
    resolved = resolve("tests.rewards.functions:lengths")
    assert resolved.function is functions.lengths and not resolved.builtin


def test_file_is_anchored_and_read_anew(tmp_path: Path) -> None:
    path = tmp_path / "mine.py"
    path.write_text("def f(samples):\n    return [1.0] * len(samples)\n")
    before = list(sys.path)
    resolved = resolve("mine.py:f", folder=tmp_path)
    assert resolved.reference == f"{path}:f" and resolved.name == "mine.py:f"
    assert resolved.function(batch(1, 1)) == [1.0]
    path.write_text("def f(samples):\n    return [2.0] * len(samples) if samples else []\n")
    assert resolve(f"{path}:f").function(batch(1, 1)) == [2.0]
    assert sys.path == before


def test_module_in_the_working_directory_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "rewards_of_a_user.py").write_text(
        "class Judge:\n    @staticmethod\n    def f(s):\n        return []\n"
    )
    monkeypatch.chdir(tmp_path)
    assert resolve("rewards_of_a_user:Judge.f").function([]) == []


@pytest.mark.parametrize(
    ("function", "sentence"),
    [
        ("sentimnt", "unknown reward 'sentimnt'; did you mean 'sentiment'"),
        ("zzz", "unknown reward 'zzz'; valid: addition, .*package.module:function"),
        ("mine.py", "name the function too: mine.py:function"),
        (":f", "write package.module:function"),
        ("not_there.mine:f", "importing not_there.mine fails with ModuleNotFoundError"),
        ("nowhere/mine.py:f", "there is no file .*/nowhere/mine.py"),
        ("tests.rewards.functions:lenghts", "has no 'lenghts'; did you mean 'lengths'"),
        ("tests.rewards.functions:NOT_A_FUNCTION", "'NOT_A_FUNCTION' is of type int, not a function"),
    ],
)
def test_each_mistake_has_its_sentence(function: str, sentence: str) -> None:
    with pytest.raises(UsageError, match=sentence):
        resolve(function)


def test_file_that_fails_on_import_says_why(tmp_path: Path) -> None:
    (tmp_path / "bad.py").write_text("raise RuntimeError('no licence')\n")
    with pytest.raises(UsageError, match=r"bad\.py fails with RuntimeError: no licence"):
        resolve("bad.py:f", folder=tmp_path)
    (tmp_path / "worse.py").write_text("def f(:\n")
    with pytest.raises(UsageError, match="SyntaxError"):
        resolve("worse.py:f", folder=tmp_path)


def test_only_what_another_process_can_import_has_a_reference() -> None:
    def closure(samples: object) -> list[float | None]:
        return []

    assert reference_of(functions.lengths) == "tests.rewards.functions:lengths"
    assert reference_of(closure) is None
    assert reference_of(lambda samples: []) is None
    assert reference_of(functools.partial(functions.lengths)) is None
