"""vLLM's CPU engine on a rollout workload, in its own environment.

    python with_vllm.py WORKLOAD.json OUT.json

In one process on all cores, its own defaults but for the number of sequences side by side and the room for
keys and values; end-of-sequence is ignored and every request is limited to its length.
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Any

os.environ |= {"VLLM_ENABLE_V1_MULTIPROCESSING": "0", "VLLM_NO_USAGE_STATS": "1", "DO_NOT_TRACK": "1"}
os.environ.setdefault("VLLM_CPU_KVCACHE_SPACE", "4")
os.environ.setdefault("VLLM_LOGGING_LEVEL", "ERROR")
# Its default keeps a core for a scheduler process, which one process does not have: all cores compute.
os.environ.setdefault("VLLM_CPU_OMP_THREADS_BIND", "nobind")

import torch
import vllm
from record import Record
from vllm import LLM, SamplingParams


def main(workload_file: str, out: str) -> None:
    """Time every batch of the workload."""
    workload = json.loads(Path(workload_file).read_text())
    sizes = workload["sizes"]
    engine = LLM(
        model=workload["model"],
        dtype="bfloat16",
        max_model_len=sizes["prompt_tokens"] + sizes["new_tokens"],
        max_num_seqs=sizes["batch"],
        seed=workload["seed"],
        disable_log_stats=True,
    )
    record = Record()
    record.settings = {"batch": sizes["batch"], "dtype": "bfloat16", "log-probs": "not asked for"}
    record.settings["threads"] = torch.get_num_threads()
    record.versions = {"vllm": vllm.__version__, "torch": torch.__version__}
    made: list[int] = []
    tokens = 0
    record.begin()
    for batch in workload["batches"]:
        made += generate(engine, batch)
        tokens += sum(len(prompt) * batch["samples"] for prompt in batch["prompts"])
        record.end(sum(batch["lengths"]))
    record.checks = {"prompt tokens": tokens, "lengths": made}
    record.write(out)


def generate(engine: Any, batch: dict[str, Any]) -> list[int]:
    """How many tokens were made of every row; a prompt whose samples are equally long is one request."""
    samples = batch["samples"]
    requests, wanted = [], []
    for number, prompt in enumerate(batch["prompts"]):
        lengths = batch["lengths"][number * samples : (number + 1) * samples]
        together = len(set(lengths)) == 1
        for length in lengths[:1] if together else lengths:
            requests.append({"prompt_token_ids": prompt})
            wanted.append(parameters(length, samples if together else 1))
    outputs = engine.generate(requests, wanted, use_tqdm=False)
    return [len(each.token_ids) for output in outputs for each in output.outputs]


def parameters(length: int, samples: int) -> Any:
    """Temperature 1, the whole vocabulary, exactly ``length`` tokens."""
    return SamplingParams(n=samples, temperature=1.0, max_tokens=length, ignore_eos=True, detokenize=True)


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2])
