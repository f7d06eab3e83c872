"""kipuka: an EST server (RFC 7030) whose authentication, policy, signing and keys are plugins.

This module is the face for plugin authors: ports, model types, errors, :class:`Provider` and :data:`hookimpl`.
"""

from kipuka_core.asgi import app
from kipuka_core.domain.ca_ports import CaBackend, Signer, StatusAuthority
from kipuka_core.domain.ports import (
    Authenticator,
    EventSink,
    KeyStore,
    LockoutLimits,
    Policy,
    Records,
    ServerIdentity,
    TlsMaterial,
    TokenHealth,
)
from kipuka_core.domain.status_ports import StatusTimes
from kipuka_core.errors import (
    ConfigurationError,
    CsrRefused,
    KipukaError,
    NotAllowed,
    NotAuthenticated,
    NotIssued,
    OutcomeUnknown,
    RequestRefused,
    Unavailable,
    WrongSecret,
)
from kipuka_core.hooks.ca_profile import CaProfileSettings
from kipuka_core.hooks.chain_files import read_certificates, up_to_the_root
from kipuka_core.hooks.directories import sync_directory
from kipuka_core.hooks.durations import Duration
from kipuka_core.hooks.provider import Provider, Services, Settings
from kipuka_core.hooks.secret_files import read_secret_file
from kipuka_core.hooks.spec import hookimpl
from kipuka_core.model.asked import Asked
from kipuka_core.model.certificate import (
    Approved,
    AttributeHint,
    CaChain,
    CaProfile,
    CsrAttributes,
    Issued,
    Template,
    WantedExtension,
)
from kipuka_core.model.enrolment import Enrolment
from kipuka_core.model.entity_id import entity_id_problem
from kipuka_core.model.event import Event
from kipuka_core.model.identity import BasicCredentials, ClientIdentity, Offer, OneTimeCredential
from kipuka_core.model.issued_by import issued_by
from kipuka_core.model.key_type import KeyType, key_type_of
from kipuka_core.model.key_usage import key_usage_extension
from kipuka_core.model.label import EnrollmentRules, Label
from kipuka_core.model.names import common_names, held_names, san_entry, subject_names
from kipuka_core.model.record import CertificateStatus, OneTimePassword, RecordedCertificate
from kipuka_core.model.request import Connection, Csr, Operation
from kipuka_core.model.signing_hash import SigningHash, signing_hash
from kipuka_core.model.verdict import Allow, Deny, DenyKind, Verdict, Wait

__all__ = [
    "Allow",
    "Approved",
    "Asked",
    "AttributeHint",
    "Authenticator",
    "BasicCredentials",
    "CaBackend",
    "CaChain",
    "CaProfile",
    "CaProfileSettings",
    "CertificateStatus",
    "ClientIdentity",
    "ConfigurationError",
    "Connection",
    "Csr",
    "CsrAttributes",
    "CsrRefused",
    "Deny",
    "DenyKind",
    "Duration",
    "EnrollmentRules",
    "Enrolment",
    "Event",
    "EventSink",
    "Issued",
    "KeyStore",
    "KeyType",
    "KipukaError",
    "Label",
    "LockoutLimits",
    "NotAllowed",
    "NotAuthenticated",
    "NotIssued",
    "Offer",
    "OneTimeCredential",
    "OneTimePassword",
    "Operation",
    "OutcomeUnknown",
    "Policy",
    "Provider",
    "RecordedCertificate",
    "Records",
    "RequestRefused",
    "ServerIdentity",
    "Services",
    "Settings",
    "Signer",
    "SigningHash",
    "StatusAuthority",
    "StatusTimes",
    "Template",
    "TlsMaterial",
    "TokenHealth",
    "Unavailable",
    "Verdict",
    "Wait",
    "WantedExtension",
    "WrongSecret",
    "app",
    "common_names",
    "entity_id_problem",
    "held_names",
    "hookimpl",
    "issued_by",
    "key_type_of",
    "key_usage_extension",
    "read_certificates",
    "read_secret_file",
    "san_entry",
    "signing_hash",
    "subject_names",
    "sync_directory",
    "up_to_the_root",
]
