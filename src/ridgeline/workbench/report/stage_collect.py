"""Preference collection: how many pairs, how good the labels, and a few of them to read."""

from __future__ import annotations

from ridgeline.schema.records import Preference
from ridgeline.workbench.report.markup import details, facts, note, number, percent, text, whole
from ridgeline.workbench.report.source import RunData, StageData, number_in

EXAMPLES = 4


def collect(run: RunData, stage: StageData) -> str:
    """Numbers and example pairs."""
    result = stage.result or {}
    annotator = stage.config.get("annotator")
    shuffled = isinstance(annotator, dict) and bool(annotator.get("shuffle_labels"))
    shares = [
        (name, percent(value) + _range(result.get(f"{key}_interval")))
        for name, key in (
            ("Labels that agree with gold", "label_accuracy"),
            ("Ceiling that label noise sets", "ceiling_accuracy"),
            ("First shown was chosen", "first_shown_chosen"),
            ("Stopped by themselves", "stopped"),
        )
        if (value := number_in(result, key)) is not None
    ]
    counts = [
        (name, whole(value))
        for name, key in (
            ("Pairs", "pairs"),
            ("Completions", "samples"),
            ("Prompts", "prompts"),
            ("Ties", "ties"),
        )
        if (value := number_in(result, key)) is not None
    ]
    length = number_in(result, "length")
    if length is not None:
        counts.append(("Mean length", f"{number(length)} tokens"))
    control = note("Negative control: every label is a coin flip.") if shuffled else ""
    return control + facts([*counts, *shares]) + _examples(stage)


def _range(ends: object) -> str:
    if not (isinstance(ends, list) and len(ends) == 2 and all(isinstance(e, int | float) for e in ends)):
        return ""
    return f' <span class="ci">[{100 * ends[0]:.0f}, {100 * ends[1]:.0f}]</span>'


def _examples(stage: StageData) -> str:
    from ridgeline.preferences.store import read_preferences

    path = stage.folder.path / "preferences.jsonl"
    if not path.is_file():
        return note("The pairs have not been written yet.")
    rows = read_preferences(path)
    # One pair a prompt: neighbours in the file often share theirs.
    first = {pair.prompt_id: pair for pair in reversed(rows)}
    shown = list(reversed(first.values()))[:EXAMPLES]
    body = "".join(_pair(pair) for pair in shown)
    return details(f"{len(shown)} example pairs, the first of the file", body) if shown else ""


def _pair(pair: Preference) -> str:
    prompt = pair.prompt[-1].content if pair.prompt else pair.prompt_id
    gaps = [pair.scores.get(side) for side in ("chosen", "rejected")]
    against = ""
    if gaps[0] is not None and gaps[1] is not None and gaps[0] < gaps[1]:
        against = ' <span class="cut">against gold</span>'
    cells = "".join(
        f'<div><p class="who">{side}{against if side == "chosen" else ""}</p>'
        f"<blockquote>{text(words)}</blockquote>"
        f'<p class="scores"><span>gold <b>{number(pair.scores.get(side))}</b></span></p></div>'
        for side, words in (("chosen", pair.chosen), ("rejected", pair.rejected))
    )
    return (
        f'<article class="card"><p class="prompt">{text(prompt)}</p><div class="cells" '
        f'style="--n:2">{cells}</div>'
        "</article>"
    )
