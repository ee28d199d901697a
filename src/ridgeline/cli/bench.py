"""``bench``: times of this machine against other libraries, equal work checked."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from ridgeline.cli.settings import messages, output, print_json, settings_of

if TYPE_CHECKING:
    from rich.console import Console

    from ridgeline.workbench.bench.run import Options
    from ridgeline.workbench.bench.works import Work

RESULTS = Path("benchmarks/results")


def register(app: typer.Typer) -> None:
    """Add the commands of this module."""
    app.command("bench")(bench)


def bench(
    context: typer.Context,
    work: str = typer.Argument(
        "all",
        help="rollout, rollout-spread, sft, reward, dpo, grpo, prepare, startup, growth, or all but growth.",
    ),
    against: str | None = typer.Option(
        None,
        "--against",
        help="trl, transformers, vllm, or plain (our own plain path). Default: the first that fits.",
    ),
    model: str = typer.Option(
        "smollm2-135m-instruct", "--model", "-m", help="Also a folder, 45m-random or 360m-random."
    ),
    lengths: str = typer.Option("equal", "--lengths", help="Of a rollout: equal, or spread."),
    runs: int | None = typer.Option(None, "--runs", min=1, help="Processes of each side, which take turns."),
    steps: int | None = typer.Option(None, "--steps", min=1, help="Timed steps of each process."),
    size: list[str] = typer.Option([], "--size", metavar="KEY=NUMBER", help="Change a size, as prompts=4."),
    isa: str | None = typer.Option(None, "--isa", help="avx2 or avx512: both sides use no more than that."),
    seed: int = typer.Option(1, "--seed", help="Of the inputs and the draws."),
    busy: bool = typer.Option(False, "--busy", help="Go on beside other work; the result says so."),
    out: Path = typer.Option(RESULTS, "--out", help="Folder for the results, a JSON file each."),
    setup: str | None = typer.Option(None, "--setup", help="Make the environment of trl or vllm, and leave."),
) -> None:
    """Time a work on both sides: the same inputs, fresh processes in turn, medians with their spread.

    The machine has to be idle. Leaves with exit code 4 when the work of both sides was not equal.

    \b
    ridgeline bench rollout --against transformers
    ridgeline bench grpo --against trl --runs 2
    ridgeline bench rollout --lengths spread
    ridgeline bench --setup vllm
    """
    from ridgeline.workbench.bench.environments import set_up
    from ridgeline.workbench.bench.process import check_isa
    from ridgeline.workbench.bench.run import Options
    from ridgeline.workbench.bench.works import find, resized, with_lengths

    settings = settings_of(context)
    console = messages()

    def report(line: str) -> None:
        if not settings.quiet:
            console.print(line, markup=False)

    if setup is not None:
        output().print(str(set_up(setup, report)), markup=False)
        return
    check_isa(isa)
    options = Options(model=model, seed=seed, runs=runs, steps=steps, isa=isa, busy=busy)
    if work == "growth":
        _growth(options, out, report, as_json=settings.json)
        return
    chosen = resized(find(with_lengths(work, lengths), against=against), size)
    _compare_all(chosen, against, options, out, report, as_json=settings.json)


def _compare_all(
    works: list[Work], against: str | None, options: Options, out: Path, report: Any, *, as_json: bool
) -> None:
    from ridgeline.workbench.bench.environments import interpreter
    from ridgeline.workbench.bench.results import write
    from ridgeline.workbench.bench.run import compare

    for work in works:
        interpreter(against or work.peers[0])  # a missing environment is said before an hour has passed
    found = []
    for work in works:
        result = compare(work, against or work.peers[0], options, report)
        name = f"{work.name}-{result['against']}-{result['date'][:10]}"
        suffix = f"-{options.isa}" if options.isa else ""
        path = write(result, out / f"{name}{suffix}.json")
        found.append(result)
        if not as_json:
            _print(output(), result, path)
    if as_json:
        print_json(found[0] if len(found) == 1 else found)
    if not all(result["equal"] for result in found):
        raise typer.Exit(4)


def _growth(options: Options, out: Path, report: Any, *, as_json: bool) -> None:
    from ridgeline.cli.tables import print_table
    from ridgeline.workbench.bench.growth import measure_growth
    from ridgeline.workbench.bench.results import write

    result = measure_growth(options, report)
    path = write(result, out / f"growth-{result['date'][:10]}.json")
    if as_json:
        print_json(result)
        return
    rows = [
        [
            f"{axis['work']}, {axis['axis']}",
            ", ".join(f"{_size(point['size'])}: {point['seconds']:.2f} s" for point in axis["points"]),
            f"{axis['exponent']:.2f}" + ("" if axis["error"] is None else f" ± {axis['error']:.2f}"),
        ]
        for axis in result["axes"]
    ]
    print_table(output(), "Growth of seconds", ["against", "size: seconds", "exponent"], rows, words=2)
    output().print(str(path), markup=False)


def _print(console: Console, result: dict[str, Any], path: Path) -> None:
    from ridgeline.cli.tables import print_table

    rows = []
    for name, side in result["sides"].items():
        ratio = result["faster"].get(name)
        rows.append(
            [
                name,
                _spread(side["figure"]),
                f"{side['peak_bytes']['median'] / 1e9:.2f}",
                f"{side['start_seconds']['median']:.1f}",
                "" if ratio is None else _spread(ratio),
            ]
        )
    marks = [mark for mark in ("busy", "disturbed") if result[mark]]
    title = f"{result['title']}, {result['model']}" + (
        f" ({', '.join(marks)}: not to be quoted)" if marks else ""
    )
    columns = ["", result["unit"], "peak GB", "first step s", "ridgeline faster by"]
    print_table(console, title, columns, rows)
    for name, checks in result["equal_work"].items():
        failed = [check for check in checks if not check["holds"]]
        words = "equal work" if not failed else "NOT EQUAL WORK"
        shown = failed or checks
        list_of = ", ".join(f"{check['what']} {_pair(check)}" for check in shown)
        console.print(f"{words} with {name}: {list_of}", markup=False)
    for name, share in result.get("roofline", {}).items():
        if ", of " in name:
            console.print(f"{name}: {100 * share:.0f} %", markup=False)
    console.print(str(path), markup=False)


def _size(size: float) -> str:
    """Tokens and groups as they are, parameters in millions."""
    return f"{size / 1e6:.0f}M" if size >= 1e6 else f"{size:g}"


def _pair(check: dict[str, Any]) -> str:
    ours, theirs = (
        f"{value:.5g}" if isinstance(value, float) else str(value)
        for value in (check["ours"], check["theirs"])
    )
    return ours if ours == theirs else f"{ours} and {theirs}"


def _spread(spread: dict[str, float]) -> str:
    median, lowest, highest = (_short(spread[name]) for name in ("median", "lowest", "highest"))
    return f"{median} ({lowest} to {highest})"


def _short(value: float) -> str:
    """Three digits, never as a power of ten."""
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"
