from __future__ import annotations

from ridgeline.preferences.ranked import best_and_worst, two_by_two
from ridgeline.schema.records import Message, Sample

PROMPTS = {"p": [Message("user", "Say something.")]}


def group(*values: float, texts: str = "abcdefgh") -> list[Sample]:
    return [
        Sample(
            "p",
            k,
            [1],
            [2],
            [0.0],
            [True],
            "length" if k == 1 else "stop",
            texts[k],
            rewards={"total": value},
        )
        for k, value in enumerate(values)
    ]


def test_the_best_against_the_worst_of_each_prompt() -> None:
    (pair,) = best_and_worst([group(0.3, -1.0, 0.9, 0.1)], PROMPTS, "total")
    assert (pair.chosen, pair.rejected, pair.prompt_id, pair.prompt) == ("c", "b", "p", PROMPTS["p"])
    assert pair.scores == {"chosen": 0.9, "rejected": -1.0}
    assert (pair.chosen_stopped, pair.rejected_stopped) == (True, False)


def test_nothing_to_prefer_makes_no_pair() -> None:
    groups = [group(0.5, 0.5), group(1.0), [], group(0.1, 0.2, texts="aa")]
    assert best_and_worst(groups, PROMPTS, "total") == []
    assert two_by_two(groups, PROMPTS, "total", seed=1) == []


def test_two_by_two_uses_each_once_and_prefers_the_better() -> None:
    values = (0.1, 0.2, 0.3, 0.4, 0.5)
    met = set()
    for seed in range(200):
        pairs = two_by_two([group(*values)], PROMPTS, "total", seed)
        assert len(pairs) == 2
        used = [text for pair in pairs for text in (pair.chosen, pair.rejected)]
        assert len(set(used)) == 4
        assert all(pair.scores["chosen"] > pair.scores["rejected"] for pair in pairs)
        met |= {(pair.chosen, pair.rejected) for pair in pairs}
    assert len(met) == 10, "every pair of five comes up"
    assert two_by_two([group(*values)], PROMPTS, "total", 3) == two_by_two(
        [group(*values)], PROMPTS, "total", 3
    )
