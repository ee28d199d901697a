"""The Python API: ``import ridgeline as rl``, then ``rl.run``, ``rl.sample``, ``rl.train_rl`` ..."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rich.console import Console

from ridgeline.models.load import LanguageModel
from ridgeline.objectives.axes import PolicyObjective
from ridgeline.schema.config import validate
from ridgeline.schema.recipe import Recipe, load_recipe, resolve_recipe
from ridgeline.schema.records import Sample
from ridgeline.schema.reward_kinds import ScoreAggregate
from ridgeline.schema.stages.common import Sampling
from ridgeline.workbench import sampling as sampling_
from ridgeline.workbench.evaluating import evaluate_models, evaluation_recipe
from ridgeline.workbench.given import Data, Reward, as_file, listed, recipe_values, saved
from ridgeline.workbench.launch import check_new, default_folder, existing_run, launch, recipe_to_resume
from ridgeline.workbench.merging import merge_models, merge_plan
from ridgeline.workbench.outside import portable
from ridgeline.workbench.progress import observing
from ridgeline.workbench.replay import replay as replay_rollouts
from ridgeline.workbench.rewards import reward_name
from ridgeline.workbench.scoring import Judge, Per, Scored, load_judge
from ridgeline.workbench.single import single_stage

Summary = dict[str, Any]


def run(
    recipe: str | Path | dict[str, Any],
    out: str | Path | None = None,
    overrides: Sequence[str] | None = None,
    *,
    quiet: bool = False,
) -> Summary:
    """Run a recipe (a TOML file, or the same as a dict) and return its summary.

    ``out`` is the run folder (``runs/<name>`` by default); ``overrides`` are ``stage.key=value`` strings. The
    summary is that of ``summary.json`` with the paths ``run`` and ``report``.

    Raises:
        UsageError, DataError, RunError: one sentence each; see ``ridgeline.schema.errors``.
    """
    changes = list(overrides or [])
    if isinstance(recipe, dict):
        resolved = resolve_recipe(recipe, Path.cwd(), changes)
    else:
        resolved = load_recipe(recipe, changes)
    return _run(resolved, out, quiet=quiet)


def resume(run: str | Path, recipe: str | Path | None = None, *, quiet: bool = False) -> Summary:
    """Go on with an interrupted run, exactly where it stopped; ``recipe`` is by default the run's own."""
    resolved = recipe_to_resume(existing_run(run), recipe)
    return _run(resolved, run, resume_run=True, quiet=quiet)


def load_model(
    name: str, *, device: str = "auto", dtype: str = "auto", chat_template: str | None = None
) -> LanguageModel:
    """A language model and its tokenizer: embedded name, ``run:stage``, folder, GGUF file or hub id."""
    return sampling_.load(name, device=device, dtype=dtype, chat_template=chat_template)


def sample(
    model: LanguageModel | str,
    prompts: str | Sequence[sampling_.Prompt],
    *,
    samples: int = 1,
    seed: int = 0,
    reward: Reward | Sequence[Reward] | None = None,
    rows: Sequence[dict[str, Any]] | None = None,
    **options: Any,
) -> list[Sample]:
    """Completions of one prompt (a text) or of several (texts or conversations), in prompt-major order.

    ``options`` are those of sampling: max_new_tokens (128), temperature (1.0; 0 is greedy), top_p, top_k,
    min_p, repetition_penalty, presence_penalty, frequency_penalty, logit_bias ({token: number}) and stop
    (texts that end a completion). ``reward`` (names or functions) fills ``sample.rewards``; ``rows`` are
    columns for rewards that read them.
    """
    loaded = load_model(model) if isinstance(model, str) else model
    asked: Sequence[sampling_.Prompt] = [prompts] if isinstance(prompts, str) else list(prompts)
    how = validate(Sampling, options, "sampling")
    drawn = sampling_.sample(loaded, asked, how, samples=samples, seed=seed, rows=rows)
    if reward is not None:
        sampling_.score(drawn, listed(reward))
    return drawn


