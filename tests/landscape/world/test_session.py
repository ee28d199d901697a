"""The live world answers every message: sense with a scene, nonsense with one sentence, neither slowly."""

from __future__ import annotations

import json
import math
import time
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ridgeline.landscape.blocks import decode, encode
from ridgeline.landscape.record.layout import as_stored
from ridgeline.landscape.world.grid import bilinear
from ridgeline.landscape.world.messages import KINDS
from ridgeline.landscape.world.session import Session
from ridgeline.landscape.world.terrain import BOUND
from ridgeline.landscape.world.terrain_file import load_terrain, terrain_to_dict

GRID = {"gold.mean", "value", "value_reference", "occupancy"}
WHOLE = GRID | {
    "corridor_mean",
    "corridor_cov",
    "reference_path_offsets",
    "reference_path_points",
    "arrows",
    "reference_arrows",
    "path_offsets",
    "path_points",
}


def opened(terrain: Any = "ravine", **given: Any) -> Session:
    session = Session()
    ask(session, "open", terrain=terrain, **given)
    return session


def ask(session: Session, kind: str, **content: Any) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    """The answer as it arrives on the other side of the socket."""
    meta, blocks = decode(encode(*session.handle({"id": 7, "type": kind, **content})))
    assert meta["ok"], meta
    assert (meta["id"], meta["type"]) == (7, kind)
    return meta, blocks


def refusal(session: Session, message: object) -> str:
    meta, blocks = decode(encode(*session.handle(message)))
    assert meta["ok"] is False and not blocks
    error = meta["error"]
    assert error and "\n" not in error and len(error) <= 400
    return str(error)


def test_open_gives_the_whole_scene() -> None:
    session = Session()
    meta, blocks = ask(session, "open", terrain="ravine", settings={"beta": 0.5, "layer": "proxy"})
    assert set(blocks) == WHOLE | {"proxy.mean"}
    assert all(blocks[name].shape == (65, 65) for name in GRID)
    assert blocks["corridor_cov"].shape == (25, 2, 2)
    assert blocks["arrows"].shape == (225, 6)
    assert meta["settings"]["layer"] == "proxy" and None not in meta["settings"].values()
    assert meta["optimum"]["objective"] == pytest.approx(
        meta["optimum"]["return"] - 0.5 * meta["optimum"]["kl"], abs=1e-6
    )
    assert meta["scalars"]["kl"] == pytest.approx(0, abs=1e-9)
    for name in ("path_points", "reference_arrows", "value"):
        as_stored(name, blocks[name])


def test_the_field_at_the_pin_is_the_number_at_the_pin() -> None:
    session = opened()
    meta, blocks = ask(session, "pin", x=1.4, y=1.5)
    assert not blocks
    pin = meta["pin"]
    terrain = load_terrain("ravine")
    assert pin["altitude"]["gold"] == pytest.approx(float(terrain.height(np.array([1.4, 1.5]))), abs=1e-9)
    assert pin["value"] == pytest.approx(pin["value_reference"])
    assert pin["kl_step"] == 0
    assert pin["ring"] == pytest.approx(0.6 * math.sqrt(2 * 0.01), rel=1e-6)
    rested = ask(session, "rest")[1]["value"]
    assert pin["value"] == pytest.approx(float(bilinear(rested, np.array([1.4, 1.5]))), abs=0.1)


def test_a_lesson_is_left_to_the_lessons_and_a_judge_needs_one() -> None:
    assert "lesson 11" in refusal(opened(), {"type": "judge", "answer": "a"})


def test_training_moves_the_policy_and_is_remembered() -> None:
    session = opened(settings={"algorithm": "reinforce", "paths": 32})
    before = ask(session, "pin", x=0.0, y=0.0)[0]["pin"]["mean"]
    meta, blocks = ask(session, "train", iterations=3)
    assert meta["iteration"] == 3
    assert [entry["iteration"] for entry in meta["history"]] == [3]
    assert meta["scalars"]["kl"] > 0
    assert {"value", "occupancy", "arrows", "path_offsets", "path_points"} == set(blocks)
    assert blocks["path_points"].shape == (32 * 25, 6)
    assert np.abs(blocks["path_points"][:, 4]).max() > 0
    assert meta["pin"]["mean"] != before
    again, _ = ask(session, "reset")
    assert (again["iteration"], again["history"]) == (0, [])
    assert again["pin"]["mean"] == before
    repeated, _ = ask(session, "train", iterations=3)
    assert repeated["scalars"] == meta["scalars"]


def test_play_pushes_frames_until_pause() -> None:
    session = opened("plain", settings={"algorithm": "rloo", "paths": 16})
    ask(session, "play", every=2)
    assert session.playing
    meta, blocks = decode(encode(*session.advance()))
    assert (meta["id"], meta["type"], meta["iteration"]) == (None, "frame", 2)
    assert "path_points" in blocks
    ask(session, "pause")
    assert not session.playing


