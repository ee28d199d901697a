"""``ridgeline``: the entry point, and how every failure looks."""

from __future__ import annotations

import sys
import traceback
from typing import Any, NoReturn

import typer

from ridgeline.cli import (
    align,
    bench,
    compare,
    data,
    doctor,
    improve,
    landscape,
    models,
    plan,
    replay,
    run,
    score,
    studio,
    talk,
    train,
)
from ridgeline.cli.settings import GLOBAL_OPTIONS, Settings
from ridgeline.schema.errors import RidgelineError

# click's base of all complaints about the command line; newer versions of typer carry their own click.
CommandLineError: Any = typer.BadParameter.__mro__[2]

EPILOG = "--debug, --quiet and --json may also stand after the command."

app = typer.Typer(
    name="ridgeline",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    epilog=EPILOG,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110},
)


@app.callback()
def root(
    context: typer.Context,
    debug: bool = typer.Option(False, "--debug", help="Show the full traceback of an error."),
    quiet: bool = typer.Option(False, "--quiet", help="Print the closing line only."),
    json: bool = typer.Option(False, "--json", help="Print the result as JSON; progress goes to stderr."),
) -> None:
    """Post-training you can see: tune, judge and optimise a language model, from a laptop up.

    \b
    ridgeline run recipes/quickstart.toml      a whole pipeline from one file
    ridgeline chat runs/quickstart             talk to what it made
    ridgeline COMMAND --help                   every option, with examples
    """
    context.obj = Settings(debug=debug, quiet=quiet, json=json)


for module in (
    run,
    train,
    align,
    improve,
    talk,
    score,
    data,
    models,
    plan,
    compare,
    doctor,
    replay,
    bench,
    landscape,
    studio,
):
    module.register(app)


def main(arguments: list[str] | None = None) -> NoReturn:
    """Run the command line and leave with its exit code.

    0 done, 1 a bug in ridgeline, 2 wrong command, recipe or path, 3 wrong data, 4 a run stopped or a check
    failed, 130 interrupted. A user's mistake is one sentence on standard error; ``--debug`` adds the
    traceback.
    """
    arguments = hoist_global_options(list(sys.argv[1:] if arguments is None else arguments))
    debug = "--debug" in arguments
    try:
        code = app(arguments, standalone_mode=False, prog_name="ridgeline")
    except RidgelineError as error:
        _fail(f"Error: {error}", error.exit_code, debug)
    except CommandLineError as error:
        _fail_usage(error)
    except (KeyboardInterrupt, typer.Abort):
        _fail("Interrupted.", 130, debug)
    except BrokenPipeError:
        sys.stderr.close()
        raise SystemExit(0) from None
    except Exception as error:
        reason = f"{type(error).__name__}: {error}".splitlines()[0]
        if debug:
            _fail(f"Error: this is a bug in ridgeline ({reason}); please report it.", 1, debug)
        _fail(
            f"Error: this is a bug in ridgeline ({reason}); run again with --debug and report it.", 1, debug
        )
    raise SystemExit(code if isinstance(code, int) else 0)


def hoist_global_options(arguments: list[str]) -> list[str]:
    """Global options in front of the command, wherever they stood; what follows ``--`` stays."""
    end = arguments.index("--") if "--" in arguments else len(arguments)
    front = [argument for argument in arguments[:end] if argument in GLOBAL_OPTIONS]
    rest = [argument for argument in arguments[:end] if argument not in GLOBAL_OPTIONS]
    return [*front, *rest, *arguments[end:]]


def _fail(sentence: str, code: int, debug: bool) -> NoReturn:
    if debug:
        traceback.print_exc()
    print(sentence, file=sys.stderr)
    raise SystemExit(code) from None


def _fail_usage(error: Any) -> NoReturn:
    """One sentence, and where the help is."""
    if type(error).__name__ == "NoArgsIsHelpError":
        print(error.format_message())
        raise SystemExit(2)
    context = error.ctx if "ctx" in error.__dict__ else None
    path = context.command_path if context is not None else "ridgeline"
    print(f"Error: {error.format_message().rstrip('.')}; see: {path} --help", file=sys.stderr)
    raise SystemExit(2) from None
