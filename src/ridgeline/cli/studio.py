"""``studio``: the local web server that shows runs and the exact world."""

from __future__ import annotations

from pathlib import Path

import typer

from ridgeline.cli.settings import settings_of
from ridgeline.schema.errors import UsageError

DEFAULT = Path("runs")


def register(app: typer.Typer) -> None:
    """Add the commands of this module."""
    app.command("studio")(studio)


def studio(
    context: typer.Context,
    runs: Path = typer.Argument(
        DEFAULT, metavar="[RUNS_DIR]", help="Folder of run folders, or one run folder."
    ),
    host: str = typer.Option("127.0.0.1", "--host", help="Address to listen on."),
    port: int | None = typer.Option(
        None, "--port", min=0, max=65535, help="0: any free one. Default: 7421 or the next free one."
    ),
    no_browser: bool = typer.Option(False, "--no-browser", help="Only print the address."),
    no_auth: bool = typer.Option(False, "--no-auth", help="Ask for no token; on loopback only."),
    root_path: str = typer.Option("", "--root-path", help="Path under which a proxy serves the studio."),
    allow_host: list[str] = typer.Option(
        [], "--allow-host", help="A name by which a proxy or tunnel calls this server; repeat for more."
    ),
) -> None:
    """Show runs, their samples and the exact world in the browser; Ctrl-C ends it.

    It reads run folders and never writes into them, and it talks to nobody but the browser.

    \b
    ridgeline studio
    ridgeline studio runs --port 0 --no-browser
    """
    from ridgeline.studio.serve import Options, start

    if runs != DEFAULT and not runs.is_dir():
        raise UsageError(f"{runs} is no folder; name the one that holds your runs, such as runs.")
    options = Options(
        runs,
        host=host,
        port=port,
        browser=not no_browser,
        auth=not no_auth,
        root_path=root_path,
        names=tuple(allow_host),
    )
    quiet = settings_of(context).quiet
    start(options, block=True, announce=lambda url: print(url if quiet else f"Studio: {url}", flush=True))
