"""A run on the terminal: phase and elapsed time while it works, one line per finished stage."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
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
from ridgeline.schema.stages import PreferenceStage, Stage
from ridgeline.training.observer import Observer, Silent
from ridgeline.workbench.results import number, plain, stage_tables

GLANCE: Mapping[str, Mapping[str, str]] = {
    "sft": {"loss": "loss"},
    "reward_model": {"reward/accuracy": "accuracy", "reward/loss": "loss"},
    "preference": {
        "reward": "reward",
        "preferred": "preferred",
        "loss": "loss",
        "accuracy": "accuracy",
        "margin": "margin",
        "kl_k1": "KL",
        "discriminator_agrees": "judge right",
    },
    "unpaired": {
        "loss": "loss",
        "log_ratio/desirable": "liked",
        "log_ratio/undesirable": "disliked",
        "kl_mismatched": "KL",
    },
    "rl": {"reward": "reward", "kl_k1": "KL", "entropy": "entropy", "length": "length"},
    "reject": {
        "pool/total": "pool",
        "selected/total": "selected",
        "loss": "loss",
        "control/loss": "control loss",
    },
    "distill": {
        "divergence": "divergence",
        "loss/divergence": "divergence",
        "nll": "nll",
        "length": "length",
    },
}
"""Per stage type the metrics worth a glance while it runs, and what they are called there.

A name that ends in ``loss`` stands for all losses below it, added up; that of a policy gradient is left out,
since its size means nothing.
"""


def shown_metrics(kind: str, metrics: Metrics, monitors: Sequence[str] = ()) -> str:
    """The few numbers that matter: ``reward 0.41  KL 0.02  entropy 2.7  length 28.1``."""
    parts = []
    for name, label in GLANCE.get(kind, {}).items():
        value = _loss(name, metrics) if name.endswith("loss") else _mean(name, metrics)
        if value is not None:
            parts.append(f"{label} {number(value)}")
        if name == "reward":
            parts += [
                f"{plain(monitor)} {number(watched)}"
                for monitor in monitors
                if (watched := _mean(f"reward/{monitor}", metrics)) is not None
            ]
    return "  ".join(parts)


def _mean(name: str, metrics: Metrics) -> float | None:
    return mean(metrics[name]) if name in metrics else None


def _loss(name: str, metrics: Metrics) -> float | None:
    losses = [
        mean(pair)
        for key, pair in metrics.items()
        if key.startswith(f"{name}/") and not key.endswith("/policy")
    ]
    return sum(losses) if losses else None


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
        self.monitors = _monitors(self.recipe.stage_named(name))
        self.begin_phase("starting")

    def begin_phase(self, text: str) -> None:
        if text != self.phase_text:
            self.phase_text, self.phase_started = text, time.monotonic()

    def end_step(self, step: int, total: int, metrics: Metrics) -> None:
        self.done, self.total = step + 1, total
        self.numbers = shown_metrics(self.kind, metrics, self.monitors)

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


def _monitors(stage: Stage) -> list[str]:
    source = stage.online if isinstance(stage, PreferenceStage) else stage
    return [spec.function for spec in getattr(source, "monitor", [])]


HIGHLIGHTS: Mapping[str, tuple[tuple[str, ...], ...]] = {
    "sft": (("heldout_nll",),),
    "collect": (("label_accuracy",),),
    "reward_model": (("accuracy",),),
    "preference": (("accuracy", "reward/total"),),
    "unpaired": (("separation",),),
    "rl": (("reward/total",),),
    "reject": (("reward/total",), ("against_control reward/total",)),
    "distill": (("divergence", "own_divergence", "nll"),),
    "merge": (("difference reward/",),),
}
"""What a reader asks for first, per stage type: of each group the first measure that begins like this."""


def highlight(name: str, kind: str, result: Mapping[str, Any]) -> str:
    """The measures that matter most, before and after: ``accuracy 0.5 -> 0.83``."""
    rows = stage_tables({"stages": {name: result}}, {name: kind})[0].rows
    parts = []
    for group in HIGHLIGHTS.get(kind, ()):
        measure = next((row for wanted in group for row in rows if row.startswith(wanted)), None)
        if measure is not None:
            values = [number(figure.value) for figure in rows[measure] if figure is not None]
            parts.append(f"{measure} {' -> '.join(values)}")
    return "  ".join(parts)


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
