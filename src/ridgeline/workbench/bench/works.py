"""What can be timed: a work is data, and every side of a comparison reads the same workload file."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Literal

from ridgeline.schema.errors import UsageError, nearest

Unit = Literal["tokens/s", "s"]
Peer = Literal["trl", "transformers", "vllm", "plain"]
PEERS: tuple[Peer, ...] = ("trl", "transformers", "vllm", "plain")

_ROLLOUT = {"prompts": 8, "samples": 8, "prompt_tokens": 42, "new_tokens": 128, "batch": 64}
_SPREAD = {
    "prompts": 512,
    "samples": 1,
    "prompt_tokens": 42,
    "new_tokens": 256,
    "batch": 64,
    "shortest": 8,
}
_GRPO = {"prompts": 8, "samples": 8, "prompt_tokens": 45, "new_tokens": 64, "trl_rows": 16}
_SFT = {"rows": 8, "prompt_tokens": 40, "shortest": 100, "longest": 200}
_PAIRS = {"pairs": 4, "prompt_tokens": 40, "shortest": 100, "longest": 200}


@dataclass(frozen=True)
class Work:
    """One thing to time.

    kind: which function of a side does it. unit: of the figure; of a step (``s``), or of its tokens.
    measure: ``steps``, or ``start``: from the start of the process to the end of its first step.
    peers: who can do it, the first by default. sizes: what the workload is made of. runs: processes of each
    side, which take turns. steps: timed steps of a process, after one to warm up.
    """

    name: str
    title: str
    kind: str
    unit: Unit
    peers: tuple[Peer, ...]
    sizes: dict[str, int]
    runs: int = 3
    steps: int = 3
    measure: Literal["steps", "start"] = "steps"
    warm: int = 1
    note: str = field(default="", compare=False)


_PREPARE = Work(
    "prepare-sft",
    "data preparation, SFT",
    "prepare",
    "s",
    ("trl",),
    {"rows": 50_000},
    steps=1,
    warm=0,
    note="from a JSON lines file of conversations to token ids and masks; nothing cached before",
)

WORKS: tuple[Work, ...] = (
    Work(
        "rollout",
        "rollout, equal lengths",
        "rollout",
        "tokens/s",
        ("transformers", "vllm", "plain"),
        _ROLLOUT,
        steps=2,
        note="tokens/s count new tokens; log-probs are recorded on our side and not asked of the peer",
    ),
    Work(
        "rollout-spread",
        "rollout, spread of lengths",
        "rollout",
        "tokens/s",
        ("transformers", "vllm", "plain"),
        _SPREAD,
        runs=2,
        steps=1,
        note=(
            "lengths are drawn once, log-normal, and forced on both sides; a static batch steps until its "
            "longest row ends; tokens beyond a row's length do not count"
        ),
    ),
    Work(
        "sft",
        "SFT step",
        "sft",
        "tokens/s",
        ("trl", "plain"),
        _SFT,
        note="tokens/s count prompt and completion, without padding; with clipping and the optimizer step",
    ),
    Work(
        "reward",
        "reward model step",
        "reward",
        "tokens/s",
        ("trl", "plain"),
        _PAIRS,
        note="tokens/s count both rows of a pair, each with its prompt; the whole backbone learns",
    ),
    Work(
        "dpo",
        "DPO step",
        "dpo",
        "tokens/s",
        ("trl", "plain"),
        _PAIRS,
        note=(
            "tokens/s count both rows of a pair, each with its prompt; the reference's forward pass is in "
            "every step on both sides, though our stage runs it once a pair and keeps it on disk"
        ),
    ),
    Work(
        "grpo",
        "GRPO step",
        "grpo",
        "s",
        ("trl", "plain"),
        _GRPO,
        steps=1,
        note=(
            "sample, reward, reference, forward, backward, optimizer step; beta 0.04, one iteration; each "
            "side draws its own completions, so counts are compared, not losses"
        ),
    ),
    _PREPARE,
    replace(_PREPARE, name="prepare-preference", title="data preparation, pairs"),
    Work(
        "startup-sft",
        "start to first SFT step",
        "sft",
        "s",
        ("trl", "plain"),
        _SFT,
        measure="start",
        steps=0,
        note="from the start of the process to the end of its first step, compiling included, caches warm",
    ),
    Work(
        "startup-grpo",
        "start to first GRPO step",
        "grpo",
        "s",
        ("trl", "plain"),
        _GRPO,
        measure="start",
        steps=0,
        runs=2,
        note="from the start of the process to the end of its first step, compiling included, caches warm",
    ),
)

GROUPS = {
    "prepare": ("prepare-sft", "prepare-preference"),
    "startup": ("startup-sft", "startup-grpo"),
}
"""Names that stand for several works."""


def choices() -> list[str]:
    """Every name that `find` accepts."""
    return [*(work.name for work in WORKS), *GROUPS]


def find(name: str, *, against: str | None) -> list[Work]:
    """The works called ``name``; with "all" those that ``against`` can do.

    Raises:
        UsageError: an unknown name, or a peer that does not do this work.
    """
    if against is not None and against not in PEERS:
        raise UsageError(f"--against {against} is not a peer; {nearest(against, PEERS)}")
    if name == "all":
        return [work for work in WORKS if against is None or against in work.peers]
    names = GROUPS.get(name, (name,))
    found = [work for work in WORKS if work.name in names]
    if not found:
        raise UsageError(f"'{name}' is not a benchmark; {nearest(name, [*choices(), 'all', 'growth'])}")
    for work in found:
        if against is not None and against not in work.peers:
            can = " or ".join(work.peers)
            raise UsageError(f"{against} does not do '{work.name}'; compare it with {can}.")
    return found


def with_lengths(name: str, lengths: str) -> str:
    """The name of the work ``name`` with completions of ``equal`` or ``spread`` lengths.

    Raises:
        UsageError: neither of the two, or a work without completions of its own.
    """
    if lengths not in ("equal", "spread"):
        raise UsageError(f"--lengths {lengths}: choose equal or spread.")
    if lengths == "spread" and name not in ("rollout", "rollout-spread"):
        raise UsageError(f"--lengths spread goes with rollout, not with '{name}'.")
    return "rollout-spread" if lengths == "spread" else name


def resized(works: Sequence[Work], changes: Sequence[str]) -> list[Work]:
    """``works`` with sizes given as ``KEY=NUMBER``; each changes the works that have it.

    Raises:
        UsageError: a size that none of them has, or not a whole number above 0.
    """
    known = {key for work in works for key in work.sizes}
    changed: dict[str, int] = {}
    for change in changes:
        key, _, value = change.partition("=")
        if key not in known:
            names = ", ".join(work.name for work in works)
            raise UsageError(f"--size {change}: no size '{key}' in {names}; {nearest(key, known)}")
        if not value.isdecimal() or int(value) < 1:
            raise UsageError(f"--size {change}: give a whole number above 0, as in {key}=4.")
        changed[key] = int(value)
    return [
        replace(work, sizes=work.sizes | {key: n for key, n in changed.items() if key in work.sizes})
        for work in works
    ]
