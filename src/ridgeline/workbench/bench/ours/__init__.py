"""Our side of every work, on the fast path and on the plain one that is its oracle."""
