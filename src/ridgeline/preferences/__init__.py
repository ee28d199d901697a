"""Preferences: which of two completions of a prompt is better, who said so, and how far to trust it."""
