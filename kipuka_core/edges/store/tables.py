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
    Column("entity_id", String, nullable=False, index=True),
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
    # The serial first, so that a search by serial alone uses the same index.
    UniqueConstraint("serial_hex", "issuer_key_id"),
    UniqueConstraint("request_id"),
)
Index("ix_certificates_issued_at_id", certificates.c.issued_at, certificates.c.id)
Index("ix_certificates_not_after_id", certificates.c.not_after, certificates.c.id)
Index(
    "ix_certificates_otp_id_csr_fingerprint",
    certificates.c.otp_id,
    certificates.c.csr_fingerprint,
    sqlite_where=certificates.c.otp_id.is_not(None),
    postgresql_where=certificates.c.otp_id.is_not(None),
)

certificate_names = Table(
    "certificate_names",
    metadata,
    Column("name", SearchableName, nullable=False),  # a CN, or a SAN without its kind; lower case
    Column("certificate_id", RowId, ForeignKey("certificates.id"), nullable=False),
    PrimaryKeyConstraint("name", "certificate_id"),
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
)
Index("ix_requests_key_created_at", requests.c.key, requests.c.created_at)
# Not IN with parameters: SQLAlchemy renders that anew at every execution, and not at all in an executemany.
is_open = or_(requests.c.state == literal_column("'intent'"), requests.c.state == literal_column("'waiting'"))
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
    Column("entity_id", String, nullable=False, index=True),
    Column("label", String),
    Column("created_at", BigInteger, nullable=False),
    Column("expires_at", BigInteger, nullable=False, index=True),
    Column("max_usage", Integer, nullable=False),
    Column("usage_count", Integer, nullable=False),
    Column("revoked_at", BigInteger),
    CheckConstraint("usage_count <= max_usage", name="usage_within_limit"),
)

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
    Index(None, "name", "time"),
    Index(None, "actor", "time"),
)

jobs = Table(
    "jobs",
    metadata,
    Column("name", String, primary_key=True),
    Column("due_at", BigInteger, nullable=False),  # nobody does it before that; who does moves it on first
)
