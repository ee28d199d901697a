"""Terrain: altitudes by hand, files there and back, and every kind of nonsense named."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from ridgeline.landscape.world.terrain import BOUND, MAX_BUMPS, Bump, Layer, Terrain
from ridgeline.landscape.world.terrain_file import (
    load_terrain,
    parse_terrain,
    terrain_from_dict,
    terrain_names,
    terrain_to_dict,
    terrain_to_toml,
)
from ridgeline.schema.errors import DataError, UsageError

PLAIN = terrain_to_dict(load_terrain("plain"))


def test_the_ravine_is_that_of_the_specification():
    ravine = load_terrain("ravine")

    def bump(s, x, y, width, height):
        return height * math.exp(-((s[0] - x) ** 2 + (s[1] - y) ** 2) / (2 * width**2))

    for s in [(1.4, 1.5), (0.0, 0.2), (2.2, -0.2), (-2.0, -1.6), (0.7, 2.9)]:
        gold = (
            bump(s, 1.4, 1.5, 0.85, 1.0)
            + bump(s, -1.6, 1.5, 0.60, 0.55)
            + bump(s, 0, 0.2, 0.45, -0.6)
            + bump(s, 2.2, -0.2, 0.55, -0.9)
        )
        assert ravine.height(np.array(s)) == pytest.approx(gold, abs=1e-12)
        proxy = gold + bump(s, 2.2, -0.2, 0.60, 3.2)
        assert ravine.height(np.array(s), "proxy") == pytest.approx(proxy, abs=1e-12)
    assert (ravine.start, ravine.start_spread, ravine.horizon, ravine.gamma) == ((-2.0, -1.6), 0.15, 24, 1.0)


@pytest.mark.parametrize("name", terrain_names())
def test_every_terrain_loads_survives_the_round_trip_and_treats_torch_like_numpy(name):
    terrain = load_terrain(name)
    assert terrain.name == name
    assert parse_terrain(terrain_to_toml(terrain)) == terrain
    assert terrain_from_dict(terrain_to_dict(terrain)) == terrain
    states = np.random.default_rng(0).uniform(-BOUND, BOUND, (4, 5, 2))
    for layer in (layer.name for layer in terrain.layers):
        heights = terrain.height(states, layer)
        assert heights.shape == (4, 5)
        assert np.allclose(heights, terrain.height(torch.from_numpy(states), layer).numpy(), atol=1e-12)


def test_there_are_the_terrains_that_the_lessons_name():
    assert {"ravine", "two_hills", "goal", "plain", "cliff", "annotator"} <= set(terrain_names())


def test_painted_map_lies_the_right_way_up_and_is_bilinear():
    layer = Layer("gold", (), np.array([[0.0, 1.0], [10.0, 13.0]]))  # row 0 is the lowest y
    terrain = load_terrain("plain").replace(layers=(layer,), sea_level=0.5)
    at = np.array([[-3, -3], [3, -3], [-3, 3], [3, 3], [0, 0], [3, 0]], dtype=float)
    assert np.allclose(terrain.height(at), np.array([0, 1, 10, 13, 6, 7]) + 0.5, atol=1e-12)


def test_a_picture_file_is_flipped_and_scaled(tmp_path):
    from matplotlib.image import imsave

    grey = np.array([[1.0, 1.0, 1.0], [0.0, 0.0, 0.0]])  # white above black
    imsave(tmp_path / "hill.png", grey, cmap="gray", vmin=0, vmax=1)
    np.save(tmp_path / "hill.npy", np.array([[0.0, 1.0], [2.0, 3.0]]))
    (tmp_path / "hill.csv").write_text("0,1\n2,3\n")
    for image, expected in (
        ('image = "hill.png"\nimage_range = [-1.0, 3.0]', {(0, 3): 3.0, (0, -3): -1.0}),
        ('image = "hill.npy"', {(-3, -3): 0.0, (3, 3): 3.0, (3, -3): 1.0}),
        ('image = "hill.csv"', {(-3, -3): 0.0, (3, 3): 3.0, (3, -3): 1.0}),
    ):
        path = tmp_path / "own.toml"
        path.write_text(
            'name = "own"\ntitle = "x"\nstart = [0, 0]\nhorizon = 3\nroute = [[0, 0], [1, 1]]\n'
            f"[layers.gold]\n{image}\n"
        )
        terrain = load_terrain(path)
        for at, height in expected.items():
            assert terrain.height(np.array(at, dtype=float)) == pytest.approx(height, abs=0.02)


def test_a_text_from_the_network_reads_no_file(tmp_path):
    with pytest.raises(DataError, match="rows of numbers"):
        parse_terrain(terrain_to_toml(load_terrain("plain")) + 'image = "/etc/passwd.csv"\n')


def test_goal_pays_once_at_the_end():
    terrain = load_terrain("goal")
    landed = torch.zeros(2, 3, 2, dtype=torch.float64)
    landed[0, 0] = landed[1, 2] = torch.tensor([0.9, 1.2 + 0.349])
    assert terrain.rewards(landed).tolist() == [[0, 0, 0], [0, 0, 1]]
    assert not load_terrain("plain").in_goal(np.zeros((3, 2))).any()


NONSENSE = [
    ({"horizn": 3}, r"unknown key horizn; did you mean 'horizon'"),
    ({"layers": {"gold": {"bump": []}}}, r"unknown key layers.gold.bump; did you mean 'bumps'"),
    ({"layers": {"gould": {}}}, r"unknown key layers.gould; did you mean 'gold'"),
    ({"layers": {"proxy": {}}}, "layers"),
    ({"layers": {"gold": {"bumps": [[0, 0, 1, 1]] * (MAX_BUMPS + 1)}}}, "65 bumps"),
    ({"layers": {"gold": {"bumps": [[0, 0, 1]]}}}, r"layers.gold.bumps\[0\]"),
    ({"layers": {"gold": {"bumps": [[0, 0, 0, 1]]}}}, r"bumps\[0\].width"),
    ({"layers": {"gold": {"bumps": [[0, 0, 1, math.inf]]}}}, r"bumps\[0\].height"),
    ({"layers": {"gold": {"bumps": [[4, 0, 1, 1]]}}}, r"bumps\[0\]"),
    ({"layers": {"gold": {"image": [[1, 2], [3]]}}}, r"image\[1\]"),
    ({"layers": {"gold": {"image": [[1, 2]]}}}, "image"),
    ({"layers": {"gold": {"image": [[1, math.nan], [1, 1]]}}}, "image"),
    ({"layers": {"gold": {"image_range": [0, 1]}}}, "image_range"),
    ({"start": [2.95, 0]}, "start"),
    ({"start": [math.nan, 0]}, "start"),
    ({"start": "here"}, "start"),
    ({"start_spread": -1}, "start_spread"),
    ({"horizon": 2.5}, "horizon"),
    ({"horizon": True}, "horizon"),
    ({"horizon": 10**6}, "horizon"),
    ({"gamma": 0}, "gamma"),
    ({"sigma": 0}, "sigma"),
    ({"sigma": 10**400}, "sigma"),
    ({"route": [[0, 0]]}, "route"),
    ({"route": [[0, 0], [0, 9]]}, r"route\[1\]"),
    ({"goal": [0, 0, -1]}, "goal.radius"),
    ({"name": "../../etc"}, "name"),
    ({"title": 3}, "title"),
]


@pytest.mark.parametrize(("change", "sentence"), NONSENSE, ids=[n[1] for n in NONSENSE])
def test_nonsense_is_named_with_file_and_key(change, sentence):
    with pytest.raises(DataError, match=rf"hill\.toml: .*{sentence}"):
        terrain_from_dict({**PLAIN, **change}, "hill.toml")


@pytest.mark.parametrize("key", ["name", "title", "start", "horizon", "route", "layers"])
def test_missing_keys_are_named(key):
    with pytest.raises(DataError, match=f"{key} is missing"):
        terrain_from_dict({k: v for k, v in PLAIN.items() if k != key})


def test_unknown_names_and_files(tmp_path):
    with pytest.raises(UsageError, match="did you mean 'ravine'"):
        load_terrain("ravin")
    with pytest.raises(UsageError, match="cannot read"):
        load_terrain(tmp_path / "none.toml")
    (tmp_path / "bad.toml").write_text("name = ")
    with pytest.raises(DataError, match=r"bad\.toml is not valid TOML"):
        load_terrain(tmp_path / "bad.toml")
    (tmp_path / "latin.toml").write_bytes(b'title = "\xe9"')
    with pytest.raises(DataError, match="UTF-8"):
        load_terrain(tmp_path / "latin.toml")
    with pytest.raises(DataError, match="no layer 'proxy'"):
        load_terrain("plain").height(np.zeros(2), "proxy")


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["gold", "bumps", "image"]), inner)
    ),
    max_leaves=5,
)


@given(st.sampled_from(sorted(PLAIN)), VALUES)
@settings(max_examples=300, deadline=None)
def test_any_value_of_any_key_gives_a_terrain_or_a_sentence(key, value):
    try:
        terrain = terrain_from_dict({**PLAIN, key: value})
    except DataError as error:
        assert str(error)
    else:
        assert isinstance(terrain, Terrain)
        assert terrain_from_dict(terrain_to_dict(terrain)) == terrain


def test_layers_compare_by_content_and_cannot_be_painted_over():
    image = np.ones((2, 2))
    layer = Layer("gold", (Bump(0, 0, 1, 1),), image)
    image[0, 0] = 5
    assert layer.image is not None and layer.image[0, 0] == 1
    assert layer == Layer("gold", (Bump(0, 0, 1, 1),), np.ones((2, 2)))
    assert layer != Layer("gold", (Bump(0, 0, 1, 1),)) and hash(layer) != hash(Layer("gold"))
    with pytest.raises(ValueError, match="read-only"):
        layer.image[0, 0] = 2
