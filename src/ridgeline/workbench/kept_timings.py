"""Timings of stand-ins on disk, addressed by content, so that a second plan need not time them again.

An entry's name is a digest of what a timing depends on: the sizes of the stand-ins, the software, the
kernels, the processor and its threads, and what was timed; see ``models.content_cache``. How busy the machine
was is not in it, so an entry counts for a day only.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from importlib.metadata import version

import numpy as np
import torch

from ridgeline.models.content_cache import DAY, ContentCache, key_of
from ridgeline.models.embedded import cache_folder
from ridgeline.models.hardware import cpu_name
from ridgeline.models.kernels.build import kernels_identity
from ridgeline.workbench.stand_in import StandIns

LIMIT = 2**20
"""Bytes that the cache may hold: thousands of timings."""


class KeptTimings:
    """Timings of the stand-ins ``models`` on this machine."""

    def __init__(self, models: StandIns) -> None:
        self.cache = ContentCache(cache_folder() / "timings", LIMIT)
        self.made_by = [
            *(version(name) for name in ("ridgeline", "torch", "transformers")),
            kernels_identity(),
            cpu_name(),
            torch.get_num_threads(),
            models.facts.config.to_json_string(use_diff=False),
            (models.vocabulary, models.intermediate, models.more),
            (models.device, models.dtype),
        ]

    def get(self, asked: Sequence[object], measure: Callable[[], Sequence[float]]) -> list[float]:
        """The seconds of ``asked``: those kept during the last day, else what ``measure`` finds now."""
        key = key_of([*self.made_by, *asked])
        entry = self.cache.read(key)
        if entry is not None and 0.0 <= time.time() - float(entry["when"]) < DAY:
            return [float(each) for each in entry["seconds"]]
        seconds = list(measure())
        self.cache.write(key, {"seconds": np.array(seconds), "when": np.array(time.time())})
        return seconds
