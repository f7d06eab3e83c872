"""What kipuka stands on: versions, FIPS mode, the exporter of TLS 1.3, the clock."""

from __future__ import annotations

import _hashlib
import _ssl
import ctypes
import os
import platform
import ssl
from collections.abc import Callable, Iterable
from datetime import UTC, datetime, timedelta
from importlib.metadata import version
from pathlib import Path

from cryptography.hazmat.backends.openssl import backend as cryptography_openssl

from kipuka_core.cli.doctor.finding import Section
from kipuka_core.edges.tls.exporter import exporter_problem

_KERNEL_SWITCH = Path("/proc/sys/crypto/fips_enabled")
_TIME_ERROR = 5  # what adjtimex(2) returns while the kernel's clock is not synchronised
_TIMEX_ROOM = 1024  # struct timex has 208 bytes on 64-bit Linux; all zero, it asks and sets nothing
_CLOCK_TOLERANCE = timedelta(minutes=5)


def versions() -> Section:
    """Programs and libraries, and both OpenSSLs: Python's does TLS, cryptography's own signs and verifies."""
    section = Section("Versions")
    section.fact("kipuka", version("kipuka"))
    section.fact("hypercorn", version("hypercorn"))
    section.fact("Python", f"{platform.python_version()} ({platform.python_implementation()})")
    section.fact("OpenSSL for TLS", ssl.OPENSSL_VERSION)
    section.fact("OpenSSL for signatures", f"{cryptography_openssl.openssl_version_text()} (of cryptography)")
    if ssl.OPENSSL_VERSION_INFO < (3, 0):
        section.warning(
            f"{ssl.OPENSSL_VERSION} gets no security updates from its authors",
            "run kipuka on a Python that is built with OpenSSL 3",
        )
    return section


def exporter() -> Section:
    """Whether channel binding works on TLS 1.3 (RFC 9266)."""
    section = Section("Channel binding")
    problem = exporter_problem()
    section.fact("exporter self-test", "passed" if problem is None else "failed")
    if problem is not None:
        section.warning(
            f"channel binding does not work on TLS 1.3: {problem}",
            'run kipuka on CPython 3.11 to 3.14, or set channel_binding = "off"',
        )
    return section


def fips(
    kernel_switch: Path = _KERNEL_SWITCH,
    *,
    tls_mode: Callable[[], bool] = lambda: bool(_hashlib.get_fips_mode()),
    signature_mode: Callable[[], bool] = lambda: bool(cryptography_openssl._fips_enabled),  # noqa: SLF001  # no other way
) -> Section:
    """FIPS mode of the kernel, of the OpenSSL that does TLS, and of the one that signs."""
    section = Section("FIPS 140")
    try:
        kernel = kernel_switch.read_text(encoding="ascii").strip() == "1"
    except OSError:
        kernel = False
    in_tls, in_signatures = tls_mode(), signature_mode()
    section.fact("kernel", _on(kernel))
    section.fact("OpenSSL for TLS", f"{_on(in_tls)}, fips provider {'active' if _has_provider() else 'not active'}")
    section.fact("OpenSSL for signatures", _on(in_signatures))
    section.fact("validated module", "cannot be asked; compare the provider's version with the certificate of NIST")
    if kernel and not in_tls:
        section.warning(
            "the kernel is in FIPS mode and OpenSSL's TLS is not",
            "have the fips provider activated and default_properties = fips=yes in openssl.cnf",
        )
    if (kernel or in_tls) and not in_signatures:
        section.warning(
            "certificates are signed and CSRs verified by cryptography's own OpenSSL, which is not in FIPS mode",
            "install cryptography built with the system's OpenSSL: pip install --no-binary cryptography cryptography",
        )
    return section


def clock(written: Iterable[Path], *, now: datetime, is_synchronised: Callable[[], bool | None]) -> Section:
    """The clock against files that were ``written`` before now, and what the kernel says of it."""
    section = Section("Clock")
    section.fact("now", now.astimezone(UTC).strftime("%Y-%m-%d %H:%M:%SZ"))
    for path in written:
        try:
            changed = datetime.fromtimestamp(path.stat().st_mtime, UTC)
        except (OSError, ValueError, OverflowError):
            continue
        if changed - now > _CLOCK_TOLERANCE:
            section.error(
                f"the clock is behind: {path} was written on {changed:%Y-%m-%d %H:%M}Z, which is yet to come",
                "set the clock (timedatectl set-ntp true); certificates issued meanwhile have wrong dates",
            )
            break
    synchronised = is_synchronised()
    section.fact("synchronised", {True: "yes", False: "no", None: "cannot be seen"}[synchronised])
    if synchronised is False:
        section.warning(
            "the kernel's clock is not synchronised with a time source",
            "run chrony or systemd-timesyncd here, or on the host of this container",
        )
    return section


def kernel_clock_is_synchronised() -> bool | None:
    """What adjtimex(2) says; None where it does not."""
    try:
        state = ctypes.CDLL(None, use_errno=True).adjtimex(ctypes.create_string_buffer(_TIMEX_ROOM))
    except (OSError, AttributeError):
        return None
    return None if state < 0 else bool(state != _TIME_ERROR)


def _has_provider() -> bool:
    """Whether the OpenSSL of this process has its fips provider loaded."""
    try:
        # Looked up in the extension module it resolves in the library that the module is linked to.
        available = ctypes.PyDLL(getattr(_ssl, "__file__", None)).OSSL_PROVIDER_available
    except (OSError, AttributeError):
        return False
    available.argtypes = [ctypes.c_void_p, ctypes.c_char_p]
    return bool(available(None, os.fsencode("fips")))


def _on(switch: bool) -> str:
    return "on" if switch else "off"
