"""First checks of a model or a recipe: the mistakes that cost days, found in seconds."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from ridgeline.models.hardware import resolve_device, resolve_dtype
from ridgeline.models.load import LanguageModel
from ridgeline.schema.errors import RidgelineError
from ridgeline.schema.recipe import Recipe
from ridgeline.schema.records import Sample
from ridgeline.schema.stages import RlStage
from ridgeline.schema.stages.common import Sampling
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
    """What the checks look at: a model, a few prompts, and how an rl stage would sample them."""

    model: LanguageModel
    prompts: Sequence[sampling_.Prompt]
    rows: Sequence[dict[str, Any]]
    sampling: Sampling
    samples: int


def examine_model(name: str, *, chat_template: str | None = None, report: Report) -> list[Check]:
    """The checks that need a model only."""
    model = sampling_.load(name, chat_template=chat_template)
    sampling = Sampling(max_new_tokens=MAX_NEW_TOKENS)
    return _examine(Patient(model, DEFAULT_PROMPTS, [{}] * PROMPTS, sampling, SAMPLES), None, None, report)


def examine_recipe(recipe: Recipe, *, report: Report) -> list[Check]:
    """The same on the recipe's base model, and what its rl stage, its rewards and its memory add.

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
    stage = next((stage for stage in recipe.stage if isinstance(stage, RlStage)), None)
    if stage is None:
        sampling = Sampling(max_new_tokens=MAX_NEW_TOKENS)
        patient = Patient(model, DEFAULT_PROMPTS, [{}] * PROMPTS, sampling, SAMPLES)
    else:
        rows = prompts(read_rows(stage.prompts), stage.prompts)[:PROMPTS]
        patient = Patient(
            model,
            [row.messages for row in rows],
            [dict(row.row) for row in rows],
            stage.sampling,
            max(2, min(stage.samples_per_prompt, 2 * SAMPLES)),
        )
    return _examine(patient, stage, recipe, report)


def _examine(patient: Patient, stage: RlStage | None, recipe: Recipe | None, report: Report) -> list[Check]:
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
        if stage is not None and rewards.has_total(stage, recipe):
            add("groups carry signal", lambda: rewards.spread(stage, drawn, patient.samples))
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
