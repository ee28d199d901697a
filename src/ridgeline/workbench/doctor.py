"""First checks of a model or a recipe: the mistakes that cost days, found in seconds."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from ridgeline.models.hardware import resolve_device, resolve_dtype
from ridgeline.models.load import LanguageModel
from ridgeline.schema.errors import RidgelineError
from ridgeline.schema.recipe import Recipe
from ridgeline.schema.records import RESHAPING, Sample
from ridgeline.schema.stages import (
    CollectStage,
    DistillStage,
    EvaluateStage,
    PreferenceStage,
    RejectStage,
    RlStage,
    Stage,
)
from ridgeline.schema.stages.common import RewardSpec, Sampling
from ridgeline.workbench import sampling as sampling_
from ridgeline.workbench.checks import learning, rewards, sampled
from ridgeline.workbench.checks.result import Check

PROMPTS = 4
SAMPLES = 4
MAX_NEW_TOKENS = 48
DEFAULT_PROMPTS = (
    "Write one sentence about the sea.",
    "What is two plus three?",
    "Name a colour.",
    "Say hello.",
)

Report = Callable[[Check], None]


@dataclass(frozen=True)
class Patient:
    """What the checks look at: a model, a few prompts, and how a stage would sample and reward them."""

    model: LanguageModel
    prompts: Sequence[sampling_.Prompt]
    rows: Sequence[dict[str, Any]]
    sampling: Sampling
    samples: int
    reward: Sequence[RewardSpec] = ()


@dataclass(frozen=True)
class Drawing:
    """What a stage samples: prompts of a source, several completions of each, and what they are worth."""

    prompts: str
    samples: int
    sampling: Sampling
    reward: Sequence[RewardSpec] = ()


def examine_model(name: str, *, chat_template: str | None = None, report: Report) -> list[Check]:
    """The checks that need a model only."""
    model = sampling_.load(name, chat_template=chat_template)
    sampling = Sampling(max_new_tokens=MAX_NEW_TOKENS)
    return _examine(Patient(model, DEFAULT_PROMPTS, [{}] * PROMPTS, sampling, SAMPLES), None, report)


def examine_recipe(recipe: Recipe, *, report: Report) -> list[Check]:
    """The same on the recipe's base model, sampled as its first stage that learns from its own samples does
    (else its first one that samples at all), and what its rewards and its memory add.

    Raises:
        UsageError, DataError: a recipe that could not start at all.
    """
    from ridgeline.data.formats import prompts
    from ridgeline.data.sources import read_rows
    from ridgeline.stages.pipeline import check_stages

    check_stages(recipe)
    device = resolve_device(recipe.device)
    dtype = str(resolve_dtype(recipe.dtype, device)).removeprefix("torch.")
    model = sampling_.load(
        recipe.model, device=recipe.device, dtype=dtype, chat_template=recipe.chat_template
    )
    drawing = _drawing_of(recipe)
    if drawing is None:
        sampling = Sampling(max_new_tokens=MAX_NEW_TOKENS)
        patient = Patient(model, DEFAULT_PROMPTS, [{}] * PROMPTS, sampling, SAMPLES)
    else:
        rows = prompts(read_rows(drawing.prompts), drawing.prompts)[:PROMPTS]
        patient = Patient(
            model,
            [row.messages for row in rows],
            [row.as_seen_by_rewards() for row in rows],
            drawing.sampling,
            max(2, min(drawing.samples, 2 * SAMPLES)),
            drawing.reward,
        )
    return _examine(patient, recipe, report)


def _drawing_of(recipe: Recipe) -> Drawing | None:
    """Greedy samples all agree, and the checks compare log-probs over the whole vocabulary."""
    found = [drawing for stage in recipe.stage if (drawing := _drawing(stage)) is not None]
    found = [drawing for drawing in found if drawing.sampling.temperature > 0]
    chosen = next((drawing for drawing in found if drawing.reward), next(iter(found), None))
    if chosen is None:
        return None
    return replace(chosen, sampling=chosen.sampling.model_copy(update=RESHAPING))


def _drawing(stage: Stage) -> Drawing | None:
    """What ``stage`` samples; None where it learns from given text or only merges."""
    if isinstance(stage, PreferenceStage):
        online = stage.online
        if online is None:
            return None
        return Drawing(online.prompts, online.samples_per_prompt, online.sampling, online.reward)
    if isinstance(stage, RlStage | RejectStage):
        return Drawing(stage.prompts, stage.samples_per_prompt, stage.sampling, stage.reward)
    if isinstance(stage, CollectStage | EvaluateStage):
        return Drawing(stage.prompts, stage.samples_per_prompt, stage.sampling)
    if isinstance(stage, DistillStage) and stage.privileged is not None and stage.privileged.reward:
        return Drawing(stage.data, stage.samples_per_prompt, stage.sampling, stage.privileged.reward)
    return None


def _examine(patient: Patient, recipe: Recipe | None, report: Report) -> list[Check]:
    checks: list[Check] = []

    def add(name: str, run: Callable[[], Check]) -> None:
        """A check that cannot even run has failed; a finished one is reported at once."""
        try:
            check = run()
        except (RidgelineError, ValueError, RuntimeError) as error:
            check = Check(name, False, str(error).splitlines()[0] if str(error) else type(error).__name__)
        checks.append(check)
        report(check)

    add("stop token is trained", lambda: sampled.stop_token(patient.model))
    drawn = _draw(patient)
    temperature = patient.sampling.temperature
    add("on-policy ratio is 1", lambda: sampled.ratio(patient.model, drawn, temperature))
    add("sampler and trainer agree", lambda: sampled.gap(patient.model, drawn, temperature))
    add("completions end by themselves", lambda: sampled.truncated(drawn, patient.sampling))
    if recipe is not None:
        for spec in rewards.function_specs(recipe):
            add(f"reward {spec.function}", lambda spec=spec: rewards.works(spec, drawn))  # type: ignore[misc]
        if patient.reward and rewards.has_total(patient.reward, recipe):
            add("groups carry signal", lambda: rewards.spread(patient.reward, drawn, patient.samples))
        add("memory suffices", lambda: rewards.memory(recipe))
    add("learning rate 0 changes nothing", lambda: learning.zero_rate(patient.model, drawn))
    return checks


def _draw(patient: Patient) -> list[Sample]:
    return sampling_.sample(
        patient.model,
        list(patient.prompts),
        patient.sampling,
        samples=patient.samples,
        seed=0,
        rows=list(patient.rows),
    )
