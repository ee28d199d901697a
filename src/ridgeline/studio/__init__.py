"""The studio: a local web server that shows runs and the exact world; it only ever reads run folders.

import ridgeline.studio
handle = ridgeline.studio.launch("runs", block=False)
print(handle.url)
handle.close()
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ridgeline.studio.serve import Handle

__all__ = ["launch"]


def launch(
    runs: str | Path = "runs",
    *,
    host: str = "127.0.0.1",
    port: int | None = None,
    browser: bool = False,
    block: bool = True,
) -> Handle:
    """Serve the studio for the run folders below ``runs``.

    port: None takes 7421 or the next free one, 0 any free one. ``block=False`` serves from a thread and
    returns at once; otherwise the call returns after Ctrl-C. The handle has ``url`` (with the token) and
    ``close()``.

    Raises:
        UsageError: the port is in use, or ``host`` is no address of this machine.
    """
    from ridgeline.studio.serve import Options, start

    return start(Options(Path(runs), host=host, port=port, browser=browser), block=block)
