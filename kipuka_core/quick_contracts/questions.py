"""What each port can be asked without anything coming of it."""

from __future__ import annotations

import ssl
from collections.abc import Awaitable, Callable
from dataclasses import replace
from datetime import timedelta
from functools import cache
from itertools import pairwise
from types import NoneType
from typing import Any

from cryptography import x509

from kipuka_core.domain.ca_ports import CaBackend
from kipuka_core.domain.ports import Authenticator, EventSink, KeyStore, Policy, ServerIdentity, TlsMaterial
from kipuka_core.model.certificate import CaChain, CsrAttributes, Template
from kipuka_core.model.identity import ClientIdentity
from kipuka_core.model.issued_by import issued_by
from kipuka_core.model.label import Label
from kipuka_core.model.request import Csr
from kipuka_core.model.verdict import Allow, Deny, Wait
from kipuka_core.quick_contracts.provider import Trial
from kipuka_core.testing.pki import make_csr
from kipuka_core.testing.samples import sample_csr, sample_enrolment, sample_label, sample_offer, sample_template

_MOST_LABELS = 20
"""Of many that differ in nothing but their name, the first ones say it all."""


@cache
def _csr() -> Csr:
    return sample_csr(make_csr(san=["dns:device"]))


def _labels(trial: Trial) -> list[Label]:
    return list(trial.services.labels[:_MOST_LABELS]) or [sample_label()]


async def ask_authenticator(trial: Trial, port: Authenticator) -> None:
    """Nobody is believed who shows nothing."""
    for label in _labels(trial):
        offer = sample_offer(csr=_csr(), label=label, time=trial.services.clock())
        what = "an offer without credentials"
        answer = await trial.ask(what, port.authenticate, offer, expect=(NoneType, ClientIdentity))
        if answer is not None:
            trial.problem(
                f"believes {what} (label {label.name!r})",
                "return None for whatever it does not know: anybody sends this",
            )
            return
    trial.ok("an offer without credentials is not its to judge")


async def ask_policy(trial: Trial, port: Policy) -> None:
    """What it makes and says of an ordinary CSR of the device ``device``."""
    said = []
    for label in _labels(trial):
        now = trial.services.clock()
        enrolment = sample_enrolment(_csr(), label=label, time=now)
        given = sample_template(_csr(), not_before=now, not_after=now + timedelta(days=90))
        before = replace(given)
        await trial.ask("advertise()", port.advertise, label, expect=CsrAttributes)
        shaped = await trial.ask("shape()", port.shape, given, enrolment, expect=Template)
        as_shaped = replace(shaped)
        verdict = await trial.ask("decide()", port.decide, shaped, enrolment, expect=(Allow, Deny, Wait))
        if given != before or shaped != as_shaped:
            trial.problem("writes into a template", "use dataclasses.replace in shape(), and nothing in decide()")
            return
        said.append(type(verdict).__name__ + (f" ({verdict.reason})" if not isinstance(verdict, Allow) else ""))
    trial.ok(f"of a CSR of the device 'device' it says {', '.join(dict.fromkeys(said))}")


async def ask_ca(trial: Trial, port: CaBackend) -> None:
    """Its chain is complete. Nothing is issued."""
    chain = await trial.ask("chain()", port.chain, expect=CaChain)
    problem = _chain_problem(chain)
    if problem:
        trial.problem(f"chain() {problem}", "return the issuing certificate and those above it, up to the root")
    else:
        trial.ok(f"its chain leads from {chain.issuing.subject.rfc4514_string()} to the root")


def _chain_problem(chain: CaChain) -> str:
    for lower, upper in (*pairwise(chain.certificates), (chain.certificates[-1], chain.certificates[-1])):
        if not issued_by(upper, lower):
            return f"ends or breaks after {lower.subject.rfc4514_string()}"
    for certificate in chain.certificates:
        try:
            is_ca = certificate.extensions.get_extension_for_class(x509.BasicConstraints).value.ca
        except x509.ExtensionNotFound:
            is_ca = False
        if not is_ca:
            return f"holds {certificate.subject.rfc4514_string()}, which is no CA certificate"
    return ""


async def ask_key_store(trial: Trial, port: KeyStore) -> None:
    """Which URIs are its own. No key is opened."""
    await trial.ask("tokens()", port.tokens, expect=(tuple, list))
    trial.ok(f"it serves {', '.join(f'{scheme}:' for scheme in port.schemes)} URIs")


async def ask_tls_material(trial: Trial, port: TlsMaterial) -> None:
    """A listener could serve with it."""
    identity = await trial.ask("server_identity()", port.server_identity, expect=ServerIdentity)
    if identity.is_stand_in:
        trial.ok("server_identity() is a stand-in, as in a dry run it may be")
        return
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    try:
        context.load_cert_chain(identity.certificate_file, identity.key_file, identity.key_password or b"")
    except (OSError, ValueError, TypeError) as error:
        what = f"a listener cannot serve with {identity.certificate_file} and {identity.key_file}"
        trial.problem(
            f"{what}: {type(error).__name__}", "name PEM files of a certificate, its key and the key's password"
        )
        return
    trial.ok("a listener can serve with its certificate and key")


async def ask_event_sink(trial: Trial, _port: EventSink) -> None:
    """Nothing: an event that was told is on record for good."""
    trial.ok("no event was told to it")


QUESTIONS: dict[str, Callable[[Trial, Any], Awaitable[None]]] = {
    "authenticator": ask_authenticator,
    "policy": ask_policy,
    "ca_backend": ask_ca,
    "key_store": ask_key_store,
    "tls_material": ask_tls_material,
    "event_sink": ask_event_sink,
}
