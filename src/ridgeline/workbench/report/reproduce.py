"""How to get the same run again."""

from __future__ import annotations

import shlex

from ridgeline.workbench.report.markup import details, facts, note, section, text
from ridgeline.workbench.report.source import RunData


def reproduce(run: RunData) -> str:
    """Command, seed, versions and the resolved recipe; closes the page."""
    folder = run.path.resolve().name
    command = f"ridgeline run {shlex.quote(folder + '/recipe.toml')} --out {shlex.quote(folder + '-again')}"
    versions = run.environment.get("versions")
    pairs = [("Seed", text(run.recipe.get("seed", "")))]
    pairs += [
        (key.capitalize(), text(run.environment[key]))
        for key in ("python", "platform", "kernels", "engine", "dtype")
        if run.environment.get(key)
    ]
    if isinstance(versions, dict):
        pairs += [(str(name), text(value)) for name, value in versions.items()]
    recipe = (
        details(
            "The resolved recipe, every default written out",
            f"<pre><code>{text(run.recipe_text)}</code></pre>",
        )
        if run.recipe_text
        else note("recipe.toml is missing, so the run cannot be repeated from this folder.")
    )
    exact = (
        "The same recipe, seed and versions on the same kind of processor give the same bytes. "
        "Run the command in the folder that holds the run."
    )
    body = f"<pre><code>{text(command)}</code></pre><p>{text(exact)}</p>{facts(pairs)}{recipe}"
    return section("Reproduce", body, kicker="The same again", anchor="reproduce")
