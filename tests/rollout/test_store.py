from __future__ import annotations

import math
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from ridgeline.rollout import store
from ridgeline.rollout.store import read_samples, write_samples
from ridgeline.schema.records import Sample


def sample(index: int, **changes: object) -> Sample:
    values = {
        "prompt_id": "p",
        "index": index,
        "prompt_ids": [1, 2],
        "completion_ids": [3, 4 + index],
        "logprobs": [-0.1, -1 / 3],
        "generated": [True, False],
        "stop_reason": "stop",
        "text": "naïve ✓ \u2028 \x00 end",
        "temperature": 0.7,
        "top_p": 1.0,
        "top_k": 0,
        "min_p": 0.1,
        "repetition_penalty": 1.2,
        "logit_bias": {"7": -100.0, " yes": 1.5},
        "stop_string": "\n\n",
        "weight_version": 5,
        "row": {"topic": "rain", "n": 1, "nested": {"x": [1, None]}},
        "rewards": {"judge": 0.1 + 0.2, "failed": None},
    }
    return Sample(**{**values, **changes})


def test_samples_come_back_exactly(tmp_path: Path) -> None:
    samples = [sample(0), sample(1, row={}, rewards={"other": -1.0}), sample(2, stop_reason="length")]
    write_samples(tmp_path / "deep" / "step-000001.parquet", samples)
    assert read_samples(tmp_path / "deep" / "step-000001.parquet") == samples


def test_a_file_of_an_earlier_version_is_read(tmp_path: Path) -> None:
    newer = (
        "min_p",
        "repetition_penalty",
        "presence_penalty",
        "frequency_penalty",
        "logit_bias",
        "stop_string",
    )
    write_samples(tmp_path / "s.parquet", [sample(0)])
    pq.write_table(pq.read_table(tmp_path / "s.parquet").drop_columns(list(newer)), tmp_path / "old.parquet")
    (old,) = read_samples(tmp_path / "old.parquet")
    assert old == sample(0, min_p=0.0, repetition_penalty=1.0, logit_bias={}, stop_string="")


def test_nan_rewards_and_logprobs_survive(tmp_path: Path) -> None:
    write_samples(tmp_path / "s.parquet", [sample(0, rewards={"bad": math.nan}, logprobs=[-math.inf, 0.0])])
    (again,) = read_samples(tmp_path / "s.parquet")
    assert math.isnan(again.rewards["bad"])
    assert again.logprobs == [-math.inf, 0.0]


def test_no_samples(tmp_path: Path) -> None:
    write_samples(tmp_path / "s.parquet", [])
    assert read_samples(tmp_path / "s.parquet") == []


def test_same_samples_same_bytes(tmp_path: Path) -> None:
    write_samples(tmp_path / "a.parquet", [sample(0), sample(1)])
    write_samples(tmp_path / "b.parquet", [sample(0), sample(1)])
    assert (tmp_path / "a.parquet").read_bytes() == (tmp_path / "b.parquet").read_bytes()


def test_a_write_that_fails_leaves_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "s.parquet"
    write_samples(path, [sample(0)])

    def full(table: object, where: Path, **options: object) -> None:
        where.write_bytes(b"half")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(store.pq, "write_table", full)
    with pytest.raises(Exception, match="No space left"):
        write_samples(path, [sample(1)])
    assert read_samples(path) == [sample(0)]
    assert [p.name for p in tmp_path.glob("*.parquet")] == ["s.parquet"]
