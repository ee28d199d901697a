"""Verifiers: is the answer right?"""

from __future__ import annotations

import re

from ridgeline.rewards.fields import field_of
from ridgeline.schema.records import Sample

# A minus belongs to the number unless something is subtracted from; a decimal is one number, not two.
_NUMBER = re.compile(r"((?<![\w)])[-\u2212])?([0-9]{1,3}(?:,[0-9]{3})+(?![0-9])|[0-9]+)(\.[0-9]+)?")


def addition(samples: list[Sample]) -> list[float | None]:
    """1 where the last number in the text is ``row["answer"]`` and the model stopped by itself, else 0."""
    return [float(_is_right(sample)) for sample in samples]


def exact_match(samples: list[Sample]) -> list[float | None]:
    """1 where the stripped text is ``row["answer"]`` and the model stopped by itself, else 0."""
    return [
        float(s.stop_reason == "stop" and s.text.strip() == field_of(s, "answer", "exact_match").strip())
        for s in samples
    ]


def _is_right(sample: Sample) -> bool:
    answer = last_number(field_of(sample, "answer", "addition"))
    return answer is not None and sample.stop_reason == "stop" and last_number(sample.text) == answer


def last_number(text: str) -> str | None:
    """The last number in ``text`` in one spelling (no leading zeros, separators or empty fraction), or None.

    >>> last_number("4 + 9 = 013.0")
    '13'
    """
    found = list(_NUMBER.finditer(text))
    if not found:
        return None
    minus, whole, fraction = found[-1].groups()
    digits = (whole.replace(",", "").lstrip("0") or "0") + (fraction or "").rstrip("0").rstrip(".")
    return f"-{digits}" if minus and digits != "0" else digits
