"""Ridgeline against TRL: the same model, the same tokens, the same first step?

    python benchmarks/parity/run.py --trl-python VENV/bin/python [--model FOLDER | smollm2] [--only kto]

TRL runs in a process of its own, in another environment if need be (`pip install 'ridgeline[parity]'` puts it
into this one). Compared are the loss, the gradient norm, and the gradient itself, entry by entry, in float32.
Token ids are compared first; a case whose tokens differ cannot pass. Cases that are known to differ must keep
differing: the table then names the reason, and the row below it is the same with that reason taken away.
Exit code 1 if any case does otherwise.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import os
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

os.environ |= {"HF_HUB_OFFLINE": "1", "TOKENIZERS_PARALLELISM": "false"}

import gradients
import problem as common
import ridgeline_side
import torch
import transformers
from cases import CASES, Case

from ridgeline.models.embedded import embedded_folder
from ridgeline.models.quiet import quiet_transformers

TOLERANCE = 1e-4
"""Of each: relative for loss and norm (losses below 0.1 count as 0.1), of the largest entry for gradients."""
HERE = Path(__file__).parent


@dataclass(frozen=True)
class Outcome:
    """Both sides of one case."""

    case: Case
    theirs: dict[str, Any]
    ours: dict[str, Any]
    gradient: float

    @property
    def same_tokens(self) -> bool:
        return json.dumps(self.theirs["tokens"]) == json.dumps(self.ours["tokens"])

    @property
    def equal(self) -> bool:
        loss = abs(self.theirs["loss"] - self.ours["loss"]) / max(abs(self.theirs["loss"]), 0.1)
        norm = abs(self.theirs["norm"] / self.ours["norm"] - 1)
        return self.same_tokens and max(loss, norm, self.gradient) <= TOLERANCE

    @property
    def as_expected(self) -> bool:
        return self.equal != bool(self.case.differs)

    @property
    def verdict(self) -> str:
        if self.as_expected:
            return "equal" if self.equal else f"differs: {self.case.differs}"
        if self.equal:
            return "UNEXPECTEDLY EQUAL"
        return "DISAGREES" if self.same_tokens else "DIFFERENT TOKENS"


def main() -> int:
    """Build, run both sides, print, judge."""
    arguments = _arguments()
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory(prefix="ridgeline-parity-") as name, quiet_transformers():
        folder = Path(name)
        model = str(embedded_folder()) if arguments.model == "smollm2" else arguments.model
        problem = common.build(folder, model)
        chosen = {number: case for number, case in enumerate(CASES) if arguments.only in case.name}
        theirs = _trl(arguments.trl_python, folder, [case.name for case in chosen.values()])
        outcomes = [
            _compare(number, case, problem, folder, theirs["cases"][case.name])
            for number, case in chosen.items()
        ]
    here = f"transformers {transformers.__version__}, torch {torch.__version__}"
    versions = ", ".join(f"{module} {version}" for module, version in theirs["versions"].items())
    print(f"model: {arguments.model or 'a random llama'}, float32\nTRL side: {versions}\nthis side: {here}\n")
    _print(outcomes)
    return 0 if all(outcome.as_expected for outcome in outcomes) else 1


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--trl-python", help="the Python of an environment that has TRL; default: this one")
    parser.add_argument("--model", help="'smollm2' or a folder; default: a tiny random llama")
    parser.add_argument("--only", default="", help="cases whose name contains this")
    arguments = parser.parse_args()
    if arguments.trl_python is None:
        if importlib.util.find_spec("trl") is None:
            parser.error("TRL is not installed here: pip install 'ridgeline[parity]', or name --trl-python")
        arguments.trl_python = sys.executable
    return arguments


def _trl(python: str, folder: Path, names: list[str]) -> dict[str, Any]:
    command = [python, str(HERE / "trl_side.py"), str(folder), *names]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        sys.exit(f"the TRL side failed:\n{done.stderr[-4000:]}")
    result: dict[str, Any] = json.loads((folder / "trl.json").read_text())
    return result


def _compare(
    number: int, case: Case, problem: dict[str, Any], folder: Path, theirs: dict[str, Any]
) -> Outcome:
    written = folder / f"ridgeline-{number}.npz"
    ours = ridgeline_side.run(case, problem, folder, written)
    return Outcome(case, theirs, ours, gradients.largest_difference(written, folder / f"trl-{number}.npz"))


def _print(outcomes: list[Outcome]) -> None:
    width = max(len(outcome.case.name) for outcome in outcomes)
    head = f"{'loss TRL':>12}{'Ridgeline':>12}{'norm TRL':>12}{'Ridgeline':>12}{'gradient':>10}"
    print(f"{'':<{width}}{head}")
    for outcome in outcomes:
        numbers = "".join(
            f"{side[key]:>12.6f}" for key in ("loss", "norm") for side in (outcome.theirs, outcome.ours)
        )
        print(f"{outcome.case.name:<{width}}{numbers}{outcome.gradient:>10.0e}  {outcome.verdict}")
    agreeing = sum(outcome.equal for outcome in outcomes)
    surprising = sum(not outcome.as_expected for outcome in outcomes)
    named = sum(outcome.as_expected and not outcome.equal for outcome in outcomes)
    print(f"\n{agreeing} equal to {TOLERANCE:g}, {named} differ as named, {surprising} not as expected.")


if __name__ == "__main__":
    sys.exit(main())
