"""What clients may dislike in a server certificate and the chain behind it, said to the operator.

A remark that is a warning is said at start-up, by ``kipuka check``, once a day and on the health page; the others are
only worth a line where somebody looks (``kipuka tls show``, ``kipuka doctor``). What no client could accept is an
error.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from ipaddress import ip_address
from itertools import pairwise
from typing import TypeVar

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.x509.oid import ExtendedKeyUsageOID

from kipuka_core.domain import rules
from kipuka_core.errors import ConfigurationError
from kipuka_core.model.key_type import describe_key
from kipuka_core.model.key_usage import key_usage_names

CMC_RA = x509.ObjectIdentifier(rules.CMC_RA)
"""id-kp-cmcRA (RFC 6402 2.10)."""
RENEWAL_NOTICE = timedelta(days=30)
"""How long before its end a certificate is warned of; a server certificate for less than 90 days: the last third."""

# What OpenSSL refuses at its security level 2, which kipuka's contexts state: less than 112 bits.
_MIN_RSA_BITS = 2048
_MIN_CURVE_BITS = 224
_WEAK_HASHES = (hashes.MD5, hashes.SHA1)

ExtensionT = TypeVar("ExtensionT", bound=x509.ExtensionType)


@dataclass(frozen=True, slots=True)
class Remark:
    """One thing about a certificate, and what to do about it (empty: ``text`` says that)."""

    text: str
    remedy: str = ""
    is_warning: bool = True

    def __str__(self) -> str:
        return f"{self.text}: {self.remedy}" if self.remedy else self.text


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What a certificate is held against.

    ``known`` are CA certificates from elsewhere: own CAs, trust anchors. ``hosts`` are the names and addresses that
    its listeners listen on.
    """

    known: Collection[x509.Certificate] = ()
    hosts: Collection[str] = ()


_NOTHING_AROUND = Surroundings()


def inspect_server_certificate(
    leaf: x509.Certificate,
    chain: tuple[x509.Certificate, ...],
    now: datetime,
    where: str = "tls.cert",
    surroundings: Surroundings = _NOTHING_AROUND,
) -> list[str]:
    """The warnings about a server certificate (RFC 7030 3.6.1, RFC 6402 2.10, RFC 5280 4.2), one line each.

    ``chain`` is what follows the leaf in its file; ``now`` is aware. Raises ConfigurationError as
    :func:`remarks_on_server_certificate` does.
    """
    remarks = remarks_on_server_certificate(leaf, chain, now, where, surroundings)
    return [str(remark) for remark in remarks if remark.is_warning]


def remarks_on_server_certificate(
    leaf: x509.Certificate,
    chain: tuple[x509.Certificate, ...],
    now: datetime,
    where: str = "tls.cert",
    surroundings: Surroundings = _NOTHING_AROUND,
) -> list[Remark]:
    """Everything that there is to say.

    Raises ConfigurationError for a certificate that is not valid now or cannot be read to its end: no client could
    accept it.
    """
    if now >= leaf.not_valid_after_utc:
        raise ConfigurationError(where, f"the server certificate expired on {leaf.not_valid_after_utc:%Y-%m-%d}")
    if now < leaf.not_valid_before_utc:
        raise ConfigurationError(where, f"the server certificate is valid from {leaf.not_valid_before_utc} only")
    try:
        return [
            *_purposes(leaf),
            *_key_usage(leaf),
            *_names(leaf, surroundings.hosts),
            *_strength(leaf, "the server certificate"),
            *_chain((leaf, *chain), now, surroundings.known),
            *_end(leaf, now),
        ]
    except (ValueError, UnsupportedAlgorithm) as error:
        raise ConfigurationError(where, f"the server certificate cannot be read to its end: {error}") from error


def extension_of(certificate: x509.Certificate, kind: type[ExtensionT]) -> ExtensionT | None:
    """The value of an extension, None when it is absent. Raises ValueError for extensions that cannot be read."""
    try:
        return certificate.extensions.get_extension_for_class(kind).value
    except x509.ExtensionNotFound:
        return None


