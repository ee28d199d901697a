from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch

from ridgeline.objectives import masks
from ridgeline.objectives.policy import PRESETS, policy_loss


def test_binary_divergences_by_hand() -> None:
    pi, mu = torch.tensor([0.7, 0.2, 0.5]), torch.tensor([0.4, 0.2, 0.75])
    variation = masks.binary_divergence(pi.log(), mu.log(), "total_variation")
    assert variation.tolist() == pytest.approx([0.3, 0.0, 0.25], abs=1e-6)
    kl = masks.binary_divergence(pi.log(), mu.log(), "binary_kl")
    expected = [
        m * math.log(m / p) + (1 - m) * math.log((1 - m) / (1 - p))
        for p, m in ((0.7, 0.4), (0.2, 0.2), (0.5, 0.75))
    ]
    assert kl.tolist() == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize("measure", ["total_variation", "binary_kl"])
def test_divergences_stay_finite(measure: masks.Measure) -> None:
    logp, sampler = torch.tensor([0.0, -1e4, 0.0, -1e4]), torch.tensor([0.0, 0.0, -1e4, -1e4])
    values = masks.binary_divergence(logp, sampler, measure)
    assert torch.isfinite(values).all()
    assert (values >= 0).all()


@pytest.mark.parametrize(
    ("advantage", "now", "then", "dropped", "outside"),
    [
        (1.0, 0.9, 0.5, True, True),
        (1.0, 0.1, 0.5, False, True),
        (-1.0, 0.9, 0.5, False, True),
        (-1.0, 0.1, 0.5, True, True),
        (1.0, 0.55, 0.5, False, False),
        (0.0, 0.9, 0.5, False, True),
        (1.0, 1e-3, 1e-6, False, False),  # a thousandfold ratio of a rare token is no divergence
    ],
)
@pytest.mark.parametrize("measure", ["total_variation", "binary_kl"])
def test_the_divergence_mask_stops_what_leads_further_away(
    measure: masks.Measure, advantage: float, now: float, then: float, dropped: bool, outside: bool
) -> None:
    logp, sampler = torch.tensor([[math.log(now)]]), torch.tensor([[math.log(then)]])
    found = masks.divergence_mask(logp, sampler, torch.tensor([[advantage]]), 0.15, measure=measure)
    assert [x.item() for x in found] == [dropped, outside]
    objective = replace(PRESETS["dppo"], bounding=measure)
    logp.requires_grad_()
    terms = policy_loss(
        logp, sampler, torch.tensor([advantage]), torch.ones(1, 1), objective, sampler_logp=sampler
    )
    terms.loss_BT.sum().backward()
    assert logp.grad is not None
    assert (logp.grad.item() == 0) == (dropped or advantage == 0)
    assert (terms.clipped_BT.item(), terms.outside_BT.item()) == (dropped, outside)


def test_the_divergence_is_measured_to_the_sampler() -> None:
    """The old policy of the learner agrees with the current one; the sampler does not."""
    logp, sampler = torch.tensor([[math.log(0.9)]]), torch.tensor([[math.log(0.5)]])
    terms = policy_loss(
        logp, logp, torch.tensor([1.0]), torch.ones(1, 1), PRESETS["dppo"], sampler_logp=sampler
    )
    assert terms.clipped_BT.item()
    with pytest.raises(ValueError, match="sampler_logp"):
        objective = replace(PRESETS["dppo"], importance="none", importance_high=None)
        policy_loss(logp, logp, torch.tensor([1.0]), torch.ones(1, 1), objective)


@pytest.mark.parametrize(
    ("advantage", "gap", "kept"), [(1.0, 2.0, True), (-1.0, 0.5, True), (-1.0, 2.0, False)]
)
def test_published_off_policy_mask(advantage: float, gap: float, kept: bool) -> None:
    """(A, mean KL, threshold 1) as the peers test it; padding is ignored."""
    old, logp = torch.tensor([[-1.0, -1.0, 5.0]]), torch.tensor([[-1.0 - 2 * gap, -1.0, -1e3]])
    mask, advantages = torch.tensor([[1, 1, 0]]), torch.full((1, 3), advantage)
    found = masks.off_policy_mask(logp, old, advantages, mask, 1.0)
    assert found[0, :2].tolist() == [kept, kept]
    objective = replace(PRESETS["cispo"], off_policy_limit=1.0)
    terms = policy_loss(logp, old, torch.tensor([advantage]), mask, objective, sampler_logp=old)
    assert (terms.loss_BT[0, :2] != 0).tolist() == [kept, kept]
    assert terms.weight_BT[0, :2].tolist() == [float(kept)] * 2


def test_top_entropy_is_taken_over_the_whole_step() -> None:
    entropy = torch.tensor([[0.1, 2.0, 9.0], [1.5, 0.2, 0.3]])
    mask = torch.tensor([[1, 1, 0], [1, 1, 1]])
    kept = masks.top_entropy_mask(entropy, mask, 0.4)
    assert kept.tolist() == [[False, True, False], [True, False, False]]
    assert masks.top_entropy_mask(entropy, mask, 1.0).tolist() == (mask != 0).tolist()
    assert masks.top_entropy_mask(entropy, mask, 0.01).sum() == 1
    assert masks.top_entropy_mask(torch.ones(1, 3), torch.ones(1, 3), 0.1).all()  # ties stay together
    assert not masks.top_entropy_mask(entropy, torch.zeros(2, 3), 0.5).any()
    with pytest.raises(ValueError, match="share = 0"):
        masks.top_entropy_mask(entropy, mask, 0.0)
