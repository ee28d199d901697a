"""The three kinds of error a user can meet, and their exit codes.

The command line prints the sentence and leaves with the code; a traceback appears only with ``--debug``.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class RidgelineError(Exception):
    """Base of every error that carries a sentence for the user."""

    exit_code = 1


class UsageError(RidgelineError):
    """Wrong command, recipe or path (a missing file included)."""

    exit_code = 2


class DataError(RidgelineError):
    """The content of a file is wrong: names the file, the row and the field."""

    exit_code = 3


class RunError(RidgelineError):
    """A run stopped: says what was saved and how to resume."""

    exit_code = 4


class Interrupted(RunError):
    """Ctrl-C after the state was saved; 130 is what shells expect of an interrupted command."""

    exit_code = 130


def nearest(word: str, choices: Iterable[str]) -> str:
    """A clause naming the closest valid spelling, or the choices when nothing is close.

    >>> nearest("learing_rate", ["learning_rate", "warmup"])
    "did you mean 'learning_rate'?"
    """
    valid = sorted(set(choices))
    close = difflib.get_close_matches(word, valid, n=1, cutoff=0.5)
    if close:
        return f"did you mean '{close[0]}'?"
    return f"valid: {', '.join(valid)}." if valid else "nothing is valid here."
