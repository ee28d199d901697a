"""Rewards of completions: built-ins, the user's functions (isolated), reward models, and their weighted sum.

A reward function is ``def f(samples: list[Sample]) -> list[float | None]``, sync or async; None means "not
applicable". What it returned lives in ``sample.rewards`` and is checkpointed with the samples: a resumed run
reads a timeout back instead of waiting for it to happen again, so exactness holds.
"""
