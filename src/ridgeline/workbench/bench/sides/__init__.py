"""Scripts that run in the environments of peers. They import nothing of Ridgeline, only their neighbour."""
