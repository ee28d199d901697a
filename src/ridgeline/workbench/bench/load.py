"""How busy the machine is: a timing beside other work says nothing."""

from __future__ import annotations

import os
import time
from dataclasses import dataclass
from pathlib import Path

_STAT, _LOAD = Path("/proc/stat"), Path("/proc/loadavg")
BUSY = 0.1
"""Share of all processors that others may use; above it a run is not to be trusted."""


@dataclass(frozen=True)
class Ticks:
    """Seconds of processor time that the machine has spent since it started, and of idling."""

    busy: float
    idle: float

    @staticmethod
    def now() -> Ticks | None:
        """None where the system does not say."""
        try:
            fields = _STAT.read_text().split("\n", 1)[0].split()[1:]
        except OSError:
            return None
        hertz = os.sysconf("SC_CLK_TCK")
        # user, nice, system, idle, iowait, irq, softirq, steal; guests are part of user.
        user, nice, system, idle, wait, irq, soft, steal = (int(field) / hertz for field in fields[:8])
        return Ticks(user + nice + system + irq + soft + steal, idle + wait)

    def used_since(self, before: Ticks) -> float:
        """Share of all processors, 0 to 1."""
        busy, idle = self.busy - before.busy, self.idle - before.idle
        return busy / (busy + idle) if busy + idle > 0 else 0.0


def load_average() -> float | None:
    """Mean number of processes that ran or waited in the last minute."""
    try:
        return float(_LOAD.read_text().split()[0])
    except OSError:
        return None


def processor_use(seconds: float = 0.5) -> float | None:
    """Share of all processors in use, over so many seconds."""
    before = Ticks.now()
    time.sleep(seconds)
    after = Ticks.now()
    return None if before is None or after is None else after.used_since(before)


def settled_use(patience: float = 5.0) -> float | None:
    """The lowest `processor_use` of several looks within ``patience`` seconds.

    What has just ended, such as the run before this one, is given time to go.
    """
    end = time.monotonic() + patience
    best = processor_use()
    while best is not None and best > BUSY and time.monotonic() < end:
        best = min(best, processor_use() or 0.0)
    return best
