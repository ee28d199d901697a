"""transformers' generate on a rollout workload.

    python with_transformers.py WORKLOAD.json OUT.json

Static batches in the given order, sampling at temperature 1 from the whole vocabulary. Every row of a batch
gets as many tokens as the longest of the batch is to have; those beyond its own length do not count.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import torch
import transformers
from fast_dtype import fast_dtype
from record import Record
from transformers import AutoModelForCausalLM


def main(workload_file: str, out: str) -> None:
    """Time every batch of the workload."""
    workload = json.loads(Path(workload_file).read_text())
    dtype = fast_dtype()
    model = AutoModelForCausalLM.from_pretrained(workload["model"], dtype=dtype).eval()
    record = Record()
    record.settings = {"batch": workload["sizes"]["batch"], "dtype": str(dtype), "log-probs": "not asked for"}
    record.settings["threads"] = torch.get_num_threads()
    record.versions = {"transformers": transformers.__version__, "torch": torch.__version__}
    torch.manual_seed(workload["seed"])
    made: list[int] = []
    record.begin()
    for batch in workload["batches"]:
        made += generate(model, batch, workload["sizes"]["batch"])
        record.end(sum(batch["lengths"]))
    record.checks = {"prompt tokens": _prompt_tokens(workload["batches"]), "lengths": made}
    record.write(out)


@torch.no_grad()
def generate(model: Any, batch: dict[str, Any], size: int) -> list[int]:
    """How many tokens were made of every row, cut to what was wanted of it."""
    rows = [prompt for prompt in batch["prompts"] for _ in range(batch["samples"])]
    made = []
    for start in range(0, len(rows), size):
        part, wanted = rows[start : start + size], batch["lengths"][start : start + size]
        width = max(map(len, part))
        ids_BT = torch.zeros(len(part), width, dtype=torch.long)
        mask_BT = torch.zeros_like(ids_BT)
        for line, prompt in enumerate(part):
            ids_BT[line, width - len(prompt) :] = torch.tensor(prompt)
            mask_BT[line, width - len(prompt) :] = 1
        result = model.generate(
            input_ids=ids_BT,
            attention_mask=mask_BT,
            do_sample=True,
            temperature=1.0,
            top_k=0,
            top_p=1.0,
            min_new_tokens=max(wanted),
            max_new_tokens=max(wanted),
            pad_token_id=0,
        )
        made += [min(result.shape[1] - width, length) for length in wanted]
    return made


def _prompt_tokens(batches: list[dict[str, Any]]) -> int:
    return sum(len(prompt) * batch["samples"] for batch in batches for prompt in batch["prompts"])


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2])
