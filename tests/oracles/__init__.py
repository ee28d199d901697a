"""Slow, obvious re-implementations in plain Python loops, derived from the papers' numbered equations."""
