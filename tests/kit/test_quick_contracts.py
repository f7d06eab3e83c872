"""The contracts in short find what a careless plugin gets wrong, and nothing in a sound one."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager, nullcontext
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Annotated, Any, ClassVar, cast

import pytest
from cryptography import x509
from pydantic import BaseModel, ConfigDict, Field, SecretStr

from kipuka_core import (
    Allow,
    Approved,
    Authenticator,
    CaBackend,
    CaChain,
    ClientIdentity,
    CsrAttributes,
    Deny,
    DenyKind,
    Enrolment,
    Event,
    EventSink,
    Issued,
    KeyStore,
    Label,
    Offer,
    Policy,
    Provider,
    ServerIdentity,
    Services,
    Settings,
    Signer,
    Template,
    TlsMaterial,
    Verdict,
    Wait,
    WrongSecret,
)
from kipuka_core.domain.guard import Guard
from kipuka_core.quick_contracts import Finding, Level, Trial, check_provider, check_settings_model
from kipuka_core.testing.pki import make_root
from kipuka_core.testing.samples import write_private
from kipuka_core.testing.services import make_services

ROOT = make_root()
BELOW = ROOT.subordinate()


class Nothing(Settings):
    """No keys."""


# -- settings ----------------------------------------------------------------------------------------------------------
class Sound(Settings):
    """As it should be."""

    id: str | None = Field(default=None, description="The CA.")
    pin: SecretStr | None = Field(default=None, description="The PIN.")
    pin_file: Path | None = Field(default=None, description="Where the PIN is.")
    token_env: str | None = Field(default=None, description="Where the token is.")
    token_bits: int = Field(default=160, description="Bits.")


class Changeable(Settings):
    model_config = ConfigDict(frozen=False)


class Lenient(Settings):
    model_config = ConfigDict(extra="ignore")


class PlainModel(BaseModel):
    """Neither frozen nor strict."""


class Outer(Settings):
    inner: tuple[PlainModel, ...] = Field(default=(), description="Tables below.")


class Silent(Settings):
    days: int = 1


class Shown(Settings):
    db_password: str = Field(default="", description="A password.")


class ShownInside(Settings):
    api_key: Annotated[str, Field(min_length=1)] | None = Field(default=None, description="A key.")


class Used(Settings):
    use: str = Field(default="", description="Never arrives.")


@pytest.mark.parametrize("kind", ["policy", "ca_backend", "key_store", "event_sink", "authenticator", "tls_material"])
def test_sound_settings_have_no_problem(kind: str) -> None:
    (finding,) = check_settings_model(kind, Sound)
    assert finding.level is Level.OK


@pytest.mark.parametrize(
    ("kind", "model", "says"),
    [
        ("policy", dict, "no pydantic model"),
        ("policy", Changeable, "Changeable can be changed after it was read"),
        ("policy", Lenient, "Lenient takes keys that it does not know"),
        ("policy", Outer, "PlainModel can be changed after it was read"),
        ("policy", Silent, "Silent.days has no description"),
        ("policy", Shown, "Shown.db_password is shown wherever the settings are"),
        ("policy", ShownInside, "ShownInside.api_key is shown wherever the settings are"),
        ("policy", Used, "Used has a key use, which the server takes for itself"),
        ("ca_backend", Nothing, "Nothing has no key id, which the server passes to every ca backend"),
    ],
)
def test_a_mistake_in_settings_is_found(kind: str, model: type[BaseModel], says: str) -> None:
    found = list(check_settings_model(kind, model))
    assert any(says in each.what for each in found)
    assert all(each.level is Level.PROBLEM and each.remedy for each in found)


def test_a_name_that_cannot_be_written_and_an_open_that_cannot_be_called_are_found() -> None:
    provider: Provider[Policy] = Provider("my policy", Nothing, cast("Any", None))
    found = [each.what for each in check_provider("policy", provider) if each.level is Level.PROBLEM]
    assert found == ["the name 'my policy' cannot stand in kipuka.toml", "open cannot be called"]


# -- ports -------------------------------------------------------------------------------------------------------------
Open = Callable[[Any, Services], AbstractAsyncContextManager[Any]]


async def tried(kind: str, open_it: Open, services: Services) -> list[Finding]:
    found: list[Finding] = []
    trial = Trial(
        kind=kind,
        provider=Provider("mine", Nothing, open_it),
        settings=Nothing(),
        services=replace(services, dry_run=True),
        where="[here]",
        about="mine",
        report=found.append,
        step=lambda _step: None,
        guard=Guard(60),
    )
    await trial.run()
    return found


def as_it_is(port: object) -> Open:
    return lambda _settings, _services: nullcontext(port)


class Nobody(Authenticator):
    async def authenticate(self, offer: Offer) -> ClientIdentity | None:
        return None


class Everybody(Authenticator):
    async def authenticate(self, offer: Offer) -> ClientIdentity | None:
        return ClientIdentity(authenticator="mine", entity_id="device")


class Strict(Authenticator):
    async def authenticate(self, offer: Offer) -> ClientIdentity | None:
        raise WrongSecret("device")


class Curt(Authenticator):
    async def authenticate(self, offer: Offer) -> ClientIdentity | None:
        return cast("None", False)


class Plain(Authenticator):
    def authenticate(self, offer: Offer) -> ClientIdentity | None:  # type: ignore[override]  # the mistake
        return None


class Tired(Nobody):
    async def ping(self) -> None:
        raise KeyError("s3cret")


class Agreeable(Policy):
    pass


class Unwilling(Policy):
    async def decide(self, template: Template, enrolment: Enrolment) -> Verdict:
        return Deny(DenyKind.PERMISSION, "not you")


class Forgetful(Policy):
    async def shape(self, template: Template, enrolment: Enrolment) -> Template:
        return cast("Template", None)


class Mute(Policy):
    async def decide(self, template: Template, enrolment: Enrolment) -> Verdict:
        return cast("Verdict", True)


class Writer(Policy):
    async def decide(self, template: Template, enrolment: Enrolment) -> Verdict:
        object.__setattr__(template, "not_after", template.not_after + timedelta(days=1))
        return Allow()


class Advertiser(Policy):
    async def advertise(self, label: Label) -> CsrAttributes:
        return cast("CsrAttributes", ())


class Ca(CaBackend):
    def __init__(self, *certificates: x509.Certificate) -> None:
        self._chain = CaChain(certificates=certificates)

    async def chain(self) -> CaChain:
        return self._chain

    async def issue(self, approved: Approved) -> Issued | Wait:
        raise AssertionError("nothing is issued in a check")


class Keys(KeyStore):
    schemes: ClassVar[tuple[str, ...]] = ("mine",)

    async def signer(self, key_uri: str) -> Signer:
        raise AssertionError("no key is opened in a check")


class Loud(Keys):
    schemes: ClassVar[tuple[str, ...]] = ("Mine:",)


class Deaf(Keys):
    schemes: ClassVar[tuple[str, ...]] = ()


class Sink(EventSink):
    async def emit(self, event: Event) -> None:
        raise AssertionError("no event is told in a check")


class Material(TlsMaterial):
    def __init__(self, identity: ServerIdentity) -> None:
        self._identity = identity

    async def server_identity(self) -> ServerIdentity:
        return self._identity


@pytest.fixture
def services(tmp_path: Path) -> Services:
    return make_services(tmp_path)


@pytest.mark.parametrize(
    ("kind", "port", "says"),
    [
        ("authenticator", Nobody(), "an offer without credentials is not its to judge"),
        ("policy", Agreeable(), "of a CSR of the device 'device' it says Allow"),
        ("policy", Unwilling(), "of a CSR of the device 'device' it says Deny (not you)"),
        ("ca_backend", Ca(*BELOW.chain), "to the root"),
        ("key_store", Keys(), "it serves mine: URIs"),
        ("event_sink", Sink(), "no event was told to it"),
        (
            "tls_material",
            Material(ServerIdentity("/run/server.pem", "/run/server.key", is_stand_in=True)),
            "is a stand-in",
        ),
    ],
)
async def test_a_sound_port_has_no_problem(kind: str, port: object, says: str, services: Services) -> None:
    found = await tried(kind, as_it_is(port), services)
    assert [each.level for each in found] == [Level.OK, Level.OK]
    assert says in found[0].what
    assert found[1].what == "mine opens, closes, and opens again"


@pytest.mark.parametrize(
    ("kind", "port", "says"),
    [
        ("authenticator", Everybody(), "believes an offer without credentials"),
        ("authenticator", Strict(), "raised WrongSecret"),
        ("authenticator", Curt(), "answered with bool"),
        ("authenticator", Plain(), "coroutine"),
        ("authenticator", Tired(), "KeyError"),
        ("authenticator", Agreeable(), "opened a Agreeable, which is not a Authenticator"),
        ("policy", Forgetful(), "answered with None"),
        ("policy", Mute(), "answered with bool"),
        ("policy", Writer(), "writes into a template"),
        ("policy", Advertiser(), "answered with tuple"),
        ("ca_backend", Ca(), "chain"),
        ("ca_backend", Ca(BELOW.certificate), "chain() ends or breaks after"),
        ("ca_backend", Ca(ROOT.certificate, BELOW.certificate), "chain() ends or breaks after"),
        ("key_store", Loud(), "'Mine:'"),
        ("key_store", Deaf(), "serves no URI scheme"),
        ("tls_material", Material(ServerIdentity("/none.pem", "/none.key")), "a listener cannot serve with /none.pem"),
    ],
)
async def test_a_careless_port_is_found(kind: str, port: object, says: str, services: Services) -> None:
    found = await tried(kind, as_it_is(port), services)
    problems = [each for each in found if each.level is Level.PROBLEM]
    assert any(says in each.what for each in problems), found
    assert all(each.remedy for each in problems)
    assert "s3cret" not in repr(found)


async def test_material_that_a_listener_can_use_is_loaded(services: Services, tmp_path: Path) -> None:
    leaf = ROOT.leaf("server")
    (tmp_path / "server.pem").write_bytes(leaf.certificate_pem)
    key = write_private(tmp_path / "server.key", leaf.key_pem)
    port = Material(ServerIdentity(str(tmp_path / "server.pem"), str(key)))
    found = await tried("tls_material", as_it_is(port), services)
    assert found[0] == Finding.ok("mine: a listener can serve with its certificate and key")


async def test_what_goes_wrong_when_it_is_closed_or_opened_again_is_found(services: Services) -> None:
    times: list[str] = []

    @asynccontextmanager
    async def fails_to_close(_settings: object, _services: Services) -> AsyncIterator[Policy]:
        yield Agreeable()
        raise OSError("gone")

    @asynccontextmanager
    async def opens_once(_settings: object, _services: Services) -> AsyncIterator[Policy]:
        times.append("opened")
        if len(times) > 1:
            raise OSError("in use")
        yield Agreeable()

    found = await tried("policy", fails_to_close, services)
    assert found[-1].what.startswith("mine: closing it raised OSError (test_quick_contracts.py, line")
    found = await tried("policy", opens_once, services)
    assert found[-1].what.startswith("mine does not open again: [here]: plugin 'mine' failed to start: OSError: in use")
