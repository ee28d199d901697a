"""Which run folders are being written: their lock is looked up, never taken (that could stop a training)."""

from __future__ import annotations

from pathlib import Path


def held_locks(table: Path = Path("/proc/locks")) -> frozenset[int] | None:
    """Inodes of files that some process holds an exclusive flock on; None where the system does not say.

    Device numbers are left out: file systems such as overlayfs and btrfs report others here than stat does.
    """
    try:
        lines = table.read_text(encoding="ascii", errors="replace").splitlines()
    except OSError:
        return None
    found = set()
    for line in lines:
        words = line.split()
        if "->" in words or len(words) < 6 or words[1] != "FLOCK" or words[3] != "WRITE":
            continue
        inode = words[5].rpartition(":")[2]
        if inode.isdigit():
            found.add(int(inode))
    return frozenset(found)


def is_locked(run: Path, held: frozenset[int] | None) -> bool:
    """Whether a process is writing to the run folder (False where the system does not say)."""
    if not held:
        return False
    try:
        return (run / ".lock").stat().st_ino in held
    except OSError:
        return False
