"""The tables. Moments are microseconds since 1970 (:mod:`.moments`); the migrations give exactly this schema."""

from __future__ import annotations

from sqlalchemy import (
    BigInteger,
    Boolean,
    CheckConstraint,
    Column,
    ForeignKey,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    PrimaryKeyConstraint,
    String,
    Table,
    UniqueConstraint,
    and_,
    literal_column,
    or_,
)
from sqlalchemy.dialects import postgresql

metadata = MetaData(
    naming_convention={
        "ix": "ix_%(table_name)s_%(column_0_N_name)s",
        "uq": "uq_%(table_name)s_%(column_0_N_name)s",
        "ck": "ck_%(table_name)s_%(constraint_name)s",
        "fk": "fk_%(table_name)s_%(column_0_N_name)s_%(referred_table_name)s",
        "pk": "pk_%(table_name)s",
    }
)

# SQLite numbers only an INTEGER PRIMARY KEY by itself.
RowId = BigInteger().with_variant(Integer(), "sqlite")
# Byte order, so that a prefix is a range of the index whatever the locale; SQLite compares so anyway.
SearchableName = String().with_variant(postgresql.VARCHAR(collation="C"), "postgresql")

certificates = Table(
    "certificates",
    metadata,
    Column("id", RowId, primary_key=True),
    Column("issuer_key_id", String, nullable=False),
    Column("serial_hex", String, nullable=False),
    Column("ca_id", String, nullable=False),
    Column("label", String, nullable=False),
    Column("entity_id", String, nullable=False),
    Column("subject", String, nullable=False),
    Column("sans", String, nullable=False),  # JSON array of text
    Column("key_type", String, nullable=False),
    Column("not_before", BigInteger, nullable=False),
    Column("not_after", BigInteger, nullable=False),
    Column("issued_at", BigInteger, nullable=False),
    Column("certificate_der", LargeBinary, nullable=False),
    Column("status", String, nullable=False),
    Column("revoked_at", BigInteger),
    Column("revocation_reason", Integer),
    Column("request_id", String),  # NULL for a certificate that no request asked for
    Column("authenticator", String, nullable=False),
    Column("otp_id", String),  # no foreign key: the record outlives the password
    Column("csr_fingerprint", String, nullable=False),
    # Of revocation_changes, when the certificate was last revoked or released; NULL: never.
    Column("status_change", BigInteger),
    # The serial first, so that a search by serial alone uses the same index.
    UniqueConstraint("serial_hex", "issuer_key_id"),
    UniqueConstraint("request_id"),
)
Index("ix_certificates_status_not_after", certificates.c.status, certificates.c.not_after)
Index("ix_certificates_issued_at_id", certificates.c.issued_at, certificates.c.id)
Index(
    "ix_certificates_otp_id_csr_fingerprint",
    certificates.c.otp_id,
    certificates.c.csr_fingerprint,
    sqlite_where=certificates.c.otp_id.is_not(None),
    postgresql_where=certificates.c.otp_id.is_not(None),
)

# For searching (certificate_search.py): a filter, the order of its pages, then what other filters look at, so that a
# search reads no row that it does not return.
Index("ix_certificates_ca_search", *(certificates.c[n] for n in ("ca_id", "id", "label", "status", "not_after")))
Index("ix_certificates_label_search", *(certificates.c[n] for n in ("label", "id", "ca_id", "status", "not_after")))
Index("ix_certificates_status_search", *(certificates.c[n] for n in ("status", "id", "ca_id", "label", "not_after")))
Index("ix_certificates_expiry_search", *(certificates.c[n] for n in ("not_after", "id", "status", "ca_id", "label")))
Index("ix_certificates_entity_id_id", certificates.c.entity_id, certificates.c.id)
# Everything that a CRL says of its entries, so that making one reads no certificate.
has_changed = certificates.c.status_change.is_not(None)
Index(
    "ix_certificates_status_change",
    certificates.c.issuer_key_id,
    certificates.c.status_change,
    certificates.c.not_after,
    certificates.c.serial_hex,
    certificates.c.status,
    certificates.c.revoked_at,
    certificates.c.revocation_reason,
    sqlite_where=has_changed,
    postgresql_where=has_changed,
)

