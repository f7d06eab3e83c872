"""What plugins are asked once, before the server listens: a wrong answer stops the start with one line."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, TypeVar, get_args

from cryptography.hazmat.primitives.asymmetric.types import CertificateIssuerPrivateKeyTypes

from kipuka_core.config import PluginTable
from kipuka_core.domain.ca_ports import CaBackend, Signer
from kipuka_core.domain.guard import Guard, called, raised
from kipuka_core.domain.judge import NamedPolicy
from kipuka_core.domain.ports import KeyStore
from kipuka_core.errors import ConfigurationError, KipukaError, PluginFailed
from kipuka_core.model.certificate import CaChain, CsrAttributes
from kipuka_core.model.label import ChannelBindingMode, Label
from kipuka_core.wire import csrattrs

CHALLENGE_PASSWORD = "1.2.840.113549.1.9.7"  # noqa: S105  # an OID (RFC 2985 5.4.1)
_KEY_TYPES: tuple[type, ...] = get_args(CertificateIssuerPrivateKeyTypes)
ResultT = TypeVar("ResultT")


async def first_chain(backend: CaBackend, table: PluginTable, guard: Guard) -> CaChain:
    """The certificates of a CA. Raises ConfigurationError."""
    return await _asked(guard, table.toml_path, backend.chain, expect=CaChain)


async def advertised(label: Label, policies: Sequence[NamedPolicy], guard: Guard) -> CsrAttributes:
    """What policies say, what the core demands (RFC 7030 4.5.2: challengePassword), what the operator adds.

    Raises ConfigurationError.
    """
    wanted = CsrAttributes()
    if label.rules.channel_binding is ChannelBindingMode.REQUIRED:
        wanted = CsrAttributes(oids=(CHALLENGE_PASSWORD,))
    for each in policies:
        where = f"policy.{each.name}"
        wanted = wanted.merged(await _asked(guard, where, each.policy.advertise, label, expect=CsrAttributes))
        try:
            csrattrs.encode(wanted)
        except ValueError as error:  # each value is sound; together they are not
            raise ConfigurationError(where, f"{called(each.policy.advertise)}: {error}") from error
    return wanted.merged(CsrAttributes(oids=label.csr_attributes))


async def opened_signer(key_store: KeyStore, key_uri: str) -> Signer:
    """A key of a key store. Raises ConfigurationError; anything else would be taken for a failure of the CA."""
    try:
        answer: object = await key_store.signer(key_uri)
    except KipukaError:
        raise
    except (Exception, SystemExit) as error:
        raise ConfigurationError("", f"{called(key_store.signer)} {raised(error, key_store.signer)}") from error
    if not isinstance(answer, Signer) or not isinstance(answer.private_key, _KEY_TYPES):
        raise ConfigurationError(
            "", f"{called(key_store.signer)} answered without a key; it has to answer with Signer(private_key)"
        )
    return answer


async def _asked(guard: Guard, where: str, method: Any, *arguments: Any, expect: type[ResultT]) -> ResultT:
    try:
        return await guard.call(where, method, *arguments, expect=expect)
    except PluginFailed as error:
        if isinstance(error.__cause__, ConfigurationError):
            raise error.__cause__ from error
        raise ConfigurationError(where, error.detail) from error
