"""Preferences on disk, one JSON object a line, and what a set of them can teach at best."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ridgeline.schema.errors import DataError, RunError, UsageError, nearest
from ridgeline.schema.records import Message, Preference
from ridgeline.schema.run_folder import write_atomic
from ridgeline.statistics.agreement import pairwise_accuracy, pairwise_accuracy_interval
from ridgeline.statistics.bradley_terry import noise_ceiling
from ridgeline.statistics.intervals import wilson

_ROLES = ("system", "user", "assistant")
_TYPES: dict[str, type] = {
    "prompt": list,
    "chosen": str,
    "rejected": str,
    "annotator": str,
    "first_shown": str,
    "prompt_id": str,
    "scores": dict,
    "chosen_stopped": bool,
    "rejected_stopped": bool,
    "label": float,
    "margin": float,
    "gold": str,
}
_NEEDED = ("prompt", "chosen", "rejected", "annotator")


def write_preferences(path: str | Path, preferences: Sequence[Preference]) -> None:
    """Write all of them, aside first and then renamed, so that readers see the old file or the new one.

    Raises:
        RunError: the file cannot be written; what was there before is intact.
    """
    text = "".join(json.dumps(p.as_dict(), ensure_ascii=False, allow_nan=False) + "\n" for p in preferences)
    try:
        write_atomic(Path(path), text)
    except OSError as error:
        raise RunError(f"cannot write {path}: {error.strerror}; what was there before is intact.") from None


def read_preferences(path: str | Path) -> list[Preference]:
    """Read what ``write_preferences`` wrote.

    Raises:
        UsageError: the file cannot be read. DataError: a line is not a preference (names line and field).
    """
    try:
        text = Path(path).read_text(encoding="utf-8")
    except OSError as error:
        raise UsageError(f"cannot read the preferences {path}: {error.strerror}; check the path.") from None
    except UnicodeDecodeError:
        raise DataError(f"{path} is not UTF-8 text; save it as UTF-8.") from None
    # Not splitlines: texts may hold U+2028, which ends no line of JSONL.
    lines = enumerate(text.split("\n"), start=1)
    return [_preference(line, f"{path}, line {number}") for number, line in lines if line.strip()]


def summary(preferences: Sequence[Preference], *, temperature: float | None = None) -> dict[str, Any]:
    """Counts, how often the label follows the scores, position bias, and the ceiling that label noise sets.

    ``label_accuracy``: share of pairs whose chosen side scores higher, ties counting half, with a 95 %
    interval over prompts. ``first_shown_chosen``: share of pairs won by what was shown first; 0.5 is no bias.
    ``ceiling_accuracy`` and ``ceiling_nll`` (nats per pair): what the best predictor can expect on labels
    drawn with P = sigmoid(score difference / temperature); only with a ``temperature``, so leave it out where
    the labels were shuffled. What cannot be computed (no scores, no pairs) is None.
    """
    scored = [p for p in preferences if p.scores.keys() >= {"chosen", "rejected"}]
    chosen = [p.scores["chosen"] for p in scored]
    rejected = [p.scores["rejected"] for p in scored]
    result: dict[str, Any] = {
        "pairs": len(preferences),
        "prompts": len({p.prompt_id for p in preferences}),
        "annotators": dict(Counter(p.annotator for p in preferences)),
        "scored": len(scored),
        "ties": sum(a == b for a, b in zip(chosen, rejected, strict=True)),
        "label_accuracy": None,
        "label_accuracy_interval": None,
        "first_shown_chosen": None,
        "first_shown_chosen_interval": None,
        "ceiling_accuracy": None,
        "ceiling_nll": None,
    }
    if preferences:
        first = wilson(sum(p.first_shown == "chosen" for p in preferences), len(preferences))
        result |= {"first_shown_chosen": first.value, "first_shown_chosen_interval": [first.low, first.high]}
    if scored:
        interval = pairwise_accuracy_interval(chosen, rejected, [p.prompt_id for p in scored])
        result["label_accuracy"] = pairwise_accuracy(chosen, rejected)
        result["label_accuracy_interval"] = [interval.low, interval.high]
        if temperature is not None:
            gaps = [a - b for a, b in zip(chosen, rejected, strict=True)]
            ceiling = noise_ceiling(gaps, temperature)
            result |= {"ceiling_accuracy": ceiling.accuracy, "ceiling_nll": ceiling.nll}
    return result


def _preference(line: str, where: str) -> Preference:
    try:
        values = json.loads(line)
    except json.JSONDecodeError as error:
        raise DataError(f"{where}: not valid JSON ({error.msg} at column {error.colno}).") from None
    if not isinstance(values, dict):
        raise DataError(f"{where}: a preference is a JSON object, not {type(values).__name__}.")
    for key in _NEEDED:
        if key not in values:
            raise DataError(f"{where}: the field '{key}' is missing; found: {', '.join(values) or 'none'}.")
    for key, value in values.items():
        if key not in _TYPES:
            raise DataError(f"{where}: unknown field '{key}'; {nearest(key, _TYPES)}")
        if value is None and key in ("margin", "gold"):
            continue
        if not isinstance(value, _TYPES[key]):
            wanted = _TYPES[key].__name__
            raise DataError(f"{where}: '{key}' must be of type {wanted}, not {type(value).__name__}.")
    if values.get("first_shown", "chosen") not in ("chosen", "rejected"):
        raise DataError(f'{where}: \'first_shown\' must be "chosen" or "rejected".')
    for side, score in values.get("scores", {}).items():
        if isinstance(score, bool) or not isinstance(score, int | float):
            raise DataError(f"{where}: 'scores.{side}' must be a number.")
    return Preference(**{**values, "prompt": [_message(turn, where) for turn in values["prompt"]]})


def _message(turn: Any, where: str) -> Message:
    if not isinstance(turn, dict):
        raise DataError(f"{where}: a turn of 'prompt' is an object with role and content.")
    if turn.get("role") not in _ROLES or not isinstance(turn.get("content"), str):
        raise DataError(f"{where}: a turn of 'prompt' needs a role ({', '.join(_ROLES)}) and a text content.")
    return Message(turn["role"], turn["content"])
