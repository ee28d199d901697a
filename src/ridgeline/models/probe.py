"""What a model's own code supports, found by trying it once on a few tokens."""

from __future__ import annotations

import numpy as np
import torch
from transformers import PreTrainedModel

from ridgeline.models.batch import MicroBatch, completion_row
from ridgeline.models.body import fused_body
from ridgeline.models.forward import head_logits, token_scores


def supports_packing(module: PreTrainedModel, longest: int = 0) -> bool:
    """Whether packed and padded layouts agree on this model.

    Some architectures ignore a four-dimensional mask (state-space layers), and a sliding window is not part
    of ours, so rows longer than the window are padded, but where `models/body.py` reads them.
    """
    window = getattr(module.config, "sliding_window", None)
    if window is not None and longest > window and fused_body(module.base_model) is None:
        return False
    vocabulary = int(module.config.vocab_size)
    ids = (np.arange(12) * 7 + 3) % vocabulary
    unit = [
        completion_row(ids[:4].tolist(), ids[4:9].tolist()),
        completion_row(ids[:4].tolist(), ids[6:12].tolist()),
    ]
    batch = MicroBatch.of([unit, [unit[1]]], module.device)
    with torch.no_grad():
        try:
            packed = token_scores(module, batch, packed=True)["logp"]
        except (ValueError, RuntimeError, TypeError):
            return False
        padded = token_scores(module, batch, packed=False)["logp"]
    tolerance = 1e-3 if padded.dtype == module.dtype else 0.3
    return bool(torch.allclose(packed, padded, atol=tolerance, rtol=0.02))


def head_is_known(module: PreTrainedModel) -> bool:
    """Whether ``head_logits`` reproduces the model's own logits (families with unusual heads fail here)."""
    ids = torch.arange(1, 9, device=module.device)[None] % int(module.config.vocab_size)
    with torch.no_grad():
        # The same product of the same shape on both sides, so that bfloat16 rounding cannot tell them apart.
        ours = head_logits(module, module.base_model(input_ids=ids, use_cache=False).last_hidden_state)
        theirs = module(input_ids=ids, use_cache=False).logits
    return bool(torch.allclose(ours.float(), theirs.float(), atol=1e-5, rtol=1e-4))