def command_for_a_right_one(leaf: x509.Certificate) -> str:
    """The command that makes a key and a CSR for the names of a certificate."""
    hosts = " ".join(f"--host {host}" for host in _hosts_of(leaf)) or "--host NAME"
    return f"kipuka tls csr {hosts}"


def is_self_signed(certificate: x509.Certificate) -> bool:
    """Whether it is signed with its own key."""
    return certificate.issuer == certificate.subject and not _signature_problem(certificate, certificate)


def _purposes(leaf: x509.Certificate) -> Iterator[Remark]:
    extension = extension_of(leaf, x509.ExtendedKeyUsage)
    usages = set(extension or ())
    remedy = f"make a right one with `{command_for_a_right_one(leaf)}`"
    if ExtendedKeyUsageOID.SERVER_AUTH not in usages:
        text = "the server certificate lacks the extended key usage serverAuth (1.3.6.1.5.5.7.3.1)"
        yield Remark(text, remedy)
    if CMC_RA not in usages:
        text = (
            f"the server certificate lacks the extended key usage id-kp-cmcRA ({CMC_RA.dotted_string}), so EST clients "
            "may not accept this server as registration authority (RFC 7030 3.6.1)"
        )
        yield Remark(text, remedy)


def _key_usage(leaf: x509.Certificate) -> Iterator[Remark]:
    remedy = f"make a right one with `{command_for_a_right_one(leaf)}`"
    constraints = extension_of(leaf, x509.BasicConstraints)
    if constraints is not None and constraints.ca:
        yield Remark("the server certificate is a CA's (basicConstraints CA:TRUE)", remedy)
    extension = extension_of(leaf, x509.KeyUsage)
    if extension is None:  # then every usage is allowed (RFC 5280 4.2.1.3)
        return
    usages = key_usage_names(extension)
    if "digitalSignature" not in usages:
        yield Remark("the server certificate's key usage lacks digitalSignature, with which TLS signs", remedy)
    if "keyCertSign" in usages:
        yield Remark("the server certificate's key usage has keyCertSign, which is for CAs", remedy)
    if isinstance(leaf.public_key(), rsa.RSAPublicKey) and "keyEncipherment" not in usages:
        text = "the server certificate's key usage lacks keyEncipherment, which some older clients look for"
        yield Remark(text, is_warning=False)


def _names(leaf: x509.Certificate, hosts: Collection[str]) -> Iterator[Remark]:
    names = extension_of(leaf, x509.SubjectAlternativeName)
    if names is None:
        text = "the server certificate has no subjectAltName, and clients match host names against nothing else"
        yield Remark(text, f"make a right one with `{command_for_a_right_one(leaf)}`")
        return
    addresses = set(names.get_values_for_type(x509.IPAddress))
    dns_names = [name.lower() for name in names.get_values_for_type(x509.DNSName)]
    for host in hosts:
        try:
            address = ip_address(host)
        except ValueError:
            if host.lower() != "localhost" and not any(_matches(host.lower(), name) for name in dns_names):
                yield Remark(f"no name in the server certificate matches {host}, on which it is served")
        else:
            if not (address.is_unspecified or address.is_loopback or address in addresses):
                # Where there are host names, clients come by them, and the address behind is nobody's business.
                yield Remark(
                    f"the server certificate does not name {host}, on which it is served", is_warning=not dns_names
                )


def _matches(host: str, name: str) -> bool:
    """RFC 9525 6.3: a wildcard stands for exactly one label, the leftmost."""
    if name.startswith("*."):
        return host.partition(".")[2] == name[2:]
    return host == name


def _hosts_of(leaf: x509.Certificate) -> list[str]:
    names = extension_of(leaf, x509.SubjectAlternativeName)
    if names is None:
        return []
    addresses = map(str, names.get_values_for_type(x509.IPAddress))
    return [*names.get_values_for_type(x509.DNSName), *addresses]


