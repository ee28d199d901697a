"""Student and teachers compared in chunks equal a comparison of whole distributions, row by row."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
import torch
from tests.models.families import conversation, group, ids, make_model, pure_float64
from tests.training.jobs import engine_for, flat
from torch import Tensor

from ridgeline.models import distributions
from ridgeline.models.batch import MicroBatch, Unit
from ridgeline.models.distributions import (
    DistillForward,
    Teacher,
    is_students,
    most_likely,
    teachers_row,
)
from ridgeline.models.forward import PolicyForward
from ridgeline.objectives import distill as formulas
from ridgeline.schema.run_folder import Metrics
from ridgeline.schema.stages.distill import Divergence
from ridgeline.training.distillation import (
    DenseDivergence,
    MiniLlm,
    assign_sampled,
    mean_of,
    sampled_gradient,
)
from ridgeline.training.objective import Objective

Result = tuple[Metrics, dict[str, Tensor]]


@pytest.fixture(autouse=True)
def _exact(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(distributions, "CHUNK_LOGITS", 3 * 61)
    with pure_float64():
        yield


def plain_units() -> list[Unit]:
    return [group(5, [3, 1, 6], 1), conversation(11, [2, 3, 7, 10], 2), group(1, [4], 4), group(9, [2, 8], 3)]


def hinted_units() -> list[Unit]:
    """Completions that the teacher reads behind prompts of its own; one unit of them is a single row."""
    units = []
    for seed, (prompt, sizes) in enumerate([(5, [3, 1, 6]), (2, [4]), (7, [2, 5])]):
        students = group(prompt, sizes, seed)
        teachers = [
            teachers_row(ids(prompt + 3 + place, 50 + 7 * seed + place), row.ids[prompt:].tolist())
            for place, row in enumerate(students)
        ]
        units.append([*students, *teachers])
    return units


def model(seed: int, dtype: torch.dtype, family: str = "llama") -> Any:
    return make_model(family, dtype, seed)


CASES: dict[str, tuple[Divergence, int, bool]] = {
    "forward": (Divergence(kind="forward_kl"), 1, False),
    "reverse, T=2": (Divergence(kind="reverse_kl", temperature=2.0, rescale=True), 1, False),
    "jsd, two teachers": (Divergence(kind="jsd", beta=0.3), 2, False),
    "top-k": (Divergence(kind="top_k", k=5), 1, False),
    "top-k of the student, hinted": (
        Divergence(kind="top_k", k=5, direction="reverse", keep="student"),
        1,
        True,
    ),
    "reverse, hinted": (Divergence(kind="reverse_kl"), 1, True),
}
WEIGHTS = (1.0, 3.0)


def case(name: str, dtype: torch.dtype) -> tuple[Any, DistillForward, list[Unit], Objective]:
    if name == "minillm":
        forward = DistillForward(Divergence(kind="reverse_kl", temperature=0.8), temperature=0.8)
        forward.teachers.append(Teacher(model(1, dtype), packed=True))
        return model(0, dtype), forward, plain_units(), MiniLlm(teacher_share=0.2, normalise=True)
    divergence, teachers, hinted = CASES[name]
    forward = DistillForward(divergence)
    for number in range(teachers):
        forward.teachers.append(Teacher(model(1 + number, dtype), number == 0, WEIGHTS[number]))
    return model(0, dtype), forward, hinted_units() if hinted else plain_units(), DenseDivergence()


def run(name: str, dtype: torch.dtype = torch.float64, *, tokens: int = 10_000, **options: Any) -> Result:
    module, forward, units, objective = case(name, dtype)
    order = options.pop("order", range(len(units)))
    engine = engine_for(module, forward, tokens=tokens, **options)
    metrics = engine.forward_backward("policy", [units[index] for index in order], objective)
    optimiser = engine.roles["policy"].optimiser
    assert optimiser is not None
    return metrics, {key: g.clone() for key, g in optimiser.gradients().items()}


def assert_same(ours: Result, theirs: Result, tolerance: float) -> None:
    assert ours[0].keys() == theirs[0].keys()
    for key, (total, count) in theirs[0].items():
        loose = tolerance if key.startswith("loss/") else max(tolerance, 2e-5)
        assert ours[0][key] == (pytest.approx(total, rel=loose, abs=loose), pytest.approx(count)), key
    scale = max(float(grad.abs().max()) for grad in theirs[1].values())
    assert scale > 1e-4
    for key, grad in theirs[1].items():
        assert float((ours[1][key] - grad).abs().max()) <= tolerance * scale, key


@pytest.mark.parametrize("name", [*CASES, "minillm"])
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float64, 1e-9), (torch.float32, 2e-5)])
def test_splitting_ordering_layout_and_chunks_change_nothing(
    name: str, dtype: torch.dtype, tolerance: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = run(name, dtype)
    last = len(case(name, dtype)[2]) - 1
    variants: list[dict[str, Any]] = [
        {"tokens": 1},
        {"packed": True, "tokens": 40},
        {"order": list(range(last, -1, -1)), "tokens": 20},
    ]
    for variant in variants:
        assert_same(run(name, dtype, **variant), whole, tolerance)
    monkeypatch.setattr(distributions, "CHUNK_LOGITS", 10_000 * 61)
    assert_same(run(name, dtype), whole, tolerance)


def logits_of(module: Any, row: Any) -> Tensor:
    """Logits before every scored token, by transformers alone."""
    logits: Tensor = module(input_ids=torch.from_numpy(row.ids)[None]).logits[0]
    return logits[torch.from_numpy(row.targets) - 1]


def oracle(name: str, student: Tensor, teachers: list[Tensor]) -> Tensor:
    """The divergence of one row from whole distributions, and the formulas by themselves."""
    config = CASES[name][0]
    if config.kind == "jsd":
        parts = [formulas.generalised_jsd(student, teacher, 0.3) for teacher in teachers]
        return (parts[0] + 3 * parts[1]) / 4
    p = torch.log_softmax(student / config.temperature, -1)
    q = torch.log_softmax(teachers[0] / config.temperature, -1).detach()
    if config.kind == "top_k":
        kept = (p if config.keep == "student" else q).topk(5, -1).indices
        p, q = (
            torch.cat([x.gather(-1, kept), (1 - x.gather(-1, kept).exp().sum(-1, keepdim=True)).log()], -1)
            for x in (p, q)
        )
    if config.kind == "reverse_kl" or config.direction == "reverse":
        return (p.exp() * (p - q)).sum(-1) * (config.temperature**2 if config.rescale else 1)
    return (q.exp() * (q - p)).sum(-1)


@pytest.mark.parametrize("name", CASES)
def test_values_and_gradients_equal_whole_distributions(name: str) -> None:
    module, forward, units, _ = case(name, torch.float64)
    students = [row for row in flat(units) if is_students(row)]
    read = [row for row in flat(units) if not is_students(row)] or students
    total, count = torch.zeros((), dtype=torch.float64), 0
    for row, seen in zip(students, read, strict=True):
        teachers = [logits_of(teacher.module, seen) for teacher in forward.teachers]
        values = oracle(name, logits_of(module, row), teachers)
        total, count = total + values.sum(), count + len(row.targets)
    (total / count).backward()
    expected = {key: p.grad for key, p in module.named_parameters() if p.grad is not None}
    metrics, grads = run(name, tokens=40)
    assert metrics["loss/divergence"] == (pytest.approx(total.item(), rel=1e-9), count)
    for key, grad in grads.items():
        torch.testing.assert_close(grad, expected[key], rtol=0, atol=1e-9, msg=key)


def test_outputs_of_every_row_fit_its_completion() -> None:
    """What `score` returns: the student's and, of two teachers, the weighted mean of their log-probs."""
    module, forward, units, _ = case("jsd, two teachers", torch.float64)
    engine = engine_for(module, forward, tokens=30)
    for row, score in zip(flat(units), engine.score("policy", units), strict=True):
        chosen = torch.from_numpy(row.ids[row.targets])[:, None]
        logp = torch.log_softmax(logits_of(module, row), -1).gather(-1, chosen)[:, 0]
        np.testing.assert_allclose(score["logp"], logp.detach(), rtol=1e-6)
        each = [torch.log_softmax(logits_of(t.module, row), -1).gather(-1, chosen) for t in forward.teachers]
        mean = (each[0] + 3 * each[1])[:, 0] / 4
        np.testing.assert_allclose(score["teacher_logp"], mean.detach(), rtol=1e-6)