# How often the status of a certificate of an issuer's key has changed: counted in the transaction of the change.
revocation_changes = Table(
    "revocation_changes",
    metadata,
    Column("issuer_key_id", String, primary_key=True),
    Column("changes", BigInteger, nullable=False),
)

# The newest CRL of each issuer's key.
crls = Table(
    "crls",
    metadata,
    Column("issuer_key_id", String, primary_key=True),
    Column("ca_id", String, nullable=False),
    Column("number", BigInteger, nullable=False),
    Column("changes", BigInteger, nullable=False),  # of revocation_changes that it knows of
    Column("entries", Integer, nullable=False),
    Column("this_update", BigInteger, nullable=False),
    Column("next_update", BigInteger, nullable=False),
    Column("scheduled_at", BigInteger, nullable=False),
    Column("crl_der", LargeBinary, nullable=False),  # last: the rest is read without it
)

certificate_names = Table(
    "certificate_names",
    metadata,
    Column("name", SearchableName, nullable=False),  # a CN, or a SAN without its kind; lower case
    Column("certificate_id", RowId, ForeignKey("certificates.id"), nullable=False),
    PrimaryKeyConstraint("name", "certificate_id"),
    Index(None, "certificate_id", "name"),
    sqlite_with_rowid=False,  # the table is its own index
)

requests = Table(
    "requests",
    metadata,
    Column("id", String, primary_key=True),
    Column("key", String, nullable=False),
    Column("state", String, nullable=False),
    Column("operation", String, nullable=False),
    Column("label", String, nullable=False),
    Column("entity_id", String, nullable=False),
    Column("authenticator", String, nullable=False),
    Column("names", String, nullable=False),  # JSON array of text
    Column("csr_der", LargeBinary, nullable=False),
    Column("client_certificate_der", LargeBinary),
    Column("otp_id", String),
    Column("reason", String, nullable=False),
    Column("retry_after_seconds", Integer, nullable=False),
    Column("source_address", String, nullable=False),
    Column("tls_version", String, nullable=False),
    Column("created_at", BigInteger, nullable=False),
    Column("decided_at", BigInteger, index=True),
    Column("certificate_der", LargeBinary),
    Column("has_waited", Boolean, nullable=False),  # the client was sent away with 202 and has to come back
    Column("fetched_at", BigInteger),
    Column("subject_pattern", String),  # of the one-time password
    # Of a request that an external CA has been asked for:
    Column("ca_id", String),
    Column("template_der", LargeBinary),
    Column("issuer_der", LargeBinary),
    Column("asked_at", BigInteger),
    Column("ca_reference", String),
    Column("next_poll_at", BigInteger, index=True),  # NULL: nobody looks after it, or a person has to
    Column("polls", Integer),
)
Index("ix_requests_state_created_at_id", requests.c.state, requests.c.created_at, requests.c.id)
Index("ix_requests_created_at_id", requests.c.created_at, requests.c.id)
Index("ix_requests_key_created_at", requests.c.key, requests.c.created_at)
# Not IN with parameters: SQLAlchemy renders that anew at every execution, and not at all in an executemany.
is_open = or_(*(requests.c.state == literal_column(f"'{state}'") for state in ("intent", "waiting", "pending")))
Index(
    "uq_requests_key_open",
    requests.c.key,
    unique=True,
    sqlite_where=is_open,
    postgresql_where=is_open,
)

