"""A step in one call (AMX) against the same step operation by operation, and both against float32."""

from __future__ import annotations

import ctypes
from typing import Any

import numpy as np
import pytest
import torch
from tests.models.families import CONFIGS, make_model
from transformers import PreTrainedModel

from ridgeline.models.architecture import FAMILIES, architecture_of
from ridgeline.models.kernels import decode
from ridgeline.models.kernels.pages import Pages
from ridgeline.models.kernels.texts import Texts
from ridgeline.models.kernels.tile_pages import TilePages
from ridgeline.rollout.native.decoder import NativeDecoder, Rows
from ridgeline.rollout.native.weights import Weights

NATIVE = [name for name in CONFIGS if CONFIGS[name]().model_type in FAMILIES]
WAYS = [False, True] if decode.has_tiles() else [False]
"""Elsewhere only the operations are there to be tested."""
WIDE: dict[str, Any] = {"max_position_embeddings": 1024}


def decoder(module: PreTrainedModel, tiles: bool) -> NativeDecoder:
    made = NativeDecoder(module)
    if not tiles:
        made.weights = Weights(architecture_of(module))
    assert made.weights.tiles == tiles
    made.weights.refresh()
    return made


def logits_of(
    module: PreTrainedModel,
    tiles: bool,
    rows: int,
    *,
    prompt: int = 5,
    steps: int = 40,
    grouped: bool = False,
) -> torch.Tensor:
    """After ``steps`` tokens, ``[rows, V]``; three prompts of ``prompt`` tokens or more.

    grouped: completions of a prompt stand side by side; else no two of them do.
    """
    made, dice = decoder(module, tiles), torch.Generator().manual_seed(7)
    prompts = [[(5 * k + 3 * number) % 61 for k in range(prompt + number)] for number in range(3)]
    made.reserve(3, prompt + 2, rows, steps)
    made.prefill(prompts, [2, 0, 1])
    owner = torch.arange(rows) * 3 // rows if grouped else torch.arange(rows) % 3
    for written in range(steps):
        tokens = torch.randint(0, 61, (rows,), generator=dice)
        page = torch.tensor([2, 0, 1])[owner]
        where = (page, torch.arange(rows).flip(0), prompt + owner, torch.full((rows,), written))
        logits = made.step(Rows(tokens, *where))
    return logits.float()


def error(one: torch.Tensor, other: torch.Tensor) -> float:
    return float((one.log_softmax(-1) - other.log_softmax(-1)).abs().mean())


def check(family: str, tiles: bool, rows: int, **shape: Any) -> None:
    """No further from float32 than the same operations one by one in bfloat16."""
    changes = shape.pop("changes", {})
    exact = logits_of(make_model(family, **changes), False, rows, **shape)
    module = make_model(family, torch.bfloat16, **changes)
    found = error(logits_of(module, tiles, rows, **shape), exact)
    # Not the same rounding, and few rows: half as much again.
    assert found < 1.5 * error(logits_of(module, False, rows, **shape), exact)


@pytest.mark.parametrize("tiles", WAYS)
@pytest.mark.parametrize("grouped", [False, True])
@pytest.mark.parametrize("family", NATIVE)
def test_every_family(family: str, tiles: bool, grouped: bool) -> None:
    """40 steps, which is beyond the windows of 32 that some of them have."""
    check(family, tiles, 9, grouped=grouped)


@pytest.mark.parametrize("tiles", WAYS)
@pytest.mark.parametrize("grouped", [False, True])
@pytest.mark.parametrize("rows", [1, 16, 17, 47, 64, 65, 130])
def test_every_number_of_rows(rows: int, tiles: bool, grouped: bool) -> None:
    check("qwen2", tiles, rows, steps=3, grouped=grouped)


SHAPES: list[dict[str, int]] = [
    {"hidden_size": 80, "intermediate_size": 72, "head_dim": 40},  # tiles that are not full
    {"hidden_size": 64, "head_dim": 256},  # the widest heads
    {
        "hidden_size": 640,
        "num_attention_heads": 20,
        "num_key_value_heads": 2,
    },  # two turns of heads per key head
    {"hidden_size": 256, "head_dim": 64, "vocab_size": 1500},  # more panels than are summed at one time
]


@pytest.mark.parametrize("tiles", WAYS)
@pytest.mark.parametrize("grouped", [False, True])
@pytest.mark.parametrize("changes", SHAPES)
def test_shapes(changes: dict[str, Any], tiles: bool, grouped: bool) -> None:
    check("llama", tiles, 20, changes={**changes, "initializer_range": 0.05}, grouped=grouped)


@pytest.mark.parametrize("tiles", WAYS)
@pytest.mark.parametrize("grouped", [False, True])
@pytest.mark.parametrize("family", ["llama", "gemma3"])
def test_long_pages(family: str, tiles: bool, grouped: bool) -> None:
    """More positions than scores are held at one time, in the prompt and in what was written."""
    changes = {**WIDE, "initializer_range": 0.1}
    check(family, tiles, 6 if grouped else 3, prompt=300, steps=290, changes=changes, grouped=grouped)


@pytest.mark.amx
@pytest.mark.parametrize("family", ["llama", "gemma3"])
def test_rows_that_share_a_prompt_may_be_at_different_places(family: str) -> None:
    """Each sees what it would see alone, also where a window leaves out more of the prompt for one."""
    made = decoder(make_model(family, torch.bfloat16), tiles=True)
    made.reserve(1, 40, 5, 40)
    made.prefill([list(range(3, 43))], [0])
    for page in made.own:
        page.keys.normal_(), page.values.normal_()
    zero, written = torch.zeros(5, dtype=torch.long), torch.tensor([0, 31, 7, 38, 20])
    parts = (torch.arange(5), zero, torch.arange(5), zero + 40, written)
    together = made.step(Rows(*parts))
    alone = torch.cat([made.step(Rows(*(part[row : row + 1] for part in parts))) for row in range(5)])
    assert error(together.float(), alone.float()) < 0.02


