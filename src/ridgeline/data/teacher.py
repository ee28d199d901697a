"""What a teacher said, on disk: its likeliest tokens at every scored position of every row.

One record per row, in Parquet or JSONL:

    tokens        list of ids of the whole row      targets     positions that are scored, N of them
    top_ids       N * k ids, likeliest first        top_logprobs  N * k nats over the whole vocabulary
    k, temperature, vocabulary (a digest)           the same in every record

Rows are found again by their content, so neither order nor number of the rows has to stay.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from transformers import PreTrainedTokenizerBase

from ridgeline.data.sources import read_rows
from ridgeline.data.template import end_of_turn
from ridgeline.models.batch import FloatArray, IntArray, Row
from ridgeline.schema.errors import DataError, RunError, UsageError

COLUMNS = ("tokens", "targets", "top_ids", "top_logprobs", "k", "temperature", "vocabulary")


def check_same_vocabulary(
    student: PreTrainedTokenizerBase, teacher: PreTrainedTokenizerBase, name: str
) -> None:
    """Token for token: divergences compare the probabilities of one id on both sides.

    Raises:
        UsageError: the first id that differs, or that the two end a turn with different tokens.
    """
    ours, theirs = _by_id(student), _by_id(teacher)
    for number in sorted(ours.keys() | theirs.keys()):
        if ours.get(number) != theirs.get(number):
            raise UsageError(
                f"the teacher '{name}' has another vocabulary: token {number} is {theirs.get(number)!r} "
                f"there and {ours.get(number)!r} in the student; use a teacher with the student's tokenizer."
            )
    own, other = end_of_turn(student), end_of_turn(teacher)
    if own.id != other.id:
        raise UsageError(
            f"the teacher '{name}' ends a turn with {other.token} and the student with {own.token}; "
            'give both one chat template, such as chat_template = "chatml".'
        )


def vocabulary_digest(tokenizer: PreTrainedTokenizerBase) -> str:
    """16 hexadecimal digits that depend on every token and its id."""
    return hashlib.sha256(json.dumps(sorted(_by_id(tokenizer).items())).encode()).hexdigest()[:16]


def _by_id(tokenizer: PreTrainedTokenizerBase) -> dict[int, str]:
    return {number: token for token, number in tokenizer.get_vocab().items()}


@dataclass(frozen=True)
class Kept:
    """The teacher's tokens at the scored positions of one row, likeliest first: both ``[N, k]``."""

    ids: IntArray
    logprobs: FloatArray


def write_teacher_topk(
    path: Path, rows: Sequence[Row], kept: Sequence[Kept], *, temperature: float, vocabulary: str
) -> None:
    """Replace ``path`` (``.parquet`` or ``.jsonl``) by what a teacher said about ``rows``.

    Raises:
        RunError: the file cannot be written; what was there before is intact.
    """
    records = [
        {
            "tokens": row.ids.tolist(),
            "targets": row.targets.tolist(),
            "top_ids": one.ids.astype(np.int32).ravel(),
            "top_logprobs": one.logprobs.ravel(),
            "k": one.ids.shape[1],
            "temperature": temperature,
            "vocabulary": vocabulary,
        }
        for row, one in zip(rows, kept, strict=True)
    ]
    aside = path.with_name(f".{path.name}.writing")
    try:
        if path.suffix == ".jsonl":
            lines = (
                json.dumps({k: getattr(v, "tolist", lambda v=v: v)() for k, v in r.items()}) for r in records
            )
            aside.write_text("".join(line + "\n" for line in lines), encoding="utf-8")
        else:
            pq.write_table(pa.Table.from_pylist(records), aside, compression="zstd")
        aside.replace(path)
    except OSError as error:
        aside.unlink(missing_ok=True)
        reason = error.strerror or str(error)
        raise RunError(f"cannot write {path}: {reason}; free some space, then: ridgeline resume.") from None