def test_a_teacher_equal_to_the_student_teaches_nothing() -> None:
    """Also where the teacher is the student's own module, as in self-distillation."""
    for kind in ("forward_kl", "reverse_kl", "jsd", "top_k"):
        module = model(0, torch.float64)
        forward = DistillForward(Divergence(kind=kind))  # type: ignore[arg-type]
        forward.teachers.append(Teacher(module, packed=False))
        engine = engine_for(module, forward)
        metrics = engine.forward_backward("policy", plain_units(), DenseDivergence())
        assert metrics["loss/divergence"][0] == pytest.approx(0, abs=1e-9)
        assert metrics["nll"] == metrics["teacher_nll"]
        assert engine.step("policy", 0.0) == pytest.approx(0, abs=1e-9)


def test_a_hint_makes_the_same_model_a_teacher() -> None:
    """The gradient is that of the student's side alone: its own module reads the hint without learning."""
    module = model(0, torch.float64)
    grads = []
    for teacher in (module, model(0, torch.float64)):
        forward = DistillForward(Divergence(kind="reverse_kl"))
        forward.teachers.append(Teacher(teacher, packed=False))
        engine = engine_for(module, forward)
        engine.forward_backward("policy", hinted_units(), DenseDivergence())
        optimiser = engine.roles["policy"].optimiser
        assert optimiser is not None
        grads.append({key: g.clone() for key, g in optimiser.gradients().items()})
        optimiser.forget_gradients()
    assert all(torch.equal(grads[0][key], grads[1][key]) for key in grads[1])
    assert max(float(grad.abs().max()) for grad in grads[0].values()) > 1e-4


