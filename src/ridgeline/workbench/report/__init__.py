"""The page of a run: everything the run folder knows, in one file that needs nothing else."""

from __future__ import annotations

from ridgeline.workbench.report.page import write_report

__all__ = ["write_report"]
