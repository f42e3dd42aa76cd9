"""The allocator of the C library, told to keep memory."""

import ctypes

_TRIM, _MMAP = -1, -3  # M_TRIM_THRESHOLD and M_MMAP_THRESHOLD of malloc.h


def tune_allocator() -> bool:
    """Let glibc keep freed memory instead of giving it back to the system at once.

    By default every large tensor is made of fresh pages, which the system has to clear: an
    operation on 64 MB may spend most of its time there. Kept memory is reused at once; in return
    the process stays as large as it ever was. It acts on the whole process, also on other
    libraries, and cannot be undone, so the library never calls it by itself. Call it early. (The
    command line does, whose process is its own.)

    Returns:
        Whether the allocator took it: false where it is not glibc's.

    References:
        ``man 3 mallopt``.
    """
    try:
        library = ctypes.CDLL("libc.so.6")
        kept = library.mallopt(_MMAP, 1 << 30) and library.mallopt(_TRIM, -1)
    except (OSError, AttributeError):
        return False
    return bool(kept)
