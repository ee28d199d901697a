"""Twelve lessons on the exact world: texts, scripts of session messages, measured numbers, recordings."""

from ridgeline.landscape.lessons.lesson import Lesson, load, summaries
from ridgeline.landscape.lessons.live import Live, Result, live, run
from ridgeline.landscape.lessons.recording import recorded

__all__ = ["Lesson", "Live", "Result", "live", "load", "recorded", "run", "summaries"]
