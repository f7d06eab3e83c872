"""Mistakes of policies: no certificate is issued for them."""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from kipuka_core import (
    Allow,
    CsrAttributes,
    Deny,
    DenyKind,
    Enrolment,
    Label,
    Template,
    Verdict,
    Wait,
    WantedExtension,
    WrongSecret,
)
from kipuka_core.testing.pki import make_key
from tests.kit.careless.sound import HIDDEN, SoundPolicy
from tests.kit.careless.table import AtRequest, AtStart, Careless, Contract, Unseen

_SHAPES, _JUDGES = "test_it_shapes_every_kind_of_csr", "test_it_judges_every_kind_of_csr"
_ADVISES = "test_its_advice_can_be_encoded"
_OTHER_SPKI_DER = make_key().public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
_CA_TRUE = x509.Extension(
    x509.BasicConstraints.oid, critical=True, value=x509.BasicConstraints(ca=True, path_length=None)
)


class _Decides(SoundPolicy):
    """Answers with something that was made beforehand."""

    def __init__(self, verdict: Any) -> None:
        self.verdict = verdict

    async def decide(self, template: Template, enrolment: Enrolment) -> Any:
        return self.verdict


class _Shapes(SoundPolicy):
    """Shapes the template by a function."""

    def __init__(self, change: Callable[[Template], Any]) -> None:
        self.change = change

    async def shape(self, template: Template, enrolment: Enrolment) -> Any:
        return self.change(template)


class _Advertises(SoundPolicy):
    def __init__(self, advice: Any) -> None:
        self.advice = advice

    async def advertise(self, label: Label) -> Any:
        return self.advice


class _Raises(SoundPolicy):
    async def decide(self, template: Template, enrolment: Enrolment) -> Verdict:
        raise LookupError(HIDDEN)


class _CallsExit(SoundPolicy):
    async def decide(self, template: Template, enrolment: Enrolment) -> Verdict:
        sys.exit("not today")


class _RaisesWrongSecret(SoundPolicy):
    async def decide(self, template: Template, enrolment: Enrolment) -> Verdict:
        raise WrongSecret("device")


class _MutatesWhileJudging(SoundPolicy):
    async def decide(self, template: Template, enrolment: Enrolment) -> Verdict:
        object.__setattr__(template, "not_after", template.not_after + timedelta(days=1))
        return Allow()


class _IsNotAsync(SoundPolicy):
    def decide(self, template: Template, enrolment: Enrolment) -> Any:
        return Allow()


class _Counts(SoundPolicy):
    """Lets every second request pass."""

    def __init__(self) -> None:
        self.asked = 0

    async def decide(self, template: Template, enrolment: Enrolment) -> Verdict:
        self.asked += 1
        return Allow() if self.asked % 2 else Deny(DenyKind.CSR, "not this one")


def _row(
    mistake: str,
    make: Callable[[], object],
    says: str,
    *,
    test: str = _JUDGES,
    contract_says: str = "",
    status: int = 500,
) -> Careless:
    return Careless(
        mistake=mistake,
        kind="policy",
        port=make,
        contract=Contract(test=test, says=contract_says or says),
        server=AtRequest(status=status, logs=says),
    )


def _widening(mistake: str, change: Callable[[Template], Any], says: str, contract_says: str) -> Careless:
    return _row(
        mistake,
        lambda: _Shapes(change),
        f"_Shapes.shape broke a core rule: {says}",
        test=_SHAPES,
        contract_says=contract_says,
        status=400,
    )


def _denying(mistake: str, reason: Any, contract_says: str) -> Careless:
    return _row(
        mistake,
        lambda: _Decides(Deny(DenyKind.PERMISSION, reason)),
        "_Decides.decide gave a reason that is empty, longer than 500 characters or not one printable line; it was cut",
        contract_says=contract_says,
        status=403,
    )


def _advising(mistake: str, advice: Any, says: str) -> Careless:
    return Careless(
        mistake=mistake,
        kind="policy",
        port=lambda: _Advertises(advice),
        contract=Contract(test=_ADVISES, says=says),
        server=AtStart(says=says),
    )


