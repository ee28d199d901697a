"""Maps of real runs: completions as places, reward as altitude, the reference's cloud as the corridor."""

from __future__ import annotations

from ridgeline.landscape.maps.build import MapResult, build

__all__ = ["MapResult", "build"]
