"""The inputs of a work, made once from a seed and written down, so that every side gets the same tokens."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ridgeline.schema.errors import UsageError
from ridgeline.workbench.bench.works import Work

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

_TEXT = (
    "the a one some every old new small large quiet early late river garden winter train bread moon music "
    "market clock letter window teacher child dog house road sea field story song reads writes walks finds "
    "keeps makes opens carries loses remembers with under over before after near without because while and "
    "but then slowly often never again today there green warm bright simple good"
)
_WORDS = _TEXT.split()
SPREAD = 0.8
"""Standard deviation of the logarithm of a length: the longest of 64 is about six times the median."""


class Texts:
    """Sentences of common words, and their tokens."""

    def __init__(self, tokenizer: PreTrainedTokenizerBase, seed: int) -> None:
        self.tokenizer = tokenizer
        self.random = np.random.default_rng(seed)

    def text(self, tokens: int) -> str:
        """About so many tokens, never fewer."""
        words = self.random.choice(_WORDS, size=tokens)
        return " ".join(map(str, words)) + "."

    def ids(self, tokens: int) -> list[int]:
        """Exactly so many tokens."""
        found: list[int] = self.tokenizer(self.text(tokens), add_special_tokens=False)["input_ids"]
        return found[:tokens]

    def prompt(self, tokens: int) -> dict[str, Any]:
        """A text of about so many tokens and exactly the ids that a tokenizer makes of it."""
        text = str(self.tokenizer.decode(self.ids(tokens), skip_special_tokens=False))
        return {"text": text, "ids": self.tokenizer(text, add_special_tokens=False)["input_ids"]}

    def between(self, shortest: int, longest: int) -> int:
        return int(self.random.integers(shortest, longest + 1))


def write_workload(
    work: Work, path: Path, *, model: Path, tokenizer: PreTrainedTokenizerBase, seed: int
) -> dict[str, Any]:
    """Write the workload of ``work`` on the model in folder ``model``; returns it.

    Raises:
        UsageError: sizes that make no sense together.
    """
    texts = Texts(tokenizer, seed)
    count = max(1, work.warm + work.steps)
    if work.kind == "prepare":
        batches = [_rows(work, texts, path.parent / f"rows-{number}.jsonl") for number in range(count)]
    else:
        sizes = [_warming(work.sizes)] * work.warm + [work.sizes] * (count - work.warm)
        batches = [_BATCHES[work.kind](texts, each) for each in sizes]
    workload = {
        "kind": work.kind,
        "model": str(model),
        "seed": seed,
        "sizes": work.sizes,
        "warm": work.warm,
        "roofline": work.measure == "steps" and work.kind != "prepare",
        "batches": batches,
    }
    if work.kind == "reward":
        workload["head"] = texts.random.normal(0, 0.01, _width(model)).tolist()
    path.write_text(json.dumps(workload))
    return workload


def lengths(random: np.random.Generator, count: int, *, shortest: int, longest: int) -> list[int]:
    """``count`` completion lengths, log-normal about a quarter of ``longest``, cut to the two limits."""
    drawn = np.exp(random.normal(np.log(longest / 4), SPREAD, count))
    return [int(length) for length in np.clip(np.round(drawn), shortest, longest)]


def _warming(sizes: dict[str, int]) -> dict[str, int]:
    """Sizes of a step to warm up with: those of the work, but a few prompts of many hundred are enough."""
    return sizes | {"prompts": min(sizes["prompts"], 16)} if "prompts" in sizes else sizes


def _rows(work: Work, texts: Texts, file: Path) -> dict[str, Any]:
    from ridgeline.workbench.bench.rows import write_rows

    kind = work.name.removeprefix("prepare-")
    write_rows(file, kind, work.sizes["rows"], texts.tokenizer, texts.between(0, 2**31))
    return {"kind": kind, "file": str(file)}


def _rollout(texts: Texts, sizes: dict[str, int]) -> dict[str, Any]:
    prompts = [texts.ids(sizes["prompt_tokens"]) for _ in range(sizes["prompts"])]
    count, longest = sizes["prompts"] * sizes["samples"], sizes["new_tokens"]
    if "shortest" not in sizes:
        limits = [longest] * count
    else:
        limits = lengths(texts.random, count, shortest=sizes["shortest"], longest=longest)
    return {"prompts": prompts, "samples": sizes["samples"], "lengths": limits}


def _sft(texts: Texts, sizes: dict[str, int]) -> dict[str, Any]:
    return {
        "rows": [
            {"prompt": texts.ids(sizes["prompt_tokens"]), "completion": texts.ids(_rest(texts, sizes))}
            for _ in range(sizes["rows"])
        ]
    }


def _pairs(texts: Texts, sizes: dict[str, int]) -> dict[str, Any]:
    return {
        "pairs": [
            {
                "prompt": texts.ids(sizes["prompt_tokens"]),
                "chosen": texts.ids(_rest(texts, sizes)),
                "rejected": texts.ids(_rest(texts, sizes)),
            }
            for _ in range(sizes["pairs"])
        ]
    }


def _rest(texts: Texts, sizes: dict[str, int]) -> int:
    """Tokens of a completion so that with its prompt it has between ``shortest`` and ``longest``."""
    prompt = sizes["prompt_tokens"]
    if not prompt < sizes["shortest"] <= sizes["longest"]:
        raise UsageError("sizes: prompt_tokens < shortest <= longest is needed; change them with --size.")
    return texts.between(sizes["shortest"], sizes["longest"]) - prompt


def _grpo(texts: Texts, sizes: dict[str, int]) -> dict[str, Any]:
    return {"prompts": [texts.prompt(sizes["prompt_tokens"]) for _ in range(sizes["prompts"])]}


def _width(model: Path) -> int:
    return int(json.loads((model / "config.json").read_text())["hidden_size"])


_BATCHES: dict[str, Callable[[Texts, dict[str, int]], dict[str, Any]]] = {
    "rollout": _rollout,
    "sft": _sft,
    "reward": _pairs,
    "dpo": _pairs,
    "grpo": _grpo,
}
