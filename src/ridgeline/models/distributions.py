"""The next-token distributions of a student beside those of its teachers, compared without ever holding them.

Logits exist for one chunk of scored positions at a time, on both sides, and are made again in the backward
pass; what remains of a chunk is a number per position. A teacher that reads the same tokens as the student
needs no more than that. One that reads something else (a hint in the prompt) has rows of its own: a unit then
holds the student's rows and, after them and in their order, the same completions as the teacher sees them.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint
from transformers import PreTrainedModel

from ridgeline.models.batch import MicroBatch, Row, Unit, completion_row
from ridgeline.models.forward import head_logits, read_rows
from ridgeline.objectives.distill import (
    forward_kl,
    generalised_jsd,
    mix_teachers,
    reverse_kl,
    top_k_tail_kl,
)
from ridgeline.objectives.logprobs import log_softmax, token_logprobs
from ridgeline.schema.stages.distill import Divergence

CHUNK_LOGITS = 256 * 49152
"""Logits of one side that exist at one time: 50 MB in float32, of which a divergence holds about ten."""
OUTPUTS = ("divergence", "logp", "teacher_logp")
TOP_K = 64
"""Tokens kept where the recipe does not say."""
TEACHERS_VIEW = "teachers_view"
"""The value that marks a row as what the teacher reads."""

KeptTokens = Callable[[Sequence[Row]], tuple[Tensor, Tensor]]
"""Rows -> the teacher's (ids, log-probs) ``[S, k]`` at their scored positions."""


@dataclass(frozen=True)
class Teacher:
    """A frozen model, the layout it runs in, and its share among the teachers."""

    module: PreTrainedModel
    packed: bool
    weight: float = 1.0


@dataclass
class DistillForward:
    """A student's pass and its teachers' on one micro-batch, as an engine role runs it.

    Returns ``[B, N]``, 0 where nothing is scored: ``divergence`` and the student's ``logp``, with gradient,
    and (unless the teacher is a file) ``teacher_logp``, of several teachers the weighted mean. Log-probs are
    those of the given tokens at ``temperature``; the divergence has its own.
    """

    divergence: Divergence
    temperature: float = 1.0
    teachers: list[Teacher] = field(default_factory=list)
    kept: KeptTokens | None = None

    def __call__(self, module: nn.Module, batch: MicroBatch, packed: bool) -> dict[str, Tensor]:
        assert isinstance(module, PreTrainedModel)
        learning, taught = student_rows(batch), teacher_rows(batch)
        hidden_SH = scored_hidden(module, learning, packed)
        ids_S = learning.target_ids()[learning.mask_BN]
        answers: list[Tensor] = []
        if self.kept is not None:
            answers = [part.to(batch.device) for part in self.kept(learning.rows)]
        else:
            with torch.no_grad():
                answers = [scored_hidden(one.module, taught, one.packed) for one in self.teachers]
        parts: list[tuple[Tensor, ...]] = []
        size = chunk_size(module)
        for start in range(0, max(len(ids_S), 1), size):
            given = [each[start : start + size] for each in (hidden_SH, ids_S, *answers)]
            if torch.is_grad_enabled() and len(ids_S) > size:
                parts.append(checkpoint(self._compared, module, *given, use_reentrant=False))
            else:
                parts.append(self._compared(module, *given))
        mask_BN = student_mask(batch)
        return {
            name: torch.zeros(mask_BN.shape, dtype=column[0].dtype, device=batch.device).masked_scatter(
                mask_BN, torch.cat(column)
            )
            # Without a live teacher there is no third column.
            for name, column in zip(OUTPUTS, zip(*parts, strict=True), strict=False)
        }

    def _compared(
        self, module: PreTrainedModel, hidden_SH: Tensor, ids_S: Tensor, *answers: Tensor
    ) -> tuple[Tensor, ...]:
        """Divergence, log-prob and, with live teachers, the teachers' log-prob of one chunk."""
        student_SV = head_logits(module, hidden_SH)
        logp_S = token_logprobs(student_SV, ids_S, self.temperature)
        if self.kept is not None:
            ids_SK, logp_SK = answers
            return _to_kept(student_SV, ids_SK, logp_SK, self.divergence), logp_S
        with torch.no_grad():
            teachers = [
                head_logits(one.module, each) for one, each in zip(self.teachers, answers, strict=True)
            ]
            total = sum(one.weight for one in self.teachers)
            weights = [one.weight / total for one in self.teachers]
            teacher_logp_S = sum(
                weight * token_logprobs(logits_SV, ids_S, self.temperature)
                for weight, logits_SV in zip(weights, teachers, strict=True)
            )
        # Families pad their heads to different sizes beyond the tokens that exist.
        width = min(logits_SV.shape[-1] for logits_SV in (student_SV, *teachers))
        divergence_S = mix_teachers(
            student_SV[..., :width],
            [logits_SV[..., :width] for logits_SV in teachers],
            weights,
            partial(_between, config=self.divergence),
        )
        assert isinstance(teacher_logp_S, Tensor)
        return divergence_S, logp_S, teacher_logp_S


