from __future__ import annotations

import math
import time
from dataclasses import replace

import pytest

from ridgeline.workbench.bench import load
from ridgeline.workbench.bench.compare import Spread, equal_work, faster, figure
from ridgeline.workbench.bench.growth import fit
from ridgeline.workbench.bench.process import Run
from ridgeline.workbench.bench.results import summary
from ridgeline.workbench.bench.works import find

SFT = find("sft", against=None)[0]
GRPO = find("grpo", against=None)[0]


def a_run(seconds: list[float], tokens: list[int], **checks: object) -> Run:
    return Run(
        seconds=seconds,
        tokens=tokens,
        start=9.0,
        peak=10**9,
        others=0.0,
        checks=checks,
        settings={},
        versions={},
        parts={},
        roofline={},
    )


def test_a_figure_leaves_out_the_warm_up() -> None:
    run = a_run([100.0, 1.0, 2.0, 4.0], [1, 10, 10, 10])
    assert figure(SFT, run) == 5.0
    assert figure(GRPO, run) == 2.0
    assert figure(find("startup-sft", against=None)[0], run) == 9.0


def test_faster_is_above_one_in_both_units() -> None:
    """30 tokens a second against 10, and 10 seconds against 30."""
    assert faster(SFT, [30.0, 30.0, 60.0], [10.0, 15.0, 10.0]) == Spread(3.0, 2.0, 6.0)
    assert faster(GRPO, [10.0], [30.0]).median == 3.0


def test_work_is_equal_only_if_everything_in_common_is() -> None:
    ours = a_run([1.0], [10], loss=2.0, lengths=[3, 4], rows=8)
    holds = {check.what: check.holds for check in equal_work(ours, ours)}
    assert holds == {"loss": True, "lengths": True, "rows": True, "tokens": True}
    for checks, tokens, failed in (
        ({"loss": 2.03, "lengths": [3, 4], "rows": 8}, [10], set()),
        ({"loss": 2.1, "lengths": [3, 4], "rows": 8}, [10], {"loss"}),
        ({"loss": 2.0, "lengths": [4, 3], "rows": 8}, [10], {"lengths"}),
        ({"loss": math.nan, "lengths": [3, 4], "rows": 7}, [10], {"loss", "rows"}),
        ({"loss": 2.0, "lengths": [3, 4], "rows": 8}, [11], {"tokens"}),
    ):
        found = equal_work(ours, a_run([1.0], tokens, **checks))
        assert {check.what for check in found if not check.holds} == failed


def test_a_summary_says_what_disturbed_it() -> None:
    ours = a_run([9.0, 1.0], [1, 10], loss=1.0)
    theirs = replace(a_run([9.0, 5.0], [1, 10], loss=1.0), others=0.4, peak=4 * 10**9)
    result = summary(SFT, {"ridgeline": [ours], "trl": [theirs]}, {"busy": False})
    assert result["faster"]["trl"]["median"] == 5.0
    assert result["memory"]["trl"] == 0.25
    assert result["disturbed"] and result["equal"] and result["others"] == 0.4


def test_an_exponent_is_the_slope_on_logarithmic_axes() -> None:
    sizes = [10.0, 20.0, 40.0, 80.0]
    found = fit(sizes, [3 * size**1.5 for size in sizes])
    assert found.exponent == pytest.approx(1.5) and found.error == pytest.approx(0, abs=1e-7)
    noisy = fit([1.0, math.e, math.e**2], [1.0, math.e**2, math.e**2])
    # By hand: slope 1, residuals -1/3, 2/3, -1/3, so s^2 = 2/3 and Sxx = 2.
    assert noisy.exponent == pytest.approx(1.0) and noisy.error == pytest.approx(math.sqrt(1 / 3))
    assert fit([1.0, 2.0], [1.0, 4.0]).error is None
    with pytest.raises(ValueError, match="two different sizes"):
        fit([2.0, 2.0], [1.0, 2.0])


def test_this_process_at_work_is_seen() -> None:
    before, own = load.Ticks.now(), time.process_time()
    assert before is not None
    end = time.monotonic() + 0.6
    while time.monotonic() < end:
        pass
    after = load.Ticks.now()
    assert after is not None
    spent = time.process_time() - own
    # The kernel counts in hundredths of a second.
    assert after.busy - before.busy >= spent - 0.05
    assert 0 < after.used_since(before) <= 1
