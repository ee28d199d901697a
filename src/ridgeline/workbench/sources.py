"""What is in the data that each stage of a recipe reads, files and the output of earlier stages alike."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from ridgeline.schema.recipe import Recipe
from ridgeline.schema.stages import (
    CollectStage,
    DistillStage,
    PreferenceStage,
    RejectStage,
    RewardModelStage,
    RlStage,
    SftStage,
    Stage,
    UnpairedStage,
)
from ridgeline.workbench.data_facts import (
    ASKED,
    INSTRUCTION,
    LABELLED,
    PREFERENCE,
    PROMPT,
    TEXT,
    DataFacts,
    data_facts,
    taken_apart,
)
from ridgeline.workbench.facts import local_tokenizer

Found = dict[str, DataFacts]


def data_of_stages(recipe: Recipe) -> dict[str, Found]:
    """Per stage, what is in each of its sources; what earlier stages make counts as it was asked for.

    Raises:
        UsageError, DataError: a local file that is missing or wrong.
    """
    tokenizer = local_tokenizer(recipe.model, recipe.chat_template)
    pairs: dict[str, DataFacts] = {}
    found: dict[str, Found] = {}
    seen: dict[tuple[str, str], DataFacts] = {}
    for stage in recipe.stage:
        found[stage.name] = {}
        for source, kind in _sources(stage):
            if source in pairs:
                facts = taken_apart(pairs[source]) if kind == LABELLED else pairs[source]
            else:
                facts = seen.get((source, kind)) or data_facts(source, kind, tokenizer)
                seen[source, kind] = facts
            found[stage.name][source] = facts
        made = _pairs(stage, found[stage.name])
        if made is not None:
            pairs[stage.name] = made
    return found


def _sources(stage: Stage) -> Iterator[tuple[str, str]]:
    """Every source of ``stage`` and the kind of rows that it has to hold."""
    named: list[tuple[object, str]]
    if isinstance(stage, SftStage):
        named = [(stage.data, INSTRUCTION), (stage.heldout, INSTRUCTION)]
    elif isinstance(stage, RewardModelStage):
        named = [(stage.data, stage.loss), (stage.heldout, stage.loss)]
    elif isinstance(stage, UnpairedStage):
        named = [(stage.data, LABELLED), (stage.heldout, LABELLED)]
    elif isinstance(stage, PreferenceStage) and stage.online is None:
        named = [(stage.data, PREFERENCE), (stage.heldout, PREFERENCE)]
    elif isinstance(stage, PreferenceStage):
        assert stage.online is not None
        named = [(stage.online.prompts, PROMPT), (stage.online.heldout, PROMPT)]
    elif isinstance(stage, DistillStage):
        kind = INSTRUCTION if stage.needs_demonstrations else ASKED
        named = [(stage.data, kind), (stage.heldout, kind)]
    else:
        named = [(getattr(stage, "prompts", None), PROMPT), (getattr(stage, "heldout", None), PROMPT)]
    if isinstance(stage, RlStage) and stage.pretrain is not None:
        named.append((stage.pretrain.data, TEXT))
    yield from ((source, kind) for source, kind in named if isinstance(source, str))


def _pairs(stage: Stage, found: Found) -> DataFacts | None:
    """The preference pairs that ``stage`` writes; those of a reject stage at most."""
    if not isinstance(stage, CollectStage | RejectStage):
        return None
    prompts = found[stage.prompts]
    completion = replace(prompts, tokens=prompts.tokens + stage.sampling.max_new_tokens, sides=2.0)
    if isinstance(stage, CollectStage):
        return replace(completion, rows=stage.pairs)
    if stage.preferences is None:
        return None
    per_prompt = 1 if stage.preferences == "best_worst" else stage.number // 2
    return replace(completion, rows=stage.repeat * prompts.rows * per_prompt)
