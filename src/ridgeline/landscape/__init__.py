"""The reward landscape: reward as altitude, an exact two-dimensional world and maps of real runs."""
