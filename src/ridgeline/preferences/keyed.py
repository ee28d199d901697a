"""Random numbers as a pure function of what they are for."""

from __future__ import annotations

import hashlib
import json


def uniform(*key: str | int) -> float:
    """Uniform in [0, 1) with 53 random bits; the same key gives the same number, everywhere and always."""
    digest = hashlib.blake2b(json.dumps(key).encode(), digest_size=8).digest()
    return (int.from_bytes(digest, "little") >> 11) / 2**53
