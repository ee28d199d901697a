"""Where tokens stand when texts are laid end to end, by hand; what it means is tested with the passes."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from ridgeline.models.batch import MicroBatch, Row, completion_row
from ridgeline.models.layout import lay_out


def group(prompt: list[int], *completions: list[int]) -> list[Row]:
    return [completion_row(prompt, completion) for completion in completions]


def test_texts_by_hand() -> None:
    pair = group([10, 11, 12], [20, 21], [22])
    single = group([13, 14], [23])
    apart = [Row(np.array(ids), np.array([1])) for ids in ([30, 31], [32, 33, 34])]
    layout = lay_out(MicroBatch.of([pair, single, apart]), packed=True, texts=True)
    assert layout.allowed_RLL is None
    assert layout.ids_RL.tolist() == [[10, 11, 12, 20, 21, 22, 13, 14, 23, 30, 31, 32, 33, 34]]
    assert layout.positions_RL.tolist() == [[0, 1, 2, 3, 4, 3, 0, 1, 2, 0, 1, 0, 1, 2]]
    assert layout.texts.spans.tolist() == [
        [0, 3, 0, 0],  # the shared prompt
        [3, 2, 0, 3],
        [5, 1, 0, 3],
        [6, 3, 0, 0],  # a row alone shares with nobody
        [9, 2, 0, 0],  # two rows of one unit without anything in common
        [11, 3, 0, 0],
    ]
    assert layout.texts.families.tolist() == [0, 3, 4, 5, 6]
    assert [index.tolist() for index in layout.token_index] == [
        [0, 1, 2, 3, 4], [0, 1, 2, 5], [6, 7, 8], [9, 10], [11, 12, 13],
    ]  # fmt: skip
    assert layout.texts.longest == 5
    assert layout.texts.covers(14)
    assert not layout.texts.covers(15)


def test_a_row_that_ends_with_the_shared_prompt_is_no_text() -> None:
    layout = lay_out(MicroBatch.of([group([10, 11], [], [20]), group([12], [], [])]), packed=True, texts=True)
    assert layout.texts.spans.tolist() == [[0, 2, 0, 0], [2, 1, 0, 2], [3, 1, 0, 0]]
    assert layout.texts.families.tolist() == [0, 2, 3]
    assert [index.tolist() for index in layout.token_index] == [[0, 1], [0, 1, 2], [3], [3]]


@pytest.mark.parametrize("texts", [False, True])
@pytest.mark.parametrize("packed", [False, True])
def test_every_token_of_every_row_is_found_at_its_place(packed: bool, texts: bool) -> None:
    units = [group([1, 2, 3], [4], [5, 6, 7], []), group([8], [9, 10]), group([2, 3], [1], [1])]
    batch = MicroBatch.of(units)
    layout = lay_out(batch, packed=packed, texts=texts)
    for row, index in zip(batch.rows, layout.token_index, strict=True):
        assert layout.ids_RL.flatten()[index].tolist() == row.ids.tolist()
        positions = layout.positions_RL.expand_as(layout.ids_RL).flatten()[index]
        assert positions.tolist() == list(range(len(row)))
    assert (layout.texts is not None) == (packed and texts)


@pytest.mark.parametrize("texts", [False, True])
def test_a_prefix_that_is_not_shared_is_refused(texts: bool) -> None:
    unit = group([1, 2, 3], [4], [5])
    unit[1].ids[2] = 9
    with pytest.raises(ValueError, match="must share their first 3 tokens"):
        lay_out(MicroBatch.of([unit]), packed=True, texts=texts)


def test_padded_rows_by_hand() -> None:
    layout = lay_out(MicroBatch.of([group([1], [2, 3]), group([4], [5])]), packed=False, texts=True)
    assert layout.ids_RL.tolist() == [[1, 2, 3], [4, 5, 0]]
    assert torch.equal(layout.positions_RL, torch.arange(3).expand(2, 3))