def test_a_policy_that_runs_away_pauses_and_is_brought_back() -> None:
    wild = {"algorithm": "reinforce", "paths": 8, "learning_rate": 1.0, "entropy": 10.0}
    session = opened("plain", settings=wild)
    before = ask(session, "pin", x=0, y=0)[0]["pin"]
    assert "ran away" in refusal(session, {"type": "train", "iterations": 40})
    assert ask(session, "pin", x=0, y=0)[0]["pin"] == before
    ask(session, "play", every=40)
    meta, _ = session.advance()
    assert not meta["ok"] and not session.playing
    ask(session, "set", settings={"entropy": 0.0, "learning_rate": 0.01})
    ask(session, "train", iterations=2)


def test_work_for_minutes_is_refused_with_what_would_do() -> None:
    session = opened("plain", settings={"paths": 2048, "epochs": 50, "baseline": "time"})
    assert "ask for 16 at most" in refusal(session, {"type": "train", "iterations": 500})


def test_an_edit_changes_the_ground_and_what_depends_on_it() -> None:
    session = opened("plain")
    before = ask(session, "rest")[1]
    meta, blocks = ask(session, "edit", bumps={"gold": [[-1.0, 0.0, 0.5, 2.0]], "proxy": [[1, 1, 1, 1]]})
    assert meta["terrain"]["layers"]["gold"]["bumps"] == [[-1.0, 0.0, 0.5, 2.0]]
    assert blocks["gold.mean"].shape == (33, 33)
    assert blocks["proxy.mean"].max() == pytest.approx(1, abs=0.05)
    row, column = np.unravel_index(blocks["gold.mean"].argmax(), (33, 33))
    axis = np.linspace(-BOUND, BOUND, 33)
    assert abs(axis[column] + 1) < 0.2 and abs(axis[row]) < 0.2
    rested = ask(session, "rest")[1]
    assert not np.allclose(rested["value"], before["value"])
    assert np.array_equal(rested["arrows"], before["arrows"])
    flooded = ask(session, "edit", sea_level=-1.5)[1]["gold.mean"]
    assert np.allclose(flooded, blocks["gold.mean"] - 1.5, atol=1e-6)
    ask(session, "edit", sea_level=0)
    image = {"layer": "gold", "heights": [[0.0, 1.0], [0.0, 1.0]]}
    _, painted = ask(session, "edit", bumps={"gold": []}, image=image)
    assert np.allclose(painted["gold.mean"], np.linspace(0, 1, 33)[None], atol=1e-6)


def test_a_route_makes_a_new_reference_and_starts_over() -> None:
    session = opened("plain")
    ask(session, "train", iterations=1)
    meta, blocks = ask(session, "route", points=[[-1.5, -1.2], [0.0, -1.2], [1.5, -1.2]])
    assert meta["iteration"] == 0 and meta["scalars"]["kl"] == pytest.approx(0, abs=1e-9)
    assert blocks["corridor_mean"][-1][0] > 0.8


def test_a_larger_roll_says_its_mean_more_exactly() -> None:
    session = opened()
    few, many = (ask(session, "roll", count=count)[0]["returns"] for count in (8, 2048))
    assert many["se"] < few["se"] / 8
    exact = session.world.progress()["scalars"]["return_gold"]
    assert abs(many["mean"] - exact) < 4 * many["se"] + 0.05


def test_another_algorithm_in_the_panel_needs_nothing_else() -> None:
    session = opened(settings={"algorithm": "ppo", "baseline": "exact", "epochs": 3})
    for algorithm in ("grpo", "trpo", "rloo", "reinforce", "ppo"):
        meta, _ = ask(session, "set", settings={"algorithm": algorithm})
        assert meta["settings"]["algorithm"] == algorithm
        ask(session, "train", iterations=1)


def test_a_refused_change_changes_nothing() -> None:
    session = opened("plain")
    before = ask(session, "rest")
    for message in (
        {"type": "set", "settings": {"layer": "proxy"}},
        {"type": "set", "settings": {"paths": 4096}},
        {"type": "set", "settings": {"beta": 1.0, "algorithm": "sarsa"}},
        {"type": "edit", "bumps": {"gold": [[0, 0, -1, 1]]}},
        {"type": "edit", "bumps": {"silver": []}},
        {"type": "edit", "image": {"heights": [[0, 1], [1]]}},
        {"type": "route", "points": [[0, 0]]},
        {"type": "open", "terrain": "../../etc/passwd"},
        {"type": "open", "terrain": {**terrain_to_dict(load_terrain("plain")), "horizon": 400}},
        {"type": "train", "iterations": 501},
        {"type": "roll", "count": 2049},
    ):
        refusal(session, message)
    after = ask(session, "rest")
    assert {**before[0], "seconds": 0} == {**after[0], "seconds": 0}
    assert all(np.array_equal(before[1][name], after[1][name]) for name in before[1])


