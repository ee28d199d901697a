"""The commands: argument parsing and printing, nothing else. Heavy libraries are imported inside commands."""
