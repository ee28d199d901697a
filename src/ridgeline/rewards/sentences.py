"""The quickstart's gold reward: one positive, well-formed sentence about the topic."""

from __future__ import annotations

import functools
import re
from typing import Protocol

from ridgeline.rewards.fields import field_of
from ridgeline.schema.records import Sample

TOKEN_LIMIT = 40
"""Completion tokens, the stop token included, within which a sentence has to end by itself."""


def sentiment(samples: list[Sample]) -> list[float | None]:
    """VADER's compound score of the text, in [-1, 1] (Hutto and Gilbert 2014)."""
    analyser = _analyser()
    return [analyser.polarity_scores(sample.text)["compound"] for sample in samples]


def well_formed(samples: list[Sample]) -> list[float | None]:
    """1 for one on-topic sentence, else 0. All of these must hold:

    the model stopped by itself within ``TOKEN_LIMIT`` tokens; the stripped text has exactly one run of ``.``,
    ``!`` or ``?``, at its end, and no line break; it contains ``row["topic"]`` (any case, as whole
    words, so that "plants" is not about ants; a leading "the " dropped).
    """
    return [float(_is_well_formed(sample)) for sample in samples]


def sentiment_sentence(samples: list[Sample]) -> list[float | None]:
    """``sentiment + well_formed``, in [-1, 2]."""
    analyser = _analyser()
    return [analyser.polarity_scores(s.text)["compound"] + _is_well_formed(s) for s in samples]


def _is_well_formed(sample: Sample) -> bool:
    topic = field_of(sample, "topic", "well_formed").strip().lower().removeprefix("the ").strip()
    text = sample.text.strip()
    ends = re.findall(r"[.!?]+", text)
    return (
        sample.stop_reason == "stop"
        and len(sample.completion_ids) <= TOKEN_LIMIT
        and len(ends) == 1
        and text.endswith(ends[0])
        and len(text.splitlines()) == 1
        and re.search(rf"\b{re.escape(topic)}\b", text.lower()) is not None
    )


class _Analyser(Protocol):
    def polarity_scores(self, text: str) -> dict[str, float]: ...


@functools.cache
def _analyser() -> _Analyser:
    """Once per process: it reads its lexicon from a file."""
    from vaderSentiment.vaderSentiment import SentimentIntensityAnalyzer

    analyser: _Analyser = SentimentIntensityAnalyzer()
    return analyser
