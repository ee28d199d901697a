from __future__ import annotations

import gc

import pytest

from ridgeline.data.bulk import in_bulk


@in_bulk
def collecting(fail: bool) -> bool:
    if fail:
        raise ValueError
    return gc.isenabled()


def test_collection_rests_while_the_function_runs_and_resumes_whatever_happens():
    assert gc.isenabled() and not collecting(False) and gc.isenabled()
    with pytest.raises(ValueError):
        collecting(True)
    assert gc.isenabled()
    gc.disable()
    try:
        assert not collecting(False) and not gc.isenabled()
    finally:
        gc.enable()
