"""Where PKCS#11 modules lie."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from kipuka_core import ConfigurationError

USUAL_PLACES = (
    "/usr/lib/softhsm/libsofthsm2.so",
    "/usr/lib/*-linux-gnu/softhsm/libsofthsm2.so",
    "/usr/lib64/pkcs11/libsofthsm2.so",
    "/opt/nfast/toolkits/pkcs11/libcknfast.so",
    "/usr/safenet/lunaclient/lib/libCryptoki2_64.so",
    "/opt/cloudhsm/lib/libcloudhsm_pkcs11.so",
    "/usr/lib/*-linux-gnu/pkcs11/yubihsm_pkcs11.so",
    "/usr/lib64/pkcs11/yubihsm_pkcs11.so",
    "/usr/lib/*-linux-gnu/pkcs11/libtpm2_pkcs11.so",
    "/usr/lib64/pkcs11/libtpm2_pkcs11.so",
    "/usr/lib/*-linux-gnu/pkcs11/libkryoptic_pkcs11.so",
    "/usr/lib64/pkcs11/libkryoptic_pkcs11.so",
)
"""SoftHSM, nShield, Luna, CloudHSM, YubiHSM 2, TPM 2.0, Kryoptic, as their packages install them on Linux."""


def usual_module() -> Path:
    """The first of the usual places that exists. Raises ConfigurationError where none does."""
    for pattern in USUAL_PLACES:
        if found := sorted(Path("/").glob(pattern.lstrip("/"))):
            return found[0]
    raise ConfigurationError(
        "library", "names no PKCS#11 module, and none is in the usual places; set it to the vendor's .so file"
    )


def module_path(path: str, name: str | None = None) -> Path:
    """A ``module-path``: the module, or a directory in which ``name`` (``module-name``) is looked for.

    Raises ConfigurationError where nothing, or nothing certain, is found.
    """
    place = Path(path)
    if place.is_dir():
        if name is None:
            raise ConfigurationError("module-path", f"{place} is a directory; add module-name")
        return module_named(name, (place,))
    if not place.is_file():
        raise ConfigurationError("library", f"{place} does not exist; name the vendor's PKCS#11 module (.so)")
    return place


def module_named(name: str, directories: Sequence[Path] = ()) -> Path:
    """A module by ``module-name`` (RFC 7512 2.4): without directory, case, ``lib`` and ``.so``.

    Raises ConfigurationError where none, or more than one, has that name.
    """
    wanted = _bare(name)
    candidates = [each for directory in directories for each in sorted(directory.glob("*.so*"))]
    if not directories:
        candidates = [each for pattern in USUAL_PLACES for each in Path("/").glob(pattern.lstrip("/"))]
    found = [each for each in candidates if _bare(each.name) == wanted]
    if len(found) != 1:
        how_many = "no module" if not found else "more than one module"
        raise ConfigurationError("module-name", f"{how_many} {name!r} is in the usual places; write module-path")
    return found[0]


def _bare(name: str) -> str:
    return name.lower().partition(".so")[0].removeprefix("lib")
