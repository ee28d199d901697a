from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from tests.tiny import make_tiny_model
from transformers import AutoTokenizer

from ridgeline.schema.errors import UsageError
from ridgeline.workbench.bench.workload import lengths, write_workload
from ridgeline.workbench.bench.works import PEERS, WORKS, Work, find, resized, with_lengths


def test_names_find_works_and_groups() -> None:
    assert [work.name for work in find("sft", against="trl")] == ["sft"]
    assert [work.name for work in find("startup", against=None)] == ["startup-sft", "startup-grpo"]
    assert {work.name for work in find("all", against="vllm")} == {"rollout", "rollout-spread"}
    assert all(set(work.peers) <= set(PEERS) for work in WORKS)


@pytest.mark.parametrize(
    ("name", "against", "words"),
    [
        ("rolout", None, "did you mean 'rollout'?"),
        ("sft", "vllm", "vllm does not do 'sft'; compare it with trl or plain."),
        ("sft", "tlr", "did you mean 'trl'?"),
    ],
)
def test_wrong_names_say_what_is_meant(name: str, against: str | None, words: str) -> None:
    with pytest.raises(UsageError, match=words.replace("?", r"\?")):
        find(name, against=against)


def test_sizes_are_changed_in_the_works_that_have_them() -> None:
    works = find("startup", against=None)
    sft, grpo = resized(works, ["rows=2", "samples=3", "prompt_tokens=9"])
    assert sft.sizes == works[0].sizes | {"rows": 2, "prompt_tokens": 9}
    assert grpo.sizes == works[1].sizes | {"samples": 3, "prompt_tokens": 9}
    for change in ("promts=2", "rows=two", "rows=0", "rows"):
        with pytest.raises(UsageError, match="--size"):
            resized(works, [change])


def test_spread_lengths_are_of_rollouts_only() -> None:
    assert with_lengths("rollout", "spread") == "rollout-spread"
    assert with_lengths("sft", "equal") == "sft"
    with pytest.raises(UsageError, match="goes with rollout"):
        with_lengths("sft", "spread")
    with pytest.raises(UsageError, match="equal or spread"):
        with_lengths("rollout", "ragged")


def test_lengths_stay_within_limits_and_have_a_long_tail() -> None:
    drawn = lengths(np.random.default_rng(0), 4000, shortest=8, longest=256)
    assert min(drawn) >= 8 and max(drawn) == 256
    # Log-normal about longest / 4: half of them below, and a mean well above the median.
    assert abs(np.median(drawn) - 64) < 4
    assert np.mean(drawn) > 1.15 * np.median(drawn)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_tiny_model(tmp_path_factory.mktemp("tiny"))


def _made(work: Work, folder: Path, path: Path, seed: int = 1) -> dict:
    write_workload(work, path, model=folder, tokenizer=AutoTokenizer.from_pretrained(folder), seed=seed)
    return json.loads(path.read_text())


@pytest.mark.parametrize(
    "work", [work for work in WORKS if work.kind != "prepare"], ids=lambda work: work.name
)
def test_a_workload_is_a_function_of_the_seed(work: Work, folder: Path, tmp_path: Path) -> None:
    first = _made(work, folder, tmp_path / "a.json")
    assert first == _made(work, folder, tmp_path / "b.json")
    assert first["batches"] != _made(work, folder, tmp_path / "c.json", seed=2)["batches"]
    assert len(first["batches"]) == max(1, work.warm + work.steps)


def test_rows_have_the_lengths_that_sizes_name(folder: Path, tmp_path: Path) -> None:
    for batch in _made(find("dpo", against=None)[0], folder, tmp_path / "w.json")["batches"]:
        assert len(batch["pairs"]) == 4
        for pair in batch["pairs"]:
            assert len(pair["prompt"]) == 40
            assert all(100 <= 40 + len(pair[side]) <= 200 for side in ("chosen", "rejected"))


def test_texts_of_prompts_are_exactly_their_ids(folder: Path, tmp_path: Path) -> None:
    tokenizer = AutoTokenizer.from_pretrained(folder)
    for batch in _made(find("grpo", against=None)[0], folder, tmp_path / "w.json")["batches"]:
        for prompt in batch["prompts"]:
            assert tokenizer(prompt["text"], add_special_tokens=False)["input_ids"] == prompt["ids"]


def test_rows_for_preparation_are_conversations(folder: Path, tmp_path: Path) -> None:
    work = resized(find("prepare-preference", against=None), ["rows=5"])[0]
    (batch,) = _made(work, folder, tmp_path / "w.json")["batches"]
    rows = [json.loads(line) for line in Path(batch["file"]).read_text().splitlines()]
    assert len(rows) == 5 and len({row["prompt"][0]["content"] for row in rows}) == 5
    assert all(row["chosen"][0]["role"] == row["rejected"][0]["role"] == "assistant" for row in rows)
