"""``[enrollment]``, ``[est]`` and ``[[est.label]]``: what is asked of a request, and at which door."""

from __future__ import annotations

from typing import Annotated

from pydantic import AfterValidator, Field

from kipuka_core.config.section import NotYet, Section
from kipuka_core.config.values import (
    AuthOrder,
    CaId,
    Days,
    HashName,
    KeyTypeName,
    SubjectPattern,
    Switch,
)
from kipuka_core.hooks.certificate_values import ExtensionOid, ExtKeyUsageOid, KeyUsageName, Oid
from kipuka_core.hooks.durations import Duration
from kipuka_core.model.label import ChannelBindingMode, EnrollmentRules, RenewFrom, SubjectBinding

_RULES = EnrollmentRules()


class Enrollment(Section):
    """Rules of issuance. A label can override every one of them."""

    require_proof_of_possession: Switch = Field(
        default=_RULES.require_proof_of_possession,
        description=(
            "The CSR must be signed by the very key it asks a certificate for (RFC 7030 3.4), on every path; else 400. "
            "`false` skips the check: for development, named at start-up and on the health page."
        ),
    )
    channel_binding: ChannelBindingMode = Field(
        default=_RULES.channel_binding,
        description=(
            "Links that signature to this connection (RFC 7030 3.5). `when-present`: a wrong value is 400, an absent "
            "one is accepted. `required`: absent is 400 too, and `/csrattrs` asks for it. `off`: the attribute is left "
            "alone, for devices that use it as a shared secret."
        ),
    )
    allowed_key_types: Annotated[tuple[KeyTypeName, ...], Field(min_length=1)] = Field(
        default=_RULES.allowed_key_types,
        description="Keys that a CSR may have; `rsa2048` means exactly 2048 bits. An empty list is an error.",
    )
    allowed_signature_algorithms: tuple[HashName, ...] = Field(
        default=_RULES.allowed_signature_algorithms,
        description=(
            "Hash of the CSR's signature, and of what is issued: the issuing hash follows the CA key and must be in "
            "the list. Ed25519, Ed448 and ML-DSA have no separate hash: allowed when their key type is."
        ),
    )
    max_validity_days: Days = Field(
        default=_RULES.max_validity_days,
        description="Shortens, does not refuse: a PKCS#10 request carries no validity.",
    )
    require_san: Switch = Field(default=_RULES.require_san, description="A CSR without SubjectAltName is 400.")
    subject_binding: SubjectBinding = Field(
        default=_RULES.subject_binding,
        description=(
            "`identity`: every CN and every SAN of the final template is a name that the authenticated identity holds "
            "(its entity id, or the presented certificate's names) and at least one is present; any other name is 403. "
            "`pattern`: each matches `subject_pattern`. `any`: names are not bound to who asks."
        ),
    )
    subject_pattern: SubjectPattern | None = Field(
        default=_RULES.subject_pattern,
        description=(
            "A regular expression for whole names, where `{id}` stands for the entity id. Required by "
            '`subject_binding = "pattern"`.'
        ),
        examples=[r"{id}(\.devices\.example)?"],
    )
    key_usage: Annotated[tuple[KeyUsageName, ...], Field(min_length=1)] | None = Field(
        default=_RULES.key_usage,
        description=(
            "What is issued, and the ceiling of what a CSR may ask. Absent: by key type (`digitalSignature`, and "
            "`keyEncipherment` for RSA)."
        ),
        examples=[["digitalSignature"]],
    )
    ext_key_usage: Annotated[tuple[ExtKeyUsageOid, ...], Field(min_length=1)] = Field(
        default=_RULES.ext_key_usage,
        description="What is issued, and the ceiling of what a CSR may ask. By name or dotted OID.",
    )
    allowed_extensions: tuple[ExtensionOid, ...] = Field(
        default=_RULES.allowed_extensions,
        description="A CSR asking for another one is 400. By name or dotted OID.",
    )
    accept_ca_profile: Switch = Field(
        default=_RULES.accept_ca_profile,
        description=(
            "Certificates may have what their external CA sets by itself, as the settings of its `[[ca]]` declare it: "
            "key usages, which attributes of the subject stay, a validity up to `max_validity_days`, further "
            "extensions. Anything that is not declared stays refused."
        ),
    )
    accept_ca_validity: Switch = Field(
        default=_RULES.accept_ca_validity,
        description="That declared validity may be longer than `max_validity_days`. Needs `accept_ca_profile`.",
    )


class EstLabel(Enrollment):
    """A further door, `/.well-known/est/{name}/`, and what is different behind it: every key marked **L**, and these.

    A label without a key has the value of `[enrollment]`.
    """

    name: str = Field(description="The path segment. Never the name of an operation.", examples=["factory"])
    ca: CaId | None = Field(
        default=None,
        description="The `id` of the `[[ca]]` or `[[ca_group]]` that signs. Absent: the default CA.",
        examples=["default"],
    )
    auth: AuthOrder | None = Field(
        default=None, description="As `order` in `[auth]`, which holds when this is absent.", examples=[["mtls"]]
    )
    renew_from: RenewFrom = Field(
        default=RenewFrom.OWN,
        description=(
            "`own`: certificates by any current, previous or recorded issuer of the label's CA can be renewed. "
            "`trusted`: also those of other trust anchors, for migrations."
        ),
    )
    accept_from: tuple[str, ...] = Field(
        default=(),
        description=(
            "Other labels whose recorded certificates count here; a recorded certificate counts only for its own "
            'label otherwise. `""` is the door without a label.'
        ),
    )
    san_carry_over: Switch = Field(
        default=False,
        description="A renewal whose CSR has no SubjectAltName gets that of the old certificate; else it is 400.",
    )
    allow_name_change: Switch = Field(
        default=False, description="A renewal may ask for other names (ChangeSubjectName, RFC 6402 2.8)."
    )
    approval: Switch = Field(
        default=False,
        description=(
            "Every request that no policy refuses waits until an administrator approves it (202): "
            "`/admin/requests`, `kipuka requests`."
        ),
    )
    serverkeygen: Annotated[Switch, NotYet()] = Field(
        default=False, description="Keys made by the server (RFC 7030 4.4) are offered."
    )
    fullcmc: Annotated[Switch, NotYet()] = Field(default=False, description="Full CMC (RFC 7030 4.3) is offered.")
    ra_clients: Annotated[Switch, NotYet()] = Field(
        default=False, description="Clients whose certificate has id-kp-cmcRA may ask for other names."
    )


def _base_path(text: str) -> str:
    segments = text.split("/")
    if segments[0] or len(segments) < 2 or any(segment in {"", ".", ".."} for segment in segments[1:]):
        raise ValueError('must begin with "/", and have no empty segment and no "/" at the end')
    if any(character in "?#%" or character.isspace() for character in text):
        raise ValueError('must not contain "?", "#", "%" or white space')
    return text


class Est(Section):
    """The protocol's own settings, and the labels."""

    base_path: Annotated[str, AfterValidator(_base_path)] = Field(
        default="/.well-known/est", description="What every EST path begins with."
    )
    retry_after: Duration = Field(default=60, description="When to come back, for a client that is told to wait (202).")
    csr_attributes: tuple[Oid, ...] = Field(
        default=(),
        description="OIDs that `/csrattrs` lists beyond what the policies advertise.",
        examples=[["1.2.840.113549.1.9.7"]],
    )
    label: tuple[EstLabel, ...] = Field(default=(), description="Further doors.")
