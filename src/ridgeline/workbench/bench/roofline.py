"""What this machine could do at most, and what share of it a work reaches.

Decoding is bound by memory: every step reads all weights, and the keys and values of its rows. Training is
bound by matrix products: about 6 operations a weight and token.
"""

from __future__ import annotations

import time
from itertools import pairwise
from typing import Any

import torch
from transformers import PreTrainedModel

from ridgeline.workbench.bench.sides.record import Record

_BUFFER = 2**30
"""Bytes that are read: more than any cache holds."""
_ROWS = 2048


def read_bandwidth() -> float:
    """Bytes a second that the sum of a large float32 tensor reads, the best of five."""
    data = torch.ones(_BUFFER // 4)
    return _BUFFER / _best(lambda: data.sum())


def copy_bandwidth() -> float:
    """Bytes a second, read and written, of a large copy, the best of five."""
    source = torch.ones(_BUFFER // 8)
    target = torch.empty_like(source)
    return _BUFFER / _best(lambda: target.copy_(source))


def product_peak(dtype: torch.dtype, width: int = 2048) -> float:
    """Operations a second of ``[2048, width] x [width, width]``, the best of five."""
    left, right = torch.ones(_ROWS, width, dtype=dtype), torch.ones(width, width, dtype=dtype)
    return 2.0 * _ROWS * width * width / _best(lambda: torch.mm(left, right))


def _best(work: Any) -> float:
    best = float("inf")
    for _ in range(6):
        start = time.perf_counter()
        work()
        best = min(best, time.perf_counter() - start)
    return best


def rooflines(module: PreTrainedModel, workload: dict[str, Any], record: Record) -> dict[str, float]:
    """The machine's limits (bytes and operations a second) and the share that the timed steps reached."""
    peak = max(product_peak(module.dtype), product_peak(module.dtype, 4096))
    limits = {"read bandwidth": read_bandwidth(), "copy bandwidth": copy_bandwidth(), "product peak": peak}
    shares: dict[str, float] = {}
    ends = record.ends
    seconds = [after - before for before, after in pairwise(ends)]
    timed = range(workload["warm"], len(seconds))
    for number in timed:
        batch = workload["batches"][number]
        spent = {name: values[number] for name, values in record.parts.items()}
        if workload["kind"] == "rollout":
            least = decode_bytes(module, batch["prompts"], batch["lengths"], workload["sizes"]["batch"])
            _add(shares, "decode, of read bandwidth", least / limits["read bandwidth"] / seconds[number])
        elif workload["kind"] == "grpo":
            sizes = workload["sizes"]
            lengths = [sizes["new_tokens"]] * sizes["samples"] * len(batch["prompts"])
            least = decode_bytes(module, [p["ids"] for p in batch["prompts"]], lengths, 64)
            _add(shares, "decode, of read bandwidth", least / limits["read bandwidth"] / spent["sample"])
        if "forward and backward" in spent:
            needed = 3 * forward_operations(module, *_tokens(workload["kind"], batch, workload["sizes"]))
            share = needed / peak / spent["forward and backward"]
            _add(shares, "forward and backward, of product peak", share)
    return limits | {name: total / max(1, len(timed)) for name, total in shares.items()}


def _add(shares: dict[str, float], name: str, share: float) -> None:
    shares[name] = shares.get(name, 0.0) + share


def decode_bytes(module: PreTrainedModel, prompts: list[list[int]], lengths: list[int], slots: int) -> float:
    """Bytes that a rollout has to read at least.

    The weights once a step, with ``slots`` rows in a step; at each step a row's own keys and values so far,
    and those of its prompt once for all rows that share it.
    """
    itemsize = module.dtype.itemsize
    weights = sum(parameter.numel() for parameter in module.parameters()) * itemsize
    rows = len(lengths)
    steps = max(max(lengths), sum(lengths) / min(slots, rows))
    config = module.config
    heads = int(config.num_attention_heads)
    size = int(getattr(config, "head_dim", None) or config.hidden_size // heads)
    width = 2 * int(config.num_hidden_layers) * int(getattr(config, "num_key_value_heads", heads)) * size
    own = sum(length * (length + 1) / 2 for length in lengths)
    shared = sum(
        len(prompt) * max(lengths[number * rows // len(prompts) : (number + 1) * rows // len(prompts)])
        for number, prompt in enumerate(prompts)
    )
    return steps * weights + (own + shared) * width * itemsize


def forward_operations(module: PreTrainedModel, tokens: int, scored: int) -> float:
    """Operations of the matrix products of a forward pass: 2 a weight and token; the head on scored ones.

    Products of queries with keys are left out: few at these lengths.
    """
    embedding: Any = module.get_input_embeddings()
    head: Any = module.get_output_embeddings()
    table = int(embedding.weight.numel())
    whole = sum(parameter.numel() for parameter in module.parameters())
    tied = head is None or head.weight is embedding.weight
    body = whole - table - (0 if tied else head.weight.numel())
    return float(2 * (tokens * body + scored * table))


def _tokens(kind: str, batch: dict[str, Any], sizes: dict[str, int]) -> tuple[int, int]:
    """Tokens through the body, a shared prompt once, and tokens through the head."""
    if kind == "sft":
        completions = sum(len(row["completion"]) for row in batch["rows"])
        return completions + sum(len(row["prompt"]) for row in batch["rows"]), completions
    if kind == "grpo":
        completions = len(batch["prompts"]) * sizes["samples"] * sizes["new_tokens"]
        return completions + sum(len(prompt["ids"]) for prompt in batch["prompts"]), completions
    completions = sum(len(pair["chosen"]) + len(pair["rejected"]) for pair in batch["pairs"])
    tokens = completions + sum(len(pair["prompt"]) for pair in batch["pairs"])
    return tokens, 0 if kind == "reward" else completions
