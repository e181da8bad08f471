"""What the standard library does not offer of the kernel and libc. Nothing here knows what it is used for.

The standalone executable has no C library to load: it has all built in (native/standalone/python.c).
"""

from __future__ import annotations

__all__ = ["getsockopt", "landlock_version", "openat2", "prctl", "trim_heap"]

try:
    from _sidecall import getsockopt, landlock_version, openat2, prctl

    def trim_heap() -> None:
        """Do nothing: musl returns free memory by itself."""
except ImportError:
    import ctypes
    import os

    _SYS_OPENAT2 = 437
    _SYS_LANDLOCK_CREATE_RULESET = 444
    """On every architecture that Linux 5.6 or later runs on."""

    class _OpenHow(ctypes.Structure):
        _fields_ = (("flags", ctypes.c_uint64), ("mode", ctypes.c_uint64), ("resolve", ctypes.c_uint64))

    def prctl(option: int, value: int | bytes, /) -> None:
        """Set an attribute of this process, to a number or a string. Source: the man page.

        Raises:
            OSError: the kernel refuses.
        """
        argument = ctypes.c_ulong(value) if isinstance(value, int) else ctypes.c_char_p(value)
        if ctypes.CDLL(None, use_errno=True).prctl(option, argument, 0, 0, 0):
            raise _error()

    def openat2(root: int, path: bytes, flags: int, resolve: int, /) -> int:
        """Return a descriptor for a path, resolved as told. Source: the man page.

        Args:
            root: a descriptor of the directory that the path is relative to.
            path: the path.
            flags: as for open(2).
            resolve: how: RESOLVE_… flags.

        Raises:
            OSError: as open(2), EXDEV and ELOOP for what `resolve` forbids, EAGAIN, ENOSYS.
        """
        how = _OpenHow(flags, 0, resolve)
        syscall = ctypes.CDLL(None, use_errno=True).syscall
        fd: int = syscall(_SYS_OPENAT2, root, ctypes.c_char_p(path), ctypes.byref(how), ctypes.sizeof(how))
        if fd < 0:
            raise _error(path)
        return fd

    def landlock_version() -> int:
        """Return the version of the kernel's Landlock; a negative number if it has none. Source: the man page."""
        version: int = ctypes.CDLL(None).syscall(_SYS_LANDLOCK_CREATE_RULESET, None, ctypes.c_size_t(0), 1)
        return version

    def getsockopt(fd: int, level: int, option: int, size: int, /) -> bytes:
        """Return the value of a socket's option, which can be longer than what socket.getsockopt returns: 1024 bytes.

        Raises:
            OSError: as getsockopt(2), ERANGE for a longer value.
        """
        value, length = ctypes.create_string_buffer(size), ctypes.c_uint(size)
        if ctypes.CDLL(None, use_errno=True).getsockopt(fd, level, option, value, ctypes.byref(length)):
            raise _error()
        return ctypes.string_at(value, length.value)

    def trim_heap() -> None:
        """Return free pages of the heap to the kernel, where libc does not do that by itself: malloc_trim(3)."""
        trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
        if trim is not None:
            trim(0)

    def _error(path: bytes | None = None) -> OSError:
        number = ctypes.get_errno()
        return OSError(number, os.strerror(number), path)
