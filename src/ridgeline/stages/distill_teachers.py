"""Who is asked about the student's text: other models, a file, or the student as it is or was."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from transformers import PreTrainedModel

from ridgeline.data.teacher import (
    Kept,
    TeacherFile,
    check_same_vocabulary,
    vocabulary_digest,
    write_teacher_topk,
)
from ridgeline.data.template import apply_template
from ridgeline.models.batch import MicroBatch, Row, split
from ridgeline.models.distributions import DistillForward, Teacher, most_likely
from ridgeline.models.forward import PolicyForward
from ridgeline.models.load import LanguageModel, load_model
from ridgeline.models.probe import head_is_known
from ridgeline.rollout.decoder import ModelDecoder
from ridgeline.rollout.mixed import ArithmeticMixture
from ridgeline.rollout.plain import PlainSampler
from ridgeline.schema.errors import UsageError
from ridgeline.schema.stages.distill import DistillStage, Privileged
from ridgeline.stages.context import StageContext, stop_ids
from ridgeline.training.local import LocalEngine

CACHE = "teacher.parquet"


def add_teachers(
    context: StageContext,
    config: DistillStage,
    engine: LocalEngine,
    model: LanguageModel,
    forward: DistillForward,
    rows: Sequence[Row],
) -> None:
    """Tell ``forward`` whom to ask; ``rows`` are all that a cache has to answer for. The student is
    registered as ``policy`` already.

    Raises:
        UsageError: a teacher that cannot be loaded or has another vocabulary; a file that does not fit.
    """
    if config.privileged is not None:
        _add_itself(context, config, config.privileged, engine, model, forward)
    elif config.teacher_file is not None:
        forward.kept = _opened(Path(config.teacher_file), config, model)
    elif config.cache_teacher:
        path = context.folder.path / CACHE
        if not path.is_file():
            _write_cache(context, config, engine, model, rows, path)
        forward.kept = _opened(path, config, model)
    else:
        for number, teacher in enumerate(config.teacher):
            role = "teacher" if number == 0 else f"teacher {number + 1}"
            forward.teachers.append(_add(context, config, engine, model, role, teacher.model, teacher.weight))


def add_mixture(
    config: DistillStage, engine: LocalEngine, model: LanguageModel, forward: DistillForward
) -> None:
    """The role ``mixture``: a look at the student that samples from itself and its teachers (MiniLLM)."""
    total = sum(teacher.weight for teacher in forward.teachers)
    shares = [config.teacher_share * teacher.weight / total for teacher in forward.teachers]
    modules = [model.module, *(teacher.module for teacher in forward.teachers)]
    weights = [1 - config.teacher_share, *shares]

    def new_decoder() -> ArithmeticMixture:
        decoders = [ModelDecoder(module) for module in modules]
        return ArithmeticMixture(decoders, weights, config.sampling.temperature)

    sampler = PlainSampler(model.module, model.tokenizer, stop_ids(model), new_decoder=new_decoder)
    engine.add_view("mixture", "policy", forward, sampler)


def _add_itself(
    context: StageContext,
    config: DistillStage,
    privileged: Privileged,
    engine: LocalEngine,
    model: LanguageModel,
    forward: DistillForward,
) -> None:
    """The student's own module where the teacher is the student of the moment, else a copy of it."""
    if privileged.average == 1:
        forward.teachers.append(Teacher(model.module, engine.roles["policy"].packed))
        return
    copied, plain = model.snapshot(), PolicyForward()
    moves = privileged.average > 0
    context.add_policy(engine, "teacher", copied, config.work, forward=plain, persistent=moves)
    forward.teachers.append(Teacher(copied.module, engine.roles["teacher"].packed))


def _add(
    context: StageContext,
    config: DistillStage,
    engine: LocalEngine,
    model: LanguageModel,
    role: str,
    name: str,
    weight: float = 1.0,
) -> Teacher:
    """Load one teacher, see that it speaks the student's language, and register it under ``role``."""
    teacher = _load(context, name)
    check_same_vocabulary(model.tokenizer, teacher.tokenizer, name)
    if teacher.tokenizer.chat_template != model.tokenizer.chat_template:
        context.warn(f"the teacher '{name}' has another chat template; it reads the student's")
    context.add_policy(engine, role, teacher, config.work, forward=PolicyForward(), longest=config.max_length)
    return Teacher(teacher.module, engine.roles[role].packed, weight)


def _load(context: StageContext, name: str) -> LanguageModel:
    if name == "base" or context.is_stage(name):
        return context.language_model(name)
    context.observer.phase(f"loading {name}")
    model = load_model(name, dtype=context.dtype, device=context.device)
    if context.recipe.chat_template is not None or model.tokenizer.chat_template is None:
        apply_template(model.tokenizer, context.recipe.chat_template)
    if not head_is_known(model.module):
        raise UsageError(
            f"the model '{name}' transforms its logits in a way this version does not reproduce; "
            "please report its architecture."
        )
    return model


def _opened(path: Path, config: DistillStage, model: LanguageModel) -> TeacherFile:
    file = TeacherFile(path, k=config.measure.k)
    file.check(model.tokenizer, config.measure.temperature)
    return file


def _write_cache(
    context: StageContext,
    config: DistillStage,
    engine: LocalEngine,
    model: LanguageModel,
    rows: Sequence[Row],
    path: Path,
) -> None:
    """Ask the teacher about every row once; afterwards it is not needed any more."""
    teacher = _add(context, config, engine, model, "teacher", config.teacher[0].model)
    context.observer.phase("asking the teacher")
    kept: list[Kept | None] = [None] * len(rows)
    width = _head_rows(model.module)
    units = [[row] for row in rows]
    for indices in split(units, 2 * config.work.tokens_per_microbatch):
        batch = MicroBatch.of([units[index] for index in indices], context.device)
        ids_SK, logp_SK = (part.cpu() for part in most_likely(teacher, batch, config.measure, width))
        sizes = [len(rows[index].targets) for index in indices]
        for index, ids, logp in zip(indices, ids_SK.split(sizes), logp_SK.float().split(sizes), strict=True):
            kept[index] = Kept(ids.numpy(), logp.numpy())
    write_teacher_topk(
        path,
        rows,
        [one for one in kept if one is not None],
        temperature=config.measure.temperature,
        vocabulary=vocabulary_digest(model.tokenizer),
    )
    del engine.roles["teacher"]


def _head_rows(module: PreTrainedModel) -> int:
    return int(module.get_output_embeddings().weight.shape[0])
