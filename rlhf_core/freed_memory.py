"""Memory that a training has freed: kept in the process for its next step.

The C library of Linux gives large blocks back at once. Taken again, they come as fresh pages that
the system has to clear first: a tenth of a step on a CPU.
"""

import ctypes
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3  # M_TRIM_THRESHOLD, M_MMAP_THRESHOLD of malloc.h
LARGEST_BLOCK = 2**25  # the most that the library takes
KEPT = 2**29
KEPT_USUALLY = 2 * LARGEST_BLOCK  # to which the library itself rises once such a block was freed


@contextmanager
def keep_freed_memory() -> Iterator[None]:
    """Keep up to half a GiB of freed memory in the process; give it back in the end.

    Does nothing where the C library has no such settings.
    """
    library = _library()
    if library is None:
        yield
        return
    library.mallopt(_MMAP_THRESHOLD, LARGEST_BLOCK)
    library.mallopt(_TRIM_THRESHOLD, KEPT)
    try:
        yield
    finally:
        library.mallopt(_TRIM_THRESHOLD, KEPT_USUALLY)
        library.malloc_trim(0)


def _library() -> Any:
    """The C library, if it is one with these settings."""
    library = ctypes.CDLL(None) if sys.platform == "linux" else None
    if library is None or not (hasattr(library, "mallopt") and hasattr(library, "malloc_trim")):
        return None
    return library
