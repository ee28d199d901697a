from __future__ import annotations

import os
import subprocess
import sys

import pytest
import torch

from ridgeline.models import hardware
from ridgeline.models.hardware import describe, resolve_device, resolve_dtype
from ridgeline.schema.errors import UsageError


def test_auto_device_prefers_what_is_there(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)
    assert resolve_device("auto").type == "cpu"
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: True)
    assert resolve_device("auto").type == "mps"
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    assert resolve_device("auto").type == "cuda"
    assert resolve_device("cpu").type == "cpu"


def test_a_device_that_is_not_there_is_a_usage_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(UsageError, match="device = 'cuda' is not available"):
        resolve_device("cuda")


@pytest.mark.parametrize(("speedup", "dtype"), [(0.4, torch.float32), (4.0, torch.bfloat16)])
def test_auto_dtype_follows_the_measured_speed(
    speedup: float, dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hardware, "bfloat16_speedup", lambda: speedup)
    assert resolve_dtype("auto", torch.device("cpu")) == dtype


def test_a_dtype_asked_for_is_not_measured(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hardware, "bfloat16_speedup", lambda: pytest.fail("measured"))
    assert resolve_dtype("float32", torch.device("cpu")) == torch.float32
    assert resolve_dtype("bfloat16", torch.device("cpu")) == torch.bfloat16
    assert resolve_dtype("auto", torch.device("mps")) == torch.float32


def test_unverified_devices_are_labelled_so() -> None:
    assert describe(torch.device("cpu"), torch.float32)["device_verified"] is True
    assert describe(torch.device("cuda"), torch.bfloat16)["device_verified"] is False


_NARROW = """
import sys, torch
sys.path.insert(0, ".")
from ridgeline.models.batch import MicroBatch
from ridgeline.models.forward import token_scores
from ridgeline.models.hardware import bfloat16_speedup, resolve_dtype
from tests.models.families import make_model, mixed_units
dtype = resolve_dtype("auto", torch.device("cpu"))
assert dtype == (torch.bfloat16 if bfloat16_speedup() > 1.3 else torch.float32)
batch = MicroBatch.of(mixed_units())
for dtype in (dtype, torch.bfloat16):
    logp = token_scores(make_model("llama", dtype), batch, packed=True)["logp"]
    logp.sum().backward()
exact = token_scores(make_model("llama"), batch, packed=True)["logp"]
print(float((logp - exact).abs().max()))
"""


def test_a_narrow_processor_resolves_and_runs() -> None:
    """ONEDNN_MAX_CPU_ISA is read once per process, so this needs a process of its own."""
    environment = {**os.environ, "ONEDNN_MAX_CPU_ISA": "AVX2", "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [sys.executable, "-c", _NARROW], env=environment, capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, done.stderr
    assert float(done.stdout.split()[-1]) < 0.3