class TeacherFile:
    """A file of ``write_teacher_topk`` in memory; called with rows, it answers for their scored positions."""

    def __init__(self, path: str | Path, *, k: int | None = None) -> None:
        """``k``: how many of the kept tokens to use; None: all.

        Raises:
            DataError: a missing column, or arrays whose lengths do not fit.
            UsageError: fewer tokens were kept than asked for, or there is no such file.
        """
        self.path = str(path)
        self.rows: dict[bytes, Kept] = {}
        for number, record in enumerate(_records(Path(path)), start=1):
            where = f"{self.path}, row {number}"
            self.k, self.temperature = int(record["k"]), float(record["temperature"])
            self.vocabulary = str(record["vocabulary"])
            targets, ids = np.asarray(record["targets"]), np.asarray(record["top_ids"])
            logprobs = np.asarray(record["top_logprobs"], dtype=np.float32)
            if len(ids) != len(targets) * self.k or len(logprobs) != len(ids):
                raise DataError(
                    f"{where}, top_ids: {len(targets)} targets and k = {self.k} need {len(targets) * self.k} "
                    f"ids and log-probs, found {len(ids)} and {len(logprobs)}."
                )
            shape = (len(targets), self.k)
            kept = Kept(ids.astype(np.int64).reshape(shape), logprobs.reshape(shape))
            self.rows[_key(np.asarray(record["tokens"]), targets)] = kept
        if not self.rows:
            raise DataError(f"{self.path} holds no row.")
        if k is not None and k > self.k:
            raise UsageError(
                f"{self.path} holds {self.k} tokens per position; divergence.k = {k} needs more."
            )
        self.k = self.k if k is None else k

    def check(self, tokenizer: PreTrainedTokenizerBase, temperature: float) -> None:
        """That the file fits this student.

        Raises:
            UsageError: another vocabulary or another temperature.
        """
        if self.vocabulary != vocabulary_digest(tokenizer):
            raise UsageError(
                f"{self.path} was written for another vocabulary; write it with a teacher of this tokenizer."
            )
        if self.temperature != temperature:
            raise UsageError(
                f"{self.path} was written at temperature {self.temperature}, and divergence.temperature is "
                f"{temperature}; k tokens cannot be brought to another one."
            )

    def __call__(self, rows: Sequence[Row]) -> tuple[torch.Tensor, torch.Tensor]:
        """(ids, log-probs), both ``[S, k]`` over the scored positions of ``rows`` in order.

        Raises:
            DataError: the teacher was not asked about one of the rows.
        """
        kept = []
        for row in rows:
            found = self.rows.get(_key(row.ids, row.targets))
            if found is None:
                raise DataError(
                    f"{self.path} says nothing about a row of {len(row.ids)} tokens that begins with "
                    f"{row.ids[:8].tolist()}; write it with the same data, template and max_length."
                )
            kept.append(found)
        ids_SK = np.concatenate([one.ids[:, : self.k] for one in kept])
        logprobs_SK = np.concatenate([one.logprobs[:, : self.k] for one in kept])
        return torch.from_numpy(ids_SK), torch.from_numpy(logprobs_SK)


def _key(ids: npt.NDArray[Any], targets: npt.NDArray[Any]) -> bytes:
    digest = hashlib.sha256(np.asarray(ids, dtype="<i8").tobytes())
    digest.update(b"targets")
    digest.update(np.asarray(targets, dtype="<i8").tobytes())
    return digest.digest()


def _records(path: Path) -> Iterator[dict[str, Any]]:
    """Rows of either format; the long columns of Parquet as arrays, never as Python numbers."""
    if path.suffix == ".parquet":
        table = _table(path)
        names, rows = table.column_names, range(table.num_rows)
        found: Iterator[dict[str, Any]] = ({n: _plain(table[n][i]) for n in names} for i in rows)
    else:
        found = iter(read_rows(str(path)))
    for number, record in enumerate(found, start=1):
        missing = [name for name in COLUMNS if name not in record]
        if missing:
            raise DataError(f"{path}, row {number}: the column '{missing[0]}' of a teacher file is missing.")
        yield record


def _table(path: Path) -> Any:
    try:
        return pq.read_table(path)
    except FileNotFoundError:
        raise UsageError(f"there is no file {path}; check teacher_file.") from None
    except (pa.ArrowException, OSError) as error:
        raise DataError(f"{path} is not a readable Parquet file ({error}).") from None


def _plain(value: Any) -> Any:
    return value.values.to_numpy() if isinstance(value, pa.ListScalar) else value.as_py()
