"""Work of distillation: whose text, who is asked about it, who learns."""

from __future__ import annotations

from ridgeline.schema.stages import DistillStage
from ridgeline.workbench.costs import Setting, StageWork, evaluations, micro_batches, sampled_at_once


def distill(stage: DistillStage, setting: Setting) -> StageWork:
    """Batches of text, each seen by the student and its teachers."""
    whole, new = setting.data[stage.data], stage.sampling.max_new_tokens
    rows, held = setting.split(whole, stage.heldout)
    per_step = min(stage.rows_per_step, max(rows, 1))
    measured = evaluations(stage.steps, stage.evaluate_every)
    work = StageWork(prompt_tokens=whole.tokens)
    work.counts = {
        "rows": rows,
        "held-out rows": held.rows,
        "mean tokens per row of data": round(whole.tokens, 1),
        "batches": stage.steps,
        "rows per batch": per_step,
        "passes over the rows": round(stage.steps * per_step / max(rows, 1), 2),
        "optimizer steps": stage.steps * stage.updates_per_rollout,
    }
    unit = work.unit_tokens = _unit_tokens(stage, whole.tokens)
    _sample(stage, setting, work, rows, per_step)
    work.counts["tokens per batch"] = round(per_step * unit)
    work.counts["micro-batches per step"] = micro_batches(
        max(1, per_step // stage.updates_per_rollout), unit, stage.work.tokens_per_microbatch
    )
    work.counts["evaluations"] = measured
    learned = stage.steps * per_step * unit
    held_tokens = held.rows * (_unit_tokens(stage, held.tokens) if stage.student_writes else held.tokens)
    if stage.cache_teacher:
        work.seconds["asking the teacher"] = _ask(stage, setting, rows * whole.tokens + held_tokens)
    elif stage.teacher_file is None:
        in_training = 0.0 if stage.mode == "sequence" else learned
        work.seconds["asking the teacher"] = _ask(stage, setting, in_training + measured * held_tokens)
    if stage.mode == "policy_gradient":
        work.seconds["scoring"] = setting.forward(learned)
    work.seconds["learning"] = setting.learn(stage, learned)
    decoded = measured * held.rows * stage.samples_per_prompt * new if stage.student_writes else 0
    work.seconds["evaluating"] = setting.decode(decoded) + setting.forward(measured * held_tokens)
    return work


def _unit_tokens(stage: DistillStage, given: float) -> float:
    """Tokens that one row of data becomes, where a model writes: its prompt with every completion."""
    if stage.mode == "offline":
        return given
    written = given + stage.samples_per_prompt * stage.sampling.max_new_tokens
    share = stage.on_policy_share if stage.mode == "on_policy" else 1.0
    return share * written + (1 - share) * given


def _sample(stage: DistillStage, setting: Setting, work: StageWork, rows: int, per_step: int) -> None:
    """The student in every batch, or the teacher once before the first."""
    if stage.mode == "offline":
        return
    once = stage.mode == "sequence"
    share = stage.on_policy_share if stage.mode == "on_policy" else 1.0
    asked = rows if once else per_step * share
    completions = asked * stage.samples_per_prompt
    new = stage.sampling.max_new_tokens
    work.completions = max(1, round(completions))
    work.counts["completions" if once else "completions per batch"] = round(completions)
    work.counts["completions decoded at a time"] = sampled_at_once(work.completions)
    tokens = asked * work.prompt_tokens + completions * new
    writers = [setting.facts] if stage.mode != "sequence" else []
    if stage.mode in ("sequence", "minillm"):
        writers += [setting.teachers[teacher.model] for teacher in stage.teacher]
    seconds = sum(setting.decode(tokens, writer) for writer in writers)
    work.seconds["sampling"] = seconds if once else stage.steps * seconds


def _ask(stage: DistillStage, setting: Setting, tokens: float) -> float:
    """Every teacher reads the text; in mode ``self`` that is the student once more."""
    teachers = [setting.teachers[teacher.model] for teacher in stage.teacher] or [setting.facts]
    return sum(setting.forward(tokens, teacher) for teacher in teachers)
