"""Work of distillation: whose text, who is asked about it, who learns."""

from __future__ import annotations

from ridgeline.schema.stages import DistillStage
from ridgeline.workbench.costs import Setting, StageWork, adapter_of, evaluations, micro_batches
from ridgeline.workbench.data_facts import DataFacts
from ridgeline.workbench.facts import ModelFacts
from ridgeline.workbench.shapes import Shape

ASKING = "asking the teacher"


def distill(stage: DistillStage, setting: Setting) -> StageWork:
    """Batches of text, each seen by the student and its teachers."""
    whole = setting.data[stage.data]
    rows, held = setting.split(whole, stage.heldout)
    per_step = min(stage.rows_per_step, max(rows, 1))
    updates = stage.updates_per_rollout
    measured = evaluations(stage.steps, stage.evaluate_every)
    work = StageWork(prompt_tokens=whole.tokens, steps=stage.steps * updates)
    work.units, work.at_most = (
        max(1, per_step // updates),
        stage.mode != "offline" and setting.mean_tokens is None,
    )
    limit = float(stage.sampling.max_new_tokens)
    work.shape, shape = _shape(stage, whole, limit), _shape(stage, whole, setting.written(stage.sampling))
    work.counts = {
        "rows": rows,
        "held-out rows": held.rows,
        "mean tokens per row of data": round(whole.tokens, 1),
        "batches": stage.steps,
        "rows per batch": per_step,
        "passes over the rows": round(stage.steps * per_step / max(rows, 1), 2),
        "optimizer steps": stage.steps * updates,
    }
    _sample(stage, setting, work, whole, rows, per_step)
    work.counts["tokens per batch"] = round(per_step * work.shape.packed_tokens)
    work.counts["micro-batches per step"] = micro_batches(
        work.units, work.shape, stage.work.tokens_per_microbatch
    )
    work.counts["evaluations"] = measured
    learned = stage.steps * per_step
    held_shape = _shape(stage, held, setting.written(stage.sampling)) if stage.student_writes else held.shape
    if stage.cache_teacher:
        work.add(_ask(stage, setting, rows, whole.shape))
        work.add(_ask(stage, setting, held.rows, held_shape))
    elif stage.teacher_file is None:
        if stage.mode != "sequence":
            work.in_steps = (*work.in_steps, ASKING)
            work.add(_ask(stage, setting, learned, shape))
        work.add(_ask(stage, setting, measured * held.rows, held_shape))
    if stage.mode == "policy_gradient":
        work.seconds["scoring whole steps"] = setting.forward(stage, learned, shape)
    work.add(
        setting.learn(stage, work.steps, per_step / updates, shape, entropy=True, adapter=adapter_of(stage))
    )
    watched = setting.forward(stage, measured * held.rows, held_shape)
    if stage.student_writes:
        once = setting.decode(held.rows, held.tokens, stage.samples_per_prompt, stage.sampling)
        watched += measured * once
    work.seconds["evaluating"] = watched
    return work


def _shape(stage: DistillStage, given: DataFacts, written: float) -> Shape:
    """What one row of data becomes, where a model writes: its prompt with every completion."""
    if stage.mode == "offline":
        return given.shape
    share = stage.on_policy_share if stage.mode == "on_policy" else 1.0
    rest = (1 - share) * (given.tokens - given.prompt)
    completion = (share * stage.samples_per_prompt * written + rest) / stage.samples_per_prompt
    return Shape(given.prompt, completion, stage.samples_per_prompt)


def _sample(
    stage: DistillStage, setting: Setting, work: StageWork, whole: DataFacts, rows: int, per_step: int
) -> None:
    """The student in every batch, or the teacher once before the first."""
    if stage.mode == "offline":
        return
    once = stage.mode == "sequence"
    share = stage.on_policy_share if stage.mode == "on_policy" else 1.0
    asked = rows if once else per_step * share
    completions = asked * stage.samples_per_prompt
    work.completions = max(1, round(completions))
    work.counts["completions" if once else "completions per batch"] = round(completions)
    work.counts["completions decoded at a time"] = setting.sampled_at_once(
        work.completions, whole.prompt + stage.sampling.max_new_tokens
    )
    writers: list[ModelFacts | None] = [] if once else [None]
    if stage.mode in ("sequence", "minillm"):
        writers += [setting.teachers[teacher.model] for teacher in stage.teacher]
    seconds = sum(
        setting.decode(asked, whole.prompt, stage.samples_per_prompt, stage.sampling, facts=writer)
        for writer in writers
    )
    work.seconds["sampling"] = seconds if once else stage.steps * seconds
    if once:
        work.in_steps = tuple(kind for kind in work.in_steps if kind != "sampling")


def _ask(stage: DistillStage, setting: Setting, units: float, shape: Shape) -> dict[str, float]:
    """Every teacher reads the text; in mode ``self`` that is the student once more."""
    teachers = [setting.teachers[teacher.model] for teacher in stage.teacher] or [setting.facts]
    return {ASKING: sum(setting.forward(stage, units, shape, facts=teacher) for teacher in teachers)}
