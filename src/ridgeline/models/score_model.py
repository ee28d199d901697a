"""A scalar score at every prefix of a completion: reward model and critic are the same module.

Read at the last token it is a reward r(x, y); read before every token it is a value V(s_t). That is why a
reward model can initialise a critic without any conversion.
"""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Literal

import torch
from safetensors.torch import load_file, save_file
from torch import nn
from transformers import AutoModel, PreTrainedModel, PreTrainedTokenizerBase

from ridgeline.models.batch import MicroBatch
from ridgeline.models.forward import hidden_states
from ridgeline.models.layout import lay_out
from ridgeline.models.load import LanguageModel, load_weights
from ridgeline.models.quiet import quiet_transformers
from ridgeline.schema.errors import UsageError

Pooling = Literal["last", "mean", "mean+last"]
_HEAD_FILE = "score_head.safetensors"
_HEAD_CONFIG = "score_head.json"


class ScoreHead(nn.Module):
    """Standardise, then one linear unit; float32 whatever the backbone's format.

    ``scale`` and ``shift`` standardise the features; ``offset`` and ``spread`` the score (so that a reward
    has mean 0 and deviation 1 on the samples it was fitted on). All four are constants, not parameters.
    """

    shift: torch.Tensor
    scale: torch.Tensor
    offset: torch.Tensor
    spread: torch.Tensor

    def __init__(self, features: int) -> None:
        super().__init__()
        self.linear = nn.Linear(features, 1, dtype=torch.float32)
        nn.init.zeros_(self.linear.weight)
        nn.init.zeros_(self.linear.bias)
        self.register_buffer("shift", torch.zeros(features))
        self.register_buffer("scale", torch.ones(features))
        self.register_buffer("offset", torch.zeros(()))
        self.register_buffer("spread", torch.ones(()))

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        """``[..., F] -> [...]``."""
        standard = (features.to(self.shift.dtype) - self.shift) / self.scale
        score: torch.Tensor = self.linear(standard).squeeze(-1)
        return (score - self.offset) / self.spread

    def standardise_features(self, features: torch.Tensor) -> None:
        """Fit ``shift`` and ``scale`` to ``features`` ``[n, F]``; a constant feature keeps scale 1."""
        deviation = features.float().std(dim=0)
        self.shift.copy_(features.float().mean(dim=0))
        self.scale.copy_(torch.where(deviation > 1e-6, deviation, torch.ones_like(deviation)))

    def standardise_scores(self, scores: torch.Tensor) -> None:
        """Fit ``offset`` and ``spread``: ``scores`` ``[n]``, as given now, get mean 0 and deviation 1."""
        deviation = scores.std() if len(scores) > 1 else torch.ones(())
        self.offset.add_(self.spread * scores.mean())
        self.spread.mul_(deviation.clamp_min(1e-6))


class ScoreModel(nn.Module):
    """Backbone (possibly cut after some layers), pooling over the completion so far, head."""

    def __init__(self, backbone: PreTrainedModel, pooling: Pooling) -> None:
        super().__init__()
        self.backbone = backbone
        self.pooling: Pooling = pooling
        width = int(backbone.config.hidden_size)
        self.head = ScoreHead(2 * width if pooling == "mean+last" else width)

    def state_features(self, batch: MicroBatch, *, packed: bool) -> tuple[torch.Tensor, torch.Tensor]:
        """Pooled features of every state, ``[B, N + 1, F]``, and how many states each row has, ``[B]``.

        State 0 is the prompt (before the first scored token), state N the finished completion. Pooling starts
        at the last prompt token, so that every state has something to pool.
        """
        layout = lay_out(batch, packed=packed)
        flat_hidden = hidden_states(self.backbone, layout)
        width = batch.mask_BN.shape[1] + 1
        index_BS = torch.zeros(len(batch.rows), width, dtype=torch.long, device=batch.device)
        for number, row in enumerate(batch.rows):
            states = torch.from_numpy(row.targets)
            first = int(row.targets[0]) - 1 if len(row.targets) else len(row) - 1
            positions = torch.cat([torch.tensor([first]), states])
            index_BS[number, : len(positions)] = layout.token_index[number][positions]
        last_BSF = flat_hidden[index_BS].to(self.head.shift.dtype)
        counts_B = batch.mask_BN.sum(1)
        if self.pooling == "last":
            return last_BSF, counts_B
        valid_BS = torch.arange(width, device=batch.device)[None] <= counts_B[:, None]
        steps_S = torch.arange(1, width + 1, device=batch.device, dtype=torch.float32)
        mean_BSF = (last_BSF * valid_BS[..., None]).cumsum(1) / steps_S[None, :, None]
        pooled = mean_BSF if self.pooling == "mean" else torch.cat([mean_BSF, last_BSF], dim=-1)
        return pooled, counts_B

    def final_features(self, batch: MicroBatch, *, packed: bool) -> torch.Tensor:
        """Features of the finished completions ``[B, F]``."""
        states_BSF, counts_B = self.state_features(batch, packed=packed)
        return states_BSF[torch.arange(len(batch.rows), device=batch.device), counts_B]

    def scores(self, batch: MicroBatch, *, packed: bool) -> torch.Tensor:
        """Rewards of the finished completions ``[B]``."""
        result: torch.Tensor = self.head(self.final_features(batch, packed=packed))
        return result

    def values(self, batch: MicroBatch, *, packed: bool) -> torch.Tensor:
        """V(s_t) before every scored token ``[B, N]``."""
        states_BSF, _ = self.state_features(batch, packed=packed)
        result: torch.Tensor = self.head(states_BSF[:, :-1])
        return result

    def save(self, folder: str | Path, tokenizer: PreTrainedTokenizerBase) -> None:
        """Backbone as a Hugging Face folder, head beside it."""
        folder = Path(folder)
        with quiet_transformers():
            self.backbone.save_pretrained(folder)
            tokenizer.save_pretrained(folder)
        save_file(
            {name: value.contiguous() for name, value in self.head.state_dict().items()}, folder / _HEAD_FILE
        )
        (folder / _HEAD_CONFIG).write_text(json.dumps({"pooling": self.pooling}) + "\n")