otps = Table(
    "otps",
    metadata,
    Column("id", String, primary_key=True),
    Column("token_hash", LargeBinary, nullable=False, unique=True),
    Column("entity_id", String, nullable=False),
    Column("label", String),
    Column("created_at", BigInteger, nullable=False),
    Column("expires_at", BigInteger, nullable=False, index=True),
    Column("max_usage", Integer, nullable=False),
    Column("usage_count", Integer, nullable=False),
    Column("revoked_at", BigInteger),
    Column("subject_pattern", String),
    CheckConstraint("usage_count <= max_usage", name="usage_within_limit"),
    Index(None, "created_at", "id"),
    Index(None, "entity_id", "created_at", "id"),
)
is_usable = and_(otps.c.revoked_at.is_(None), otps.c.usage_count < otps.c.max_usage)
Index("ix_otps_expires_at_usable", otps.c.expires_at, sqlite_where=is_usable, postgresql_where=is_usable)

otp_reservations = Table(
    "otp_reservations",
    metadata,
    Column("request_id", String, primary_key=True),
    Column("otp_id", String, ForeignKey("otps.id"), nullable=False, index=True),
    Column("csr_fingerprint", String, nullable=False),
    Column("owner", String, nullable=False),  # host:pid:process start time
    Column("lease_expires_at", BigInteger),  # NULL exactly while a remembered request keeps it
    # The remembered request. Differs from request_id when the client has asked again since.
    Column("kept_for", String, ForeignKey("requests.id"), index=True),
    CheckConstraint("(lease_expires_at IS NULL) = (kept_for IS NOT NULL)", name="leased_or_kept"),
)

ca_told = Table(
    "ca_told",
    metadata,
    Column("issuer_key_id", String, primary_key=True),
    Column("change", BigInteger, nullable=False),  # up to which change of status the external CA knows
)

auth_failures = Table(
    "auth_failures",
    metadata,
    Column("id", RowId, primary_key=True),
    Column("address", String, nullable=False),
    Column("entity_id", String, nullable=False),
    Column("failed_at", BigInteger, nullable=False, index=True),
    Index(None, "address", "failed_at"),
)

lockouts = Table(
    "lockouts",
    metadata,
    Column("scope", String, nullable=False),  # pair, or address (then entity_id is empty)
    Column("address", String, nullable=False),
    Column("entity_id", String, nullable=False),
    Column("locked_until", BigInteger, nullable=False, index=True),
    PrimaryKeyConstraint("scope", "address", "entity_id"),
)

events = Table(
    "events",
    metadata,
    Column("id", RowId, primary_key=True),
    Column("time", BigInteger, nullable=False, index=True),
    Column("name", String, nullable=False),
    Column("actor", String, nullable=False),
    Column("request_id", String, nullable=False, index=True),
    Column("label", String, nullable=False),
    Column("source_address", String, nullable=False),
    Column("body", String, nullable=False),  # JSON object, Event.as_dict()
    # What it was done to, where it says so; in the body too, and here to be searched for.
    Column("serial", String),
    Column("subject", String),
    Column("entity_id", String),
    Column("otp_id", String),
    Index(None, "name", "time"),
    Index(None, "actor", "time"),
)
for _target in ("serial", "subject", "entity_id", "otp_id"):
    _is_known = events.c[_target].is_not(None)
    Index(
        f"ix_events_{_target}_time",
        events.c[_target],
        events.c.time,
        sqlite_where=_is_known,
        postgresql_where=_is_known,
    )

audit_heads = Table(
    "audit_heads",
    metadata,
    Column("writer", String, primary_key=True),
    Column("key_id", String, nullable=False),
    Column("file", String, nullable=False),
    Column("seq", BigInteger, nullable=False),
    Column("mac", String, nullable=False),
    Column("time", BigInteger, nullable=False, index=True),
)

jobs = Table(
    "jobs",
    metadata,
    Column("name", String, primary_key=True),
    Column("due_at", BigInteger, nullable=False),  # nobody does it before that; who does moves it on first
)