def _strength(certificate: x509.Certificate, what: str) -> Iterator[Remark]:
    key = certificate.public_key()
    is_short_rsa = isinstance(key, rsa.RSAPublicKey) and key.key_size < _MIN_RSA_BITS
    if is_short_rsa or (isinstance(key, ec.EllipticCurvePublicKey) and key.key_size < _MIN_CURVE_BITS):
        yield Remark(f"{what} has a key that is too weak for TLS: {describe_key(key)}")
    # Nobody verifies the signature of a root: it is trusted as it is.
    if isinstance(certificate.signature_hash_algorithm, _WEAK_HASHES) and not is_self_signed(certificate):
        name = certificate.signature_hash_algorithm.name.upper()
        yield Remark(f"{what} is signed with {name}, which TLS clients refuse; have its CA issue it with SHA-256")


def _chain(
    certificates: Sequence[x509.Certificate], now: datetime, known: Collection[x509.Certificate]
) -> list[Remark]:
    remarks: list[Remark] = []
    for below, above in pairwise(certificates):
        remarks += _link(below, above, now)
    return [*remarks, *_top(certificates, known)]


def _link(below: x509.Certificate, above: x509.Certificate, now: datetime) -> Iterator[Remark]:
    name = _subject(above)
    start = "in the server's chain"
    if below.issuer != above.subject:
        yield Remark(
            f"{start} {name} does not follow the certificate that it issued",
            "put the server certificate first, and after each certificate that of its issuer",
        )
    elif problem := _signature_problem(below, above):
        yield Remark(f"{start} {_subject(below)} names {name} as its issuer, {problem}")
    constraints = extension_of(above, x509.BasicConstraints)
    if constraints is None or not constraints.ca:
        yield Remark(f"{start} {name} is not a CA's certificate")
    if not above.not_valid_before_utc <= now < above.not_valid_after_utc:
        yield Remark(f"{start} {name} is not valid now")
    elif above.not_valid_after_utc - now < RENEWAL_NOTICE:
        yield Remark(f"{start} {name} ends on {above.not_valid_after_utc:%Y-%m-%d}", "have its CA renew it")
    yield from _strength(above, f"{start} {name}")


def _top(certificates: Sequence[x509.Certificate], known: Collection[x509.Certificate]) -> Iterator[Remark]:
    """What can be known of the last certificate's issuer: clients have roots, and nothing in between."""
    top = certificates[-1]
    if is_self_signed(top):
        if len(certificates) == 1:
            yield Remark("the server certificate is self-signed, which is for development only")
        elif len(certificates) > 2:  # directly above, it answers the question who the issuer is
            text = f"the server's chain ends with the root {_subject(top)}, which clients have or do not trust"
            yield Remark(text, "it can be left out", is_warning=False)
        return
    issuer = next((each for each in known if top.issuer == each.subject and not _signature_problem(top, each)), None)
    name = top.issuer.rfc4514_string()
    if issuer is not None and not is_self_signed(issuer):
        yield Remark(
            f"the server's chain is not complete: {name} issued its last certificate and is no root",
            "append that CA's certificate to the file",
        )
    elif issuer is None and len(certificates) == 1:
        yield Remark(
            f"the server certificate stands alone in its file, and its issuer {name} is not known here, so its chain "
            "may not be complete",
            "append the issuer's certificate to the file",
        )


def _end(leaf: x509.Certificate, now: datetime) -> Iterator[Remark]:
    # A certificate for 30 days is not to be warned of all its life.
    notice = min(RENEWAL_NOTICE, (leaf.not_valid_after_utc - leaf.not_valid_before_utc) / 3)
    if leaf.not_valid_after_utc - now < notice:
        yield Remark(f"the server certificate ends on {leaf.not_valid_after_utc:%Y-%m-%d}", "renew it now")


def _signature_problem(below: x509.Certificate, above: x509.Certificate) -> str:
    """Why ``above``, which has the issuer's name, did not sign ``below``; empty when it did."""
    try:
        if isinstance(below.signature_hash_algorithm, _WEAK_HASHES):
            return ""  # nobody here verifies such a signature any more, and that it is weak is said elsewhere
        below.verify_directly_issued_by(above)
    except InvalidSignature:
        return "which did not sign it"
    except UnsupportedAlgorithm:
        return ""
    except (TypeError, ValueError):
        return "which has a key that cannot have signed it"
    return ""


def _subject(certificate: x509.Certificate) -> str:
    return certificate.subject.rfc4514_string() or f"serial {certificate.serial_number:x}"
