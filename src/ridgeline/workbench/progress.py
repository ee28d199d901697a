"""A run on the terminal: phase and elapsed time while it works, one line per finished stage."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from rich.console import Console
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from ridgeline.schema.recipe import Recipe
from ridgeline.schema.run_folder import Metrics, mean
from ridgeline.schema.stages import RlStage
from ridgeline.training.observer import Observer, Silent
from ridgeline.workbench.results import number, stage_tables

LABELS = {
    "reward": "reward",
    "kl_k1": "KL",
    "entropy": "entropy",
    "length": "length",
    "loss/nll": "nll",
    "reward/accuracy": "accuracy",
    "reward/loss/bradley_terry": "nll",
}
"""Metrics worth a glance while a stage runs, and what they are called there."""


def shown_metrics(metrics: Metrics, monitors: list[str]) -> str:
    """The few numbers that matter: ``reward 0.41  KL 0.02  entropy 2.7  length 28.1``."""
    parts = []
    for name, label in LABELS.items():
        if name in metrics:
            parts.append(f"{label} {number(mean(metrics[name]))}")
        if name == "reward":
            parts += [
                f"{monitor} {number(mean(metrics[key]))}"
                for monitor in monitors
                if (key := f"reward/{monitor}") in metrics
            ]
    return "  ".join(parts)


def seconds(value: float) -> str:
    """``7.3 s``, ``42 s``, ``3:05``."""
    if value < 10:
        return f"{value:.1f} s"
    return f"{value:.0f} s" if value < 60 else f"{int(value) // 60}:{int(value) % 60:02d}"


@dataclass
class Stopwatch:
    """What every observer keeps: where the run stands and since when."""

    recipe: Recipe
    headline: str = ""
    kind: str = ""
    stage_started: float = field(default_factory=time.monotonic)
    phase_text: str = ""
    phase_started: float = field(default_factory=time.monotonic)
    done: int = 0
    total: int = 0
    numbers: str = ""
    monitors: list[str] = field(default_factory=list)

    def begin_stage(self, name: str, kind: str, number_: int, total: int) -> None:
        self.headline, self.kind = f"{number_}/{total} {name}  {kind}", kind
        self.stage_started = time.monotonic()
        self.done = self.total = 0
        self.numbers = ""
        config = self.recipe.stage_named(name)
        self.monitors = [spec.function for spec in config.monitor] if isinstance(config, RlStage) else []
        self.begin_phase("starting")

    def begin_phase(self, text: str) -> None:
        if text != self.phase_text:
            self.phase_text, self.phase_started = text, time.monotonic()

    def end_step(self, step: int, total: int, metrics: Metrics) -> None:
        self.done, self.total = step + 1, total
        self.numbers = shown_metrics(metrics, self.monitors)

    def closing_line(self, name: str, result: Mapping[str, Any]) -> str:
        took = seconds(time.monotonic() - self.stage_started)
        return f"{self.headline}  {took}  {highlight(name, self.kind, result)}".rstrip()


class PlainProgress:
    """Lines for a log file: one per stage, one about every tenth of its steps."""

    def __init__(self, console: Console, recipe: Recipe) -> None:
        self.console = console
        self.watch = Stopwatch(recipe)

    def stage(self, name: str, kind: str, number: int, total: int) -> None:
        self.watch.begin_stage(name, kind, number, total)
        self._line(self.watch.headline)

    def phase(self, text: str) -> None:
        self.watch.begin_phase(text)

    def step(self, step: int, total: int, metrics: Metrics) -> None:
        self.watch.end_step(step, total, metrics)
        tenth = max(1, total // 10)
        if (step + 1) % tenth == 0 or step + 1 == total:
            took = seconds(time.monotonic() - self.watch.stage_started)
            self._line(f"    step {step + 1}/{total}  {took}  {self.watch.numbers}")

    def note(self, text: str) -> None:
        self._line(f"    note: {text}")

    def finished(self, name: str, result: dict[str, object]) -> None:
        self._line(f"    done  {self.watch.closing_line(name, result)}")

    def _line(self, text: str) -> None:
        self.console.print(Text(text))


class LiveProgress:
    """A line that follows the run on a terminal, above it one line per finished stage."""

    def __init__(self, console: Console, recipe: Recipe) -> None:
        self.console = console
        self.watch = Stopwatch(recipe)
        self.live = Live(
            console=console,
            get_renderable=self.render,
            refresh_per_second=4,
            transient=True,
            redirect_stdout=False,
        )

    def __enter__(self) -> LiveProgress:
        self.live.start()
        return self

    def __exit__(self, *exception: object) -> None:
        self.live.stop()

    def render(self) -> Table | Text:
        """The live line as it is now."""
        if not self.watch.headline:
            return Text("starting")
        took = seconds(time.monotonic() - self.watch.phase_started)
        line = Table.grid(padding=(0, 2))
        cells: list[Any] = [Text(self.watch.headline, style="bold")]
        if self.watch.total:
            cells.append(ProgressBar(total=self.watch.total, completed=self.watch.done, width=20))
            cells.append(Text(f"{self.watch.done}/{self.watch.total}"))
        cells.append(Text(f"{self.watch.phase_text}, {took}", style="dim"))
        cells.append(Text(self.watch.numbers))
        line.add_row(*cells)
        return line

    def stage(self, name: str, kind: str, number: int, total: int) -> None:
        self.watch.begin_stage(name, kind, number, total)

    def phase(self, text: str) -> None:
        self.watch.begin_phase(text)

    def step(self, step: int, total: int, metrics: Metrics) -> None:
        self.watch.end_step(step, total, metrics)

    def note(self, text: str) -> None:
        self.console.print(Text(f"  note: {text}", style="yellow"))

    def finished(self, name: str, result: dict[str, object]) -> None:
        self.console.print(Text(self.watch.closing_line(name, result)))


def highlight(name: str, kind: str, result: Mapping[str, Any]) -> str:
    """The one measure of a stage that a reader asks for first, before and after."""
    wanted = {
        "sft": "heldout_nll",
        "reward_model": "accuracy",
        "rl": "reward/total",
        "collect": "label_accuracy",
    }
    table = stage_tables({"stages": {name: result}}, {name: kind})[0]
    row = table.rows.get(wanted.get(kind, ""))
    if row is None:
        return ""
    values = [number(figure.value) for figure in row if figure is not None]
    return f"{wanted[kind]} {' -> '.join(values)}"


@contextmanager
def observing(console: Console, recipe: Recipe, *, quiet: bool) -> Iterator[Observer]:
    """The observer that fits the terminal: nothing, plain lines, or a live line."""
    if quiet:
        yield Silent()
    elif console.is_terminal:
        with LiveProgress(console, recipe) as live:
            yield live
    else:
        yield PlainProgress(console, recipe)
