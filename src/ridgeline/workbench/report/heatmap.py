"""Completions with a colour behind every token: where a reward model makes up its mind."""

from __future__ import annotations

import json
import math
from typing import Any

from ridgeline.workbench.report.markup import details, number, text
from ridgeline.workbench.report.source import StageData, number_in

FILE = "examples.json"
STRONGEST = 70
"""Percent of colour at the ends of the scale; more would drown the text."""


def heatmap(stage: StageData) -> str:
    """The examples that the stage left, folded away; nothing where there are none."""
    path = stage.folder.path / FILE
    if not path.is_file():
        return ""
    try:
        stored = json.loads(path.read_text(encoding="utf-8"))
        probabilities, examples = bool(stored["probabilities"]), stored["examples"]
        origin = "held-out" if stored["heldout"] else "training"
        blocks = "".join(_example(example, probabilities) for example in examples)
    except (ValueError, KeyError, TypeError, AttributeError):
        stage.notes.append(f"{FILE} could not be read.")
        return ""
    scale = (
        "Red is wrong, green is right, none is 0.5; a bar ends each step."
        if probabilities
        else "Red is below the mean completion, green above it; each token shows the score of what is there "
        "so far."
    )
    rule = f'<p class="fine">The verdict after every token, {origin} completions, not picked. {scale}</p>'
    return details("What it thinks after every token", rule + blocks) if blocks else ""


def _example(example: dict[str, Any], probabilities: bool) -> str:
    ends = set(example["ends"])
    spans = "".join(
        _token(str(token), score, probabilities) + ("<b> ▏</b>" if place in ends else "")
        for place, (token, score) in enumerate(zip(example["tokens"], example["scores"], strict=True))
    )
    last = number_in({"score": example["scores"][-1]}, "score") if example["scores"] else None
    head = f'<p class="fine"><b>{text(example["label"])}</b> · ends at {number(last)}</p>'
    return f'{head}<blockquote style="white-space:pre-wrap;margin:4px 0 18px">{spans}</blockquote>'


def _token(token: str, score: float, probabilities: bool) -> str:
    tilt = 2 * score - 1 if probabilities else math.tanh(score / 2)
    colour = "--gain" if tilt > 0 else "--pin"
    share = round(STRONGEST * min(abs(tilt), 1.0))
    style = f"background:color-mix(in srgb, var({colour}) {share}%, transparent)"
    return f'<span style="{style}" title="{number(score)}">{text(token)}</span>'
