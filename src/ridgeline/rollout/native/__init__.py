"""The native sampler: continuous batching and fused kernels."""

from ridgeline.rollout.native.sampler import NATIVE, NativeSampler, new_sampler

__all__ = ["NATIVE", "NativeSampler", "new_sampler"]
