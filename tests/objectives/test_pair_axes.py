from __future__ import annotations

import copy
import inspect
import pickle
import subprocess
import sys
from dataclasses import FrozenInstanceError, fields, replace
from typing import Any

import pytest

from ridgeline.objectives.pair_axes import (
    PAIR_LOSSES,
    PAIR_PRESETS,
    UNPAIRED_LOSSES,
    PairObjective,
    PairTerm,
)

EVERY_NAME_OF_THE_CONTRACT = (
    "dpo cdpo robust_dpo dpo_norm ipo hinge odpo simpo cpo orpo exo nca bco_pair sppo aot apo_zero apo_down "
    "discopop cal_dpo rpo rebel slic alphapo tpo"
)


def of(*names: str, **changes: Any) -> PairObjective:
    return PairObjective(terms=tuple(PairTerm(loss=name) for name in names), **changes)


def test_needs_no_torch() -> None:
    code = "import sys, ridgeline.objectives.pair_axes; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_has_every_name_of_the_contract() -> None:
    assert set(EVERY_NAME_OF_THE_CONTRACT.split()) <= set(PAIR_LOSSES)
    assert set(PAIR_LOSSES) <= set(PAIR_PRESETS)
    assert {"kto", "bco", "apo_zero_unpaired"} == set(UNPAIRED_LOSSES)


def test_traits_are_those_of_the_functions() -> None:
    from ridgeline.objectives.preference import PAIR_FUNCTIONS, PairInputs

    assert set(PAIR_FUNCTIONS) == set(PAIR_LOSSES)
    known = {field.name for field in fields(PairInputs)}
    logps = {"chosen", "rejected", "ref_chosen", "ref_rejected"}
    for name, traits in PAIR_LOSSES.items():
        parameters = inspect.signature(PAIR_FUNCTIONS[name]).parameters
        positional = [x for x, y in parameters.items() if y.kind is y.POSITIONAL_OR_KEYWORD]
        assert positional == [x for x in traits.inputs if x in logps], name
        keywords = {x: y.default for x, y in parameters.items() if y.kind is y.KEYWORD_ONLY}
        assert len(positional) + len(keywords) == len(parameters)
        tensors = set(traits.inputs) - logps | ({"label"} if traits.label else set())
        assert set(keywords) == tensors | set(traits.options), name
        assert {x: keywords[x] for x in traits.options} == traits.options, name
        columns = tensors - set(traits.step_inputs) - {"label"}
        assert all(keywords[x] is inspect.Parameter.empty for x in columns), name
        assert set(traits.inputs) <= known, name


def test_every_option_has_a_range_that_holds_its_default() -> None:
    for name, traits in PAIR_LOSSES.items():
        for option in traits.options:
            with pytest.raises(ValueError, match=f"{option} = nan of loss '{name}'"):
                PairTerm(loss=name, options={option: float("nan")})
        assert PairTerm(loss=name, options=traits.options).resolved == traits.options


def test_requirements_of_a_mixture_are_those_of_its_terms() -> None:
    mixture = of("dpo", "sft_chosen")
    assert (mixture.needs_reference, mixture.needs_lengths, mixture.whole_step) == (True, True, False)
    assert of("simpo").needs_reference is False
    assert of("tpo").needs == ("gold",)
    assert of("rpo", "odpo", "dpo_margin").needs == ("rewards", "margin")
    assert {name for name in PAIR_LOSSES if of(name).whole_step} == {"aot", "aot_unpaired", "bco_pair"}
    assert of("dpo", "ipo").takes_labels
    assert not of("dpo", "sft_chosen").takes_labels
    assert PAIR_LOSSES["dpo_norm"].inputs == (
        *("chosen", "rejected", "ref_chosen", "ref_rejected"),
        *("chosen_lengths", "rejected_lengths"),
    )


def test_presets_are_those_of_the_papers() -> None:
    assert [(t.loss, t.weight) for t in PAIR_PRESETS["mpo"].terms] == [
        ("dpo", 0.8),
        ("bco_pair", 0.2),
        ("sft_chosen", 1.0),
    ]
    assert [(t.loss, t.weight) for t in PAIR_PRESETS["dpo_nll"].terms] == [("dpo", 1.0), ("sft_chosen", 1.0)]
    assert [t.loss for t in PAIR_PRESETS["cpo"].terms] == ["cpo", "sft_chosen"]
    assert PAIR_PRESETS["wpo"].weighting == "wpo"
    assert PAIR_PRESETS["ld_dpo"].length_desensitised == 0.5
    assert PAIR_PRESETS["dpo_alpha"].divergence_alpha == 0.5
    free = {name for name in PAIR_LOSSES if not PAIR_PRESETS[name].needs_reference}
    assert free == set(
        ["simpo", "alphapo", "cpo", "orpo", "slic", "tpo", "tpo_l", "sft_chosen", "sft_chosen_sum"]
    )
    by_length = {name for name, loss in PAIR_LOSSES.items() if loss.lengths}
    assert by_length == {"dpo_norm", "simpo", "alphapo", "orpo", "tpo_l", "sft_chosen"}


