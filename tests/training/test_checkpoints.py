from __future__ import annotations

import errno
from pathlib import Path
from typing import Any

import pytest
import torch
from tests.training.jobs import engine_for, policy

from ridgeline.models.forward import PolicyForward
from ridgeline.schema.errors import RunError
from ridgeline.training import checkpoints, optimiser
from ridgeline.training.checkpoints import latest_checkpoint, load_checkpoint, save_checkpoint, step_of
from ridgeline.training.local import LocalEngine


@pytest.fixture
def engine() -> LocalEngine:
    return engine_for(policy(), PolicyForward())


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_the_last_two_are_kept(engine: LocalEngine, tmp_path: Path) -> None:
    for step in (2, 4, 6, 10):
        save_checkpoint(tmp_path, step, engine, {"n": step})
    assert names(tmp_path) == ["step-000006", "step-000010"]
    newest = latest_checkpoint(tmp_path)
    assert newest is not None and step_of(newest) == 10
    assert load_checkpoint(newest, engine) == {"n": 10}


def test_order_is_that_of_numbers(engine: LocalEngine, tmp_path: Path) -> None:
    for step in (999_999, 1_000_000):
        save_checkpoint(tmp_path, step, engine, {})
    newest = latest_checkpoint(tmp_path)
    assert newest is not None and step_of(newest) == 1_000_000


def test_state_comes_back_as_it_was(engine: LocalEngine, tmp_path: Path) -> None:
    state = {"units": [[{"ids": torch.arange(3)}]], "signal": [True], "adaptive": None, "x": 0.1 + 0.2}
    restored = load_checkpoint(save_checkpoint(tmp_path, 1, engine, state), engine)
    assert torch.equal(restored.pop("units")[0][0]["ids"], torch.arange(3))
    assert restored == {"signal": [True], "adaptive": None, "x": 0.1 + 0.2}


def test_half_written_ones_are_ignored(engine: LocalEngine, tmp_path: Path) -> None:
    assert latest_checkpoint(tmp_path) is None
    assert latest_checkpoint(tmp_path / "not there") is None
    good = save_checkpoint(tmp_path, 3, engine, {})
    (tmp_path / ".step-000005.writing").mkdir()
    (tmp_path / ".step-000005.writing" / "state.json").write_text("{}")
    (tmp_path / "step-000009").mkdir()  # no state.json: copied by hand and cut short
    assert latest_checkpoint(tmp_path) == good
    assert (save_checkpoint(tmp_path, 5, engine, {})).name == "step-000005"
    assert ".step-000005.writing" not in names(tmp_path)


def full_disk(*arguments: Any, **options: Any) -> None:
    raise OSError(errno.ENOSPC, "No space left on device")


@pytest.mark.parametrize("where", ["weights", "state", "torch", "rename"])
def test_a_full_disk_leaves_the_old_one_intact(
    where: str, engine: LocalEngine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    old = save_checkpoint(tmp_path, 2, engine, {"n": 2})
    content = {path.name: path.read_bytes() for path in old.iterdir()}
    if where == "weights":
        monkeypatch.setattr(optimiser, "save_file", full_disk)
    elif where == "state":
        monkeypatch.setattr(checkpoints.torch, "save", full_disk)
    elif where == "torch":

        def writer_fails(*arguments: Any) -> None:
            raise RuntimeError("[enforce fail at inline_container.cc:668] . unexpected pos 64 vs 0\nmore")

        monkeypatch.setattr(checkpoints.torch, "save", writer_fails)
    else:
        monkeypatch.setattr(Path, "rename", full_disk)
    with pytest.raises(RunError) as error:
        save_checkpoint(tmp_path, 4, engine, {"n": 4})
    text = str(error.value)
    assert "the checkpoint of step 2 is intact" in text and "ridgeline resume" in text and "\n" not in text
    assert where == "torch" or "No space left on device" in text
    assert error.value.exit_code == 4
    assert names(tmp_path) == ["step-000002"]
    assert {path.name: path.read_bytes() for path in old.iterdir()} == content
    monkeypatch.undo()
    assert load_checkpoint(old, engine) == {"n": 2}
    save_checkpoint(tmp_path, 4, engine, {"n": 4})


def test_a_full_disk_at_the_first_checkpoint(
    engine: LocalEngine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(checkpoints.torch, "save", full_disk)
    with pytest.raises(RunError, match="there is no older checkpoint"):
        save_checkpoint(tmp_path, 4, engine, {})


def test_a_kill_before_the_rename_leaves_the_old_one(
    engine: LocalEngine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """KeyboardInterrupt stands for SIGKILL: no handler of ours runs for it."""
    old = save_checkpoint(tmp_path, 2, engine, {})

    def killed(path: Path) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(checkpoints, "_sync", killed)
    with pytest.raises(KeyboardInterrupt):
        save_checkpoint(tmp_path, 4, engine, {})
    assert latest_checkpoint(tmp_path) == old


def test_a_kill_while_an_old_one_is_removed_leaves_no_halves(
    engine: LocalEngine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without the rename, files that go one by one would look like a checkpoint for a while."""
    for step in (2, 4):
        save_checkpoint(tmp_path, step, engine, {})

    def killed(path: Path, ignore_errors: bool = False) -> None:
        if path.is_dir():
            next(file for file in path.iterdir() if file.name != "state.json").unlink()
            raise KeyboardInterrupt

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(checkpoints.shutil, "rmtree", killed)
        save_checkpoint(tmp_path, 6, engine, {})
    complete = ["job.pt", "policy.safetensors", "state.json"]
    assert {path.name: names(path) for path in tmp_path.glob("step-*")} == {
        "step-000004": complete,
        "step-000006": complete,
    }
    save_checkpoint(tmp_path, 8, engine, {})
    assert names(tmp_path) == ["step-000006", "step-000008"]


def test_everything_is_synced_before_the_rename(
    engine: LocalEngine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    done: list[str] = []
    plain_sync, plain_rename = checkpoints._sync, Path.rename
    monkeypatch.setattr(checkpoints, "_sync", lambda p: (done.append(p.name), plain_sync(p)))
    monkeypatch.setattr(Path, "rename", lambda p, to: (done.append("RENAME"), plain_rename(p, to))[1])
    save_checkpoint(tmp_path / "c", 1, engine, {})
    before = done[: done.index("RENAME")]
    assert set(before) == {"policy.safetensors", "job.pt", "state.json", ".step-000001.writing"}
    assert done[done.index("RENAME") + 1 :] == ["c"]
