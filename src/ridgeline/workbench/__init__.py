"""What stands around a run: starting it, planning it, checking it, reading its results."""
