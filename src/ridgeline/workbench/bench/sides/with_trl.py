"""TRL's trainers on a training workload, in TRL's environment.

    python with_trl.py WORKLOAD.json OUT.json

As a user has them by default: float32 weights under bfloat16 autocast (none where this CPU multiplies float32
faster), gradient checkpointing, TRL's own attention and loss head. Rows come in the order of the workload, as
token ids (GRPO takes texts); nothing is saved or reported. The learning rate is that of the other side.
"""

from __future__ import annotations

import json
import os
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

os.environ |= {"TRL_EXPERIMENTAL_SILENCE": "1", "HF_HUB_DISABLE_TELEMETRY": "1"}

import datasets
import torch
import transformers
import trl
from fast_dtype import fast_dtype
from record import Record
from transformers import AutoTokenizer

LEARNING_RATE = 1e-6
BETA = {"dpo": 0.1, "grpo": 0.04}


class Watch(transformers.TrainerCallback):
    """Marks the end of every optimizer step."""

    def __init__(self, record: Record, tokens: list[int]) -> None:
        self.record = record
        self.tokens = tokens

    def on_train_begin(self, *arguments: Any, **more: Any) -> None:
        self.record.begin()

    def on_step_end(self, *arguments: Any, **more: Any) -> None:
        self.record.end(self.tokens[len(self.record.tokens)])


class Ordered:
    """Rows in the order of the workload."""

    train_dataset: Any

    def _get_train_sampler(self, *arguments: Any) -> Any:
        return torch.utils.data.SequentialSampler(self.train_dataset)


class OrderedSft(Ordered, trl.SFTTrainer):
    """TRL's SFT trainer."""


class OrderedReward(Ordered, trl.RewardTrainer):
    """TRL's reward trainer."""


class OrderedDpo(Ordered, trl.DPOTrainer):
    """TRL's DPO trainer, on rows that are tokenised already."""

    def _prepare_dataset(self, dataset: Any, *arguments: Any, **more: Any) -> Any:
        return dataset


def main(workload_file: str, out: str) -> None:
    """Run as many optimizer steps as the workload has batches."""
    datasets.disable_progress_bars()
    transformers.logging.set_verbosity_error()
    workload = json.loads(Path(workload_file).read_text())
    record = Record()
    seen = {"rows": 0, "scored tokens": 0}
    with tempfile.TemporaryDirectory() as folder:
        trainer, tokens = TRAINERS[workload["kind"]](workload, folder)
        _count(trainer, workload["kind"], seen)
        trainer.add_callback(Watch(record, tokens))
        trainer.train()
    record.checks = seen | _first(trainer.state.log_history, workload["kind"])
    record.settings = _settings(trainer)
    record.versions = {module.__name__: module.__version__ for module in (trl, transformers, torch)}
    record.write(out)


def _first(history: list[dict[str, Any]], kind: str) -> dict[str, float]:
    """Loss and gradient norm of the first step; the draws of a rollout are each side's own."""
    log = next(entry for entry in history if "grad_norm" in entry)
    return {} if kind == "grpo" else {"loss": log["loss"], "gradient norm": log["grad_norm"]}


def _settings(trainer: Any) -> dict[str, Any]:
    arguments = trainer.args
    return {
        "weights": str(next(trainer.model.parameters()).dtype),
        "bf16 autocast": bool(arguments.bf16),
        "gradient checkpointing": bool(arguments.gradient_checkpointing),
        "rows per device": arguments.per_device_train_batch_size,
        "accumulation": arguments.gradient_accumulation_steps,
        "threads": torch.get_num_threads(),
    }


def _count(trainer: Any, kind: str, seen: dict[str, int]) -> None:
    """Add up rows and scored tokens of all steps, as the loss is about to see them."""
    compute_loss = trainer.compute_loss

    def counted(model: Any, inputs: dict[str, Any], *rest: Any, **more: Any) -> Any:
        if kind == "sft":
            scored, rows = inputs["labels"][:, 1:] != -100, len(inputs["labels"])
        elif kind == "reward":
            scored, rows = inputs["attention_mask"], len(inputs["attention_mask"])
        else:
            scored, rows = inputs["completion_mask"], len(inputs["completion_mask"])
        seen["rows"] += rows
        if kind == "grpo":
            seen["prompt tokens"] = seen.get("prompt tokens", 0) + int(inputs["prompt_mask"].sum())
        seen["scored tokens"] += rows if kind == "reward" else int(scored.sum())
        return compute_loss(model, inputs, *rest, **more)

    trainer.compute_loss = counted


