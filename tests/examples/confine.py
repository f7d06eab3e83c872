"""Run a command under the system call filters of a systemd unit: ``confine.py RULES.json PROGRAM ARGUMENT…``.

What systemd does before it starts a service, with the library that systemd uses for it; so the command sees the same
refusals. Uses nothing but the standard library: it is run inside the file system of :mod:`tests.examples.unit_sandbox`.
"""

from __future__ import annotations

import ctypes
import errno
import json
import os
import sys
from collections.abc import Iterable

_ALLOW = 0x7FFF0000
_MASKED_EQ = 7
_EQ = 4
_PROT_WRITE, _PROT_EXEC, _SHM_EXEC = 0x2, 0x4, 0o100000
_FAMILIES = 46
"""AF_MAX of Linux: the families that there are to refuse."""


class _Comparison(ctypes.Structure):
    _fields_ = (
        ("argument", ctypes.c_uint),
        ("operator", ctypes.c_int),
        ("first", ctypes.c_uint64),
        ("second", ctypes.c_uint64),
    )


class _Filter:
    """A filter of libseccomp: ``default`` for whatever no rule is about."""

    def __init__(self, default: int) -> None:
        self._library = ctypes.CDLL("libseccomp.so.2", use_errno=True)
        self._library.seccomp_init.restype = ctypes.c_void_p
        self._context = ctypes.c_void_p(self._library.seccomp_init(ctypes.c_uint32(default)))

    def add(self, action: int, names: Iterable[str], *comparisons: _Comparison) -> None:
        array = (_Comparison * max(len(comparisons), 1))(*comparisons)
        for name in names:
            number = self._library.seccomp_syscall_resolve_name(name.encode())
            if number == -1:  # not one of this architecture
                continue
            self._library.seccomp_rule_add_array(
                self._context, ctypes.c_uint32(action), number, len(comparisons), array
            )

    def load(self) -> None:
        if self._library.seccomp_load(self._context) != 0:
            raise OSError("the kernel does not take the filter")


def _refuse(number: int) -> int:
    return 0x00050000 | number


def confine(*, system_calls: list[str], address_families: list[int], deny_write_execute: bool) -> None:
    """Apply the filters to this process and all that come of it."""
    sockets = _Filter(_ALLOW)
    for family in set(range(_FAMILIES)) - set(address_families):
        sockets.add(_refuse(errno.EAFNOSUPPORT), ["socket"], _Comparison(0, _EQ, family, 0))
    sockets.load()
    if deny_write_execute:
        memory, eperm = _Filter(_ALLOW), _refuse(errno.EPERM)
        both = _PROT_WRITE | _PROT_EXEC
        memory.add(eperm, ["mmap"], _Comparison(2, _MASKED_EQ, both, both))
        memory.add(eperm, ["mprotect", "pkey_mprotect"], _Comparison(2, _MASKED_EQ, _PROT_EXEC, _PROT_EXEC))
        memory.add(eperm, ["shmat"], _Comparison(2, _MASKED_EQ, _SHM_EXEC, _SHM_EXEC))
        memory.load()
    calls = _Filter(_refuse(errno.EPERM))
    calls.add(_ALLOW, system_calls)
    calls.load()


def main() -> None:
    with open(sys.argv[1], encoding="utf-8") as rules:  # noqa: PTH123  # pathlib is another import in a bare process
        confine(**json.load(rules))
    os.umask(0o077)
    os.execv(sys.argv[2], sys.argv[2:])


if __name__ == "__main__":
    main()
