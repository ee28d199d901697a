"""Load, save, heads, snapshots and the forward pass over rows."""
