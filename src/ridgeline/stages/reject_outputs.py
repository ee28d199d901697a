"""What a reject stage leaves for others: the selected completions, as samples and as rows, and pairs."""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from ridgeline.preferences.ranked import best_and_worst, two_by_two
from ridgeline.preferences.store import write_preferences
from ridgeline.rewards.combine import TOTAL
from ridgeline.rollout.store import write_samples
from ridgeline.schema.records import Message, Preference
from ridgeline.schema.run_folder import write_atomic
from ridgeline.schema.stages.reject import RejectStage
from ridgeline.stages.collect import OUTPUT
from ridgeline.stages.rejecting import Round

Prompts = Mapping[str, list[Message]]


def write_outputs(
    folder: Path, config: RejectStage, rounds: Sequence[Round], prompts: Prompts, seed: int
) -> dict[str, int]:
    """Write the files of all rounds; returns how many rows and pairs there are.

    ``selected.parquet`` and ``control.parquet`` hold samples as they were sampled, ``selected.jsonl`` the
    same as conversations for any tool that fine-tunes (``sft`` reads it), without empty answers, which no
    text format can tell from missing ones. ``preferences.jsonl`` is what ``collect`` writes too.
    """
    write_samples(folder / "selected.parquet", [s for made in rounds for s in made.selected])
    if control := [s for made in rounds for s in made.control]:
        write_samples(folder / "control.parquet", control)
    rows = list(_conversations(rounds, prompts))
    write_atomic(folder / "selected.jsonl", "".join(f"{row}\n" for row in rows))
    counts = {"rows": len(rows)}
    if config.preferences is not None:
        pairs = [pair for made in rounds for pair in _pairs(made, config, prompts, seed)]
        write_preferences(folder / OUTPUT, pairs)
        counts["pairs"] = len(pairs)
    return counts


def _conversations(rounds: Sequence[Round], prompts: Prompts) -> Iterator[str]:
    for made in rounds:
        for sample in made.selected:
            if sample.text.strip():
                turns = [*prompts[sample.prompt_id], Message("assistant", sample.text)]
                row = {
                    "messages": [{"role": turn.role, "content": turn.content} for turn in turns],
                    "prompt_id": sample.prompt_id,
                    "round": made.number + 1,
                    "reward": sample.rewards[TOTAL],
                    "stopped": not sample.truncated,
                }
                yield json.dumps(row, ensure_ascii=False, allow_nan=False)


def _pairs(made: Round, config: RejectStage, prompts: Prompts, seed: int) -> list[Preference]:
    if config.preferences == "best_worst":
        return best_and_worst(made.groups(), prompts, TOTAL)
    accepted = itertools.groupby(made.selected, key=lambda sample: sample.prompt_id)
    return two_by_two([list(group) for _, group in accepted], prompts, TOTAL, seed)