def most_likely(teacher: Teacher, batch: MicroBatch, config: Divergence, width: int) -> tuple[Tensor, Tensor]:
    """The teacher's ``top_k`` (ids, log-probs) ``[S, k]`` at the scored positions of ``batch``.

    ``width``: rows of the student's head; families pad theirs to different sizes beyond the tokens that
    exist.
    """
    with torch.no_grad():
        hidden_SH = scored_hidden(teacher.module, batch, teacher.packed)
        found = [
            _top_k(head_logits(teacher.module, part_SH)[..., :width], config)
            for part_SH in hidden_SH.split(chunk_size(teacher.module))
        ]
    return torch.cat([ids for ids, _ in found]), torch.cat([logp for _, logp in found])


def chunk_size(module: PreTrainedModel) -> int:
    """Scored positions whose logits exist at one time."""
    return max(1, CHUNK_LOGITS // int(module.get_output_embeddings().weight.shape[0]))


def scored_hidden(module: PreTrainedModel, batch: MicroBatch, packed: bool) -> Tensor:
    """``[S, H]``: the hidden state before every scored token, row by row."""
    flat_hidden, layout = read_rows(module.base_model, batch, packed=packed)
    before = [layout.token_index[i][torch.from_numpy(row.targets) - 1] for i, row in enumerate(batch.rows)]
    return flat_hidden[torch.cat(before)]


def teachers_row(prompt_ids: Sequence[int], completion_ids: Sequence[int]) -> Row:
    """A completion behind what only the teacher reads; shares no prefix with the rows beside it."""
    row = completion_row(prompt_ids, completion_ids)
    row.prefix = 0
    row.values[TEACHERS_VIEW] = 1.0
    return row


def is_students(row: Row) -> bool:
    """Whether ``row`` is learned from, rather than read by the teacher."""
    return TEACHERS_VIEW not in row.values


def student_mask(batch: MicroBatch) -> Tensor:
    """``[B, N]``: the scored positions of the student's rows."""
    own_B = torch.tensor([is_students(row) for row in batch.rows], device=batch.device)
    return batch.mask_BN & own_B[:, None]


def student_rows(batch: MicroBatch) -> MicroBatch:
    """The units of ``batch`` without what only the teacher reads."""
    return _side(batch, students=True)


def teacher_rows(batch: MicroBatch) -> MicroBatch:
    """What the teacher reads, in the order of ``student_rows``."""
    if all(is_students(row) for row in batch.rows):
        return batch
    return _side(batch, students=False)


def _side(batch: MicroBatch, *, students: bool) -> MicroBatch:
    units: list[Unit] = []
    start = 0
    for size in batch.unit_sizes:
        units.append([row for row in batch.rows[start : start + size] if is_students(row) == students])
        start += size
    return MicroBatch.of(units, batch.device)


def _between(student_SV: Tensor, teacher_SV: Tensor, config: Divergence) -> Tensor:
    """The divergence that ``config`` names, ``[S]`` nats."""
    temperature, rescale = config.temperature, config.rescale
    if config.kind == "forward_kl":
        return forward_kl(student_SV, teacher_SV, temperature, rescale)
    if config.kind == "reverse_kl":
        return reverse_kl(student_SV, teacher_SV, temperature, rescale)
    if config.kind == "jsd":
        beta = 0.5 if config.beta is None else config.beta
        return generalised_jsd(student_SV, teacher_SV, beta, temperature, rescale)
    with torch.no_grad():
        if config.keep == "student":
            ids_SK, _ = _top_k(student_SV, config)
            logp_SK = log_softmax(_wide(teacher_SV) / temperature).gather(-1, ids_SK)
        else:
            ids_SK, logp_SK = _top_k(teacher_SV, config)
    return _to_kept(student_SV, ids_SK, logp_SK, config)


def _to_kept(student_SV: Tensor, ids_SK: Tensor, logp_SK: Tensor, config: Divergence) -> Tensor:
    direction = config.direction or "forward"
    return top_k_tail_kl(student_SV, ids_SK, logp_SK, direction, config.temperature, config.rescale)


def _top_k(logits_SV: Tensor, config: Divergence) -> tuple[Tensor, Tensor]:
    """(ids, log-probs) ``[S, k]``, likeliest first, at the divergence's temperature."""
    logp_SV = log_softmax(_wide(logits_SV) / config.temperature)
    best = logp_SV.topk(min(config.k or TOP_K, logp_SV.shape[-1]), dim=-1)
    return best.indices, best.values


def _wide(logits: Tensor) -> Tensor:
    return logits if logits.dtype == torch.float64 else logits.float()
