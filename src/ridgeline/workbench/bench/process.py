"""One run of one side: a fresh process, what it measured, what it took, and who else was at work."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
from dataclasses import asdict, dataclass, field
from importlib.resources import files
from pathlib import Path
from typing import Any

from ridgeline.models.embedded import cache_folder
from ridgeline.schema.errors import RunError, UsageError, nearest
from ridgeline.workbench.bench.environments import interpreter
from ridgeline.workbench.bench.load import Ticks

_KEEP = str(2**30)
TUNED = {
    "MALLOC_MMAP_THRESHOLD_": _KEEP,
    "MALLOC_TRIM_THRESHOLD_": _KEEP,
    "MALLOC_TOP_PAD_": str(2**26),
}
"""What ``tune_allocator`` does to our own processes, for those that are started with variables."""
QUIET = {
    "HF_HUB_OFFLINE": "1",
    "HF_DATASETS_OFFLINE": "1",
    "HF_HUB_DISABLE_TELEMETRY": "1",
    "HF_HUB_DISABLE_PROGRESS_BARS": "1",
    "TOKENIZERS_PARALLELISM": "false",
    "TRANSFORMERS_VERBOSITY": "error",
}
ISA = {
    "avx2": {
        "ONEDNN_MAX_CPU_ISA": "AVX2",
        "ATEN_CPU_CAPABILITY": "avx2",
        "RIDGELINE_KERNELS_FLAGS": "-march=x86-64-v3",
    },
    "avx512": {
        "ONEDNN_MAX_CPU_ISA": "AVX512_CORE",
        "RIDGELINE_KERNELS_FLAGS": "-march=native -mno-amx-tile -mprefer-vector-width=512",
    },
}
"""Variables that keep a machine from using all that it has, for both sides alike."""


@dataclass(frozen=True)
class Side:
    """Who does the work: its name in tables, its command, and what its environment has besides."""

    name: str
    command: tuple[str, ...]
    environment: dict[str, str] = field(default_factory=dict)


@dataclass
class Run:
    """What one process of a side measured.

    seconds, tokens: of every step, warm-up included. start: seconds from the start of the process to the end
    of its first step. peak: bytes that were resident at most. others: share of all processors that other
    processes used meanwhile (None: unknown).
    """

    seconds: list[float]
    tokens: list[int]
    start: float
    peak: int
    others: float | None
    checks: dict[str, Any]
    settings: dict[str, Any]
    versions: dict[str, str]
    parts: dict[str, list[float]]
    roofline: dict[str, float]

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)


def check_isa(name: str | None) -> None:
    """Raises UsageError for instructions that no entry of ``ISA`` is about."""
    if name is not None and name not in ISA:
        raise UsageError(f"--isa {name}: {nearest(name, ISA)}")


def sides_of(against: str, kind: str = "rollout") -> list[Side]:
    """Us first, then the peer; a peer on glibc twice: as it is, and with the allocator set as ours is."""
    ours = (sys.executable, "-m", "ridgeline.workbench.bench.ours")
    mine = Side("ridgeline", (*ours, "{workload}", "{out}", "fast"))
    if against == "plain":
        return [mine, Side("plain path", (*ours, "{workload}", "{out}", "plain"))]
    suffix = "_prepare" if kind == "prepare" else ""
    script = Path(str(files("ridgeline.workbench.bench.sides"))) / f"with_{against}{suffix}.py"
    command = (interpreter(against), str(script), "{workload}", "{out}")
    # vLLM brings an allocator of its own, and preparing data frees no large blocks.
    if against == "vllm" or kind == "prepare" or not sys.platform.startswith("linux"):
        return [mine, Side(against, command)]
    return [mine, Side(against, command), Side(f"{against}, allocator tuned", command, TUNED)]


def run_side(side: Side, workload: Path, folder: Path, *, isa: str | None = None) -> Run:
    """Run ``side`` once on ``workload``; its output and errors go into ``folder``.

    Raises:
        RunError: the process failed.
    """
    out, log, cache = folder / "out.json", folder / "log.txt", folder / "datasets"
    out.unlink(missing_ok=True)
    shutil.rmtree(cache, ignore_errors=True)
    command = [part.format(workload=workload, out=out) for part in side.command]
    environment = _environment() | QUIET | {"HF_DATASETS_CACHE": str(cache)} | side.environment
    environment |= ISA[isa] if isa else {}
    ticks, started = Ticks.now(), time.time()
    with log.open("w") as output:
        process = subprocess.Popen(command, stdout=output, stderr=output, env=environment)
        try:
            _, status, usage = os.wait4(process.pid, 0)
        except BaseException:
            process.kill()
            process.wait()
            raise
    after, elapsed = Ticks.now(), time.time() - started
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode or not out.is_file():
        raise _failed(side, process.returncode, log)
    others = None
    if ticks is not None and after is not None:
        own = usage.ru_utime + usage.ru_stime
        everything = elapsed * (os.cpu_count() or 1)
        others = max(0.0, after.busy - ticks.busy - own) / everything
    record = json.loads(out.read_text())
    return Run(
        seconds=record["seconds"],
        tokens=record["tokens"],
        start=record["first_end"] - started,
        peak=record["peak"],
        others=others,
        checks=record["checks"],
        settings=record["settings"],
        versions=record["versions"],
        parts=record["parts"],
        roofline=record.get("roofline", {}),
    )


def _failed(side: Side, code: int, log: Path) -> RunError:
    """What its last line says; the whole output is kept."""
    text = log.read_text(errors="replace")
    kept = cache_folder() / "bench" / f"failed-{side.name.split(',')[0]}.log"
    kept.parent.mkdir(parents=True, exist_ok=True)
    kept.write_text(text)
    lines = [line for line in text.splitlines() if line.strip()]
    return RunError(
        f"the side '{side.name}' failed (exit code {code}): {(lines or ['no output'])[-1]}; see {kept}"
    )


def _environment() -> dict[str, str]:
    """This process's, without what would decide which modules or which allocator a side has."""
    dropped = {"PYTHONHOME", "RIDGELINE_ALLOCATOR", *TUNED}
    return {name: value for name, value in os.environ.items() if name not in dropped}
