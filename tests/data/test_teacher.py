from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from tests.models.families import conversation, group
from tests.tiny import make_tokenizer
from transformers import PreTrainedTokenizerFast

from ridgeline.data.teacher import (
    Kept,
    TeacherFile,
    check_same_vocabulary,
    vocabulary_digest,
    write_teacher_topk,
)
from ridgeline.models.batch import Row
from ridgeline.schema.errors import DataError, RunError, UsageError

ROWS: list[Row] = [*group(5, [3, 1], 1), *conversation(11, [2, 3, 7, 10], 2)]


def answers(k: int = 4) -> list[Kept]:
    random = np.random.default_rng(0)
    return [
        Kept(
            random.permuted(np.tile(np.arange(61), (len(row.targets), 1)), axis=1)[:, :k],
            -np.sort(random.exponential(size=(len(row.targets), k))).astype(np.float32),
        )
        for row in ROWS
    ]


@pytest.fixture(params=["teacher.parquet", "teacher.jsonl"])
def written(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    path = tmp_path / str(request.param)
    digest = vocabulary_digest(make_tokenizer())
    write_teacher_topk(path, ROWS, answers(), temperature=1.5, vocabulary=digest)
    return path


def test_what_was_written_is_read_bit_for_bit_in_any_order(written: Path) -> None:
    file = TeacherFile(written)
    assert (file.k, file.temperature) == (4, 1.5)
    kept = answers()
    ids, logprobs = file([ROWS[2], ROWS[0]])
    assert torch.equal(ids, torch.from_numpy(np.concatenate([kept[2].ids, kept[0].ids])))
    assert torch.equal(logprobs, torch.from_numpy(np.concatenate([kept[2].logprobs, kept[0].logprobs])))
    assert logprobs.dtype == torch.float32


def test_fewer_tokens_than_were_kept_are_the_likeliest(written: Path) -> None:
    ids, logprobs = TeacherFile(written, k=2)(ROWS[:1])
    assert torch.equal(ids, torch.from_numpy(answers()[0].ids[:, :2]))
    assert torch.equal(logprobs, torch.from_numpy(answers()[0].logprobs[:, :2]))
    with pytest.raises(UsageError, match=r"holds 4 tokens per position; divergence\.k = 5"):
        TeacherFile(written, k=5)


def test_a_row_is_its_tokens_and_its_targets(written: Path) -> None:
    file = TeacherFile(written)
    other = Row(ROWS[0].ids, ROWS[0].targets[:-1])
    longer = Row(np.append(ROWS[0].ids, 3), ROWS[0].targets)
    for row in (other, longer):
        with pytest.raises(DataError, match=r"says nothing about a row of \d+ tokens that begins with"):
            file([ROWS[1], row])


def test_a_file_for_another_student_is_refused(written: Path) -> None:
    file = TeacherFile(written)
    file.check(make_tokenizer(), 1.5)
    with pytest.raises(UsageError, match=r"temperature 1\.5, and divergence\.temperature is 1\.0"):
        file.check(make_tokenizer(), 1.0)
    with pytest.raises(UsageError, match="another vocabulary"):
        file.check(renamed(make_tokenizer()), 1.5)


def renamed(tokenizer: PreTrainedTokenizerFast) -> PreTrainedTokenizerFast:
    """The same but for the name of token 10."""
    state = json.loads(tokenizer.backend_tokenizer.to_str())
    word = next(token for token, number in state["model"]["vocab"].items() if number == 10)
    state["model"]["vocab"] = {
        ("Ωnew" if token == word else token): number for token, number in state["model"]["vocab"].items()
    }
    state["model"]["merges"] = []
    from tokenizers import Tokenizer

    return PreTrainedTokenizerFast(
        tokenizer_object=Tokenizer.from_str(json.dumps(state)),
        eos_token="<|im_end|>",
        chat_template=tokenizer.chat_template,
    )


def test_the_first_token_that_differs_is_named() -> None:
    student = make_tokenizer()
    check_same_vocabulary(student, make_tokenizer(), "twin")
    with pytest.raises(UsageError, match="teacher 'other' has another vocabulary: token 10 is 'Ωnew' there"):
        check_same_vocabulary(student, renamed(student), "other")
    larger = make_tokenizer()
    larger.add_tokens(["<more>"])
    with pytest.raises(UsageError, match="is '<more>' there and None in the student"):
        check_same_vocabulary(student, larger, "larger")


def test_turns_have_to_end_alike() -> None:
    other = make_tokenizer()
    other.chat_template = other.chat_template.replace("<|im_end|>", "<|endoftext|>")
    with pytest.raises(
        UsageError, match=r"ends a turn with <\|endoftext\|> and the student with <\|im_end\|>"
    ):
        check_same_vocabulary(make_tokenizer(), other, "other")


def change(path: Path, **columns: Any) -> Path:
    rows = pq.read_table(path).to_pylist() if path.suffix == ".parquet" else []
    rows = rows or [json.loads(line) for line in path.read_text().splitlines()]
    rows[1] |= columns
    out = path.with_suffix(".jsonl")
    out.write_text(
        "".join(json.dumps({k: v for k, v in row.items() if v is not None}) + "\n" for row in rows)
    )
    return out


def test_damage_is_named(written: Path, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="row 2: the column 'targets'"):
        TeacherFile(change(written, targets=None))
    with pytest.raises(DataError, match=r"row 2, top_ids: 2 targets and k = 4 need 8 ids"):
        TeacherFile(change(written, targets=[5, 6]))
    with pytest.raises(UsageError, match=r"no file .*missing\.parquet"):
        TeacherFile(tmp_path / "missing.parquet")
    broken = tmp_path / "broken.parquet"
    broken.write_bytes(b"PAR1")
    with pytest.raises(DataError, match="not a readable Parquet file"):
        TeacherFile(broken)
    write_teacher_topk(tmp_path / "empty.parquet", [], [], temperature=1.0, vocabulary="")
    with pytest.raises(DataError, match="holds no row"):
        TeacherFile(tmp_path / "empty.parquet")


def test_an_unwritable_place_is_named(tmp_path: Path) -> None:
    with pytest.raises(RunError, match="cannot write"):
        write_teacher_topk(tmp_path / "no" / "t.parquet", ROWS, answers(), temperature=1.0, vocabulary="")
