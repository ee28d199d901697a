"""What a check says."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Check:
    """A check, whether it passed, its numbers in words, and the number itself."""

    name: str
    passed: bool
    detail: str
    value: float | None = None

    def as_dict(self) -> dict[str, str | bool | float | None]:
        return {"name": self.name, "passed": self.passed, "detail": self.detail, "value": self.value}
