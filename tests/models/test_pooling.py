from __future__ import annotations

import pytest
import torch

from ridgeline.models.pooling import running_means


def test_the_first_tokens_of_a_completion_are_averaged() -> None:
    hidden_TH = torch.tensor([[1.0, 10.0], [3.0, 10.0], [5.0, 40.0], [7.0, 80.0], [9.0, 10.0]])
    # 5 tokens: ceil of 1.25, 2.5, 3.75 and 5.
    expected = [[2.0, 10.0], [3.0, 20.0], [4.0, 35.0], [5.0, 30.0]]
    assert running_means(hidden_TH).tolist() == expected
    assert running_means(hidden_TH, (1.0,)).tolist() == expected[-1:]


def test_one_token_is_every_point_of_its_path() -> None:
    hidden_TH = torch.tensor([[2.0, -1.0]])
    assert running_means(hidden_TH).tolist() == [[2.0, -1.0]] * 4


def test_nothing_has_no_value() -> None:
    assert running_means(torch.zeros(0, 3)).isnan().all()


def test_half_precision_is_summed_in_single() -> None:
    """In bfloat16 a sum of 4096 ones stops at 256."""
    hidden_TH = torch.ones(4096, 2, dtype=torch.bfloat16)
    assert running_means(hidden_TH)[-1].tolist() == pytest.approx([1.0, 1.0], abs=1e-6)
