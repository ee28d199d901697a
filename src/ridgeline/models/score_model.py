"""Scores at every prefix of a completion: reward models of all kinds and the critic are the same module.

State t is what the model knows after t tokens of the completion; state 0 has read the prompt only. Read at
the last state, a head gives a reward r(x, y). Read at the states 0..N-1, before every token, it gives values
V(s_t), which is why a reward model can initialise a critic without any conversion. Read at the states 1..N,
after every token, it gives the running verdict of an outcome or process model: the logit at token t has seen
token t.
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
from transformers.initialization import no_init_weights

from ridgeline.models.batch import MicroBatch
from ridgeline.models.forward import read_rows
from ridgeline.models.load import LanguageModel, load_weights
from ridgeline.models.quiet import quiet_transformers
from ridgeline.models.score_heads import HeadKind, ScoreHead
from ridgeline.schema.errors import UsageError

Pooling = Literal["last", "mean", "mean+last"]
_HEAD_FILE = "score_head.safetensors"
_HEAD_CONFIG = "score_head.json"


class ScoreModel(nn.Module):
    """Backbone (possibly cut after some layers), pooling over the completion so far, linear heads."""

    def __init__(self, backbone: PreTrainedModel, pooling: Pooling, kind: HeadKind | None = None) -> None:
        super().__init__()
        self.backbone = backbone
        self.pooling: Pooling = pooling
        self.kind = kind or HeadKind()
        width = int(backbone.config.hidden_size)
        self.head = ScoreHead(2 * width if pooling == "mean+last" else width, self.kind.outputs)

    def state_features(self, batch: MicroBatch, *, packed: bool) -> tuple[torch.Tensor, torch.Tensor]:
        """Pooled features of every state, ``[B, N + 1, F]``, and how many states each row has, ``[B]``.

        State 0 is the prompt (before the first scored token), state N the finished completion. Pooling starts
        at the last prompt token, so that every state has something to pool.
        """
        flat_hidden, layout = read_rows(self.backbone, batch, packed=packed)
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

    def heads(self, batch: MicroBatch, *, packed: bool) -> torch.Tensor:
        """What every linear unit says, ``[B, S, K]``.

        S = 1, the finished completion, for losses that rank completions. S = N, after every scored token, for
        outcome and process losses; the scored tokens of a process model's rows are the ends of the steps.
        """
        if self.kind.per_token:
            states_BSF, _ = self.state_features(batch, packed=packed)
            per_token: torch.Tensor = self.head(states_BSF[:, 1:])
            return per_token
        finished: torch.Tensor = self.head(self.final_features(batch, packed=packed))
        return finished[:, None]

    def scores(self, batch: MicroBatch, *, packed: bool) -> torch.Tensor:
        """Rewards of the finished completions ``[B]``."""
        return self.kind.reward(self.heads(batch, packed=packed), batch.mask_BN)

    def token_scores(self, batch: MicroBatch, *, packed: bool, kind: HeadKind | None = None) -> torch.Tensor:
        """After every scored token ``[B, N]``: a probability (outcome, process), else the score of what is
        there so far, as if the completion ended here."""
        states_BSF, _ = self.state_features(batch, packed=packed)
        return (kind or self.kind).token_scores(self.head(states_BSF[:, 1:]))

    def values(self, batch: MicroBatch, *, packed: bool) -> torch.Tensor:
        """V(s_t) before every scored token ``[B, N]``.

        Raises:
            UsageError: the model has several heads, or learned outcomes or steps.
        """
        self.kind.check_is_value()
        states_BSF, _ = self.state_features(batch, packed=packed)
        result: torch.Tensor = self.head(states_BSF[:, :-1])[..., 0]
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
        config = {"pooling": self.pooling, **self.kind.as_dict()}
        (folder / _HEAD_CONFIG).write_text(json.dumps(config, indent=1) + "\n", encoding="utf-8")


def feature_forward(module: nn.Module, batch: MicroBatch, packed: bool) -> dict[str, torch.Tensor]:
    """Engine forward: ``features`` ``[B, F]`` of the finished completions; ``[B, N, F]`` after every scored
    token where the model answers there."""
    assert isinstance(module, ScoreModel)
    if module.kind.per_token:
        return {"features": module.state_features(batch, packed=packed)[0][:, 1:]}
    return {"features": module.final_features(batch, packed=packed)}


def score_forward(
    module: nn.Module, batch: MicroBatch, packed: bool, kind: HeadKind | None = None
) -> dict[str, torch.Tensor]:
    """Engine forward: ``heads`` ``[B, S, K]`` and the reward ``score`` ``[B]``.

    Where the model has them also ``doubt`` ``[B]``, the spread of its heads, and ``token_score`` ``[B, N]``,
    probabilities after every scored token. ``kind`` combines and aggregates otherwise than the model's own.
    """
    assert isinstance(module, ScoreModel)
    heads_BSK = module.heads(batch, packed=packed)
    kind = kind or module.kind
    outputs = {"heads": heads_BSK, "score": kind.reward(heads_BSK, batch.mask_BN)}
    if (doubt_B := kind.doubt(heads_BSK)) is not None:
        outputs["doubt"] = doubt_B
    if kind.per_token:
        outputs["token_score"] = kind.token_scores(heads_BSK)
    return outputs


def token_forward(
    module: nn.Module, batch: MicroBatch, packed: bool, kind: HeadKind | None = None
) -> dict[str, torch.Tensor]:
    """Engine forward: ``token_score`` ``[B, N]`` after every scored token, whatever the model learned."""
    assert isinstance(module, ScoreModel)
    return {"token_score": module.token_scores(batch, packed=packed, kind=kind)}


def value_forward(module: nn.Module, batch: MicroBatch, packed: bool) -> dict[str, torch.Tensor]:
    """Engine forward: ``values`` ``[B, N]`` before every scored token."""
    assert isinstance(module, ScoreModel)
    return {"values": module.values(batch, packed=packed)}


def head_forward(module: nn.Module, batch: MicroBatch, packed: bool) -> dict[str, torch.Tensor]:
    """Engine forward of a head alone, on the rows' cached features: ``heads`` ``[B, S, K]``."""
    assert isinstance(module, ScoreHead)
    cached = [torch.from_numpy(row.features) for row in batch.rows if row.features is not None]
    if cached[0].ndim == 1:
        return {"heads": module(torch.stack(cached).to(batch.device))[:, None]}
    padded_BNF = torch.zeros(len(cached), batch.mask_BN.shape[1], cached[0].shape[1], dtype=cached[0].dtype)
    for line, features_NF in enumerate(cached):
        padded_BNF[line, : len(features_NF)] = features_NF
    return {"heads": module(padded_BNF.to(batch.device))}


