"""How the processes started from here get their memory. Small models on a CPU wait for memory more than for
arithmetic: with large pages, and freed memory kept for the next step, a training step took about a sixth less (1.06
and 0.87 s, 3 pairs of 10 steps; docs/log.md)."""

from __future__ import annotations

import os
import sys

TUNABLES = "glibc.malloc.hugetlb=1:glibc.malloc.mmap_threshold=4294967296:glibc.malloc.trim_threshold=17179869184"


def large_pages() -> None:
    """Processes started from now on ask for large pages and keep what they free (glibc 2.35 and later; others ignore
    it). This process, which has its allocator already, stays as it is; a choice of the user's is left alone."""
    if sys.platform == "linux":
        os.environ.setdefault("GLIBC_TUNABLES", TUNABLES)
