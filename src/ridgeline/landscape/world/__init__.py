"""The exact two-dimensional world: a walker on a terrain whose every quantity can be computed, not estimated.

State s in [-3, 3]^2, action a in R^2, next state s' = clip(s + 0.30 a), reward r(s') = altitude stepped on.
"""