def test_before_a_world_is_open_every_message_says_so() -> None:
    for kind in set(KINDS) - {"open", "lesson", "judge"}:
        content = {"set": {"settings": {}}, "pin": {"x": 0, "y": 0}, "route": {"points": [[0, 0], [1, 1]]}}
        numbers = {"roll": {"count": 1}, "train": {"iterations": 1}}
        message = {"type": kind, **content.get(kind, {}), **numbers.get(kind, {})}
        error = refusal(Session(), message) if kind != "pause" else "no world is open"
        assert "no world is open" in error


def cpu_seconds(session: Session, kind: str, contents: list[dict[str, Any]]) -> float:
    """Median over messages, of this process alone: the machine is shared."""
    taken = []
    for content in contents:
        start = time.process_time()
        ask(session, kind, **content)
        taken.append(time.process_time() - start)
    return float(np.median(taken))


def test_dragging_is_fluent() -> None:
    """15 updates a second while dragging, 10 ms for the pin, 300 ms at rest with a policy not seen before."""
    session = opened()
    bumps = [list(row) for row in terrain_to_dict(load_terrain("ravine"))["layers"]["gold"]["bumps"]]
    drags = [{"bumps": {"gold": [[1.4 - 0.02 * k, *bumps[0][1:]], *bumps[1:]]}} for k in range(15)]
    assert cpu_seconds(session, "edit", drags) < 1 / 15
    assert cpu_seconds(session, "pin", [{"x": 0.1 * k, "y": 0.0} for k in range(15)]) < 0.010
    ask(session, "train", iterations=1)
    assert cpu_seconds(session, "rest", [{}]) < 0.300


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=8,
)
NUMBER = st.floats(-4, 4) | st.integers(-4, 4) | JSON
FIELDS: dict[str, st.SearchStrategy[Any]] = {
    "x": NUMBER,
    "y": NUMBER,
    "count": st.integers(-1, 40) | JSON,
    "iterations": st.integers(-1, 2) | JSON,
    "every": st.integers(-1, 3) | JSON,
    "policy": st.sampled_from(["reference", "new"]) | JSON,
    "sigma": NUMBER,
    "answer": st.sampled_from(["a", "b"]) | JSON,
    "points": st.lists(st.lists(NUMBER, min_size=2, max_size=2), max_size=1) | JSON,
    "bumps": st.dictionaries(
        st.sampled_from(["gold", "proxy", "tin"]),
        st.lists(st.lists(NUMBER, min_size=4, max_size=4), max_size=3),
    )
    | JSON,
    "settings": st.fixed_dictionaries(
        {},
        optional={
            "algorithm": st.sampled_from(["reinforce", "rloo", "ppo", "trpo", "grpo"]) | JSON,
            "baseline": st.sampled_from(["none", "time", "exact", "learned", "group"]) | JSON,
            "beta": NUMBER,
            "clip": NUMBER,
            "entropy": NUMBER,
            "learning_rate": NUMBER,
            "layer": st.sampled_from(["gold", "proxy"]) | JSON,
            "gamma": NUMBER,
            "lam": NUMBER,
            "group": st.integers(0, 8) | JSON,
            "epochs": st.integers(0, 3) | JSON,
            "cosine": st.booleans() | JSON,
            "filter_dead": st.booleans() | JSON,
        },
    )
    | JSON,
    "terrain": st.text(max_size=6) | JSON,
    "image": st.fixed_dictionaries(
        {"heights": st.lists(st.lists(NUMBER, min_size=2, max_size=2), min_size=2, max_size=2)}
    )
    | JSON,
}
NEEDED = {
    "open": ["terrain"],
    "set": ["settings"],
    "pin": ["x", "y"],
    "edit": ["bumps"],
    "route": ["points"],
    "roll": ["count"],
    "train": ["iterations"],
    "play": ["every"],
    "judge": ["answer"],
}


@st.composite
def messages(draw: st.DrawFn) -> object:
    """Nearly right ones, so that they get past the first check, and some that are nothing at all."""
    if draw(st.integers(0, 9)) == 0:
        return draw(JSON)
    kind = draw(st.sampled_from(sorted(set(KINDS) - {"lesson"})))
    names = [*NEEDED.get(kind, [])]
    if draw(st.integers(0, 4)) == 0:
        names += draw(st.lists(st.sampled_from(sorted(FIELDS)), max_size=2))
    return {"id": draw(JSON), "type": kind, **{name: draw(FIELDS[name]) for name in names}}


@pytest.fixture(scope="module")
def fuzzed() -> Session:
    return opened("plain", settings={"paths": 8, "group": 4})


@settings(max_examples=150, deadline=None, derandomize=True)
@given(message=messages())
def test_no_message_breaks_the_session(fuzzed: Session, message: object) -> None:
    """Whatever came before: one session takes them all. Every answer can be encoded."""
    meta, _ = decode(encode(*fuzzed.handle(message)))
    assert meta["ok"] in (True, False)
    if not meta["ok"]:
        assert meta["error"].strip() and "\n" not in meta["error"]
    json.dumps(meta, allow_nan=False)
    assert decode(encode(*fuzzed.handle({"type": "pin", "x": 0, "y": 0})))[0]["ok"]
