"""The fast path beats the plain path it was made from: a ratio, never a time."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from ridgeline.models.embedded import embedded_folder
from ridgeline.workbench.bench.process import run_side, sides_of

POINTS = [
    {
        "name": "rollout",
        "work": "rollout",
        "sizes": {"prompts": 4, "group": 4, "prompt tokens": 42, "new tokens": 12},
    },
    {
        "name": "training step",
        "work": "training step",
        "sizes": {"prompts": 2, "group": 4, "prompt tokens": 42, "new tokens": 24},
    },
]


@pytest.mark.model
def test_the_fast_path_is_faster_than_the_plain_one(tmp_path: Path) -> None:
    """Best of three each, in fresh processes, since kernels and allocator are settled once a process."""
    workload = tmp_path / "workload.json"
    content = {"kind": "growth", "model": str(embedded_folder()), "seed": 1, "points": POINTS, "repeats": 3}
    workload.write_text(json.dumps(content))
    fast, plain = (run_side(side, workload, tmp_path) for side in sides_of("plain"))
    assert (fast.settings["path"], plain.settings["path"]) == ("fast", "plain")
    assert plain.settings["kernels"].startswith("torch") and plain.settings["sampler"] == "plain"
    for point in POINTS:
        name = str(point["name"])
        ratio = min(plain.parts[name]) / min(fast.parts[name])
        assert ratio >= 1.3, f"{name}: only {ratio:.2f} times faster"