@pytest.mark.parametrize("tiles", WAYS)
def test_a_slot_that_was_used_before_leaves_nothing(tiles: bool) -> None:
    """What a longer completion left in the page, even NaN, is not seen by the next."""
    made = decoder(make_model("llama", torch.bfloat16), tiles)
    made.reserve(1, 4, 2, 40)
    made.prefill([[3, 4, 5]], [0])
    zero, one = torch.zeros(1, dtype=torch.long), torch.ones(1, dtype=torch.long)

    def first(slot: torch.Tensor) -> torch.Tensor:
        for written, token in enumerate([7, 8, 9]):
            logits = made.step(Rows(torch.tensor([token]), zero, slot, 3 * one, written * one))
        return logits

    fresh = first(zero)
    for page in made.own if tiles else []:
        page.keys[1], page.values[1] = torch.nan, torch.nan
    assert torch.equal(first(one), fresh)


@pytest.mark.parametrize("size", [8, 32, 40, 64])
def test_pages_of_tiles_come_back(size: int) -> None:
    pages = TilePages.of_layers(2, 3, 2, 70, size)[1]
    keys, values = torch.randn(2, 2, 61, size).bfloat16()
    pages.write(1, keys, values)
    assert pages.capacity == 96
    assert all(map(torch.equal, pages.read(1, 61), (keys, values)))


@pytest.mark.parametrize("tiles", WAYS)
@pytest.mark.parametrize("size", [8, 40, 64])
def test_whole_texts_come_back(size: int, tiles: bool) -> None:
    """Of three texts end to end, each into its page."""
    spans = np.array([[3, 40, 0, 0], [43, 1, 0, 0], [0, 3, 0, 0]])
    texts, where, dtype = Texts(spans, np.arange(4)), [4, 0, 2], torch.bfloat16
    qkv = torch.randn(44, (3 + 2 * 2) * size).to(dtype)
    pages: Any = TilePages.of_layers(1, 5, 2, 70, size)[0] if tiles else Pages.empty(5, 2, 70, size, dtype)
    pages.write_texts(qkv, texts, where)
    for page, (start, length, *_) in zip(where, spans.tolist(), strict=True):
        own = qkv[start : start + length].unflatten(1, (-1, size)).transpose(0, 1)
        assert all(map(torch.equal, pages.read(page, length), (own[3:5], own[5:])))


@pytest.mark.parametrize("tiles", WAYS)
def test_what_a_step_stores_is_what_it_was_given(tiles: bool) -> None:
    """Values of the first layer, which no attention touched, and keys at position 0, which do not turn."""
    module = make_model("llama", torch.bfloat16)
    made = decoder(module, tiles)
    made.reserve(1, 1, 1, 40)
    made.prefill([[3]], [0])
    zero = torch.zeros(1, dtype=torch.long)
    for written in range(35):
        made.step(Rows(torch.tensor([written]), zero, zero, zero, zero + written))
    attention: Any = module.model.layers[0].self_attn
    x = module.model.layers[0].input_layernorm(module.model.embed_tokens(torch.arange(35)))
    keys, values = made.own[0].read(0, 35)
    expected = attention.v_proj(x).unflatten(-1, (2, 8)).transpose(0, 1)
    assert torch.allclose(values.float(), expected.float(), atol=2e-2)
    assert torch.allclose(keys[:, 0].float(), attention.k_proj(x[:1]).view(2, 8).float(), atol=2e-2)


@pytest.mark.parametrize("tiles", WAYS)
def test_new_weights_are_taken_in_place(tiles: bool) -> None:
    module = make_model("llama", torch.bfloat16)
    made, zero = decoder(module, tiles), torch.zeros(1, dtype=torch.long)
    made.reserve(1, 2, 1, 4)
    made.prefill([[3, 4]], [0])
    rows = Rows(torch.tensor([5]), zero, zero, zero + 2, zero)
    before = made.step(rows)
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.mul_(1.5)
    assert made.weights.refresh() and not made.weights.refresh()
    after = made.step(rows)
    assert not torch.allclose(before, after)
    assert not tiles or made.weights.head.weights[0].data_ptr() == module.lm_head.weight.data_ptr()
    again = decoder(module, tiles)
    again.reserve(1, 2, 1, 4)
    for page, old in zip(again.prompts, made.prompts, strict=True):
        page.keys.copy_(old.keys), page.values.copy_(old.values)
    assert torch.equal(again.step(rows), after)


def test_tables_are_as_the_compiler_lays_them_out() -> None:
    """Every field of a C struct that has a twin here, by name and in order."""
    from importlib.resources import files

    folder = files("ridgeline.models.kernels")
    source = "".join((folder / name).read_text() for name in ("thin.h", "decode.h"))
    for table in (decode.Norm, decode.Linear, decode.Layer, decode.Shape, decode.Rows):
        body = source.split(f"struct {table.__name__.lower()} {{")[1].split("};")[0]
        lines = [line.split("//")[0] for line in body.splitlines()]
        declared = [
            name.strip(" *") for part in "".join(lines).split(";") for name in part.split(",") if name.strip()
        ]
        names = [name.split()[-1].strip("*").split("[")[0] for name in declared]
        assert names == [field[0] for field in table._fields_]
        assert issubclass(table, ctypes.Structure)
