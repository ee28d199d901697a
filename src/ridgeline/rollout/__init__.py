"""Samplers: completions with the log-prob of every token under the distribution it was drawn from."""
