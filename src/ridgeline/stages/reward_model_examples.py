"""A few held-out completions with the verdict after every token, for the report to colour."""

from __future__ import annotations

import json

from transformers import PreTrainedTokenizerBase

from ridgeline.data.pieces import token_texts
from ridgeline.models.batch import Row, Unit, completion_row
from ridgeline.models.score_heads import HeadKind
from ridgeline.models.score_model import token_forward
from ridgeline.schema.run_folder import StageFolder, write_atomic
from ridgeline.stages.reward_model_data import Judged
from ridgeline.training.local import LocalEngine

FILE = "examples.json"
ROWS = 6
TOKENS = 400
"""Longer completions are left out: a picture of them helps nobody."""


def write_examples(
    folder: StageFolder,
    engine: LocalEngine,
    role: str,
    kind: HeadKind,
    data: tuple[Judged, Judged],
    tokenizer: PreTrainedTokenizerBase,
) -> None:
    """The first held-out completions, else training ones: label, tokens, score after each, ends of steps."""
    train, heldout = data
    judged = heldout if heldout.units else train
    chosen = [(unit, row) for unit in judged.units for row in unit if len(row) - row.prefix <= TOKENS][:ROWS]
    rows = [
        completion_row(row.ids[: row.prefix].tolist(), row.ids[row.prefix :].tolist()) for _, row in chosen
    ]
    scores = engine.score(role, [[row] for row in rows], token_forward)
    examples = [
        {
            "label": _label(unit, row, kind),
            "ends": (row.targets - row.prefix).tolist() if kind.has_steps else [],
            "tokens": token_texts(tokenizer, row.ids[row.prefix :].tolist()),
            "scores": [round(float(value), 4) for value in score["token_score"]],
        }
        for (unit, row), score in zip(chosen, scores, strict=True)
    ]
    stored = {"heldout": bool(heldout.units), "probabilities": kind.per_token, "examples": examples}
    write_atomic(folder.path / FILE, json.dumps(stored, ensure_ascii=False) + "\n")


def _label(unit: Unit, row: Row, kind: HeadKind) -> str:
    if kind.has_steps:
        return "steps labelled " + ", ".join(f"{label:g}" for label in row.fields["label"])
    if kind.per_token:
        return f"labelled {row.values['label']:g}"
    if kind.loss == "bradley_terry":
        return "chosen" if row is unit[0] else "rejected"
    return f"place {1 + sum(other.values['rank'] < row.values['rank'] for other in unit)} of {len(unit)}"
