"""The geometric mixture is between its two policies, token by token."""

from __future__ import annotations

import torch
from tests.models.families import make_model
from tests.tiny import make_tokenizer

from ridgeline.rollout.decoder import MixtureDecoder, ModelDecoder
from ridgeline.rollout.plain import PlainSampler
from ridgeline.rollout.request import PromptRequest
from ridgeline.schema.stages.common import Sampling

REQUESTS = [PromptRequest("a", [3, 4, 5], 3), PromptRequest("b", [9, 8, 7, 6, 5], 3)]


def two_models() -> tuple[object, object]:
    first, second = make_model("llama", torch.float32), make_model("llama", torch.float32)
    with torch.no_grad():
        for p in second.parameters():
            p.add_(0.05 * torch.randn(p.shape, generator=torch.Generator().manual_seed(p.numel())))
    return first.eval(), second.eval()


def test_mixture_equals_its_formula() -> None:
    first, second = two_models()
    decoders = [ModelDecoder(first), ModelDecoder(second), ModelDecoder(first), ModelDecoder(second)]
    mixture = MixtureDecoder(decoders[0], decoders[1], 0.3)
    owners = [0, 0, 1]
    with torch.no_grad():
        ours = mixture.prefill(REQUESTS, owners)
        logp = decoders[2].prefill(REQUESTS, owners).log_softmax(-1)
        logq = decoders[3].prefill(REQUESTS, owners).log_softmax(-1)
        for _ in range(3):
            expected = (logp.exp() ** 0.7) * (logq.exp() ** 0.3)
            expected = (expected / expected.sum(-1, keepdim=True)).log()
            torch.testing.assert_close(ours.log_softmax(-1), expected, atol=1e-5, rtol=1e-5)
            chosen = ours.argmax(-1)
            for decoder in (mixture, decoders[2], decoders[3]):
                decoder.keep(torch.tensor([0, 2]) if len(chosen) == 3 else torch.tensor([0, 1]))
            chosen = chosen[[0, 2]] if len(chosen) == 3 else chosen
            ours = mixture.step(chosen)
            logp, logq = (d.step(chosen).log_softmax(-1) for d in decoders[2:])


def test_ends_of_the_mixture_are_the_policies() -> None:
    first, second = two_models()
    sampling = Sampling(max_new_tokens=5)

    def drawn(share: float | None, module: object) -> list[list[int]]:
        sampler = PlainSampler(
            module,
            make_tokenizer(),
            [2],
            new_decoder=None
            if share is None
            else lambda: MixtureDecoder(ModelDecoder(first), ModelDecoder(second), share),
        )
        return [sample.completion_ids for sample in sampler(REQUESTS, sampling, seed=5, step=0)]

    assert drawn(0.0, first) == drawn(None, first)
    assert drawn(1.0, first) == drawn(None, second)
    assert drawn(0.0, first) != drawn(1.0, first)
