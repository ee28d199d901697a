"""``python -m ridgeline.workbench.bench.ours WORKLOAD.json OUT.json fast|plain``."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path


def main(workload_file: str, out: str, path: str) -> None:
    """Do the work once with every batch, and write what was measured."""
    plain = path == "plain"
    # What an earlier run has kept on disk would make this one look faster than it is.
    os.environ["RIDGELINE_CONTENT_CACHE"] = "off"
    if plain:
        os.environ |= {"RIDGELINE_ALLOCATOR": "stock", "RIDGELINE_KERNELS": "off"}
    from ridgeline.training.allocator import tune_allocator

    allocator = tune_allocator()
    from ridgeline.workbench.bench.ours.side import run

    record = run(json.loads(Path(workload_file).read_text()), plain=plain)
    record.settings["allocator"] = allocator
    record.write(out)


if __name__ == "__main__":
    main(*sys.argv[1:])
