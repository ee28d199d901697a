"""How a run speaks to whoever started it. The command line draws it; a notebook or test may ignore it."""

from __future__ import annotations

from typing import Protocol

from ridgeline.schema.run_folder import Metrics


class Observer(Protocol):
    """Told what happens; must never stop a run."""

    def stage(self, name: str, kind: str, number: int, total: int) -> None:
        """A stage begins (``number`` counts from 1)."""
        ...

    def phase(self, text: str) -> None:
        """What is being done now, such as ``sampling``."""
        ...

    def step(self, step: int, total: int, metrics: Metrics) -> None:
        """A step is over."""
        ...

    def note(self, text: str) -> None:
        """One line worth reading: a warning, a count of what was dropped."""
        ...

    def finished(self, name: str, result: dict[str, object]) -> None:
        """A stage is over."""
        ...


class Silent:
    """Says nothing."""

    def stage(self, name: str, kind: str, number: int, total: int) -> None: ...

    def phase(self, text: str) -> None: ...

    def step(self, step: int, total: int, metrics: Metrics) -> None: ...

    def note(self, text: str) -> None: ...

    def finished(self, name: str, result: dict[str, object]) -> None: ...
