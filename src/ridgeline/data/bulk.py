"""Making hundreds of thousands of small objects without stopping to look for garbage among them."""

from __future__ import annotations

import gc
from collections.abc import Callable
from functools import wraps
from typing import ParamSpec, TypeVar

P = ParamSpec("P")
T = TypeVar("T")


def in_bulk(function: Callable[P, T]) -> Callable[P, T]:
    """``function`` without Python's search for cycles while it runs.

    Rows make no cycles, so a search finds nothing, but every quarter more objects trigger one through all of
    them: a quarter of the time of preparing 50,000 rows.
    """

    @wraps(function)
    def run(*args: P.args, **kwargs: P.kwargs) -> T:
        was = gc.isenabled()
        gc.disable()
        try:
            return function(*args, **kwargs)
        finally:
            if was:
                gc.enable()

    return run