def score(
    model: str | Path | Judge,
    data: Data | Sequence[Sample],
    *,
    per: Per = "sequence",
    aggregate: ScoreAggregate | None = None,
    last_m: int | None = None,
    head: str | None = None,
    **loading: Any,
) -> list[Scored]:
    """Score completions with a reward model: ``run:stage``, a run or model folder, or ``scoring.load_judge``.

    ``data`` are rows of any format that has completions (file, folder, hub id or list of dicts), or samples,
    whose ids are scored as they were drawn. ``per`` token or step adds the running verdict as ``pieces``.
    ``aggregate`` (with ``last_m``) says how tokens or steps become one score, ``head`` names one of several.
    ``loading``: device, dtype, chat_template.

    Raises:
        UsageError, DataError: one sentence each.
    """
    judge = model if isinstance(model, Judge) else load_judge(model, **loading)
    return judge.score(data, per=per, aggregate=aggregate, last_m=last_m, head=head)


def train_sft(
    model: LanguageModel | str, data: Data, out: str | Path, *, quiet: bool = False, **options: Any
) -> Summary:
    """Instruction tuning on ``data`` (file, folder, hub id or list of dicts); then ``load_model(out)``.

    ``options`` are those of the stage (epochs, rows_per_step, optimiser={"learning_rate": ...}) and seed,
    device, dtype, chat_template.
    """
    return _train("sft", model, out, {"data": data, **options}, quiet=quiet)


def train_reward_model(
    model: LanguageModel | str, data: Data, out: str | Path, *, quiet: bool = False, **options: Any
) -> Summary:
    """Fit a reward model to pairs, or with ``loss=...`` to rankings, outcomes or steps; then ``score``."""
    return _train("reward_model", model, out, {"data": data, **options}, quiet=quiet)


def train_preference(
    model: LanguageModel | str, data: Data | None, out: str | Path, *, quiet: bool = False, **options: Any
) -> Summary:
    """Direct alignment on preference pairs (``prompt``, ``chosen``, ``rejected``): DPO and its relatives.

    ``data`` None makes the pairs on the way: ``online={"method": "dpo", "prompts": ..., "reward": ...}``, its
    prompts and rewards as in ``train_rl``. ``options`` are those of the stage (epochs, adapter={"rank": 16},
    objective={"preset": "dpo", "beta": 0.2}) and seed, device, dtype.

    Raises:
        UsageError: neither data nor online, or both; a reward that only exists in this process.
    """
    given = {} if data is None else {"data": data}
    return _train("preference", model, out, {**given, **options}, quiet=quiet)


def train_unpaired(
    model: LanguageModel | str, data: Data, out: str | Path, *, quiet: bool = False, **options: Any
) -> Summary:
    """Alignment on single completions (``prompt``, ``completion``, ``label``): KTO, BCO, APO."""
    return _train("unpaired", model, out, {"data": data, **options}, quiet=quiet)


def train_rl(
    model: LanguageModel | str,
    prompts: Data,
    reward: Reward | Sequence[Reward],
    out: str | Path,
    *,
    quiet: bool = False,
    **options: Any,
) -> Summary:
    """Optimise a policy against ``reward``: names, or functions that another process can import.

    A reward takes a list of samples and returns a list of float or None. ``options`` are those of the stage
    (objective, steps, kl={"coefficient": ...}, sampling={"max_new_tokens": ...}) and seed, device, dtype.

    Raises:
        UsageError: a function that only exists in this process (a lambda, a notebook cell).
    """
    given = {"prompts": prompts, "reward": listed(reward)}
    return _train("rl", model, out, {**given, **options}, quiet=quiet)


def reject(
    model: LanguageModel | str,
    prompts: Data,
    reward: Reward | Sequence[Reward],
    out: str | Path,
    *,
    quiet: bool = False,
    **options: Any,
) -> Summary:
    """Rejection sampling: keep the completions with the best ``reward`` and fine-tune on them.

    Give ``heldout`` prompts, on which the model is compared with a control that learned from completions
    chosen at random, or ``control=False``. ``options`` are those of the stage (samples_per_prompt, keep,
    train=False for best-of-N alone, preferences="best_worst") and seed, device, dtype.

    Raises:
        UsageError: neither heldout nor control=False; a reward that only exists in this process.
    """
    given = {"prompts": prompts, "reward": listed(reward)}
    return _train("reject", model, out, {**given, **options}, quiet=quiet)


