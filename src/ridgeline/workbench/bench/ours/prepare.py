"""Data preparation: from a file of rows to token ids with their masks."""

from __future__ import annotations

from typing import Any

from ridgeline.data.formats import instructions, preferences
from ridgeline.data.pairs import build_pairs
from ridgeline.data.sources import iter_rows
from ridgeline.data.supervised import build
from ridgeline.models.load import load_tokenizer
from ridgeline.workbench.bench.sides.record import Record


def prepare(workload: dict[str, Any], record: Record) -> None:
    """Every file of the workload, without a model; nothing is cached."""
    tokenizer = load_tokenizer(workload["model"])
    # Its template is compiled at the first use.
    tokenizer.apply_chat_template([{"role": "user", "content": "Why?"}], tokenize=False)
    record.settings = {"cache": "none"}
    record.checks = {"rows": 0}
    record.begin()
    for batch in workload["batches"]:
        file = batch["file"]
        if batch["kind"] == "sft":
            rows = build(instructions(iter_rows(file), file), tokenizer, overlong="truncate").rows
            record.end(sum(len(row) for row in rows))
            record.checks["rows"] += len(rows)
        else:
            pairs = build_pairs(preferences(iter_rows(file), file), tokenizer).units
            # The prompt stands in both rows and is counted once a pair.
            tokens = sum(len(row) for pair in pairs for row in pair) - sum(pair[0].prefix for pair in pairs)
            record.end(tokens)
            record.checks["rows"] += len(pairs)
