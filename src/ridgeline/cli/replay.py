"""``replay``: one recorded rollout through every objective."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import typer

from ridgeline.cli.settings import messages, output, print_json, settings_of

if TYPE_CHECKING:
    from rich.text import Text

    from ridgeline.workbench.replay import Replay, Replayed

AGREE = 1e-3
"""Pushes that differ by less, in units of the mean push, are shown as one line."""
STRONG = 1.5
"""Times the mean push: printed bold."""
CELL = 8


def register(app: typer.Typer) -> None:
    """Add the commands of this module."""
    app.command("replay")(replay)


def replay(
    context: typer.Context,
    rollouts: str = typer.Argument(
        ..., help="A samples file, a stage folder or run:stage (then its newest rollout)."
    ),
    objective: list[str] = typer.Option(
        [], "--objective", help="A preset; repeat for more. Default: all that the file can serve."
    ),
    model: str | None = typer.Option(
        None, "--model", "-m", help="The policy; default: the model that the stage started from."
    ),
    reference: str | None = typer.Option(
        None, "--reference", help="What KL is measured to; default: that of the stage."
    ),
    stale: int | None = typer.Option(
        None, "--stale", min=0, help="Old policy: the policy itself, this many optimizer steps ago."
    ),
    old_model: str | None = typer.Option(
        None, "--old-model", help="Old policy: this model. Default: the sampler, as recorded."
    ),
    step: int | None = typer.Option(None, "--step", min=0, help="Which rollout of the stage."),
    tokens: int = typer.Option(40, "--tokens", min=0, help="Tokens of one completion to show; 0: none."),
) -> None:
    """Put a recorded rollout through many objectives, side by side; nothing is sampled or written.

    The policy, the tokens and the rewards are the same in every line, so what differs is the algorithm: how
    long its gradient is and where it points, what it clips, which tokens it pushes up or down.

    \b
    ridgeline replay runs/quickstart:policy
    ridgeline replay runs/quickstart:policy --step 5 --objective grpo --objective dr_grpo --stale 0
    """
    from ridgeline.workbench.replay import replay as replay_file

    settings = settings_of(context)
    found = replay_file(
        rollouts,
        objective or None,
        model=model,
        reference=reference,
        old_model=old_model,
        stale=stale,
        step=step,
        report=_ignore if settings.quiet else _progress,
    )
    if settings.json:
        print_json(found.as_dict(tokens))
        return
    if not settings.quiet:
        _print_setting(found)
        _print_tables(found)
        if tokens:
            _print_tokens(found, tokens)
    output().print(_closing(found), markup=False)


def _progress(text: str) -> None:
    messages().print(text, markup=False, style="dim")


def _ignore(text: str) -> None:
    """Only the closing line is wanted."""


def _print_setting(found: Replay) -> None:
    """What is held fixed, and what was left out."""
    facts = found.as_dict(0)
    version = facts["weight_version"]
    lines = [
        f"{facts['rollouts']}: {facts['completions']} completions of {facts['prompts']} prompts, "
        f"{facts['tokens']} tokens",
        f"model: {facts['model']}; reference: {facts['reference']}; old policy: {facts['old']}",
        f"model and sampler differ by {found.gap:.2g} nats per token on average",
    ]
    if version and facts["model"] == found.rollouts.start:
        weights = "ratios" if found.models.old_is_sampler else "importance weights"
        lines.append(
            f"these completions were sampled {version} update{'s' if version > 1 else ''} after that model, "
            f"so {weights} are not 1"
        )
    reasons: dict[str, list[str]] = {}
    for name, reason in found.left_out.items():
        reasons.setdefault(reason, []).append(name)
    lines += [f"left out: {', '.join(names)}: {reason}" for reason, names in reasons.items()]
    output().print("\n".join(lines), markup=False)


def _print_tables(found: Replay) -> None:
    from ridgeline.cli.tables import print_table

    console, first = output(), found.objectives[0].name
    steps = [
        [
            each.name,
            f"{each.loss:.4g}",
            f"{each.gradient_norm:.4g}",
            _number(each.cosine, 4),
            f"{each.ratio:.4f}",
            _share(each.clipped),
            _share(each.outside),
        ]
        for each in found.objectives
    ]
    columns = ["objective", "loss", "|gradient|", f"cosine to {first}", "ratio", "clipped", "outside"]
    print_table(console, "One step with each objective", columns, steps)
    pushes = [
        [
            each.name,
            _share(each.spread.up),
            _share(each.spread.down),
            _share(each.spread.untouched),
            _number(each.spread.short, 2),
            _number(each.spread.long, 2),
            _share(each.spread.strongest),
        ]
        for each in found.objectives
    ]
    columns = ["objective", "up", "down", "untouched", "weight: short", "long", "on the top 10 %"]
    print_table(console, "Where it pushes (tokens; weight of a token's advantage; push)", columns, pushes)


def _number(value: float | None, digits: int) -> str:
    return "-" if value is None else f"{value:.{digits}f}"


def _share(value: float | None) -> str:
    return "-" if value is None else f"{100 * value:.1f} %"


def _print_tokens(found: Replay, limit: int) -> None:
    """The pushes on one completion, in blocks as wide as the terminal."""
    from rich.text import Text

    console, shown = output(), found.completion
    tokens = shown.tokens[:limit]
    reward = "none" if shown.reward is None else f"{shown.reward:.3g}"
    console.print(
        f"Push on {len(tokens)} of {len(shown.tokens)} tokens of sample {shown.sample} of prompt "
        f"{shown.prompt_id} (reward {reward}), where objectives differ most",
        markup=False,
    )
    console.print("+ likelier, - unlikelier; 1 is the mean size of the objective's pushes\n", markup=False)
    groups = _agreeing(found.objectives, shown.index, len(tokens))
    labels = [names[0] + (f" +{len(names) - 1}" if len(names) > 1 else "") for names, _ in groups]
    margin = max(map(len, labels)) + 1
    per_block = max(1, (console.width - margin) // CELL)
    for start in range(0, len(tokens), per_block):
        part = range(start, min(start + per_block, len(tokens)))
        heading = "".join(_visible(tokens[place]) for place in part)
        console.print(Text(" " * margin + heading, style="bold"))
        for label, (_, pushes) in zip(labels, groups, strict=True):
            cells = [_cell(pushes[place]) for place in part]
            console.print(Text.assemble(label.ljust(margin), *cells))
        console.print()
    for label, (names, _) in zip(labels, groups, strict=True):
        if len(names) > 1:
            console.print(f"{label}: {', '.join(names[1:])}", markup=False)


def _agreeing(
    objectives: Sequence[Replayed], completion: int, tokens: int
) -> list[tuple[list[str], list[float]]]:
    """Objectives whose pushes on these tokens are the same but for scale, and those pushes."""
    groups: list[tuple[list[str], list[float]]] = []
    for each in objectives:
        total = sum(float(abs(push).sum()) for push in each.pushes)
        mean = total / sum(len(push) for push in each.pushes)
        own = [float(push) / mean if mean else 0.0 for push in each.pushes[completion][:tokens]]
        for names, pushes in groups:
            if all(abs(a - b) < AGREE for a, b in zip(pushes, own, strict=True)):
                names.append(each.name)
                break
        else:
            groups.append(([each.name], own))
    return groups


def _visible(token: str) -> str:
    """A token in one cell: white space shown, control characters replaced, what is too long cut."""
    from rich.cells import cell_len, set_cell_size

    shown = token.replace("\n", "\\n").replace("\t", "\\t").replace(" ", "·")
    shown = "".join(letter if letter.isprintable() else "?" for letter in shown)
    if cell_len(shown) >= CELL:
        shown = set_cell_size(shown, CELL - 2).rstrip() + "…"
    return " " * (CELL - cell_len(shown)) + shown


def _cell(push: float) -> Text:
    """Green where it makes the token likelier, red where unlikelier, bold where it is strong."""
    from rich.text import Text

    if abs(push) < AGREE:
        return Text("0".rjust(CELL), style="dim")
    colour = "green" if push > 0 else "red"
    return Text(f"{push:+.2f}".rjust(CELL), style=f"bold {colour}" if abs(push) >= STRONG else colour)


def _closing(found: Replay) -> str:
    first, *others = found.objectives
    known: list[Any] = [(each.cosine, each.name) for each in others if each.cosine is not None]
    count = len(found.objectives)
    many = f"{count} objective{'s' if count > 1 else ''} on {len(found.rollouts.samples)} completions"
    if not known:
        return f"{many}; {first.name}: gradient {first.gradient_norm:.4g}."
    least, name = min(known)
    return f"{many}; furthest from {first.name} is {name}: cosine {least:.4f}."
