"""A dense decoder as data: the parts of each layer, found in the module tree that transformers builds.

What is found here is enough to decode without transformers' own forward pass (`rollout/native`). Families are
named, because a layer with the same parts may still compute something else; what a family does not say by its
parts (an offset in the norm, a window, which angles) is read from the modules themselves.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn
from transformers import PreTrainedModel

from ridgeline.models.adapted import amounts_to_a_linear

FAMILIES = ("llama", "mistral", "qwen2", "qwen3", "smollm3", "gemma3_text", "olmo2", "phi3")
"""The `model_type` of what can be decoded natively; Llama's is also that of SmolLM2."""

ACTIVATIONS = {"silu": "silu", "swish": "silu", "gelu_pytorch_tanh": "gelu"}


FORMATS = {torch.bfloat16, torch.float32}
"""Of weights, that the kernels know."""


class Unsupported(Exception):
    """Why a model cannot be decoded natively, as the end of a sentence."""


@dataclass(frozen=True)
class Norm:
    """An RMS norm: x / rms(x) * (weight + offset)."""

    module: nn.Module
    eps: float
    offset: float


@dataclass(frozen=True)
class Layer:
    """The parts of one layer. Linears of one kind are read as one, in the order given."""

    module: nn.Module
    queries_keys_values: Sequence[nn.Linear]
    out: nn.Linear
    gate_up: Sequence[nn.Linear]
    down: nn.Linear
    before_attention: Norm | None
    after_attention: Norm | None
    before_mlp: Norm | None
    after_mlp: Norm | None
    query_norm: Norm | None
    key_norm: Norm | None
    angles: str | None
    """What turns queries and keys: a layer type of the rotary module, "" its only one, None nothing."""
    window: int
    """Positions that a query sees, itself included; 0: all."""
    scale: float


@dataclass(frozen=True)
class Body:
    """A decoder up to its last hidden states; ``size`` is the width of a head."""

    layers: Sequence[Layer]
    embedding: nn.Module
    rotary: nn.Module
    last_norm: Norm
    heads: int
    kv_heads: int
    size: int
    activation: str


@dataclass(frozen=True)
class Architecture:
    """A whole language model."""

    body: Body
    head: nn.Linear


def architecture_of(module: PreTrainedModel) -> Architecture:
    """The parts of the language model ``module``; linears may have LoRA or DoRA around them (`adapted`).

    Raises:
        Unsupported: as `body_of`, a head that is no plain product, or numbers other than the kernels'.
    """
    if getattr(module.config, "final_logit_softcapping", None):
        raise Unsupported("its logits are capped")
    head = module.get_output_embeddings()
    if not amounts_to_a_linear(head):
        raise Unsupported(f"its head is a {type(head).__name__}")
    backbone: Any = module.base_model
    found = Architecture(body_of(backbone, adapters=True), head)
    formats = {parameter.dtype for name, parameter in module.named_parameters() if ".lora_" not in name}
    if len(formats) > 1 or not formats <= FORMATS:
        names = sorted(str(each).removeprefix("torch.") for each in formats)
        raise Unsupported(f"its weights are {' and '.join(names)}, not all bfloat16 or all float32")
    return found


def body_of(backbone: PreTrainedModel, *, adapters: bool = False) -> Body:
    """The parts of ``backbone``, a decoder without its head.

    Raises:
        Unsupported: another family, or a part that is not as expected (say, an adapter inside it, unless
            there may be ``adapters``).
    """
    config: Any = backbone.config
    if config.model_type not in FAMILIES:
        raise Unsupported(f"models of type '{config.model_type}' are not among {', '.join(FAMILIES)}")
    activation = getattr(config, "hidden_activation", None) or config.hidden_act
    if activation not in ACTIVATIONS:
        raise Unsupported(f"its activation '{activation}' is not among {', '.join(sorted(set(ACTIVATIONS)))}")
    if getattr(config, "attn_logit_softcapping", None):
        raise Unsupported("its scores are capped")
    parts: Any = backbone
    return Body(
        layers=[_layer(layer, config, parts.rotary_emb, adapters) for layer in parts.layers],
        embedding=parts.embed_tokens,
        rotary=parts.rotary_emb,
        last_norm=_norm(parts.norm),
        heads=config.num_attention_heads,
        kv_heads=config.num_key_value_heads,
        size=parts.layers[0].self_attn.head_dim,
        activation=ACTIVATIONS[activation],
    )


