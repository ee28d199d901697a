"""One call of a reward function, and what may have gone wrong in it. Shared by parent and worker."""

from __future__ import annotations

import asyncio
import inspect
import math
import numbers
import traceback
from collections.abc import Awaitable, Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any, Literal

from ridgeline.schema.errors import RidgelineError
from ridgeline.schema.records import Sample

Values = list[float | None]
RewardFunction = Callable[[list[Sample]], Values | Awaitable[Values]]
Kind = Literal["timeout", "exception", "worker_died", "not_finite", "wrong_type", "wrong_length"]


@dataclass(frozen=True, slots=True)
class Failure:
    """What went wrong. ``message`` completes the sentence "reward 'name' ..."."""

    kind: Kind
    message: str


@dataclass(slots=True)
class Reply:
    """One value per sample; ``failures`` says, by position, which None is a failure."""

    values: Values
    failures: dict[int, Failure] = field(default_factory=dict)


def evaluate(function: RewardFunction, samples: list[Sample]) -> Reply | Failure:
    """Call ``function`` and check what it returns; a ``Failure`` concerns the whole batch.

    Raises:
        RidgelineError: only where the function itself raises one (a built-in that misses a column).
    """
    try:
        returned: Any = function(list(samples))
        if inspect.isawaitable(returned):
            returned = _wait_for(returned)
        if returned is None or isinstance(returned, str | bytes | dict) or not isinstance(returned, Iterable):
            return Failure(
                "wrong_type", f"returned {_kind_of(returned)}, not a list of one float or None per completion"
            )
        values = list(returned)
    except RidgelineError:
        raise
    except (Exception, SystemExit, asyncio.CancelledError) as error:
        return Failure("exception", f"raised {_describe(error)}")
    if len(values) != len(samples):
        return Failure(
            "wrong_length",
            f"returned {len(values)} values for {len(samples)} completions; "
            "return one float or None per completion, in the same order",
        )
    return _checked(values)


def _checked(values: list[Any]) -> Reply:
    reply = Reply([])
    for position, value in enumerate(values):
        number: float | None = None
        if isinstance(value, numbers.Real):  # numpy's scalars and bool are Real too
            number = float(value)
            if not math.isfinite(number):
                reply.failures[position] = Failure("not_finite", f"returned {number}")
                number = None
        elif value is not None:
            reply.failures[position] = Failure(
                "wrong_type", f"returned {_kind_of(value)} where a float or None belongs"
            )
        reply.values.append(number)
    return reply


def _kind_of(value: Any) -> str:
    return "None" if value is None else f"a value of type {type(value).__name__}"


def _describe(error: BaseException) -> str:
    """The exception and the last line of code it came through; at most one line."""
    frames = traceback.extract_tb(error.__traceback__)
    text = " ".join(str(error).split())[:300]
    where = f" ({frames[-1].filename}, line {frames[-1].lineno})" if frames else ""
    return f"{type(error).__name__}{': ' + text if text else ''}{where}"


async def _finish(awaitable: Awaitable[Values]) -> Values:
    return await awaitable


def _wait_for(awaitable: Awaitable[Values]) -> Values:
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return asyncio.run(_finish(awaitable))
    # A notebook's loop is running in this thread and cannot be entered a second time.
    with ThreadPoolExecutor(1) as thread:
        return thread.submit(asyncio.run, _finish(awaitable)).result()
