"""The native sampler: continuous batching over packed weights and fused kernels."""

from ridgeline.rollout.native.sampler import NativeSampler, new_sampler

__all__ = ["NativeSampler", "new_sampler"]
