"""Options of distillation."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field, field_validator, model_validator

from ridgeline.schema.config import MODEL, SOURCE, Config
from ridgeline.schema.records import reshaping
from ridgeline.schema.stages.common import (
    MODEL_STAGES,
    LearningStage,
    Optimiser,
    Reference,
    RewardSpec,
    Sampling,
    Source,
)

Mode = Literal["offline", "sequence", "on_policy", "policy_gradient", "minillm", "self"]

USED_BY: dict[str, tuple[Mode, ...]] = {
    "teacher_file": ("offline",),
    "cache_teacher": ("offline",),
    "divergence": ("offline", "on_policy", "self"),
    "on_policy_share": ("on_policy",),
    "clip": ("policy_gradient",),
    "teacher_share": ("minillm",),
    "length_normalisation": ("minillm",),
    "privileged": ("self",),
    "sampling": ("sequence", "on_policy", "policy_gradient", "minillm", "self"),
    "samples_per_prompt": ("sequence", "on_policy", "policy_gradient", "minillm", "self"),
    "updates_per_rollout": ("on_policy", "policy_gradient", "self"),
}
"""Options that mean something in some modes only; elsewhere they are refused rather than ignored."""


class Teacher(Config):
    """One teacher, by name alone or as a table."""

    model: Annotated[str, MODEL]
    """``base``, an earlier stage, a model folder, a GGUF file or a hub id; with the student's vocabulary."""
    weight: float = Field(1.0, gt=0)
    """Its share beside other teachers; shares are divided by their sum."""

    @model_validator(mode="before")
    @classmethod
    def _from_name(cls, value: object) -> object:
        return {"model": value} if isinstance(value, str) else value


class Divergence(Config):
    """How far the student is from the teacher at one position, by name alone or as a table."""

    kind: Literal["forward_kl", "reverse_kl", "jsd", "top_k"]
    """KL(teacher || student), KL(student || teacher), between the two (GKD), or over k tokens and a tail."""
    beta: float | None = Field(None, gt=0, lt=1)
    """``jsd``: towards 0 it acts as forward_kl, towards 1 as reverse_kl. None: 0.5."""
    k: int | None = Field(None, ge=1)
    """``top_k``: tokens kept by themselves; the others share one bucket. None: 64."""
    direction: Literal["forward", "reverse"] | None = None
    """``top_k``: which KL. None: forward."""
    keep: Literal["teacher", "student"] | None = None
    """``top_k``: whose likeliest tokens are kept. None: the teacher's."""
    temperature: float = Field(1.0, gt=0)
    """Both sides' logits are divided by it; above 1 the teacher's order among unlikely tokens counts for
    more."""
    rescale: bool = False
    """Multiply by temperature squared, so that the gradient keeps its size (Hinton et al. 2015)."""

    @model_validator(mode="before")
    @classmethod
    def _from_name(cls, value: object) -> object:
        return {"kind": value} if isinstance(value, str) else value

    @model_validator(mode="after")
    def _only_what_counts(self) -> Divergence:
        for name, kind in (("beta", "jsd"), ("k", "top_k"), ("direction", "top_k"), ("keep", "top_k")):
            if getattr(self, name) is not None and self.kind != kind:
                raise ValueError(f"{name} does nothing with kind '{self.kind}'; it belongs to '{kind}'")
        return self


class Privileged(Config):
    """What the student, as its own teacher, may read and the student proper may not: exactly one source."""

    hint: str | None = None
    """A column of the prompt's row, such as its solution (on-policy self-distillation, OPSD)."""
    reward: list[RewardSpec] = Field(default_factory=list)
    """Show a random other completion of the group that these rewards call a success (SDPO)."""
    success: float = 1.0
    """The least total reward of a success."""
    text: str = "{prompt}\n\nA good answer is:\n{hint}"
    """The teacher's last user turn; must hold {prompt} and {hint}."""
    average: float = Field(0.0, ge=0, le=1)
    """Share of the student's newest weights that the teacher takes on after each update. 0: the teacher stays
    as the student started; SDPO has 0.01; 1: it is the student of the moment, which needs no copy, and can
    unlearn to read the hint as nothing trains it to."""

    @model_validator(mode="after")
    def _one_source(self) -> Privileged:
        if (self.hint is None) == (not self.reward):
            raise ValueError("give either hint (a column) or reward (successes of the group), not both")
        if "{prompt}" not in self.text or "{hint}" not in self.text:
            raise ValueError("text must hold {prompt} and {hint}")
        if self.hint is not None and self.success != 1.0:
            raise ValueError("success does nothing with hint; it belongs to reward")
        return self