def distill(
    model: LanguageModel | str,
    data: Data,
    teacher: LanguageModel | str | Sequence[LanguageModel | str] | None,
    out: str | Path,
    *,
    mode: str = "offline",
    quiet: bool = False,
    **options: Any,
) -> Summary:
    """Bring a student's next-token distributions to those of one teacher or several of its vocabulary.

    ``data`` are demonstrations or, where a model writes (mode "on_policy" and others), prompts. ``teacher``
    is None in mode "self" and with ``teacher_file``. ``options`` are those of the stage (divergence, steps,
    privileged={"hint": ...}) and seed, device, dtype.
    """
    folder = Path(out)
    check_new(folder)
    given = {"mode": mode, "data": data, **options}
    if teacher is not None:
        several = [teacher] if isinstance(teacher, str | LanguageModel) else list(teacher)
        given["teacher"] = [
            portable(each) if isinstance(each, str) else saved(each, folder / "teachers" / str(number))
            for number, each in enumerate(several, 1)
        ]
    return _train("distill", model, folder, given, quiet=quiet)


def merge(
    models: Sequence[LanguageModel | str],
    out: str | Path,
    *,
    method: str = "linear",
    start: LanguageModel | str | None = None,
    quiet: bool = False,
    **options: Any,
) -> Summary:
    """One model out of several, by arithmetic on their weights; then ``load_model(out)``.

    ``start`` is what they were tuned from, for task_arithmetic, ties and dare. ``options`` are those of the
    stage (weights, density, scale; heldout and rewards compare the first model with the merged one) and seed,
    device, dtype.

    Raises:
        UsageError: options that do not fit the method, models that cannot be merged.
    """
    folder = Path(out)
    if (folder / "summary.json").is_file():
        check_new(folder)  # refuses before any model is saved; an unfinished merge is gone on with
    names = [
        each if isinstance(each, str) else saved(each, folder / "models" / str(number))
        for number, each in enumerate(models, 1)
    ]
    origin = start if start is None or isinstance(start, str) else saved(start, folder / "models" / "start")
    made = {"method": method, **recipe_values(options, folder)}
    name = folder.name if folder.name[:1].isalnum() else None
    plan = merge_plan(names, start=origin, options=made, name=name)
    with observing(Console(), plan.recipe, quiet=quiet) as observer:
        return merge_models(plan, folder, observer=observer).as_dict()


def evaluate(
    models: str | Sequence[str],
    prompts: Data,
    reward: Reward | Sequence[Reward],
    out: str | Path,
    *,
    samples: int = 4,
    quiet: bool = False,
    **options: Any,
) -> Summary:
    """Compare models on the same prompts; the first is the baseline, a run folder is all of its models."""
    check_new(Path(out))
    plan = evaluation_recipe(
        [models] if isinstance(models, str) else list(models),
        prompts=as_file(prompts, Path(out), "prompts"),
        rewards=[reward_name(each) for each in listed(reward)],
        samples=samples,
        options=options,
    )
    with observing(Console(), plan.recipe, quiet=quiet) as observer:
        return evaluate_models(plan, Path(out), observer=observer).as_dict()


def replay(
    rollouts: str | Path,
    objectives: Sequence[str] | Mapping[str, PolicyObjective] | None = None,
    *,
    model: LanguageModel | str | None = None,
    reference: str | None = None,
    old_model: str | None = None,
    stale: int | None = None,
    step: int | None = None,
    tokens: int = 40,
    device: str | None = None,
    dtype: str | None = None,
) -> Summary:
    """A recorded rollout through many objectives, side by side: gradients, clipping, which tokens are pushed.

    ``rollouts`` is a samples file, a stage folder or ``run:stage``. ``objectives`` are presets, or objectives
    under names of your own; by default every preset that the file can serve. Nothing is sampled or written;
    ``tokens`` limits the pushes listed for one completion. More in ``ridgeline.workbench.replay``.
    """
    found = replay_rollouts(
        rollouts,
        objectives,
        model=model,
        reference=reference,
        old_model=old_model,
        stale=stale,
        step=step,
        device=device,
        dtype=dtype,
    )
    return found.as_dict(tokens)


def _train(
    kind: str, model: LanguageModel | str, out: str | Path, options: dict[str, Any], *, quiet: bool
) -> Summary:
    folder = Path(out)
    check_new(folder)
    given = recipe_values(options, folder)
    source = model if isinstance(model, str) else saved(model, folder / "start")
    name = folder.name if folder.name[:1].isalnum() else None
    return _run(single_stage(kind, model=source, options=given, name=name), folder, quiet=quiet)


def _run(recipe: Recipe, out: str | Path | None, *, resume_run: bool = False, quiet: bool) -> Summary:
    folder = default_folder(recipe) if out is None else Path(out)
    with observing(Console(), recipe, quiet=quiet) as observer:
        return launch(recipe, folder, resume=resume_run, observer=observer).as_dict()
