"""TRL's data preparation, in TRL's environment.

    python with_trl_prepare.py WORKLOAD.json OUT.json

Timed: ``load_dataset("json")`` of the file and the trainer's own ``_prepare_dataset`` as its constructor
calls it, with default options. HF_DATASETS_CACHE names an empty folder. The model is tiny, since only its
tokenizer matters.
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Any

os.environ |= {"TRL_EXPERIMENTAL_SILENCE": "1", "HF_HUB_DISABLE_TELEMETRY": "1"}

import datasets
import torch
import transformers
import trl
from record import Record
from transformers import AutoTokenizer, LlamaConfig, LlamaForCausalLM


def main(workload_file: str, out: str) -> None:
    """Prepare every file of the workload."""
    datasets.disable_progress_bars()
    workload = json.loads(Path(workload_file).read_text())
    tokenizer = AutoTokenizer.from_pretrained(workload["model"])
    trainers = {batch["kind"]: _trainer(batch["kind"], tokenizer) for batch in workload["batches"]}
    record = Record()
    record.versions = {module.__name__: module.__version__ for module in (trl, transformers, datasets, torch)}
    record.settings = {
        "processes": "its default, one",
        "cache": "empty",
        "newline after a turn": "not counted",
    }
    record.checks = {"rows": 0}
    record.begin()
    for batch in workload["batches"]:
        rows = datasets.load_dataset("json", data_files=batch["file"], split="train")
        prepared = _prepare(trainers[batch["kind"]], batch["kind"], rows, tokenizer)
        record.end()
        record.tokens[-1] = _tokens(prepared, batch["kind"], tokenizer.eos_token_id)
        record.checks["rows"] += len(prepared)
    record.write(out)


def _trainer(kind: str, tokenizer: Any) -> Any:
    """A trainer as a user makes it, on a model that costs nothing."""
    shape = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=16,
        intermediate_size=16,
        num_hidden_layers=1,
        num_attention_heads=1,
        num_key_value_heads=1,
    )
    names = ("completion",) if kind == "sft" else ("chosen", "rejected")
    row = {"prompt": [{"role": "user", "content": "Why?"}]}
    row |= {name: [{"role": "assistant", "content": f"So {name}."}] for name in names}
    common = {
        "output_dir": os.environ["HF_DATASETS_CACHE"] + "/out",
        "report_to": [],
        "use_cpu": True,
        "bf16": False,
    }
    data = datasets.Dataset.from_list([row] * 4)
    if kind == "sft":
        return trl.SFTTrainer(
            LlamaForCausalLM(shape),
            args=trl.SFTConfig(**common),
            train_dataset=data,
            processing_class=tokenizer,
        )
    return trl.DPOTrainer(
        LlamaForCausalLM(shape),
        ref_model=LlamaForCausalLM(shape),
        args=trl.DPOConfig(**common),
        train_dataset=data,
        processing_class=tokenizer,
    )


def _prepare(trainer: Any, kind: str, rows: Any, tokenizer: Any) -> Any:
    if kind == "sft":
        return trainer._prepare_dataset(rows, tokenizer, trainer.args, trainer.args.packing, None, "train")
    return trainer._prepare_dataset(rows, tokenizer, trainer.args, "train")


def _tokens(prepared: Any, kind: str, end_of_turn: int) -> int:
    """All tokens, without what the template writes behind the end of a turn, which only TRL keeps."""
    answers = ["input_ids"] if kind == "sft" else ["chosen_ids", "rejected_ids"]
    total = 0 if kind == "sft" else sum(map(len, prepared["prompt_ids"]))
    for name in answers:
        for ids in prepared[name]:
            total += len(ids) - (ids[-1] != end_of_turn)
    return total


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2])
