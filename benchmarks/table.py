"""The table of the README, from the newest result of every work and peer in ``benchmarks/results``.

python benchmarks/table.py
python benchmarks/table.py --isa avx2     # of the results with --isa avx2
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

RESULTS = Path(__file__).parent / "results"
ORDER = ("rollout", "rollout-spread", "grpo", "sft", "dpo", "reward", "prepare-sft", "prepare-preference")
ALLOCATOR = ", allocator tuned"


def newest(isa: str) -> dict[tuple[str, str], dict[str, Any]]:
    """Results with these instructions by work and peer; a file's name holds its date."""
    found: dict[tuple[str, str], dict[str, Any]] = {}
    for path in sorted(RESULTS.glob("*.json")):
        result = json.loads(path.read_text())
        fits = result["work"] in ORDER and result["against"] in ("trl", "transformers", "vllm")
        if fits and result["isa"] == isa:
            found[result["work"], result["against"]] = result
    return dict(sorted(found.items(), key=lambda item: (ORDER.index(item[0][0]), item[0][1])))


def short(value: float) -> str:
    """Three digits, never as a power of ten."""
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


def line(result: dict[str, Any]) -> str:
    """One row: figures, ratios as they are and with the peer's allocator tuned, memory."""
    peer, sides = result["against"], result["sides"]
    tuned = result["faster"].get(peer + ALLOCATOR)
    cells = [
        f"{result['title']}, {result['unit']}",
        peer,
        short(sides["ridgeline"]["figure"]["median"]),
        short(sides[peer]["figure"]["median"]),
        f"**{result['faster'][peer]['median']:.1f}x**",
        f"{tuned['median']:.1f}x" if tuned else "",
        f"{result['memory'][peer]:.2f}x",
    ]
    return f"| {' | '.join(cells)} |"


def main() -> None:
    """Print the table and what it was measured with."""
    parser = argparse.ArgumentParser(description="The table of the README.")
    parser.add_argument("--isa", default="all", help="avx2 or avx512: results that were held to that")
    found = newest(parser.parse_args().isa)
    print("| work | against | Ridgeline | peer | faster | its allocator tuned | peak memory |")
    print("| --- | --- | --- | --- | --- | --- | --- |")
    for result in found.values():
        print(line(result))
    for result in list(found.values())[:1]:
        machine = result["machine"]
        print(f"\n{machine['cpu']}, {machine['cores']} cores, {machine['capability']}; {result['model']}.")
    wrong = [name for name, result in found.items() if not _equal(result)]
    print("Work was equal everywhere." if not wrong else f"NOT EQUAL WORK: {wrong}")


def _equal(result: dict[str, Any]) -> bool:
    return all(check["holds"] for checks in result["equal_work"].values() for check in checks)


if __name__ == "__main__":
    main()
