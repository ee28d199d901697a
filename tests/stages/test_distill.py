"""Distillation: what is learned and what cannot be, exact resumption, and what is refused."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from ridgeline.models import distributions
from ridgeline.objectives.distill import forward_kl, reverse_kl
from ridgeline.rollout.store import read_samples
from ridgeline.schema.errors import DataError, UsageError
from ridgeline.schema.records import Sample
from ridgeline.schema.run_folder import read_lines
from ridgeline.stages import privileged
from ridgeline.stages.pipeline import run_recipe
from tests.stages import distill_tasks as tasks
from tests.stages import recipes
from tests.stages.distill_tasks import closer, copies, distill, model, reading, result_of
from tests.stages.learnable import step_metrics
from tests.stages.recipes import differing, run_interrupted
from tests.tiny import write_jsonl

Table = dict[str, Any]


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tasks.make_world(tmp_path_factory.mktemp("world"))


TOP_K = {"kind": "top_k", "k": 8}
LEARNING: dict[str, Table] = {
    "offline": distill("offline"),
    "offline, top-k": distill("offline", divergence=TOP_K),
    "offline, softened": distill(
        "offline", divergence={"kind": "forward_kl", "temperature": 2.0, "rescale": True}
    ),
    "sequence": distill("sequence", samples_per_prompt=4, steps=60),
    "on-policy": distill("on_policy"),
    "on-policy, mixed with data": distill("on_policy", on_policy_share=0.5, divergence={"kind": "jsd"}),
    "policy gradient": distill(
        "policy_gradient", samples_per_prompt=8, updates_per_rollout=2, clip=0.2, steps=40
    ),
    "minillm": distill("minillm"),
    "adapter": distill("on_policy", adapter={"rank": 8}, optimiser={"learning_rate": 1e-2}),
}


@pytest.mark.parametrize("name", LEARNING)
def test_a_guesser_learns_from_a_copier(world: Path, name: str) -> None:
    result = result_of(world, f"learns {name}", {**LEARNING[name], "teacher": model(world, "copier")})
    assert copies(result)
    assert closer(result) < 0.35
    if "own_divergence" in result["before"]:
        assert closer(result, "own_divergence") < 0.4


@pytest.mark.parametrize("mode", ["offline", "on_policy"])
def test_a_guesser_teaches_guessing(world: Path, mode: str) -> None:
    """The control: the same updates bring a new student to its teacher, who cannot copy."""
    steps = {"offline": 27, "on_policy": 60}[mode]
    stage = distill(mode, teacher=model(world, "guesser"), steps=steps, optimiser={"learning_rate": 1e-2})
    result = result_of(world, f"control {mode}", stage, student="model")
    assert closer(result) < 0.3
    assert not copies(result)


def test_the_stage_takes_earlier_stages_and_several_teachers(world: Path) -> None:
    """A copier with three times the weight of a guesser wins against it."""
    start = {"name": "start", "type": "sft", "data": "shuffled.jsonl", "epochs": 1}
    teachers = [{"model": model(world, "copier"), "weight": 3.0}, "start"]
    stage = distill("on_policy", teacher=teachers, model="start", optimiser={"learning_rate": 1e-2})
    made = recipes.recipe(world, start, stage)
    result = run_recipe(made, world / "several", resume=False)["stages"]["student"]
    assert result["teachers"] == [model(world, "copier"), "start"]
    assert result["after"]["own_divergence"] < result["before"]["own_divergence"]


SELF: dict[str, Table] = {
    "hint": reading(hint="solution"),
    "hint, average": reading(hint="solution", average=0.02),
    "successes": reading(reward=["judge.py:right"]),
    "successes, top-k of the student": {
        **reading(reward=["judge.py:right"], average=0.01),
        "divergence": {**TOP_K, "direction": "reverse", "keep": "student"},
        "updates_per_rollout": 2,
        "steps": 20,  # with 14, seed 1 of 6 ended above the limit with the kernels and seed 4 without
    },
}


@pytest.mark.parametrize("name", SELF)
def test_a_reader_learns_from_itself_what_hints_say(world: Path, name: str) -> None:
    result = result_of(world, f"self {name}", SELF[name], student="reader")
    assert copies(result), "the answer without a hint"
    assert closer(result, "own_divergence") < 0.1
    if "reward/total" in result["after"]:
        assert result["before"]["reward/total"]["high"] < 0.6 < result["after"]["reward/total"]["low"]


def test_without_successes_nothing_moves(world: Path) -> None:
    stage = {**reading(reward=["judge.py:never"]), "steps": 2}
    result_of(world, "never", stage, student="reader")
    for metrics in step_metrics(world / "never"):
        assert metrics["skipped_prompts"] == [8.0, 8.0]
        assert metrics["skipped"] == [1.0, 1.0]
    assert saved(world / "never") == (Path(model(world, "reader")) / "model.safetensors").read_bytes()


def saved(run: Path) -> bytes:
    return recipes.weights(run)


def test_a_flipped_sign_is_noticed(world: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, plain in (("forward_kl", forward_kl), ("reverse_kl", reverse_kl)):
        monkeypatch.setattr(distributions, name, lambda *given, plain=plain: -plain(*given))
    for mode in ("offline", "on_policy"):
        stage = distill(mode, teacher=model(world, "copier"))
        assert not copies(result_of(world, f"flipped {mode}", stage))


def test_a_teacher_that_is_the_student_asks_for_nothing(world: Path) -> None:
    stage = distill("on_policy", teacher="base", steps=1)
    result = result_of(world, "same", stage)
    assert result["before"]["own_divergence"] == pytest.approx(0, abs=1e-6)
    assert step_metrics(world / "same")[0]["gradient_norm"][0] < 1e-5


SHORT: Table = {"steps": 3, "rows_per_step": 5, "evaluate_every": 2, "checkpoint_every": 1}
RESUMED: dict[str, Callable[[str], Table]] = {
    "offline": lambda copier: distill("offline", teacher=copier),
    "cached": lambda copier: distill("offline", teacher=copier, divergence=TOP_K, cache_teacher=True),
    "sequence": lambda copier: distill("sequence", teacher=copier),
    "on-policy, mixed": lambda copier: distill("on_policy", teacher=copier, on_policy_share=0.5),
    "policy gradient, two updates": lambda copier: distill(
        "policy_gradient", teacher=[copier, "base"], updates_per_rollout=2
    ),
    "minillm": lambda copier: distill("minillm", teacher=copier),
    "self, average, two updates": lambda copier: {
        **reading(reward=["judge.py:right"], average=0.1), "updates_per_rollout": 2
    },
}  # fmt: skip


@pytest.mark.parametrize("name", RESUMED)
def test_interrupted_and_resumed_is_the_same_bytes(world: Path, name: str, tmp_path: Path) -> None:
    stage = {**RESUMED[name](model(world, "copier")), **SHORT}
    student = "reader" if stage["mode"] == "self" else "guesser"
    made = recipes.recipe(world, stage, model=model(world, student))
    run_recipe(made, tmp_path / "whole", resume=False)
    # The teacher's writing is kept part by part, so a stop before the first part would repeat for ever.
    calls = 6 if stage["mode"] == "sequence" else 1
    assert run_interrupted(made, tmp_path / "gently", lambda attempt: calls, gently=True) >= 2
    assert differing(tmp_path / "whole", tmp_path / "gently") == []
    assert run_interrupted(made, tmp_path / "hard", lambda attempt: 9 + 6 * attempt, gently=False) >= 1
    assert differing(tmp_path / "whole", tmp_path / "hard") == []


@pytest.mark.parametrize("mode", ["offline", "self"])
def test_micro_batches_and_layout_change_rounding_only(world: Path, mode: str) -> None:
    stage = (
        distill("offline", teacher=model(world, "copier")) if mode == "offline" else reading(hint="solution")
    )
    losses = []
    for number, work in enumerate(
        ({}, {"tokens_per_microbatch": 1}, {"layout": "padded", "checkpointing": True})
    ):
        run = f"work-{mode}-{number}"
        result_of(world, run, {**stage, "steps": 3, "work": work}, student="reader")
        losses.append([line["loss/divergence"][0] for line in step_metrics(world / run)])
    assert losses[1] == pytest.approx(losses[0], rel=1e-3)
    assert losses[2] == pytest.approx(losses[0], rel=1e-3)


def test_what_a_teacher_said_serves_a_later_run(world: Path) -> None:
    """Without the teacher, from Parquet or JSONL, the same weights; and close to asking it every time."""
    short = {"divergence": TOP_K, "steps": 4}
    live = result_of(world, "live", distill("offline", teacher=model(world, "copier"), **short))
    cached = distill("offline", teacher=model(world, "copier"), cache_teacher=True, **short)
    result = result_of(world, "cached", cached)
    file = recipes.stage_folder(world / "cached") / "teacher.parquet"
    again = result_of(world, "again", distill("offline", teacher_file=str(file), **short))
    assert again["after"] == result["after"]
    assert saved(world / "again") == saved(world / "cached")
    for name in ("nll", "divergence"):
        assert result["after"][name] == pytest.approx(live["after"][name], rel=1e-3)


def test_a_cache_of_other_rows_is_refused(world: Path, tmp_path: Path) -> None:
    stage = distill("offline", teacher=model(world, "copier"), cache_teacher=True, divergence=TOP_K, steps=1)
    result_of(world, "small", stage)
    file = recipes.stage_folder(world / "small") / "teacher.parquet"
    other = distill("offline", teacher_file=str(file), divergence=TOP_K, data="shuffled.jsonl", steps=1)
    with pytest.raises(DataError, match="says nothing about a row"):
        result_of(world, "other rows", other)
    softer = {**TOP_K, "temperature": 2.0}
    with pytest.raises(UsageError, match="written at temperature"):
        result_of(world, "softer", distill("offline", teacher_file=str(file), divergence=softer, steps=1))


def test_a_share_of_the_rows_is_written_by_the_student(world: Path) -> None:
    shares = []
    for share in (0.0, 0.3, 1.0):
        stage = distill("on_policy", teacher="base", on_policy_share=share, steps=6, samples_per_prompt=1)
        result_of(world, f"share {share}", stage)
        written = [line.get("on_policy", [16.0, 16.0]) for line in step_metrics(world / f"share {share}")]
        assert all(count == 16 for _, count in written)
        shares.append(sum(own for own, _ in written) / 96)
    assert shares[0] == 0
    assert 0.1 < shares[1] < 0.5
    assert shares[2] == 1


def test_minillm_draws_from_the_mixture(world: Path) -> None:
    stage = distill("minillm", teacher=model(world, "copier"), teacher_share=0.9, steps=1)
    result_of(world, "mixture", stage, student="model")
    (metrics,) = step_metrics(world / "mixture")
    assert metrics["importance_weight"][0] / metrics["importance_weight"][1] < 1.0
    samples = read_samples(recipes.stage_folder(world / "mixture") / "samples" / "step-000000.parquet")
    words = sum(sample.text.strip() in tasks.WORDS for sample in samples)
    assert words > 0, "a random student alone never says a word"


def test_a_teacher_that_follows_lags_behind(world: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """After one update it has gone its share of the way, in float32."""
    seen: list[dict[str, torch.Tensor]] = []
    from ridgeline.training.local import LocalEngine

    original = LocalEngine.copy_weights

    def spy(self: LocalEngine, source: str, target: str, share: float = 1.0) -> None:
        before = {k: w.detach().clone() for k, w in self.roles[target].weights.items()}
        original(self, source, target, share)
        name = "model.layers.0.mlp.up_proj.weight"
        new, student = self.roles[target].weights[name], self.roles[source].weights[name]
        seen.append({"moved": new - before[name], "way": student.detach() - before[name]})

    monkeypatch.setattr(LocalEngine, "copy_weights", spy)
    result_of(world, "lag", {**reading(hint="solution", average=0.1), "steps": 2}, student="reader")
    assert len(seen) == 2
    for step in seen:
        assert float(step["way"].norm()) > 0
        torch.testing.assert_close(step["moved"], 0.1 * step["way"], atol=1e-6, rtol=1e-3)


def sample_of(index: int, total: float | None, text: str | None = None) -> Sample:
    return Sample(
        "p", index, [1], [2], [0.0], [True], "stop", text or f"answer {index}", rewards={"total": total}
    )


def view_of(seed: int = 1, **options: Any) -> privileged.PrivilegedView:
    from ridgeline.schema.stages.distill import Privileged
    from tests.tiny import make_tokenizer

    config = Privileged(**{"reward": ["length"], **options})
    return privileged.PrivilegedView(config, {}, make_tokenizer(), seed, None)


def test_a_demonstration_is_another_success_of_the_group() -> None:
    group = [sample_of(0, 1.0), sample_of(1, 0.2), sample_of(2, 1.0), sample_of(3, None), sample_of(4, 1.5)]
    shown = {place: {view_of().hint(group, place, step) for step in range(40)} for place in range(5)}
    assert shown[0] == {"answer 2", "answer 4"}
    assert shown[1] == shown[3] == {"answer 0", "answer 2", "answer 4"}, "drawn at random, not the first"
    assert shown[2] == {"answer 0", "answer 4"}
    lonely = [sample_of(0, 1.0), sample_of(1, 0.0)]
    assert view_of().hint(lonely, 0, 0) is None, "never itself"
    assert view_of().hint(lonely, 1, 0) == "answer 0"
    assert view_of(success=0.0).hint(lonely, 0, 0) == "answer 1"


def test_the_hint_stands_where_the_text_says() -> None:
    from ridgeline.data.formats import PromptRow
    from ridgeline.schema.records import Message

    row = PromptRow([Message("system", "s"), Message("user", "what is {hint}?")], "p")
    view = view_of(text="{hint} <- {prompt}")
    made = privileged.PrivilegedView(view.config, {"p": row}, view.tokenizer, 1, None)
    unit = made.unit([sample_of(0, 1.0), sample_of(1, 1.0, "a {prompt}")], 0)
    assert len(unit) == 4
    text = view.tokenizer.decode(unit[2].ids)
    assert "a {prompt} <- what is {hint}?" in text
    assert unit[2].ids[-1] == unit[0].ids[-1] == 2
    short = privileged.PrivilegedView(view.config, {"p": row}, view.tokenizer, 1, 10)
    with pytest.raises(DataError, match="more than the model's 10 positions"):
        short.unit([sample_of(0, 1.0), sample_of(1, 1.0)], 0)


def test_another_vocabulary_is_refused(world: Path, tmp_path: Path) -> None:
    import shutil

    other = tmp_path / "other"
    shutil.copytree(world / "model", other)
    state = json.loads((other / "tokenizer.json").read_text())
    vocabulary = state["model"]["vocab"]
    first, second = (next(t for t, n in vocabulary.items() if n == number) for number in (40, 41))
    vocabulary[first], vocabulary[second] = vocabulary[second], vocabulary[first]
    (other / "tokenizer.json").write_text(json.dumps(state))
    with pytest.raises(UsageError, match="has another vocabulary: token 40 is"):
        result_of(world, "vocabulary", distill("offline", teacher=str(other), steps=1))


def test_data_of_another_kind_is_refused(world: Path) -> None:
    with pytest.raises(DataError, match="learns from demonstrations, and these rows are prompts"):
        result_of(world, "kind", distill("offline", teacher="base", data="opposites.jsonl"))
    with pytest.raises(DataError, match="these are preference rows"):
        result_of(world, "kind", distill("on_policy", teacher="base", data="pairs.jsonl"))
    write_jsonl(world / "unhinted.jsonl", [{"prompt": f"yes {n}", "solution": ""} for n in range(20)])
    unhinted = {**reading(hint="solution"), "data": "unhinted.jsonl", "steps": 1}
    with pytest.raises(DataError, match=r"row \d+: the column 'solution', which holds the hint, is empty"):
        result_of(world, "unhinted", unhinted, student="reader")


REFUSED: dict[str, tuple[Table, str]] = {
    "no teacher": (distill("offline"), "give either teacher or"),
    "both": (distill("offline", teacher="base", teacher_file="t.parquet"), "give either teacher or"),
    "itself": (
        distill("self", teacher="base", privileged={"hint": "x"}),
        "no other teacher than the student",
    ),
    "nothing shown": (distill("self"), "needs privileged"),
    "two sources": (
        distill("self", privileged={"hint": "x", "reward": ["length"]}),
        "hint .a column. or reward",
    ),
    "alone": (
        distill("self", privileged={"reward": ["length"]}, samples_per_prompt=1),
        "samples_per_prompt above 1",
    ),
    "text": (distill("self", privileged={"hint": "x", "text": "{hint}"}), "must hold {prompt} and {hint}"),
    "ignored": (distill("offline", teacher="base", clip=0.2), "clip does nothing in mode 'offline'"),
    "ignored sampling": (
        distill("offline", teacher="base", sampling={"max_new_tokens": 3}),
        "sampling does nothing in mode 'offline'",
    ),
    "beta": (
        distill("offline", teacher="base", divergence={"kind": "forward_kl", "beta": 0.5}),
        "beta does nothing with kind 'forward_kl'",
    ),
    "cache": (distill("offline", teacher="base", cache_teacher=True), 'divergence = { kind = "top_k" }'),
    "truncated": (
        distill("minillm", teacher="base", sampling={"top_k": 5}),
        "samples of the whole distribution",
    ),
    "writers": (distill("sequence", teacher=["base", "model"]), "one teacher writes"),
    "later": (distill("offline", teacher="student"), "not an earlier stage"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_nonsense_is_refused(world: Path, name: str) -> None:
    stage, sentence = REFUSED[name]
    with pytest.raises(UsageError, match=sentence.replace("{", r"\{").replace("}", r"\}")):
        recipes.recipe(world, stage)


def test_the_recipe_of_a_run_is_a_recipe(world: Path) -> None:
    """Every default written out is accepted again."""
    stage = distill("on_policy", teacher=["base", {"model": "base", "weight": 2.0}], divergence="jsd")
    made = recipes.recipe(world, stage)
    again = recipes.resolve_recipe(made.model_dump(exclude_none=True), folder=world)
    assert again == made


def test_evaluations_are_written_when_asked(world: Path) -> None:
    stage = distill("offline", teacher="base", steps=4, evaluate_every=2)
    result_of(world, "evaluated", stage)
    lines = read_lines(recipes.stage_folder(world / "evaluated") / "evaluations.jsonl")
    assert [line["step"] for line in lines] == [0, 2, 4]