_NO_VERDICT = "_Decides.decide answered with {}; it has to answer with Allow, Deny or Wait"
ROWS = [
    _row("decide returns None", lambda: _Decides(None), _NO_VERDICT.format("None")),
    _row("decide returns True", lambda: _Decides(True), _NO_VERDICT.format("bool")),
    _row("decide returns a word", lambda: _Decides("allow"), _NO_VERDICT.format("str")),
    _row("decide returns the class Allow", lambda: _Decides(Allow), _NO_VERDICT.format("the class Allow")),
    _row("decide raises", _Raises, "_Raises.decide raised LookupError in line"),
    _row("decide calls sys.exit()", _CallsExit, "_CallsExit.decide raised SystemExit in line"),
    _row("decide raises WrongSecret", _RaisesWrongSecret, "_RaisesWrongSecret.decide raised WrongSecret in line"),
    _row(
        "decide writes into the template",
        _MutatesWhileJudging,
        "changed the template while judging it",
        contract_says="decide writes into the template, which is judged as it is: change it in shape",
    ),
    Careless(
        mistake="decide is not async",
        kind="policy",
        port=_IsNotAsync,
        contract=Contract(
            test="test_it_opens_a_port_with_coroutine_methods",
            says="_IsNotAsync.decide that is no coroutine; write `async",
        ),
        server=AtStart(says="_IsNotAsync.decide that is no coroutine; write `async def decide`"),
    ),
    Careless(
        mistake="decide keeps state of requests",
        kind="policy",
        port=_Counts,
        contract=Contract(test=_JUDGES, says="the same question has another answer the second time: keep nothing of a"),
        server=Unseen(because="what to allow is what the plugin is asked"),
    ),
    _row(
        "the kind of a Deny is a word",
        lambda: _Decides(Deny("csr", "no")),  # type: ignore[arg-type]
        "answered with Deny whose kind is a str; give DenyKind.CSR or DenyKind.PERMISSION",
    ),
    _row(
        "the reason of a Deny is None",
        lambda: _Decides(Deny(DenyKind.CSR, None)),  # type: ignore[arg-type]
        "answered with Deny whose reason is None; give a sentence for the client, a str",
    ),
    _row(
        "the pause of a Wait is a text",
        lambda: _Decides(Wait("later", "5\r\nSet-Cookie: a=b")),  # type: ignore[arg-type]
        "answered with Wait whose retry_after_seconds is neither None nor a whole number of seconds",
    ),
    _denying(
        "a reason of several lines", "no\r\nSet-Cookie: a=b", "the reason is not one line without control characters"
    ),
    _denying("a reason of a thousand characters", "no" * 500, "the reason has 1000 characters: at most 500"),
    _denying("a reason of nothing", " ", "the reason is empty: it goes to the client and says what to change"),
    Careless(
        mistake="a reason with a secret",
        kind="policy",
        port=lambda: _Decides(Deny(DenyKind.PERMISSION, f"the CMDB refused {HIDDEN}")),
        contract=Contract(
            test="test_no_secret_is_shown", says="a secret is in an answer of the policy: keep it out", secrets=[HIDDEN]
        ),
        server=Unseen(because="a reason is for the client, and what in it is secret, the plugin alone knows"),
    ),
    _row(
        "shape returns None",
        lambda: _Shapes(lambda _template: None),
        "_Shapes.shape answered with None; it has to answer with Template",
        test=_SHAPES,
    ),
    _row(
        "shape sets a time without a zone",
        lambda: _Shapes(lambda template: replace(template, not_after=template.not_after.replace(tzinfo=None))),
        "answered with Template whose not_after is a datetime and not a datetime with a time zone; give UTC",
        test=_SHAPES,
    ),
    _row(
        "shape invents a key usage",
        lambda: _Shapes(lambda template: replace(template, key_usage=frozenset({"everything"}))),
        "answered with Template whose key_usage is no frozenset of these: digitalSignature",
        test=_SHAPES,
    ),
    _widening(
        "shape makes a CA of a device",
        lambda template: replace(template, extensions=(_CA_TRUE,)),
        "the extension 2.5.29.19 is not for a CSR to bring",
        "shape puts 2.5.29.19 into Template.extensions: a template has fields for it",
    ),
    _widening(
        "shape adds keyCertSign",
        lambda template: replace(template, key_usage=template.key_usage | {"keyCertSign"}),
        "the CSR asks for the key usage keyCertSign, which is not issued here",
        "shape adds the key usage keyCertSign, which is for CA certificates: leave it out",
    ),
    _widening(
        "shape lets a certificate outlive its issuer",
        lambda template: replace(template, not_after=template.not_before + timedelta(days=36500)),
        "the certificate would outlive its issuer",
        "shape lets the certificate end later than the label and the CA allow: only ever shorten not_after",
    ),
    _widening(
        "shape swaps the key",
        lambda template: replace(template, spki_der=_OTHER_SPKI_DER),
        "the certificate would hold another key than the CSR",
        "shape changes the key, which is the client's: leave spki_der",
    ),
    _advising(
        "advertise returns None", None, "_Advertises.advertise answered with None; it has to answer with CsrAttributes"
    ),
    _advising(
        "advertise names an OID by its name",
        CsrAttributes(oids=("subjectAltName",)),
        "answered with CsrAttributes whose OID 'subjectAltName' is none; give dotted OIDs",
    ),
    _advising(
        "advertise gives a value that is no DER",
        CsrAttributes(extensions=(WantedExtension("2.5.29.15", b"yes"),)),
        "answered with CsrAttributes in which a value is no complete DER value",
    ),
]