def _arguments(kind: type, workload: dict[str, Any], folder: str, rows: int, **more: Any) -> Any:
    return kind(
        output_dir=folder,
        max_steps=len(workload["batches"]),
        per_device_train_batch_size=rows,
        learning_rate=LEARNING_RATE,
        lr_scheduler_type="constant",
        use_cpu=True,
        bf16=fast_dtype() == torch.bfloat16,
        logging_steps=1,
        save_strategy="no",
        report_to=[],
        disable_tqdm=True,
        seed=workload["seed"],
        **more,
    )


def _tokenizer(workload: dict[str, Any]) -> Any:
    return AutoTokenizer.from_pretrained(workload["model"])


def _sft(workload: dict[str, Any], folder: str) -> tuple[Any, list[int]]:
    batches = [batch["rows"] for batch in workload["batches"]]
    rows = [
        {
            "input_ids": row["prompt"] + row["completion"],
            "labels": [-100] * len(row["prompt"]) + row["completion"],
        }
        for batch in batches
        for row in batch
    ]
    trainer = OrderedSft(
        workload["model"],
        args=_arguments(trl.SFTConfig, workload, folder, len(batches[0])),
        train_dataset=datasets.Dataset.from_list(rows),
        processing_class=_tokenizer(workload),
    )
    return trainer, [sum(len(row["prompt"] + row["completion"]) for row in batch) for batch in batches]


def _pair_tokens(batches: list[list[dict[str, list[int]]]]) -> list[int]:
    """Of both rows, each with its prompt."""
    return [
        sum(2 * len(pair["prompt"]) + len(pair["chosen"]) + len(pair["rejected"]) for pair in batch)
        for batch in batches
    ]


def _reward(workload: dict[str, Any], folder: str) -> tuple[Any, list[int]]:
    batches = [batch["pairs"] for batch in workload["batches"]]
    rows = [
        {"chosen_ids": pair["prompt"] + pair["chosen"], "rejected_ids": pair["prompt"] + pair["rejected"]}
        for batch in batches
        for pair in batch
    ]
    trainer = OrderedReward(
        workload["model"],
        args=_arguments(trl.RewardConfig, workload, folder, len(batches[0])),
        train_dataset=datasets.Dataset.from_list(rows),
        processing_class=_tokenizer(workload),
    )
    with torch.no_grad():
        trainer.model.score.weight.copy_(torch.tensor(workload["head"])[None])
    return trainer, _pair_tokens(batches)


def _dpo(workload: dict[str, Any], folder: str) -> tuple[Any, list[int]]:
    batches = [batch["pairs"] for batch in workload["batches"]]
    rows = [
        {"prompt_ids": pair["prompt"], "chosen_ids": pair["chosen"], "rejected_ids": pair["rejected"]}
        for batch in batches
        for pair in batch
    ]
    trainer = OrderedDpo(
        workload["model"],
        args=_arguments(trl.DPOConfig, workload, folder, len(batches[0]), beta=BETA["dpo"]),
        train_dataset=datasets.Dataset.from_list(rows),
        processing_class=_tokenizer(workload),
    )
    return trainer, _pair_tokens(batches)


def _grpo(workload: dict[str, Any], folder: str) -> tuple[Any, list[int]]:
    sizes, batches = workload["sizes"], [batch["prompts"] for batch in workload["batches"]]
    samples, new_tokens = sizes["samples"], sizes["new_tokens"]
    rows = min(sizes["trl_rows"], sizes["prompts"] * samples)

    def reward(completions: list[str], **more: Any) -> list[float]:
        return [text.count("e") / max(1, len(text)) for text in completions]

    trainer = trl.GRPOTrainer(
        workload["model"],
        reward_funcs=reward,
        args=_arguments(
            trl.GRPOConfig,
            workload,
            folder,
            rows,
            gradient_accumulation_steps=sizes["prompts"] * samples // rows,
            num_generations=samples,
            max_completion_length=new_tokens,
            generation_kwargs={"min_new_tokens": new_tokens},
            beta=BETA["grpo"],
            shuffle_dataset=False,
        ),
        train_dataset=datasets.Dataset.from_list(
            [{"prompt": prompt["text"]} for batch in batches for prompt in batch]
        ),
        processing_class=_tokenizer(workload),
    )
    return trainer, [len(batch) * samples * new_tokens for batch in batches]


TRAINERS: dict[str, Callable[[dict[str, Any], str], tuple[Any, list[int]]]] = {
    "sft": _sft,
    "reward": _reward,
    "dpo": _dpo,
    "grpo": _grpo,
}

if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2])
