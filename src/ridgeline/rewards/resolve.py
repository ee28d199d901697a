"""From what a recipe calls a reward to the function: built-in, ``module:function``, ``file.py:function``."""

from __future__ import annotations

import contextlib
import importlib
import importlib.util
import inspect
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

from ridgeline.rewards.builtin import BUILTIN
from ridgeline.rewards.call import RewardFunction
from ridgeline.schema.errors import UsageError, nearest


@dataclass(frozen=True, slots=True)
class ResolvedReward:
    """``reference`` is what a worker loads: ``module:function`` or ``/absolute/file.py:function``."""

    name: str
    reference: str
    builtin: bool
    function: RewardFunction


def resolve(function: str, *, folder: Path | None = None) -> ResolvedReward:
    """Find and import a reward function; ``folder`` anchors a relative file (default: the working directory).

    Raises:
        UsageError: unknown name, missing file, failing import, attribute that is missing or not callable.
    """
    if function in BUILTIN:
        return ResolvedReward(function, BUILTIN[function], True, load(BUILTIN[function]))
    place, separator, attribute = function.rpartition(":")
    if not separator:
        hint = f"; name the function too: {function}:function" if function.endswith(".py") else ""
        raise UsageError(
            f"unknown reward '{function}'{hint or '; ' + nearest(function, BUILTIN).rstrip('.')}"
            + ("." if hint else " (or write package.module:function or path/to/file.py:function).")
        )
    if not place or not attribute:
        raise UsageError(f"reward '{function}': write package.module:function or path/to/file.py:function.")
    if place.endswith(".py"):
        place = str(((folder or Path.cwd()) / Path(place).expanduser()).resolve())
    reference = f"{place}:{attribute}"
    return ResolvedReward(function, reference, False, load(reference))


def load(reference: str) -> RewardFunction:
    """The function behind a reference; the same code runs here and in the worker.

    Raises:
        UsageError: as for ``resolve``.
    """
    place, _, attribute = reference.rpartition(":")
    is_file = place.endswith(".py")
    if is_file and not Path(place).is_file():
        raise UsageError(f"reward '{reference}': there is no file {place}; check the path.")
    with _searching(Path(place).parent if is_file else Path.cwd(), first=is_file):
        try:
            module = _module_from_file(Path(place)) if is_file else importlib.import_module(place)
        except (Exception, SystemExit) as error:
            text = " ".join(str(error).split())
            raise UsageError(
                f"reward '{reference}': importing {place} fails with {type(error).__name__}: {text}."
            ) from error
    found: Any = module
    for part in attribute.split("."):
        try:
            found = getattr(found, part)
        except AttributeError:
            callables = [name for name, value in vars(module).items() if callable(value) and name[0] != "_"]
            raise UsageError(
                f"reward '{reference}': {place} has no '{part}'; {nearest(part, callables)}"
            ) from None
    if not callable(found):
        raise UsageError(
            f"reward '{reference}': '{attribute}' is of type {type(found).__name__}, not a function; "
            "name a function that takes a list of samples."
        )
    function: RewardFunction = found
    return function


def reference_of(function: RewardFunction) -> str | None:
    """``module:function`` where another process could import exactly this function, else None."""
    if not inspect.isfunction(function):
        return None
    module, name = function.__module__, function.__qualname__
    if module == "__main__" or not name.isidentifier() or module not in sys.modules:
        return None
    if vars(sys.modules[module]).get(name) is not function:
        return None
    with contextlib.suppress(ImportError, ValueError):
        return f"{module}:{name}" if importlib.util.find_spec(module) else None
    return None


def _module_from_file(path: Path) -> ModuleType:
    """Executed anew each time, so that an edited file is read again; registered, as dataclasses require."""
    name = f"ridgeline_reward_{path.stem}"
    spec = importlib.util.spec_from_file_location(name, path)
    if spec is None or spec.loader is None:
        raise ImportError(f"{path} is not a Python file")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module


@contextlib.contextmanager
def _searching(folder: Path, *, first: bool) -> Iterator[None]:
    """Imports also look in ``folder``, for this long only: the caller's process stays as it was."""
    before = list(sys.path)
    sys.path.insert(0 if first else len(sys.path), str(folder))
    try:
        yield
    finally:
        sys.path[:] = before
