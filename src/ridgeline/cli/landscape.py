"""``landscape``: train on the exact world, map a run, and draw either."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import typer

from ridgeline.cli.settings import messages, output, print_json, settings_of
from ridgeline.cli.walker import train
from ridgeline.schema.errors import UsageError

STAGE = typer.Option(None, "--stage", help="Which stage, where several of the run have one.")


def register(app: typer.Typer) -> None:
    """Add the commands of this module."""
    group = typer.Typer(
        name="landscape",
        help="The reward landscape: train on the exact two-dimensional world, map a run, draw either.",
        no_args_is_help=True,
        rich_markup_mode=None,
    )
    for command in (train, map_, picture, terrains):
        group.command(command.__name__.rstrip("_"))(command)
    app.add_typer(group)


def map_(
    context: typer.Context,
    run: Path = typer.Argument(..., metavar="RUN", help="A run folder, such as runs/quickstart."),
    stage: str | None = STAGE,
    axes: str = typer.Option("reward", "--axes", help="What the plane shows: reward, pca or drift."),
    layer: str | None = typer.Option(
        None, "--layer", help="The reward that is walked on; default: what training optimised."
    ),
    resolution: int = typer.Option(65, "--resolution", help="Places of the terrain per side."),
    samples: int = typer.Option(512, "--samples", help="Completions of each step."),
    seed: int = typer.Option(1, "--seed", help="Of the choice of completions."),
    raw: bool = typer.Option(False, "--raw", help="Altitude without subtracting the reference's mean."),
    force: bool = typer.Option(False, "--force", help="Fit the axes again, and make every part anew."),
) -> None:
    """Map a stage that samples, finished or still running: the reward over the reference's hidden states.

    \b
    ridgeline landscape map runs/quickstart
    ridgeline landscape map runs/quickstart --stage policy --axes drift
    """
    from ridgeline.landscape.maps.build import METHODS, build

    options = settings_of(context)
    if axes not in METHODS:
        raise UsageError(f"there are no axes {axes!r}; choose one of {', '.join(METHODS)}.")
    made = build(
        run,
        stage or _only_stage(run),
        axes=axes,
        layer=layer,
        resolution=resolution,
        samples_per_frame=samples,
        seed=seed,
        raw=raw,
        force=force,
        progress=None if options.quiet else _counted,
    )
    if options.json:
        print_json(
            {
                "folder": str(made.folder),
                "seconds": dict(made.seconds),
                "honesty": made.honesty,
                "warnings": list(made.warnings),
            }
        )
        return
    console = output()
    if not options.quiet:
        for name, spent in made.seconds.items():
            console.print(f"{name:<24}{spent:8.2f} s", markup=False)
        console.print(made.honesty, markup=False)
        for warning in made.warnings:
            console.print(f"Caution: {warning}", markup=False)
    console.print(f"map: {made.folder} ({sum(made.seconds.values()):.1f} s)", markup=False)


def _only_stage(run: Path) -> str | None:
    """The name of the one stage that can be mapped; None leaves the complaint to the maps."""
    from ridgeline.landscape.maps.source import find_source
    from ridgeline.schema.run_folder import RunFolder

    names = []
    for folder in RunFolder(run).stages():
        try:
            find_source(run, folder.name)
        except UsageError:
            continue
        names.append(folder.name)
    if len(names) > 1:
        raise UsageError(f"several stages of {run} sample; add --stage with one of {', '.join(names)}.")
    return names[0] if names else None


def _counted(what: str, done: int, of: int) -> None:
    messages().print(f"{what} {done}/{of}", markup=False, style="dim")


def picture(
    context: typer.Context,
    run: Path = typer.Argument(..., metavar="RUN", help="A run folder, or the folder of a landscape."),
    out: Path = typer.Option(..., "--out", "-o", help="A file ending in .png, .svg, .pdf or .html."),
    stage: str | None = STAGE,
    frame: int | None = typer.Option(None, "--frame", help="Which frame; -1 (default) is the last."),
    step: int | None = typer.Option(None, "--step", help="The frame of this step of training."),
    theme: str = typer.Option("light", "--theme", help="light or dark."),
    view: str = typer.Option("map", "--view", help="map, 3d, or frames: small maps with curves."),
    layer: str | None = typer.Option(
        None, "--layer", help="One layer alone; default: all that there are, side by side."
    ),
) -> None:
    """Draw a landscape: a still picture, or one page that holds all of it, interactive and without a server.

    \b
    ridgeline landscape picture runs/hill --out hill.png
    ridgeline landscape picture runs/quickstart --stage policy --step 40 --theme dark --out map.svg
    """
    from ridgeline.landscape.pictures import picture as draw
    from ridgeline.landscape.record import Record, find_record

    if frame is not None and step is not None:
        raise UsageError("--frame and --step both say which frame; give one of them.")
    record = Record(find_record(run, stage))
    index = record.index_of(step) if step is not None else -1 if frame is None else frame
    draw(record, out, index, theme=theme, view=view, layer=layer)
    shown = record.frames[index]
    if settings_of(context).json:
        print_json(
            {"out": str(out), "bytes": out.stat().st_size, "step": shown.step, "honesty": shown.honesty}
        )
        return
    size = f"{out.stat().st_size / 1000:.0f} kB"
    output().print(f"{record.manifest.title}, step {shown.step}: {out} ({size})", markup=False)


def terrains(
    context: typer.Context,
    name: str | None = typer.Argument(None, help="A terrain; without it, all are listed."),
    toml: bool = typer.Option(False, "--toml", help="Print it as TOML, to edit and pass to --terrain."),
) -> None:
    """List the terrains that come with Ridgeline, or print one.

    \b
    ridgeline landscape terrains
    ridgeline landscape terrains ravine --toml > mine.toml
    """
    from ridgeline.landscape.world.terrain_file import (
        load_terrain,
        terrain_names,
        terrain_to_dict,
        terrain_to_toml,
    )

    as_json = settings_of(context).json
    if name is None:
        if toml:
            raise UsageError("--toml prints one terrain; name it, such as: landscape terrains ravine --toml.")
        known = [load_terrain(each) for each in terrain_names()]
        if as_json:
            print_json([terrain_to_dict(each) for each in known])
            return
        _print_terrains(known)
        return
    found = load_terrain(name)
    if as_json:
        print_json(terrain_to_dict(found))
    elif toml:
        print(terrain_to_toml(found), end="")
    else:
        _print_terrains([found])


def _print_terrains(known: list[Any]) -> None:
    from ridgeline.cli.tables import print_table

    rows = [
        [each.name, each.title, ", ".join(layer.name for layer in each.layers), each.horizon, each.gamma]
        for each in known
    ]
    print_table(output(), "Terrains", ["name", "title", "layers", "steps", "gamma"], rows, words=3)