def test_is_frozen_and_can_be_copied() -> None:
    objective = PAIR_PRESETS["mpo"]
    with pytest.raises(FrozenInstanceError):
        objective.weighting = "wpo"  # type: ignore[misc]
    with pytest.raises(TypeError):
        PAIR_LOSSES["dpo"].options["beta"] = 1.0  # type: ignore[index]
    with pytest.raises(TypeError):
        PAIR_PRESETS["dpo"] = objective  # type: ignore[index]
    assert pickle.loads(pickle.dumps(objective)) == objective
    assert copy.deepcopy(objective) == objective
    assert hash(copy.deepcopy(objective)) == hash(objective)
    given = {"beta": 0.3}
    term = PairTerm(loss="dpo", options=given)
    given["beta"] = -1.0
    assert term.resolved == {"beta": 0.3}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"loss": "dpoo"}, "unknown loss 'dpoo'; choose one of: dpo"),
        ({"loss": "dpo", "weight": 0.0}, r"weight = 0\.0 of loss 'dpo'"),
        ({"loss": "dpo", "weight": float("inf")}, "weight = inf"),
        ({"loss": "dpo", "weight": -1.0}, r"weight = -1\.0"),
        ({"loss": "dpo", "options": {"gamma": 1.0}}, "'dpo' has no option 'gamma'; its options: beta"),
        ({"loss": "sft_chosen", "options": {"beta": 1.0}}, "its options: none"),
        ({"loss": "dpo", "options": {"beta": -0.1}}, r"beta = -0\.1 of loss 'dpo' must be a finite"),
        ({"loss": "dpo", "options": {"beta": 0.0}}, r"beta = 0\.0"),
        ({"loss": "robust_dpo", "options": {"label_smoothing": 0.5}}, "at one half the labels say nothing"),
        ({"loss": "cdpo", "options": {"label_smoothing": -0.1}}, r"label_smoothing = -0\.1"),
        ({"loss": "exo", "options": {"label_smoothing": 0.0}}, "contains its logarithm"),
        ({"loss": "simpo", "options": {"gamma": -1.0}}, "of at least 0"),
        ({"loss": "odpo", "options": {"alpha": -1.0}}, "of at least 0"),
        ({"loss": "alphapo", "options": {"alpha": float("inf")}}, "must be a finite number"),
    ],
)
def test_refuses_terms_that_cannot_work(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        PairTerm(**arguments)


def test_alphapo_bends_either_way() -> None:
    assert PairTerm(loss="alphapo", options={"alpha": -0.5}).resolved["alpha"] == -0.5


@pytest.mark.parametrize(
    ("names", "changes", "message"),
    [
        ([], {}, "needs at least one term"),
        (["dpo", "dpo"], {}, "loss 'dpo' appears twice"),
        (["dpo"], {"divergence": "kl"}, "unknown divergence 'kl'"),
        (["dpo"], {"divergence": "alpha"}, "needs an alpha in"),
        (["dpo"], {"divergence": "js", "divergence_alpha": 0.5}, "does nothing with divergence 'js'"),
        (["dpo"], {"divergence_alpha": 0.5}, "does nothing with divergence 'reverse_kl'"),
        (["apo_zero"], {"divergence": "js"}, "'apo_zero' is not; choose one of: dpo"),
        (["simpo"], {"divergence": "js"}, "'simpo' is not"),
        (["sft_chosen"], {"divergence": "js"}, "'sft_chosen' is not"),
        (["dpo", "nca"], {"divergence": "forward_kl"}, "'nca' is not"),
        (["dpo"], {"length_desensitised": 1.5}, r"length_desensitised = 1\.5"),
        (["dpo_norm"], {"length_desensitised": 0.5}, "'dpo_norm' does not make; drop one of the two"),
        (["dpo", "sft_chosen_sum"], {"length_desensitised": 0.5}, "'sft_chosen_sum' does not make"),
        (["dpo"], {"weighting": "wppo"}, "unknown weighting 'wppo'; choose one of: none, wpo"),
        (["dpo", "aot"], {"weighting": "wpo"}, "'aot' compares completions of different pairs"),
    ],
)
def test_refuses_objectives_that_cannot_work(names: list[str], changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        of(*names, **changes)


def test_likelihood_of_the_chosen_may_join_an_f_divergence() -> None:
    assert of("dpo", "sft_chosen", divergence="js").needs_lengths
    assert replace(of("ipo"), divergence="forward_kl").divergence == "forward_kl"
