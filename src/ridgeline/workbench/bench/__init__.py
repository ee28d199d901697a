"""Timings against peers: equal work, alternating fresh processes, medians with their spread."""
