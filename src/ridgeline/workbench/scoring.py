"""Score completions with a reward model, outside of a run: files, rows, or samples as they were drawn."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, Literal, get_args

from transformers import PreTrainedTokenizerBase

from ridgeline.data.pieces import token_texts
from ridgeline.data.sources import describe, read_rows
from ridgeline.data.steps import step_ends
from ridgeline.data.template import apply_template
from ridgeline.models.batch import completion_row
from ridgeline.models.hardware import resolve_device, resolve_dtype
from ridgeline.models.load import load_tokenizer
from ridgeline.models.score_heads import HeadKind
from ridgeline.models.score_model import ScoreModel, load_score_model, score_forward, token_forward
from ridgeline.rewards.reward_model import at_steps
from ridgeline.schema.errors import DataError, UsageError, nearest
from ridgeline.schema.records import Sample
from ridgeline.schema.reward_kinds import ScoreAggregate
from ridgeline.schema.run_folder import RunFolder
from ridgeline.training.engine import RowScores
from ridgeline.training.local import LocalEngine
from ridgeline.workbench.scored_rows import Asked, asked_of_rows

Per = Literal["sequence", "token", "step"]
TOKENS_PER_BATCH = 4096
ROLE = "judge"


@dataclass(frozen=True, slots=True)
class Piece:
    """A token or a step: its text, its last completion token (from 0), and the score there."""

    text: str
    end: int
    score: float


@dataclass(frozen=True, slots=True)
class Scored:
    """One completion.

    row: number of its row, from 1. part: which completion of the row it is (``completion``, ``chosen``,
    ``rejected``, or its number in a list). score: the reward. spread: how far the heads of an ensemble
    differ. pieces: tokens or steps, where asked for.
    """

    row: int
    part: str
    score: float
    spread: float | None = None
    pieces: tuple[Piece, ...] = ()


@dataclass
class Judge:
    """A reward model that is loaded once and asked often."""

    model: ScoreModel
    tokenizer: PreTrainedTokenizerBase
    name: str

    @property
    def kind(self) -> HeadKind:
        return self.model.kind

    def score(
        self,
        data: str | Path | Sequence[Mapping[str, Any]] | Sequence[Sample],
        *,
        per: Per = "sequence",
        aggregate: ScoreAggregate | None = None,
        last_m: int | None = None,
        head: str | None = None,
        where: str | None = None,
    ) -> list[Scored]:
        """Every completion of ``data``, in order; batches are sorted by length inside.

        ``where`` is how messages call rows that were read from somewhere.

        Raises:
            UsageError: an option that this kind of model has no use for.
            DataError: rows without a completion, or one beyond the model's positions.
        """
        kind = self._kind(per, aggregate, last_m, head)
        asked = self._asked(data, where)
        rows = [completion_row(each.prompt_ids, each.completion_ids) for each in asked]
        steps: list[list[int]] = []
        if kind.has_steps:
            steps = [step_ends(each.completion_ids, self.tokenizer, kind.step_separator) for each in asked]
        engine = LocalEngine(self.model.head.offset.device)
        engine.add(ROLE, self.model, score_forward, tokens_per_microbatch=TOKENS_PER_BATCH // 2)
        judged = [at_steps(*each) for each in zip(rows, steps, strict=True)] if kind.has_steps else rows
        scores = engine.score(ROLE, [[row] for row in judged], partial(score_forward, kind=kind))
        tokens: list[RowScores] = []
        if per == "token":
            tokens = engine.score(ROLE, [[row] for row in rows], partial(token_forward, kind=kind))
        results = []
        for number, (each, score) in enumerate(zip(asked, scores, strict=True)):
            pieces: tuple[Piece, ...] = ()
            if per == "token":
                ends = list(range(len(each.completion_ids)))
                pieces = self._pieces(each.completion_ids, ends, tokens[number]["token_score"])
            elif per == "step":
                pieces = self._pieces(each.completion_ids, steps[number], score["token_score"])
            spread = float(score["doubt"]) if "doubt" in score else None
            results.append(Scored(each.row, each.part, float(score["score"]), spread, pieces))
        return results

    def _pieces(self, ids: Sequence[int], ends: Sequence[int], scores: Iterable[float]) -> tuple[Piece, ...]:
        texts = token_texts(self.tokenizer, ids)
        starts = [0, *(end + 1 for end in ends)]
        return tuple(
            Piece("".join(texts[start : end + 1]), end, float(score))
            for start, end, score in zip(starts, ends, scores, strict=False)
        )

    def _kind(
        self, per: Per, aggregate: ScoreAggregate | None, last_m: int | None, head: str | None
    ) -> HeadKind:
        kind = self.model.kind
        if per not in get_args(Per):
            raise UsageError(f"per = '{per}' is not valid; {nearest(per, get_args(Per))}")
        if per == "step" and not kind.has_steps:
            raise UsageError(f"per = 'step' needs a process model, and '{self.name}' learned {kind.loss}.")
        if head is not None:
            if len(kind.heads) == 1:
                raise UsageError(f"head = '{head}', but '{self.name}' has a single head; remove it.")
            if head not in kind.heads:
                raise UsageError(f"'{self.name}' has no head '{head}'; {nearest(head, kind.heads)}")
            kind = replace(kind, combine=head)
        if aggregate is None and last_m is None:
            return kind
        if not kind.per_token:
            raise UsageError(
                f"'{self.name}' scores whole completions ({kind.loss}); aggregate belongs to outcome and "
                "process models, remove it."
            )
        return _aggregating(kind, aggregate, last_m)

    def _asked(
        self, data: str | Path | Sequence[Mapping[str, Any]] | Sequence[Sample], where: str | None
    ) -> list[Asked]:
        source: str | Path | Sequence[Mapping[str, Any]]
        if isinstance(data, str | Path):
            source = data
        else:  # a sample is the row that `generate --out` would write of it
            source = [each.as_dict() if isinstance(each, Sample) else each for each in data]
        where = where or describe(source)
        asked = asked_of_rows(read_rows(source), where, self.tokenizer, self.kind.step_separator)
        limit = getattr(self.model.backbone.config, "max_position_embeddings", None)
        for each in asked:
            length = len(each.prompt_ids) + len(each.completion_ids)
            if limit is not None and length > limit:
                raise DataError(
                    f"{where}, row {each.row}: {length} tokens, but the model has {limit} positions; cut it."
                )
        return asked


def _aggregating(kind: HeadKind, aggregate: ScoreAggregate | None, last_m: int | None) -> HeadKind:
    """``kind`` with another aggregation."""
    how = aggregate or kind.aggregate
    if how not in get_args(ScoreAggregate):
        raise UsageError(f"aggregate = '{how}' is not valid; {nearest(how, get_args(ScoreAggregate))}")
    if how == "pooled" and kind.has_steps:
        raise UsageError("aggregate = 'pooled' belongs to outcomes; steps have 'mean'.")
    m = last_m if last_m is not None or aggregate is not None else kind.last_m
    if (how == "mean_last_m") != (m is not None):
        raise UsageError("aggregate = 'mean_last_m' and last_m go together; give both or none.")
    if m is not None and m < 1:
        raise UsageError(f"last_m = {m} looks at nothing; it must be at least 1.")
    return replace(kind, aggregate=how, last_m=m)


def load_judge(
    name: str | Path, *, device: str = "auto", dtype: str = "auto", chat_template: str | None = None
) -> Judge:
    """The reward model called ``name``: ``run:stage``, a run folder (its last one), or a folder of its own.

    Raises:
        UsageError: there is none.
    """
    folder, template = find_reward_model(str(name))
    place = resolve_device(device)
    model = load_score_model(folder, dtype=resolve_dtype(dtype, place), device=place)
    tokenizer = load_tokenizer(str(folder))
    apply_template(tokenizer, chat_template or template)
    return Judge(model, tokenizer, str(name))


def find_reward_model(name: str) -> tuple[Path, str | None]:
    """(folder, chat template of its recipe) of the reward model called ``name``.

    Raises:
        UsageError: no such run, stage or folder, or a stage that makes something else or is not done.
    """
    place, separator, stage = name.rpartition(":")
    if separator and RunFolder(place).has_recipe:
        return _of_stage(RunFolder(place), stage)
    run = RunFolder(name)
    if run.has_recipe:
        made = [stage for stage, folder in _reward_stages(run).items() if folder.is_dir()]
        if not made:
            raise UsageError(f"{name} has made no reward model; name a run that has a reward_model stage.")
        return _of_stage(run, made[-1])
    if separator and not Path(name).exists():
        raise UsageError(f"the run folder {place} does not exist; name one, such as runs/quickstart:judge.")
    if not Path(name).is_dir():
        raise UsageError(
            f"there is no reward model '{name}'; name a stage of a run (runs/quickstart:judge) or its folder."
        )
    return Path(name), None


def _of_stage(run: RunFolder, stage: str) -> tuple[Path, str | None]:
    known = _reward_stages(run)
    if stage not in known:
        raise UsageError(f"{run.path} has no reward_model stage '{stage}'; {nearest(stage, known)}")
    if not known[stage].is_dir():
        raise UsageError(
            f"stage '{stage}' of {run.path} has not made its model yet; "
            f"go on with: ridgeline resume {run.path}"
        )
    return known[stage], run.recipe_as_started().get("chat_template")


def _reward_stages(run: RunFolder) -> dict[str, Path]:
    stages = enumerate(run.recipe_as_started()["stage"])
    return {
        stage["name"]: run.stage(number, stage["name"]).model
        for number, stage in stages
        if stage["type"] == "reward_model"
    }
