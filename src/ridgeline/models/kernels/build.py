"""The kernels' shared library: compiled on first use, kept in the user's cache, never needed.

A machine without a C compiler, or one on which compiling fails, runs the same operations in torch and says so
(`kernels_note`). `RIDGELINE_KERNELS=off` asks for that. The file is named by a digest of the source, the
compiler and the processor, so a cache that several machines share never serves the wrong one.
"""

from __future__ import annotations

import ctypes
import functools
import hashlib
import os
import platform
import shutil
import subprocess
import tempfile
from importlib.resources import files
from pathlib import Path

import torch

SOURCES = (
    "kernels.c",
    "kernels.h",
    "draw.h",
    "learn.h",
    "adamw.h",
    "multiply.h",
    "tiles.h",
    "thin.h",
    "attend_tiles.h",
    "decode.h",
    "gradient.h",
    "broad.h",
    "ragged.h",
)
FLAGS = ("-O3", "-fno-math-errno", "-fno-trapping-math", "-fopenmp", "-fPIC", "-shared")


@functools.cache
def kernel_library() -> ctypes.CDLL | None:
    """The library, or None where it cannot be had."""
    return _load()[0]


@functools.cache
def kernels_note() -> str:
    """Which kernels run here and why: ``compiled``, or ``torch (reason)``; goes into ``environment.json``."""
    return _load()[1]


def kernels_identity() -> str:
    """For names of what was computed with the kernels: changes whenever they do."""
    library = kernel_library()
    return kernels_note() if library is None else Path(library._name).stem  # a digest of source and machine


@functools.cache
def _load() -> tuple[ctypes.CDLL | None, str]:
    if os.environ.get("RIDGELINE_KERNELS") == "off":
        return None, "torch (RIDGELINE_KERNELS=off)"
    compiler = os.environ.get("CC") or next(filter(None, map(shutil.which, ("gcc", "clang", "cc"))), None)
    if compiler is None:
        return None, "torch (no C compiler)"
    folder = Path(str(files("ridgeline.models.kernels")))
    try:
        path = _library_path(folder, compiler)
        if not path.is_file():
            _compile(compiler, folder / "kernels.c", path)
        return ctypes.CDLL(str(path)), "compiled"
    except (OSError, subprocess.SubprocessError) as error:
        return None, f"torch (compiling failed: {_reason(error)})"


def _library_path(folder: Path, compiler: str) -> Path:
    from ridgeline.models.embedded import cache_folder

    digest = hashlib.sha256()
    for name in SOURCES:
        digest.update((folder / name).read_bytes())
    version = subprocess.run([compiler, "--version"], capture_output=True, timeout=60, check=True).stdout
    for part in (version, _processor().encode(), " ".join(_flags()).encode()):
        digest.update(part)
    return cache_folder() / "kernels" / f"{digest.hexdigest()[:24]}.so"


def _compile(compiler: str, source: Path, path: Path) -> None:
    """Beside the target and renamed, so that processes which start together do not meet half a file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=path.parent) as aside:
        made = Path(aside) / path.name
        command = [compiler, *_flags(), "-o", str(made), str(source), *_threads(), "-lm"]
        subprocess.run(command, capture_output=True, timeout=300, check=True)
        made.replace(path)


def _flags() -> tuple[str, ...]:
    """RIDGELINE_KERNELS_FLAGS (say, ``-march=x86-64-v3``) takes the place of what this processor suggests."""
    given = os.environ.get("RIDGELINE_KERNELS_FLAGS")
    if given is not None:
        return (*FLAGS, *given.split())
    wide = "AVX512" in torch.backends.cpu.get_cpu_capability()
    return (*FLAGS, "-march=native", *(["-mprefer-vector-width=512"] if wide else []))


def _threads() -> list[str]:
    """torch's own OpenMP, so that both share one pool of threads; two pools would be in each other's way."""
    bundled = Path(torch.__file__).parent / "lib"
    return [str(path) for path in sorted(bundled.glob("libgomp*.so*"))[:1]]


def _processor() -> str:
    """The instructions that `native` means here."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor() + platform.machine()
    return next((line for line in lines if line.startswith(("flags", "Features"))), platform.machine())


def _reason(error: Exception) -> str:
    stderr = getattr(error, "stderr", None)
    text = stderr.decode(errors="replace").strip() if isinstance(stderr, bytes) else ""
    return (text.splitlines() or [str(error)])[0][:200]