def test_heads_of_different_sizes_are_compared_where_both_have_tokens() -> None:
    student, teacher = model(0, torch.float64), model(1, torch.float64)
    wide = make_model("llama", torch.float64, 1, vocab_size=64)
    with torch.no_grad():
        wide.get_input_embeddings().weight[:61] = teacher.get_input_embeddings().weight
    state = {k: v for k, v in teacher.state_dict().items() if "embed" not in k and "lm_head" not in k}
    wide.load_state_dict(state, strict=False)
    values = []
    for other in (teacher, wide):
        forward = DistillForward(Divergence(kind="forward_kl"))
        forward.teachers.append(Teacher(other, packed=False))
        engine = engine_for(student, forward)
        values.append(engine.forward_backward("policy", plain_units(), DenseDivergence())["loss/divergence"])
    assert values[0] == (pytest.approx(values[1][0], rel=1e-9), values[1][1])


def test_a_file_answers_as_the_teacher_did() -> None:
    teacher, config = Teacher(model(1, torch.float64), packed=False), Divergence(kind="top_k", k=4)
    units = plain_units()
    batch = MicroBatch.of(units)
    ids_SK, logp_SK = most_likely(teacher, batch, config, width=61)
    sizes = [len(row.targets) for row in batch.rows]
    answers = zip(ids_SK.split(sizes), logp_SK.split(sizes), strict=True)
    known = {id(row): answer for row, answer in zip(batch.rows, answers, strict=True)}

    def kept(rows: Any) -> tuple[Tensor, Tensor]:
        found = [known[id(row)] for row in rows]
        return torch.cat([each[0] for each in found]), torch.cat([each[1] for each in found])

    results = []
    for forward in (DistillForward(config, teachers=[teacher]), DistillForward(config, kept=kept)):
        module = model(0, torch.float64)
        engine = engine_for(module, forward, tokens=20)
        results.append(engine.forward_backward("policy", units, DenseDivergence()))
    assert results[1]["loss/divergence"] == (
        pytest.approx(results[0]["loss/divergence"][0], rel=1e-9),
        results[0]["loss/divergence"][1],
    )
    assert "teacher_nll" not in results[1]