def feature_forward(module: nn.Module, batch: MicroBatch, packed: bool) -> dict[str, torch.Tensor]:
    """Engine forward: ``features`` ``[B, F]`` of the finished completions."""
    assert isinstance(module, ScoreModel)
    return {"features": module.final_features(batch, packed=packed)}


def score_forward(module: nn.Module, batch: MicroBatch, packed: bool) -> dict[str, torch.Tensor]:
    """Engine forward: ``score`` ``[B]`` of the finished completions."""
    assert isinstance(module, ScoreModel)
    return {"score": module.scores(batch, packed=packed)}


def value_forward(module: nn.Module, batch: MicroBatch, packed: bool) -> dict[str, torch.Tensor]:
    """Engine forward: ``values`` ``[B, N]`` before every scored token."""
    assert isinstance(module, ScoreModel)
    return {"values": module.values(batch, packed=packed)}


def head_forward(module: nn.Module, batch: MicroBatch, packed: bool) -> dict[str, torch.Tensor]:
    """Engine forward of a head alone, on the rows' cached features: ``score`` ``[B]``."""
    assert isinstance(module, ScoreHead)
    return {"score": module(batch.features())}


def score_model_from(language_model: LanguageModel, *, layer: int | None, pooling: Pooling) -> ScoreModel:
    """A new score model on a copy of the language model's first ``layer`` layers, with a zero head.

    Raises:
        UsageError: the model has fewer layers.
    """
    source = language_model.module
    config = copy.deepcopy(source.config)
    depth = int(config.num_hidden_layers)
    keep = depth if layer is None else layer
    if keep > depth:
        raise UsageError(f"layer = {keep}, but the model has {depth} layers; choose 1 to {depth}.")
    config.num_hidden_layers = keep
    if getattr(config, "layer_types", None) is not None:
        config.layer_types = config.layer_types[:keep]
    backbone = AutoModel.from_config(config, dtype=source.dtype)
    wanted = set(backbone.state_dict())
    weights = {name: value for name, value in source.base_model.state_dict().items() if name in wanted}
    backbone.load_state_dict(weights)
    backbone = backbone.to(source.device).eval()
    for part in backbone.modules():
        if isinstance(part, nn.Embedding):
            part.padding_idx = None
    return ScoreModel(backbone, pooling).to(source.device)


def load_score_model(
    folder: str | Path, *, dtype: torch.dtype = torch.float32, device: torch.device | str = "cpu"
) -> ScoreModel:
    """Reload what ``ScoreModel.save`` wrote.

    Raises:
        UsageError: the folder holds no score model.
    """
    folder = Path(folder)
    if not (folder / _HEAD_FILE).is_file():
        raise UsageError(
            f"{folder} holds no reward model (no {_HEAD_FILE}); name the output of a reward_model stage."
        )
    with quiet_transformers():
        backbone = load_weights(AutoModel, str(folder), str(folder), dtype)
    for part in backbone.modules():
        if isinstance(part, nn.Embedding):
            part.padding_idx = None
    model = ScoreModel(backbone.eval(), json.loads((folder / _HEAD_CONFIG).read_text())["pooling"])
    model.head.load_state_dict(load_file(folder / _HEAD_FILE))
    return model.to(device)