def score_model_from(
    language_model: LanguageModel,
    *,
    layer: int | None,
    pooling: Pooling,
    kind: HeadKind | None = None,
    take: bool = False,
) -> ScoreModel:
    """A new score model on a copy of the language model's first ``layer`` layers, with a zero head.

    With ``take`` on these layers themselves: nothing is held twice, and training moves both models.

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
    with no_init_weights():
        backbone = AutoModel.from_config(config, dtype=source.dtype)
    given = source.base_model.state_dict()
    weights = {name: given[name] if take else given[name].clone() for name in backbone.state_dict()}
    backbone.load_state_dict(weights, assign=True)
    backbone = backbone.to(source.device).eval()
    for part in backbone.modules():
        if isinstance(part, nn.Embedding):
            part.padding_idx = None
    return ScoreModel(backbone, pooling, kind).to(source.device)


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
    config = json.loads((folder / _HEAD_CONFIG).read_text(encoding="utf-8"))
    model = ScoreModel(backbone.eval(), config["pooling"], HeadKind.from_dict(config))
    # Offset and spread of a single head were stored without an axis once.
    shapes = {name: value.shape for name, value in model.head.state_dict().items()}
    stored = load_file(folder / _HEAD_FILE)
    model.head.load_state_dict({name: value.reshape(shapes[name]) for name, value in stored.items()})
    return model.to(device)
