"""Tell glibc to keep large blocks instead of giving them back to the kernel, and to use huge pages.

A training step allocates and frees the same large temporaries over and over; by default each is unmapped and
page-faulted again, 4 KB at a time. So nothing is given back, and the heap grows in pages of 2 MB where the
kernel has them. Nothing here runs at import.
"""

from __future__ import annotations

import ctypes
import os
import sys
from pathlib import Path

_M_TRIM_THRESHOLD, _M_TOP_PAD, _M_MMAP_MAX = -1, -2, -4
_MADV_HUGEPAGE = 14
_HUGE = 2**21
_SHARE, _MOST = 0.5, 16 * 2**30
"""Of the machine's memory, and bytes at most, that the heap is laid out for; none is taken before its use."""


def tune_allocator() -> str:
    """Keep freed blocks in this process, and let it use huge pages; returns what was done.

    Opt out with RIDGELINE_ALLOCATOR=stock. Costs resident memory: freed blocks stay with the process.
    """
    if os.environ.get("RIDGELINE_ALLOCATOR") == "stock":
        return "stock (RIDGELINE_ALLOCATOR)"
    if not sys.platform.startswith("linux"):
        return "stock (not glibc)"
    try:
        libc = ctypes.CDLL("libc.so.6")
        mallopt = libc.mallopt
    except (OSError, AttributeError):
        return "stock (not glibc)"
    # No block has a mapping of its own, and the heap's end is never cut off.
    settings = ((_M_MMAP_MAX, 0), (_M_TRIM_THRESHOLD, -1), (_M_TOP_PAD, 2**26))
    if not all(mallopt(*setting) for setting in settings):
        return "stock (refused)"
    return "glibc keeps freed blocks" + (", huge pages" if _lay_out_heap(libc) else "")


def _lay_out_heap(libc: ctypes.CDLL) -> bool:
    """Ask for huge pages where the heap will be: a large block is taken, marked and given back, untouched."""
    size = min(int(_SHARE * os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")), _MOST)
    if not _huge_pages_on_request():
        return False
    libc.malloc.restype, libc.malloc.argtypes = ctypes.c_void_p, [ctypes.c_size_t]
    libc.free.argtypes = [ctypes.c_void_p]
    libc.madvise.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int]
    block = libc.malloc(size)
    if not block:
        return False
    first = -(-block // _HUGE) * _HUGE
    marked: bool = libc.madvise(first, (block + size - first) // _HUGE * _HUGE, _MADV_HUGEPAGE) == 0
    libc.free(block)
    return marked


def _huge_pages_on_request() -> bool:
    try:
        return "[never]" not in Path("/sys/kernel/mm/transparent_hugepage/enabled").read_text()
    except OSError:
        return False
