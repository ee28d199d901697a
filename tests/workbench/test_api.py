"""The Python API on the tiny model."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from tests.tiny import make_tiny_model, prompt_text

import ridgeline as rl
from ridgeline.schema.errors import UsageError


@pytest.fixture(autouse=True)
def inside(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    make_tiny_model(tmp_path / "model")


def test_import_is_light_and_names_exist() -> None:
    code = "import sys, ridgeline\nassert 'torch' not in sys.modules\n"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0
    for name in rl.__all__:
        assert callable(getattr(rl, name))
    with pytest.raises(AttributeError):
        rl.trian_sft  # noqa: B018


def test_sample_takes_texts_conversations_and_closures() -> None:
    model = rl.load_model("model", dtype="float32")
    conversation = [{"role": "system", "content": "Brief."}, {"role": "user", "content": "rain"}]
    offset = 3.0
    samples = rl.sample(
        model,
        ["the sea", conversation],
        samples=2,
        max_new_tokens=4,
        reward=lambda samples: [offset + sample.index for sample in samples],
    )
    assert [sample.index for sample in samples] == [0, 1, 0, 1]
    assert [sample.rewards["total"] for sample in samples] == [3.0, 4.0, 3.0, 4.0]
    assert "Brief." in model.tokenizer.decode(samples[2].prompt_ids)
    with pytest.raises(UsageError, match="did you mean 'max_new_tokens'"):
        rl.sample(model, "the sea", max_new_token=4)


def test_training_starts_from_the_weights_passed_in_and_leaves_a_run() -> None:
    model = rl.load_model("model", dtype="float32")
    for parameter in model.module.parameters():
        parameter.data.zero_()
    rows = [{"prompt": prompt_text(i), "completion": "I like it."} for i in range(8)]
    optimiser = {"learning_rate": 0.0}
    summary = rl.train_sft(model, rows, "runs/out", quiet=True, optimiser=optimiser, dtype="float32")
    # Zero weights give every one of the 320 tokens the same chance: ln 320 nats.
    assert summary["stages"]["sft"]["heldout_nll_before"] == pytest.approx(5.768, abs=1e-3)
    trained = rl.load_model("runs/out", dtype="float32")
    assert all(not parameter.any() for parameter in trained.module.parameters())
    assert rl.resume("runs/out", quiet=True)["stages"] == summary["stages"]


def test_rl_refuses_what_it_could_not_resume() -> None:
    with pytest.raises(UsageError, match=r"file\.py:function"):
        rl.train_rl("model", [{"prompt": "a"}], lambda samples: [0.0] * len(samples), "runs/x")
    assert not Path("runs/x").exists()
