"""Policy optimisation: rewards, held-out and in training, and what else moved."""

from __future__ import annotations

from ridgeline.workbench.report.curves import learning_facts
from ridgeline.workbench.report.markup import facts, note, text, whole
from ridgeline.workbench.report.rl_pictures import Small, pictures
from ridgeline.workbench.report.rl_view import RlView, plain, rl_views
from ridgeline.workbench.report.source import RunData, StageData, number_in

LENGTH = Small("length", "Completion length", "tokens", "watch for growth or collapse without reward")
STOPPED = Small(
    "stopped", "Stopped by itself", "share of completions", "the rest was cut at the limit", share=True
)
SMALL = (
    Small(
        "kl_k1",
        "KL to the reference",
        "nats per completion (k1)",
        "distance walked; may dip below 0 by noise",
    ),
    Small("kl_k3_per_token", "KL per token", "nats per token (k3)", "same distance, never negative"),
    Small("entropy", "Entropy", "nats per token", "a fall means less exploration"),
    LENGTH,
    STOPPED,
    Small("clip_fraction", "Clip fraction", "share of tokens", "0 when strictly on-policy", share=True),
    Small(
        "dead_groups", "Dead groups", "share of prompts", "all samples equal: nothing to learn", share=True
    ),
    Small("reward_spread", "Reward spread", "sd within a group", "what advantages are made of"),
    Small("gradient_norm", "Gradient norm", "before clipping", "spikes are a warning"),
    Small("kl_coefficient", "KL coefficient", "reward per nat", "moves only when adaptive"),
    Small("critic/value_error", "Critic error", "squared reward", "should fall, then level"),
)


def rl(run: RunData, stage: StageData) -> str:
    """Numbers, the two reward curves, small multiples, and the held-out evaluations as a table."""
    view = next(view for view in rl_views(run) if view.stage is stage)
    missing = [s.title.lower() for s in SMALL[:9] if s.metric not in stage.names()]
    absent = note(f"Not logged: {', '.join(missing)}.") if stage.metrics and missing else ""
    if not stage.metrics:
        absent = note("No training steps have been logged.")
    return _facts(view) + pictures(view, SMALL) + absent


def _facts(view: RlView) -> str:
    config, result = view.stage.config, view.stage.result or {}
    objective = result.get("objective") or config.get("objective")
    if isinstance(objective, dict):
        objective = objective.get("preset", "custom")
    estimator = " ".join(
        str(kl[key])
        for kl in [result.get("kl")]
        if isinstance(kl, dict)
        for key in ("estimator", "placement")
    )
    batch = [number_in(config, key) for key in ("prompts_per_step", "samples_per_prompt")]
    size = f"{whole(batch[0])} prompts × {whole(batch[1])} samples" if None not in batch else ""
    return facts(
        [
            ("Objective", text(objective or "")),
            (
                "Leash",
                text(view.leash) + (f" ({text(estimator)})" if estimator and view.leash[0] == "K" else ""),
            ),
            ("Trained on", text(plain(view.proxy))),
            ("Watched, not trained on", text(plain(view.gold or ""))),
            ("A rollout", size),
            ("Rollouts", whole(number_in(config, "steps"))),
            *learning_facts(view.stage)[1:],
        ]
    )
