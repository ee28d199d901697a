"""From sources to rows that a model reads: read, normalise, render, tokenise, mask, split, order, pack."""