def _layer(layer: Any, config: Any, rotary: Any, adapters: bool) -> Layer:
    attention, mlp = layer.self_attn, layer.mlp
    attention_in = ["qkv_proj"] if hasattr(attention, "qkv_proj") else ["q_proj", "k_proj", "v_proj"]
    mlp_in = ["gate_up_proj"] if hasattr(mlp, "gate_up_proj") else ["gate_proj", "up_proj"]
    before_attention, after_attention, before_mlp, after_mlp = _norms(layer)
    return Layer(
        module=layer,
        queries_keys_values=_linears(attention, attention_in, adapters),
        out=_linears(attention, ["o_proj"], adapters)[0],
        gate_up=_linears(mlp, mlp_in, adapters),
        down=_linears(mlp, ["down_proj"], adapters)[0],
        before_attention=before_attention,
        after_attention=after_attention,
        before_mlp=before_mlp,
        after_mlp=after_mlp,
        query_norm=_optional_norm(attention, "q_norm"),
        key_norm=_optional_norm(attention, "k_norm"),
        angles=_angles(attention, rotary),
        window=_window(attention, config),
        scale=float(attention.scaling),
    )


def _norms(layer: Any) -> tuple[Norm | None, Norm | None, Norm | None, Norm | None]:
    """Before and after attention, before and after the MLP; a name means different places by family."""
    if hasattr(layer, "pre_feedforward_layernorm"):  # Gemma: around both
        names = (
            "input_layernorm",
            "post_attention_layernorm",
            "pre_feedforward_layernorm",
            "post_feedforward_layernorm",
        )
    elif hasattr(layer, "post_feedforward_layernorm"):  # OLMo 2: after both
        names = ("", "post_attention_layernorm", "", "post_feedforward_layernorm")
    else:  # Llama: before both
        names = ("input_layernorm", "", "post_attention_layernorm", "")
    before_attention, after_attention, before_mlp, after_mlp = (_optional_norm(layer, name) for name in names)
    return before_attention, after_attention, before_mlp, after_mlp


def _optional_norm(parent: Any, name: str) -> Norm | None:
    module = getattr(parent, name, None) if name else None
    return None if module is None else _norm(module)


def _norm(module: Any) -> Norm:
    if not type(module).__name__.endswith("RMSNorm"):
        raise Unsupported(f"its norm is a {type(module).__name__}")
    eps = getattr(module, "variance_epsilon", None) or module.eps
    # Gemma stores what is added to 1.
    return Norm(module, float(eps), 1.0 if type(module).__name__.startswith("Gemma") else 0.0)


def _linears(parent: Any, names: Sequence[str], adapters: bool) -> list[nn.Linear]:
    """With ``adapters``: or what stands in for a linear layer, which has a weight and a bias too."""
    found = [getattr(parent, name) for name in names]
    for name, linear in zip(names, found, strict=True):
        if not (amounts_to_a_linear(linear) if adapters else type(linear) is nn.Linear):
            kind = type(linear)
            owner = " of peft" if kind.__module__.startswith("peft.") else ""
            raise Unsupported(f"its {name} is a {kind.__name__}{owner}")
    return found


def _angles(attention: Any, rotary: Any) -> str | None:
    if not getattr(attention, "use_rope", True):
        return None
    kind = str(getattr(attention, "layer_type", None) or "")
    return kind if hasattr(rotary, f"{kind}_inv_freq") else ""


def _window(attention: Any, config: Any) -> int:
    own = getattr(attention, "sliding_window", None)
    if own is None and not hasattr(attention, "sliding_window"):  # Mistral and Phi-3 keep it in the config
        own = getattr(config, "sliding_window", None)
    return int(own or 0)