class DistillStage(LearningStage):
    """Bring a student's next-token distributions to those of a teacher with the same vocabulary."""

    type: Literal["distill"] = "distill"
    mode: Mode
    """Whose text is learned from, and how: ``offline`` given demonstrations; ``sequence`` the teacher writes
    first, then plain fine-tuning; ``on_policy`` the student writes, the whole distribution is compared (GKD);
    ``policy_gradient`` the same from sampled tokens alone; ``minillm`` also credits a token for what follows
    (MiniLLM); ``self`` the teacher is the student with privileged context (OPSD, SDPO)."""
    teacher: list[Teacher] = Field(default_factory=list)
    """One or several; not in mode ``self``, and not with teacher_file."""
    teacher_file: Annotated[str | None, SOURCE] = None
    """``offline``: a Parquet or JSONL file that cache_teacher wrote, instead of a teacher."""
    cache_teacher: bool = False
    """``offline`` with ``top_k``: ask the teacher once, and keep its answers as ``teacher.parquet`` in the
    stage's folder, for this run and for a later one's teacher_file."""
    data: Source
    """A file, folder or hub id: demonstrations for ``offline`` and for ``on_policy`` with a share below 1;
    otherwise prompts (those of demonstrations count too), whose other columns hints and rewards may read."""
    heldout: Annotated[str | float, SOURCE] = 0.1
    """A file, or the fraction of ``data`` to hold out. Demonstrations measure NLL and divergence on their
    text; where the student writes in training, the divergence on its own completions is measured too."""
    divergence: Divergence | None = None
    """None: forward_kl for ``offline``, reverse_kl otherwise."""
    on_policy_share: float = Field(1.0, ge=0, le=1)
    """``on_policy``: the probability that a row of a step is written by the student, not taken from data."""
    clip: float | None = Field(None, gt=0, lt=1)
    """``policy_gradient``: bound the ratio to the sampling student to 1 +- clip, as PPO. None: no bound."""
    teacher_share: float = Field(0.2, ge=0, lt=1)
    """``minillm``: share of the teacher in the mixture that completions are drawn from."""
    length_normalisation: bool = True
    """``minillm``: what follows a token counts as a mean, not as a sum that makes long completions costly."""
    privileged: Privileged | None = None
    """``self``: what the teacher is shown."""
    rows_per_step: int = Field(16, ge=1)
    """Rows of data per batch."""
    samples_per_prompt: int = Field(1, ge=1)
    """Completions per row where a model writes."""
    steps: int = Field(20, ge=1)
    """Batches; each is followed by updates_per_rollout optimizer steps."""
    updates_per_rollout: int = Field(1, ge=1)
    """Optimizer steps on one batch that the student wrote, cut by prompt into this many parts."""
    max_length: int = Field(1024, ge=2)
    """Tokens of a demonstration."""
    overlong: Literal["error", "drop", "truncate"] = "error"
    """What happens to a demonstration longer than max_length; counted and printed."""
    sampling: Sampling = Sampling()
    optimiser: Optimiser = Optimiser()
    evaluate_every: int = Field(0, ge=0)
    """Batches between held-out evaluations; 0: only before and after."""
    checkpoint_every: int = Field(10, ge=1)

    @field_validator("teacher", mode="before")
    @classmethod
    def _one_or_several(cls, value: Any) -> Any:
        return [value] if isinstance(value, str | dict) else value

    def references(self) -> list[Reference]:
        teachers = [
            Reference("teacher", teacher.model, MODEL_STAGES, besides=("base",), elsewhere=True)
            for teacher in self.teacher
        ]
        return [*super().references(), *teachers]

    @property
    def student_writes(self) -> bool:
        """Whether completions of the student are learned from."""
        return self.mode not in ("offline", "sequence")

    @property
    def needs_demonstrations(self) -> bool:
        """Whether rows of data have to hold an answer."""
        return self.mode == "offline" or (self.mode == "on_policy" and self.on_policy_share < 1)

    @property
    def measure(self) -> Divergence:
        """The divergence that is trained on (in mode ``sequence``: only measured)."""
        if self.mode in ("policy_gradient", "minillm"):
            return Divergence(kind="reverse_kl", temperature=self.sampling.temperature)
        if self.divergence is not None:
            return self.divergence
        return Divergence(kind="forward_kl" if self.mode in ("offline", "sequence") else "reverse_kl")

    @model_validator(mode="after")
    def _nothing_is_ignored(self) -> DistillStage:
        for name, modes in USED_BY.items():
            if self.mode not in modes and getattr(self, name) != type(self).model_fields[name].default:
                raise ValueError(
                    f"{name} does nothing in mode '{self.mode}'; it belongs to {', '.join(modes)}"
                )
        return self

    @model_validator(mode="after")
    def _one_kind_of_teacher(self) -> DistillStage:
        if self.mode == "self":
            if self.teacher:
                raise ValueError("mode 'self' has no other teacher than the student; remove teacher")
            if self.privileged is None:
                raise ValueError("mode 'self' needs privileged = { hint = ... } or { reward = ... }")
            if self.privileged.reward and self.samples_per_prompt < 2:
                raise ValueError("privileged.reward shows other completions; set samples_per_prompt above 1")
        elif bool(self.teacher) == (self.teacher_file is not None):
            raise ValueError("give either teacher or, in mode 'offline', teacher_file")
        if self.mode == "sequence" and len(self.teacher) > 1:
            raise ValueError("in mode 'sequence' one teacher writes; use one stage per teacher")
        return self

    @model_validator(mode="after")
    def _cached_top_k(self) -> DistillStage:
        if not self.cache_teacher and self.teacher_file is None:
            return self
        name = "cache_teacher" if self.cache_teacher else "teacher_file"
        if self.measure.kind != "top_k" or self.measure.keep == "student":
            raise ValueError(
                f'{name} holds the teacher\'s likeliest tokens; set divergence = {{ kind = "top_k" }}'
            )
        if len(self.teacher) > 1:
            raise ValueError(f"{name} holds one teacher; use one")
        return self

    @model_validator(mode="after")
    def _sampled_from_the_student(self) -> DistillStage:
        if self.mode not in ("policy_gradient", "minillm"):
            return self
        changed = reshaping(self.sampling)
        if self.sampling.temperature == 0 or changed:
            names = "".join(f", no {name}" for name in changed)
            raise ValueError(
                f"mode '{self.mode}' is a policy gradient and needs samples of the whole distribution: "
                f"sampling.temperature above 0{names}"
            )
        return self