def test_sampled_gradient_follows_the_reverse_kl_in_expectation() -> None:
    """One token over the whole vocabulary, each weighed by how often the student says it."""
    module, teacher = model(0, torch.float64), model(1, torch.float64)
    prompt = ids(4, 9)
    units = [[row] for token in range(61) for row in group(4, [1], 0)]
    for token, unit in enumerate(units):
        unit[0].ids = np.asarray([*prompt, token])
    forward = DistillForward(Divergence(kind="reverse_kl"), teachers=[Teacher(teacher, packed=False)])
    engine = engine_for(module, PolicyForward())
    scores = engine.score("policy", units, forward=forward)
    rows = flat(units)
    assign_sampled(rows, scores, reused=False)
    for row, score in zip(rows, scores, strict=True):
        row.fields["sampler_logp"] = score["logp"]
        row.fields["advantage"] = row.fields["advantage"] * 61 * np.exp(score["logp"])
    metrics = engine.forward_backward("policy", units, sampled_gradient(None))
    assert metrics["ratio"][0] / metrics["ratio"][1] == pytest.approx(1)
    optimiser = engine.roles["policy"].optimiser
    assert optimiser is not None
    ours = {key: g.clone() for key, g in optimiser.gradients().items()}
    optimiser.forget_gradients()
    exact = engine_for(module, forward)
    exact.forward_backward("policy", [units[0]], DenseDivergence())
    learner = exact.roles["policy"].optimiser
    assert learner is not None
    scale = max(float(g.abs().max()) for g in learner.gradients().values())
    for key, grad in ours.items():
        expected = learner.gradient(key)
        assert expected is not None
        assert float((grad - expected).abs().max()) < 1e-5 * scale, key


def test_reused_rows_remember_the_student_that_sampled() -> None:
    units = plain_units()
    scores = [
        {"logp": np.full(len(row.targets), -2.0, np.float32),
         "teacher_logp": np.full(len(row.targets), -0.5, np.float32)}
        for row in flat(units)
    ]  # fmt: skip
    assign_sampled(flat(units), scores, reused=True)
    for row in flat(units):
        assert set(row.fields) == {"advantage", "ref_logp", "old_logp"}
        assert (row.fields["advantage"] == 1.5).all()
        assert (row.fields["old_logp"] == -2.0).all()
        assert (row.fields["ref_logp"] == -0.5).all()


def test_means_leave_out_what_only_the_teacher_reads() -> None:
    rows = flat(hinted_units())
    scores = [
        {"divergence": np.full(len(row.targets), 2.0 if is_students(row) else 99.0, np.float32)}
        for row in rows
    ]
    assert mean_of(scores, rows, "divergence") == 2.0


def flip(name: str) -> Callable[[pytest.MonkeyPatch], None]:
    def apply(patch: pytest.MonkeyPatch) -> None:
        plain = getattr(distributions, name)
        patch.setattr(distributions, name, lambda *given, **named: -plain(*given, **named))

    return apply


def comes_closer(kind: str) -> bool:
    """A small step lowers KL(teacher || student) as transformers alone computes it."""
    module, teacher = model(0, torch.float64), model(1, torch.float64)
    forward = DistillForward(Divergence(kind=kind), teachers=[Teacher(teacher, packed=False)])  # type: ignore[arg-type]
    units = plain_units()

    def distance() -> float:
        total = 0.0
        with torch.no_grad():
            for row in flat(units):
                q = torch.log_softmax(logits_of(teacher, row), -1)
                p = torch.log_softmax(logits_of(module, row), -1)
                total += float((q.exp() * (q - p)).sum())
        return total

    engine, before = engine_for(module, forward), distance()
    engine.forward_backward("policy", units, DenseDivergence())
    engine.step("policy", 1e-4)
    return distance() < before


@pytest.mark.parametrize(
    ("kind", "formula"),
    [
        ("forward_kl", "forward_kl"),
        ("reverse_kl", "reverse_kl"),
        ("jsd", "generalised_jsd"),
        ("top_k", "top_k_tail_kl"),
    ],
)
def test_a_flipped_sign_is_noticed(kind: str, formula: str, monkeypatch: pytest.MonkeyPatch) -> None:
    assert comes_closer(kind)
    flip(formula)(monkeypatch)
    assert not comes_closer(kind)
