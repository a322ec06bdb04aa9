"""Memory between batches: kept, because fetching it anew from the system costs more than filling it."""

import ctypes
from contextlib import suppress

# Of <malloc.h>.
_M_TRIM_THRESHOLD, _M_TOP_PAD, _M_MMAP_MAX = -1, -2, -4
_TOP_PAD = 64 << 20
_MOST = 2**31 - 1


def keep_freed_memory() -> None:
    """Let this process keep memory that it frees, for the next batch, rather than give it back to the system.

    The tensors of one step are freed and those of the next are as large. By default, the C library hands large ones
    back, so that each step pays for a page fault every 4 KB, more than half of an epoch on a graph of 200,000 nodes
    with 256 hidden columns. What the process had at its peak, it keeps.
    :func:`gnnscale.train` calls this; call it before a loop of your own. Where the C library is not glibc, nothing
    happens.

    Examples
    --------
    >>> import gnnscale as gs
    >>> gs.keep_freed_memory()
    """
    with suppress(AttributeError, OSError):
        mallopt = ctypes.CDLL(None).mallopt
        for parameter, value in ((_M_MMAP_MAX, 0), (_M_TRIM_THRESHOLD, _MOST), (_M_TOP_PAD, _TOP_PAD)):
            mallopt(ctypes.c_int(parameter), ctypes.c_int(value))
