"""The command line, called in this process: exit code, standard output and standard error."""

from __future__ import annotations

import contextlib
import io
from dataclasses import dataclass

from ridgeline.cli.main import main


@dataclass(frozen=True)
class Called:
    code: int
    out: str
    err: str


def call(*arguments: str) -> Called:
    out, err = io.StringIO(), io.StringIO()
    code = 0
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        try:
            main(list(arguments))
        except SystemExit as leaving:
            code = int(leaving.code or 0)
    return Called(code, out.getvalue(), err.getvalue())


def assert_one_sentence(called: Called, code: int, *fragments: str) -> None:
    """The exit code, every fragment, and nothing but one line that begins with ``Error:``."""
    assert called.code == code, called
    assert "Traceback" not in called.err + called.out
    lines = [line for line in called.err.splitlines() if line.startswith("Error: ")]
    assert len(lines) == 1 and called.err.rstrip().endswith(lines[0]), called.err
    for fragment in fragments:
        assert fragment in lines[0], lines[0]
