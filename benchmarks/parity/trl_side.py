"""TRL's first step of every case: loss and gradient norm from its log, gradient and tokens as it had them.

    python trl_side.py FOLDER CASE ...      # in an environment with TRL; FOLDER as problem.build wrote it

Imports nothing of Ridgeline. Options that only decide speed or number format are set to plain float32 on the
CPU: TRL's defaults are bfloat16, which refuses a CPU, and gradient checkpointing.
"""

from __future__ import annotations

import json
import os
import sys
from collections import defaultdict
from pathlib import Path
from typing import Any

os.environ |= {"HF_HUB_OFFLINE": "1", "HF_DATASETS_OFFLINE": "1", "HF_HUB_DISABLE_TELEMETRY": "1"}
os.environ |= {"TRL_EXPERIMENTAL_SILENCE": "1", "TOKENIZERS_PARALLELISM": "false"}

import datasets
import gradients
import torch
import transformers
import trl
from cases import CASES, MAX_COMPLETION, Case
from transformers import AutoModelForCausalLM, AutoModelForSequenceClassification, AutoTokenizer


class Witness(transformers.TrainerCallback):
    """Keeps the gradient of the step."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def on_pre_optimizer_step(self, args: Any, state: Any, control: Any, **more: Any) -> None:
        named = more["model"].named_parameters()
        gradients.write(self.path, ((name, p.grad) for name, p in named if p.grad is not None))


class FixedRollouts(trl.GRPOTrainer):
    """GRPO whose completions are given, and whose old log-probs are those of the rollout.

    TRL takes the old log-probs of a first step from the model itself, so the ratio would be 1, clipping would
    never show, and the loss would be 0 up to rounding.
    """

    old_logp: dict[tuple[int, ...], list[float]]

    def _generate_and_score_completions(self, inputs: Any) -> dict[str, torch.Tensor]:
        batch = super()._generate_and_score_completions(inputs)
        old_BN = torch.zeros(batch["completion_ids"].shape)
        for number, (prompt, completion) in enumerate(
            zip(
                _kept(batch["prompt_ids"], batch["prompt_mask"]),
                _kept(batch["completion_ids"], batch["completion_mask"]),
                strict=True,
            )
        ):
            old_BN[number, : len(completion)] = torch.tensor(self.old_logp[(*prompt, *completion)])
        batch["old_per_token_logps"] = old_BN
        return batch


def main(folder: Path, names: list[str]) -> None:
    """Run the named cases and write ``trl.json`` and one gradient file per case into ``folder``."""
    torch.set_num_threads(1)
    datasets.disable_progress_bars()
    problem = json.loads((folder / "problem.json").read_text())
    results = {}
    for number, case in enumerate(CASES):
        if case.name not in names:
            continue
        results[case.name] = run(case, problem, folder, folder / f"trl-{number}.npz")
        print(case.name, file=sys.stderr, flush=True)
    versions = {module.__name__: module.__version__ for module in (trl, transformers, torch)}
    (folder / "trl.json").write_text(json.dumps({"versions": versions, "cases": results}))


def run(case: Case, problem: dict[str, Any], folder: Path, gradient_file: Path) -> dict[str, Any]:
    """One optimizer step of one case."""
    trainer = TRAINERS[case.kind](case, problem, folder)
    trainer.add_callback(Witness(gradient_file))
    seen: list[Any] = []
    compute_loss = trainer.compute_loss

    def watched(model: Any, inputs: dict[str, Any], *rest: Any, **more: Any) -> Any:
        seen.extend(_tokens(case, inputs))
        return compute_loss(model, inputs, *rest, **more)

    trainer.compute_loss = watched
    trainer.train()
    log = next(entry for entry in trainer.state.log_history if "grad_norm" in entry)
    return {"loss": log["loss"], "norm": log["grad_norm"], "tokens": sorted(seen)}


def _config(kind: type, case: Case, folder: Path, rows: int, **more: Any) -> Any:
    options = {key: value for key, value in case.trl.items() if key not in ("conversational", "padding")}
    return kind(
        output_dir=str(folder / "trl-output"),
        max_steps=1,
        per_device_train_batch_size=rows // case.accumulation,
        gradient_accumulation_steps=case.accumulation,
        max_grad_norm=1e9,
        use_cpu=True,
        bf16=False,
        gradient_checkpointing=False,
        logging_steps=1,
        save_strategy="no",
        report_to=[],
        disable_tqdm=True,
        **more,
        **options,
    )


def _policy(case: Case, folder: Path) -> tuple[Any, Any]:
    model = AutoModelForCausalLM.from_pretrained(folder / "policy", dtype=torch.float32)
    tokenizer = AutoTokenizer.from_pretrained(folder / "policy")
    _set_padding_idx(model, case, tokenizer)
    return model, tokenizer


def _set_padding_idx(model: Any, case: Case, tokenizer: Any) -> None:
    """None, whatever the model came with, unless the case is about it: see its reason in ``cases.py``."""
    padding = case.trl.get("padding")
    index = None if padding is None else tokenizer.convert_tokens_to_ids(padding)
    model.get_input_embeddings().padding_idx = index


def _sft(case: Case, problem: dict[str, Any], folder: Path) -> Any:
    model, tokenizer = _policy(case, folder)
    rows = [
        {
            "prompt": [{"role": "user", "content": row["prompt"]}],
            "completion": [{"role": "assistant", "content": row["chosen"]}],
        }
        if case.trl.get("conversational")
        else {"prompt": row["rendered"], "completion": row["chosen"]}
        for row in problem["rows"]
    ]
    return trl.SFTTrainer(
        model,
        args=_config(trl.SFTConfig, case, folder, len(rows)),
        train_dataset=datasets.Dataset.from_list(rows),
        processing_class=tokenizer,
    )


def _pairs(problem: dict[str, Any]) -> datasets.Dataset:
    return datasets.Dataset.from_list(
        [
            {"prompt": row["rendered"], "chosen": row["chosen"], "rejected": row["rejected"]}
            for row in problem["rows"]
        ]
    )


def _reward(case: Case, problem: dict[str, Any], folder: Path) -> Any:
    model = AutoModelForSequenceClassification.from_pretrained(folder / "reward", dtype=torch.float32)
    tokenizer = AutoTokenizer.from_pretrained(folder / "reward")
    _set_padding_idx(model, case, tokenizer)
    return trl.RewardTrainer(
        model,
        args=_config(trl.RewardConfig, case, folder, len(problem["rows"])),
        train_dataset=_pairs(problem),
        processing_class=tokenizer,
    )


def _reference(folder: Path) -> Any:
    return AutoModelForCausalLM.from_pretrained(folder / "reference", dtype=torch.float32)


def _dpo(case: Case, problem: dict[str, Any], folder: Path) -> Any:
    model, tokenizer = _policy(case, folder)
    return trl.DPOTrainer(
        model,
        ref_model=_reference(folder),
        args=_config(trl.DPOConfig, case, folder, len(problem["rows"])),
        train_dataset=_pairs(problem),
        processing_class=tokenizer,
    )


def _kto(case: Case, problem: dict[str, Any], folder: Path) -> Any:
    model, tokenizer = _policy(case, folder)
    rows = [
        {
            "prompt": row["rendered"],
            "completion": row["chosen"] if row["label"] else row["rejected"],
            "label": row["label"],
        }
        for row in problem["rows"]
    ]
    return trl.KTOTrainer(
        model,
        ref_model=_reference(folder),
        args=_config(trl.KTOConfig, case, folder, len(rows)),
        train_dataset=datasets.Dataset.from_list(rows),
        processing_class=tokenizer,
    )


def _grpo(case: Case, problem: dict[str, Any], folder: Path) -> Any:
    model, tokenizer = _policy(case, folder)
    # TRL loads the reference of a model object from the path its configuration names, so that path decides.
    model.config._name_or_path = str(folder / "reference")
    groups = {group["rendered"]: group for group in problem["groups"]}
    samples = len(problem["groups"][0]["completions"])

    def rollout(prompts: list[str], trainer: Any) -> dict[str, Any]:
        taken: defaultdict[str, int] = defaultdict(int)
        completions = []
        for prompt in prompts:
            completions.append(groups[prompt]["completions"][taken[prompt]])
            taken[prompt] += 1
        return {
            "prompt_ids": [groups[prompt]["prompt_ids"] for prompt in prompts],
            "completion_ids": completions,
            "logprobs": None,
        }

    def reward(prompts: list[str], completion_ids: list[list[int]], **more: Any) -> list[float]:
        return [
            groups[prompt]["rewards"][groups[prompt]["completions"].index(ids)]
            for prompt, ids in zip(prompts, completion_ids, strict=True)
        ]

    trainer = FixedRollouts(
        model,
        reward_funcs=reward,
        args=_config(
            trl.GRPOConfig,
            case,
            folder,
            len(groups) * samples,
            num_generations=samples,
            max_completion_length=MAX_COMPLETION,
        ),
        train_dataset=datasets.Dataset.from_list([{"prompt": prompt} for prompt in groups]),
        processing_class=tokenizer,
        rollout_func=rollout,
    )
    trainer.old_logp = {
        (*group["prompt_ids"], *completion): logp
        for group in problem["groups"]
        for completion, logp in zip(group["completions"], group["old_logp"], strict=True)
    }
    return trainer


TRAINERS = {"sft": _sft, "reward": _reward, "dpo": _dpo, "kto": _kto, "grpo": _grpo}


def _kept(ids_BT: torch.Tensor, mask_BT: torch.Tensor) -> list[list[int]]:
    return [ids[mask.bool()].tolist() for ids, mask in zip(ids_BT, mask_BT, strict=True)]


def _tokens(case: Case, inputs: dict[str, Any]) -> list[tuple[list[int], list[int]]]:
    """(token ids, scored positions) of every row, without padding, as the loss is about to see them."""
    if case.kind == "grpo":
        prompts = _kept(inputs["prompt_ids"], inputs["prompt_mask"])
        completions = _kept(inputs["completion_ids"], inputs["completion_mask"])
        return [
            (prompt + completion, list(range(len(prompt), len(prompt) + len(completion))))
            for prompt, completion in zip(prompts, completions, strict=True)
        ]
    ids = _kept(inputs["input_ids"], inputs["attention_mask"])
    if case.kind == "reward":
        return [(row, [len(row) - 1]) for row in ids]
    mask_BT = inputs["labels"] != -100 if case.kind == "sft" else inputs["completion_mask"]
    rows = [
        (row, mask[: len(row)].nonzero().flatten().tolist()) for row, mask in zip(ids, mask_BT, strict=True)
    ]
    if "KL_input_ids" in inputs:
        partners = _kept(inputs["KL_input_ids"], inputs["KL_attention_mask"])
        masks = inputs["KL_completion_mask"]
        rows += [
            (row, mask[: len(row)].nonzero().flatten().tolist())
            for row, mask in zip(partners, masks, strict=True)
        ]
    return rows


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2:])
