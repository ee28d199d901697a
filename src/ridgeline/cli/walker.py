"""``landscape train``: a walker on the exact world, told frame by frame while it learns."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext, suppress
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from ridgeline.cli.settings import messages, output, print_json, settings_of
from ridgeline.schema.errors import RidgelineError

if TYPE_CHECKING:
    from ridgeline.landscape.record import Record

SHOWN = ("return_gold", "return_proxy", "kl", "entropy", "success")
LABELS = {
    "return_gold": "J gold (reward per path)",
    "return_proxy": "J proxy (reward per path)",
    "kl": "KL to the reference (nats per path)",
    "entropy": "entropy (nats per action)",
    "success": "success (share of paths)",
}


def train(
    context: typer.Context,
    out: Path = typer.Option(..., "--out", "-o", help="The run folder to write."),
    terrain: str = typer.Option("ravine", "--terrain", "-t", help="A terrain by name, or a TOML file."),
    algorithm: str = typer.Option("ppo", "--algorithm", "-a", help="reinforce, rloo, ppo, trpo or grpo."),
    iterations: int = typer.Option(60, "--iterations", "-n", min=1, help="Updates of the policy."),
    every: int = typer.Option(5, "--every", min=1, help="Record a frame every so many iterations."),
    layer: str = typer.Option("gold", "--layer", help="The layer that is rewarded: gold or proxy."),
    paths: int = typer.Option(64, "--paths", help="Paths per iteration."),
    group: int = typer.Option(8, "--group", help="Paths that share a start (rloo, grpo)."),
    epochs: int | None = typer.Option(
        None, "--epochs", help="Optimizer steps on the same paths (ppo, grpo)."
    ),
    clip: float = typer.Option(0.2, "--clip", help="Half-width of the ratio's interval; 0: no clip."),
    learning_rate: float | None = typer.Option(None, "--learning-rate", help="Of Adam (not trpo)."),
    budget: float = typer.Option(0.01, "--budget", help="Trust region of trpo, nats per action."),
    beta: float = typer.Option(0.0, "--beta", help="KL coefficient, reward per nat."),
    lam: float = typer.Option(0.95, "--lam", help="Lambda of generalised advantage estimation."),
    gamma: float | None = typer.Option(None, "--gamma", help="Discount; default: the terrain's."),
    baseline: str | None = typer.Option(None, "--baseline", help="none, time, exact, learned or group."),
    normalise_std: bool | None = typer.Option(
        None, "--normalise-std/--no-normalise-std", help="Divide advantages by their deviation."
    ),
    entropy: float = typer.Option(0.0, "--entropy", help="Weight of the entropy bonus."),
    filter_dead: bool = typer.Option(False, "--filter-dead", help="Leave out groups of equal returns."),
    cosine: bool = typer.Option(False, "--cosine", help="Compare every gradient with the exact one."),
    seed: int = typer.Option(0, "--seed", help="Same seed, same run."),
) -> None:
    """Train a walker on the exact world; return, KL and value are computed, not estimated.

    The losses, advantages and KL estimators are those that train language models.

    \b
    ridgeline landscape train --terrain ravine --algorithm ppo --out runs/hill
    ridgeline landscape picture runs/hill --out hill.png
    """
    from ridgeline.landscape.record import Record, find_record
    from ridgeline.landscape.world.settings import Settings
    from ridgeline.landscape.world.terrain_file import load_terrain
    from ridgeline.landscape.world.training import train as train_walker

    options = settings_of(context)
    wanted = {
        "algorithm": algorithm,
        "layer": layer,
        "paths": paths,
        "group": group,
        "epochs": epochs,
        "clip": clip,
        "learning_rate": learning_rate,
        "budget": budget,
        "beta": beta,
        "lam": lam,
        "gamma": gamma,
        "baseline": baseline,
        "normalise_std": normalise_std,
        "entropy": entropy,
        "filter_dead": filter_dead,
        "cosine": cosine,
        "seed": seed,
    }
    settings = Settings(**wanted)  # type: ignore[arg-type]
    ground = load_terrain(terrain)
    with nullcontext() if options.quiet else _progress(out, iterations):
        train_walker(ground, settings, iterations, every, out)
    record = Record(find_record(out))
    first, last = record.frames[0].scalars, record.frames[-1].scalars
    if options.json:
        print_json({"out": str(out), "settings": settings.as_dict(), "before": first, "after": last})
        return
    if not options.quiet:
        _print_before_after(record)
    gold = f"J gold {_figure(first.get('return_gold'))} -> {_figure(last.get('return_gold'))}"
    output().print(
        f"{iterations} iterations of {algorithm} on {ground.name}: {gold}, "
        f"KL {_figure(last.get('kl'))} nats per path; run: {out}",
        markup=False,
    )


@contextmanager
def _progress(out: Path, iterations: int) -> Iterator[None]:
    """A line on standard error for every frame, read from the record while it is being written."""
    from ridgeline.landscape.record import Record

    if (out / "landscape").exists():  # of another run: training is going to refuse the folder
        yield
        return
    done, told = threading.Event(), [0]

    def tell() -> None:
        with suppress(RidgelineError):  # nothing is there before the first frame, or training refused
            frames = Record(out / "landscape").frames
            for frame in frames[told[0] :]:
                parts = [
                    f"{name} {_figure(value)}"
                    for name in SHOWN
                    if (value := frame.scalars.get(name)) is not None
                ]
                line = f"iteration {frame.step}/{iterations}  {'  '.join(parts)}"
                messages().print(line, markup=False, style="dim")
            told[0] = len(frames)

    def watch() -> None:
        while not done.wait(0.25):
            tell()

    watcher = threading.Thread(target=watch, daemon=True)
    watcher.start()
    try:
        yield
    finally:
        done.set()
        watcher.join()
        tell()


def _print_before_after(record: Record) -> None:
    from ridgeline.cli.tables import print_table

    first, last = record.frames[0], record.frames[-1]
    rows = [
        [LABELS[name], _figure(first.scalars.get(name)), _figure(last.scalars[name])]
        for name in SHOWN
        if last.scalars.get(name) is not None
    ]
    title = f"Exact, before and after ({record.manifest.title})"
    print_table(output(), title, ["", f"step {first.step}", f"step {last.step}"], rows)


def _figure(value: float | None) -> str:
    return "-" if value is None else f"{value:.4g}"
