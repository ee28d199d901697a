"""One workload, done by us."""

from __future__ import annotations

from collections.abc import Callable
from importlib.metadata import version
from typing import Any

import torch
import transformers

from ridgeline.workbench.bench.ours.growth import growth
from ridgeline.workbench.bench.ours.learning import dpo, reward, sft
from ridgeline.workbench.bench.ours.policy import grpo
from ridgeline.workbench.bench.ours.prepare import prepare
from ridgeline.workbench.bench.ours.rollout import rollout
from ridgeline.workbench.bench.ours.setup import Bench
from ridgeline.workbench.bench.roofline import rooflines
from ridgeline.workbench.bench.sides.record import Record

Do = Callable[[Bench, dict[str, Any], Record], None]
WORKS: dict[str, Do] = {
    "rollout": rollout,
    "sft": sft,
    "reward": reward,
    "dpo": dpo,
    "grpo": grpo,
    "growth": growth,
}


def run(workload: dict[str, Any], *, plain: bool) -> Record:
    """Every batch of ``workload`` in turn; the machine's own limits are measured afterwards."""
    record = Record()
    if workload["kind"] == "prepare":
        prepare(workload, record)
    else:
        _with_model(workload, record, plain=plain)
    record.versions = {
        "ridgeline": version("ridgeline"),
        "torch": torch.__version__,
        "transformers": transformers.__version__,
    }
    return record


def _with_model(workload: dict[str, Any], record: Record, *, plain: bool) -> None:
    bench = Bench.load(workload, plain=plain)
    WORKS[workload["kind"]](bench, workload, record)
    record.note_peak()
    record.settings |= bench.settings()
    if workload.get("roofline") and not plain:
        record.more["roofline"] = rooflines(bench.model.module, workload, record)
