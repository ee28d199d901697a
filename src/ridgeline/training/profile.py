"""One training step under torch.profiler: where its seconds go, by phase and by operator.

The profile is an observer: it sees the second step of a stage begin and end, and its phases in between, so
the loop knows nothing of it and a run without it pays nothing.
"""

from __future__ import annotations

import json
import time
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch.profiler import ProfilerActivity, profile, record_function

from ridgeline.schema.run_folder import Metrics, RunFolder, write_atomic
from ridgeline.training.observer import Observer

STEP = 1
"""The step that is profiled, from 0: the first one also pays for what is made only once."""
OPERATORS = 10
OUTSIDE = "(outside operators: Python and libraries)"
_PREFIX = "phase: "


@dataclass(frozen=True)
class Part:
    """Seconds of a phase or an operator, its share of all of them, and how often it ran."""

    name: str
    seconds: float
    share: float
    calls: int


@dataclass(frozen=True)
class StepProfile:
    """What the profiled step spent: ``phases`` in their order, ``operators`` by their own time."""

    stage: str
    step: int
    seconds: float
    phases: list[Part]
    operators: list[Part]
    trace: str

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)


@dataclass
class ProfilingObserver:
    """Passes everything on to ``inner``, and profiles one step of ``stage_name`` (None: the first to learn).

    Writes ``profile/trace.json`` (for Perfetto or chrome://tracing) and ``profile/phases.json`` into the
    stage's folder in the run ``folder``; ``result`` is what the second file holds. Only watches: what the run
    computes is the same to the bit. Whoever runs with it has to call ``close`` at the end.
    """

    inner: Observer
    folder: Path
    stage_name: str | None = None
    result: StepProfile | None = None
    _place: Path = Path()
    _current: str = ""
    _running: _Running | None = None

    def stage(self, name: str, kind: str, number: int, total: int) -> None:
        self.inner.stage(name, kind, number, total)
        self._current = name
        self._place = RunFolder(self.folder).stage(number - 1, name).path / "profile"

    def phase(self, text: str) -> None:
        self.inner.phase(text)
        if self._running is not None:
            self._running.phase(text)

    def step(self, step: int, total: int, metrics: Metrics) -> None:
        self.inner.step(step, total, metrics)
        if self._running is not None:
            running, self._running = self._running, None
            self.result = running.finish(self._current, self._place)
        elif self.result is None and self.stage_name in (None, self._current) and step + 1 == STEP < total:
            self._running = _Running.start()

    def note(self, text: str) -> None:
        self.inner.note(text)

    def finished(self, name: str, result: dict[str, object]) -> None:
        self.inner.finished(name, result)

    def close(self) -> StepProfile | None:
        """The profile; None, and nothing is recorded any longer, where the run ended before the step did."""
        if self._running is not None:
            self._running.stop()
            self._running = None
        return self.result


@dataclass
class _Running:
    """A profile that is being taken."""

    profiler: profile
    phases: dict[str, list[float]] = field(default_factory=dict)
    """Seconds of every time that a phase was entered, by its name."""
    name: str = "between steps"
    since: float = 0.0
    mark: Any = None

    @classmethod
    def start(cls) -> _Running:
        cuda = [ProfilerActivity.CUDA] if torch.cuda.is_available() else []
        running = cls(profile(activities=[ProfilerActivity.CPU, *cuda]))
        running.profiler.start()
        running._enter(running.name)
        return running

    def _enter(self, name: str) -> None:
        self.name, self.since = name, time.perf_counter()
        self.mark = record_function(_PREFIX + name)
        self.mark.__enter__()

    def _leave(self) -> None:
        self.mark.__exit__(None, None, None)
        self.phases.setdefault(self.name, []).append(time.perf_counter() - self.since)

    def phase(self, name: str) -> None:
        self._leave()
        self._enter(name)

    def stop(self) -> None:
        self._leave()
        self.profiler.stop()

    def finish(self, stage: str, folder: Path) -> StepProfile:
        """Stop, write both files, and say what was found."""
        self.stop()
        folder.mkdir(parents=True, exist_ok=True)
        trace = folder / "trace.json"
        self.profiler.export_chrome_trace(str(trace))
        whole = sum(sum(times) for times in self.phases.values())
        phases = [
            Part(name, sum(times), sum(times) / whole, len(times)) for name, times in self.phases.items()
        ]
        found = StepProfile(stage, STEP, whole, phases, self._operators(), str(trace))
        write_atomic(folder / "phases.json", json.dumps(found.as_dict(), indent=1) + "\n")
        return found

    def _operators(self) -> list[Part]:
        """The most expensive ones by the time that no operator within them explains."""
        parts: dict[str, tuple[float, int]] = {}
        for average in self.profiler.key_averages():
            name = OUTSIDE if average.key.startswith(_PREFIX) else average.key
            seconds, calls = parts.get(name, (0.0, 0))
            spent = average.self_cpu_time_total + average.self_device_time_total
            parts[name] = (seconds + spent / 1e6, calls + average.count)
        whole = sum(seconds for seconds, _ in parts.values())
        ranked = sorted(parts.items(), key=lambda part: -part[1][0])[:OPERATORS]
        return [Part(name, seconds, seconds / whole, calls) for name, (seconds, calls) in ranked]
