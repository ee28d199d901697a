"""What a run folder tells about every token and every completion, and what saving it costs: nothing else."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from transformers import AutoModelForCausalLM, LlamaModel

from ridgeline.data.formats import PromptRow
from ridgeline.rollout.features import read_features
from ridgeline.rollout.store import read_samples
from ridgeline.rollout.traces import read_traces
from ridgeline.schema.records import Message, Sample
from ridgeline.schema.run_folder import StageFolder, read_lines
from ridgeline.stages.pipeline import run_recipe
from tests.stages import recipes
from tests.stages.recipes import FAST, Table, recipe, rl
from tests.tiny import write_jsonl

SMALL: Table = {"steps": 2, "reward": ["length"], "monitor": ["random_coin"]}


def _online(method: str, **changes: Any) -> Table:
    table = {"method": method, "prompts": "prompts.jsonl", "heldout": "heldout.jsonl", "prompts_per_step": 3}
    rest = {"steps": 2, "evaluation_samples": 2, "sampling": recipes.SAMPLING, "reward": ["length"]}
    return {**table, **rest, **changes}


def _preference(online: Table, **changes: Any) -> Table:
    base = {"name": "align", "type": "preference", "optimiser": FAST}
    return {**base, "online": online, **changes}


def _reject(**changes: Any) -> Table:
    base = {"name": "best", "type": "reject", "prompts": "prompts.jsonl", "heldout": "heldout.jsonl"}
    rest = {"reward": ["length"], "samples_per_prompt": 4, "sampling": recipes.SAMPLING, "optimiser": FAST}
    return {**base, **rest, "allow_truncated": True, "control": False, **changes}


STAGES: dict[str, Callable[[Path, bool], Table]] = {
    "rl": lambda world, on: rl(world, **SMALL, features=on),
    "rl, lora, padded": lambda world, on: rl(
        world, **SMALL, features=on, adapter={"rank": 2}, work={"layout": "padded"}
    ),
    "online dpo": lambda world, on: _preference(_online("dpo", features=on)),
    "nash_md": lambda world, on: _preference(_online("nash_md", features=on)),
    "reject": lambda world, on: _reject(features=on),
    "evaluate": lambda world, on: recipes.evaluate(world, "base", features=on),
}


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return recipes.make_world(tmp_path_factory.mktemp("world"))


def run(world: Path, name: str, *stages: Table) -> StageFolder:
    """The last stage of a new run."""
    run_recipe(recipe(world, *stages), world / name, resume=False)
    return StageFolder(recipes.stage_folder(world / name, len(stages)))


@pytest.mark.parametrize("name", STAGES)
def test_features_take_no_forward_pass_and_change_nothing(
    name: str, world: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On and off: as many calls of the backbone, and the same bytes everywhere but in the recipe."""
    calls: list[int] = []
    forward = LlamaModel.forward

    def counted(self: LlamaModel, *arguments: Any, **named: Any) -> Any:
        calls.append(1)
        return forward(self, *arguments, **named)

    monkeypatch.setattr(LlamaModel, "forward", counted)
    counts = {}
    for on in (True, False):
        calls.clear()
        run(world, f"{name}-{on}", STAGES[name](world, on))
        counts[on] = len(calls)
    assert counts[True] == counts[False] > 0
    different = recipes.differing(world / f"{name}-True", world / f"{name}-False")
    features = [path for path in different if "/features/" in path]
    assert features and set(different) - set(features) == {".recipe.json", "recipe.toml"}


