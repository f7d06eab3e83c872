"""A label: one name under ``/.well-known/est/`` with everything that was decided for it (RFC 7030 3.2.2)."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from kipuka_core.model.key_type import KeyType


class ChannelBindingMode(StrEnum):
    """What the label makes of challengePassword (RFC 7030 3.5, RFC 9266)."""

    WHEN_PRESENT = "when-present"
    REQUIRED = "required"
    OFF = "off"


class SubjectBinding(StrEnum):
    """How the names in a certificate are bound to who asks."""

    IDENTITY = "identity"
    PATTERN = "pattern"
    ANY = "any"


class RenewFrom(StrEnum):
    """Whose certificates can be renewed at a label."""

    OWN = "own"
    TRUSTED = "trusted"


@dataclass(frozen=True, slots=True, kw_only=True)
class EnrollmentRules:
    """``[enrollment]`` as it holds for one label. OIDs are dotted strings, key usages RFC 5280 names."""

    require_proof_of_possession: bool = True
    channel_binding: ChannelBindingMode = ChannelBindingMode.WHEN_PRESENT
    allowed_key_types: tuple[KeyType, ...] = (
        KeyType.RSA2048,
        KeyType.RSA3072,
        KeyType.RSA4096,
        KeyType.ECDSA256,
        KeyType.ECDSA384,
    )
    allowed_signature_algorithms: tuple[str, ...] = ("sha256", "sha384", "sha512")
    max_validity_days: int = 398
    require_san: bool = False
    subject_binding: SubjectBinding = SubjectBinding.IDENTITY
    subject_pattern: str | None = None
    key_usage: tuple[str, ...] | None = None
    """None: by key type (protocol row 20)."""
    ext_key_usage: tuple[str, ...] = ("1.3.6.1.5.5.7.3.2",)
    allowed_extensions: tuple[str, ...] = ("2.5.29.17", "2.5.29.15", "2.5.29.37")
    accept_ca_profile: bool = False
    """What the CA decides by itself (:class:`~kipuka_core.model.certificate.CaProfile`) is good here."""
    accept_ca_validity: bool = False
    """Also a validity of more than ``max_validity_days``."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Label:
    """One enrolment door. ``name`` is the path segment, and ``""`` for the door without one."""

    name: str
    ca_id: str
    rules: EnrollmentRules
    auth_order: tuple[tuple[str, ...], ...]
    """Authenticator names; every name of an inner tuple must agree."""
    renew_from: RenewFrom = RenewFrom.OWN
    accept_from: tuple[str, ...] = ()
    """Other labels whose recorded certificates count here too."""
    san_carry_over: bool = False
    allow_name_change: bool = False
    approval: bool = False
    """Every request waits for a person."""
    retry_after_seconds: int = 60
    group_id: str = ""
    """The group that ``ca_id`` was chosen from, on the way of one request."""
    csr_attributes: tuple[str, ...] = ()
    """OIDs advertised beyond what the policies say."""