@torch.no_grad()
def _states(model: torch.nn.Module, sample: Sample) -> np.ndarray:
    """Sample by sample, all hidden states at once: another path to the same points."""
    ids = torch.tensor([[*sample.prompt_ids, *sample.completion_ids]])
    last = model(ids, output_hidden_states=True).hidden_states[-1][0, len(sample.prompt_ids) :].double()
    ends = [-(-len(last) * quarter // 4) for quarter in (1, 2, 3, 4)]
    return np.stack([last[:end].mean(0).numpy() for end in ends])


@pytest.mark.parametrize("layout", ["padded", "packed"])
def test_features_are_the_references_states_of_every_completion(layout: str, world: Path) -> None:
    """In every step the starting model's, though the policy moves; within the rounding of float16."""
    folder = run(world, f"states-{layout}", rl(world, **SMALL, work={"layout": layout}))
    base = AutoModelForCausalLM.from_pretrained(world / "model").eval()
    for name in ("evaluation-000000", "step-000000", "step-000001", "evaluation-000002"):
        samples = read_samples(folder.samples / f"{name}.parquet")
        found = read_features(folder.features / f"{name}.npz")
        keys = list(zip(found.prompt_ids, found.indices.tolist(), strict=True))
        assert keys == [(sample.prompt_id, sample.index) for sample in samples]
        expected = np.stack([_states(base, sample) for sample in samples])
        np.testing.assert_allclose(found.states, expected, rtol=2e-3, atol=2e-4)


def _mean(folder: StageFolder, step: int, name: str) -> float:
    total, count = read_lines(folder.metrics)[step]["metrics"][name]
    return float(total / count)


def test_traces_of_a_step_hold_what_the_step_learned_from(world: Path) -> None:
    """Their KL is the metric's, and their advantages are those of the rewards in the samples."""
    table = {**SMALL, "reward": [recipes.reward(world, "spread")], "monitor": []}
    folder = run(world, "traces", rl(world, **table, objective={"preset": "grpo", "kl_coefficient": 0.0}))
    for step in range(2):
        samples = read_samples(folder.samples / f"step-{step:06d}.parquet")
        traces = read_traces(folder.traces / f"step-{step:06d}.parquet")
        assert [(t.prompt_id, t.index) for t in traces] == [(s.prompt_id, s.index) for s in samples]
        assert all(trace.kept and trace.old_logp is None and trace.value is None for trace in traces)
        for trace, sample in zip(traces, samples, strict=True):
            assert len(trace.piece) == len(sample.completion_ids) == len(trace.ref_logp)
            stop = ["<|im_end|>"] if sample.stop_reason == "stop" else []
            assert [p for p in trace.piece if p == "<|im_end|>"] == stop
        gaps = [
            float(np.sum(np.float32(s.logprobs) - t.ref_logp)) for s, t in zip(samples, traces, strict=True)
        ]
        assert np.mean(gaps) == pytest.approx(_mean(folder, step, "kl_k1"), abs=1e-4)
        for start in range(0, len(samples), 4):
            rewards = np.array([s.rewards["total"] for s in samples[start : start + 4]])
            given = np.array([t.advantage[0] for t in traces[start : start + 4]])
            assert np.all((given > 0) == (rewards > rewards.mean()))


def test_traces_of_ppo_have_old_log_probs_values_and_entropy(world: Path) -> None:
    folder = run(
        world,
        "ppo",
        rl(world, **SMALL, objective="ppo", updates_per_rollout=3, critic={"optimiser": FAST}),
    )
    samples = read_samples(folder.samples / "step-000001.parquet")
    traces = read_traces(folder.traces / "step-000001.parquet")
    for trace, sample in zip(traces, samples, strict=True):
        # The learner scores with the weights that sampled.
        np.testing.assert_allclose(trace.old_logp, sample.logprobs, atol=1e-4)
        assert trace.value is not None and trace.value.any()
        assert trace.entropy is not None and (trace.entropy > 0).all()
        assert trace.advantage is not None and len(set(trace.advantage.tolist())) > 1


def test_dead_groups_are_there_and_say_so(world: Path) -> None:
    table = {**SMALL, "reward": ["random_coin"], "monitor": [], "samples_per_prompt": 2, "max_resampling": 2}
    folder = run(world, "dead", rl(world, **table))
    dead = 0
    for step in range(2):
        name = f"step-{step:06d}"
        samples = read_samples(folder.samples / f"{name}.parquet")
        traces = read_traces(folder.traces / f"{name}.parquet")
        groups: dict[tuple[str, int], list[tuple[Sample, Any]]] = {}
        for sample, trace in zip(samples, traces, strict=True):
            groups.setdefault((sample.prompt_id, sample.index // 2), []).append((sample, trace))
        for group in groups.values():
            same = len({sample.rewards["total"] for sample, _ in group}) == 1
            assert all(trace.kept != same for _, trace in group)
            assert all((trace.ref_logp is None) == same for _, trace in group)
            dead += same
        kept = [(trace.prompt_id, trace.index) for trace in traces if trace.kept]
        features = read_features(folder.features / f"{name}.npz")
        assert list(zip(features.prompt_ids, features.indices.tolist(), strict=True)) == kept
    assert dead == sum(read_lines(folder.metrics)[step]["metrics"]["dead_groups"][0] for step in range(2)) > 0


def test_a_step_without_any_signal_is_recorded_too(world: Path) -> None:
    table = {**SMALL, "reward": [recipes.reward(world, "constant")], "monitor": [], "max_resampling": 1}
    folder = run(world, "hopeless", rl(world, **table))
    traces = read_traces(folder.traces / "step-000000.parquet")
    assert {trace.discarded for trace in traces} == {"dead group"}
    assert not (folder.features / "step-000000.npz").exists()


def test_evaluations_are_compared_token_by_token(world: Path) -> None:
    folder = run(world, "evaluations", rl(world, **SMALL))
    for line in read_lines(folder.evaluations):
        traces = read_traces(folder.traces / f"evaluation-{line['rollout']:06d}.parquet")
        sums = [float(np.sum(trace.old_logp - trace.ref_logp)) for trace in traces]
        assert np.mean(sums) == pytest.approx(line["kl_k1"]["value"], abs=1e-5)


def test_traces_of_pairs(world: Path) -> None:
    """Three samples a prompt: the middle one taught nothing."""
    folder = run(world, "dpo", _preference(_online("dpo", samples_per_prompt=3, reward=["random_coin"])))
    traces = read_traces(folder.traces / "step-000000.parquet")
    rewards = {
        (s.prompt_id, s.index): s.rewards["total"]
        for s in read_samples(folder.samples / "step-000000.parquet")
    }
    for start in range(0, len(traces), 3):
        group = traces[start : start + 3]
        kept = [trace for trace in group if trace.kept]
        values = {rewards[trace.prompt_id, trace.index] for trace in group}
        assert len(kept) == (2 if len(values) > 1 else 0)
        reason = "neither best nor worst" if kept else "no two different completions of different rewards"
        assert {trace.discarded for trace in group if not trace.kept} == {reason}
        assert all((trace.ref_logp is not None) == trace.kept for trace in group)
    assert any(trace.kept for trace in traces)


def test_traces_of_nash_md_have_an_advantage(world: Path) -> None:
    folder = run(world, "nash", _preference(_online("nash_md", kl=0.0)))
    traces = read_traces(folder.traces / "step-000000.parquet")
    for own, other in zip(traces[::2], traces[1::2], strict=True):
        assert other.discarded in ("the opponent's", own.discarded)
        if own.kept:
            assert own.advantage is not None and abs(own.advantage[0]) in (0.0, 0.5)


def test_traces_of_a_rejected_pool_say_why(world: Path) -> None:
    sampling = {"max_new_tokens": 40, "temperature": 1.5}
    folder = run(world, "pool", _reject(allow_truncated=False, samples_per_prompt=24, sampling=sampling))
    samples = [s for path in sorted(folder.samples.glob("policy-000/*.parquet")) for s in read_samples(path)]
    traces = read_traces(folder.traces / "policy-000.parquet")
    assert [(t.prompt_id, t.index) for t in traces] == [(s.prompt_id, s.index) for s in samples]
    selected = {(s.prompt_id, s.index) for s in read_samples(folder.path / "selected.parquet")}
    assert selected == {(t.prompt_id, t.index) for t in traces if t.kept}
    for trace, sample in zip(traces, samples, strict=True):
        assert (trace.discarded == "cut at the limit") == sample.truncated
    assert {"not selected", "cut at the limit", None} <= {trace.discarded for trace in traces}


PROMPTS: dict[str, tuple[Table, Any]] = {
    "text": ({"prompt": "Say yes.", "answer": "yes"}, "Say yes."),
    "one turn": ({"messages": [{"role": "user", "content": "Say yes."}]}, "Say yes."),
    "conversation": (
        {"messages": [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Say yes."}]},
        [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Say yes."}],
    ),
    "instruction": ({"instruction": "Say yes.", "input": "Now."}, "Say yes.\n\nNow."),
}


def test_rewards_and_samples_have_the_prompt(world: Path) -> None:
    """A reward function reads what was asked, and so does whoever opens the samples."""
    (world / "asking.py").write_text(
        "def asked(samples):\n    return [float('yes' in str(s.row['prompt'])) for s in samples]\n"
    )
    write_jsonl(world / "asked.jsonl", [{"id": key, **row} for key, (row, _) in PROMPTS.items()])
    stage = recipes.evaluate(world, "base", prompts="asked.jsonl", rewards=[f"{world / 'asking.py'}:asked"])
    folder = run(world, "asked", stage)
    samples = read_samples(folder.samples / "all.parquet")
    assert {sample.prompt_id for sample in samples} == PROMPTS.keys()
    for sample in samples:
        row, expected = PROMPTS[sample.prompt_id]
        assert sample.row["prompt"] == expected
        assert list(sample.rewards.values()) == [1]
        assert sample.row.get("answer") == row.get("answer")


def test_a_column_called_prompt_stays() -> None:
    row = PromptRow([Message("user", "Say yes.")], "p", {"prompt": "mine", "answer": 8})
    assert row.as_seen_by_rewards() == {"prompt": "mine", "answer": 8}
