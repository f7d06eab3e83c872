"""The first schema.

Revision ID: 0001
"""

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Make every table."""
    _create_auth_failures()
    _create_certificates()
    _create_events()
    _create_lockouts()
    _create_otps()
    _create_requests()
    _create_certificate_names()
    _create_otp_reservations()


def _create_auth_failures() -> None:
    op.create_table(
        "auth_failures",
        sa.Column("id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False),
        sa.Column("address", sa.String(), nullable=False),
        sa.Column("entity_id", sa.String(), nullable=False),
        sa.Column("failed_at", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_auth_failures")),
    )
    op.create_index(op.f("ix_auth_failures_address_failed_at"), "auth_failures", ["address", "failed_at"], unique=False)
    op.create_index(op.f("ix_auth_failures_failed_at"), "auth_failures", ["failed_at"], unique=False)


def _create_certificates() -> None:
    op.create_table(
        "certificates",
        sa.Column("id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False),
        sa.Column("issuer_key_id", sa.String(), nullable=False),
        sa.Column("serial_hex", sa.String(), nullable=False),
        sa.Column("ca_id", sa.String(), nullable=False),
        sa.Column("label", sa.String(), nullable=False),
        sa.Column("entity_id", sa.String(), nullable=False),
        sa.Column("subject", sa.String(), nullable=False),
        sa.Column("sans", sa.String(), nullable=False),
        sa.Column("key_type", sa.String(), nullable=False),
        sa.Column("not_before", sa.BigInteger(), nullable=False),
        sa.Column("not_after", sa.BigInteger(), nullable=False),
        sa.Column("issued_at", sa.BigInteger(), nullable=False),
        sa.Column("certificate_der", sa.LargeBinary(), nullable=False),
        sa.Column("status", sa.String(), nullable=False),
        sa.Column("revoked_at", sa.BigInteger(), nullable=True),
        sa.Column("revocation_reason", sa.Integer(), nullable=True),
        sa.Column("request_id", sa.String(), nullable=True),
        sa.Column("authenticator", sa.String(), nullable=False),
        sa.Column("otp_id", sa.String(), nullable=True),
        sa.Column("csr_fingerprint", sa.String(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_certificates")),
        sa.UniqueConstraint("request_id", name=op.f("uq_certificates_request_id")),
        sa.UniqueConstraint("serial_hex", "issuer_key_id", name=op.f("uq_certificates_serial_hex_issuer_key_id")),
    )
    op.create_index(op.f("ix_certificates_entity_id"), "certificates", ["entity_id"], unique=False)
    op.create_index("ix_certificates_issued_at_id", "certificates", ["issued_at", "id"], unique=False)
    op.create_index(
        "ix_certificates_otp_id_csr_fingerprint",
        "certificates",
        ["otp_id", "csr_fingerprint"],
        unique=False,
        sqlite_where=sa.text("otp_id IS NOT NULL"),
        postgresql_where=sa.text("otp_id IS NOT NULL"),
    )


def _create_events() -> None:
    op.create_table(
        "events",
        sa.Column("id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False),
        sa.Column("time", sa.BigInteger(), nullable=False),
        sa.Column("name", sa.String(), nullable=False),
        sa.Column("actor", sa.String(), nullable=False),
        sa.Column("request_id", sa.String(), nullable=False),
        sa.Column("label", sa.String(), nullable=False),
        sa.Column("source_address", sa.String(), nullable=False),
        sa.Column("body", sa.String(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_events")),
    )
    op.create_index(op.f("ix_events_actor_time"), "events", ["actor", "time"], unique=False)
    op.create_index(op.f("ix_events_name_time"), "events", ["name", "time"], unique=False)
    op.create_index(op.f("ix_events_request_id"), "events", ["request_id"], unique=False)
    op.create_index(op.f("ix_events_time"), "events", ["time"], unique=False)


def _create_lockouts() -> None:
    op.create_table(
        "lockouts",
        sa.Column("scope", sa.String(), nullable=False),
        sa.Column("address", sa.String(), nullable=False),
        sa.Column("entity_id", sa.String(), nullable=False),
        sa.Column("locked_until", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("scope", "address", "entity_id", name=op.f("pk_lockouts")),
    )
    op.create_index(op.f("ix_lockouts_locked_until"), "lockouts", ["locked_until"], unique=False)


def _create_otps() -> None:
    op.create_table(
        "otps",
        sa.Column("id", sa.String(), nullable=False),
        sa.Column("token_hash", sa.LargeBinary(), nullable=False),
        sa.Column("entity_id", sa.String(), nullable=False),
        sa.Column("label", sa.String(), nullable=True),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.Column("expires_at", sa.BigInteger(), nullable=False),
        sa.Column("max_usage", sa.Integer(), nullable=False),
        sa.Column("usage_count", sa.Integer(), nullable=False),
        sa.Column("revoked_at", sa.BigInteger(), nullable=True),
        sa.CheckConstraint("usage_count <= max_usage", name=op.f("ck_otps_usage_within_limit")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_otps")),
        sa.UniqueConstraint("token_hash", name=op.f("uq_otps_token_hash")),
    )
    op.create_index(op.f("ix_otps_entity_id"), "otps", ["entity_id"], unique=False)


def _create_requests() -> None:
    op.create_table(
        "requests",
        sa.Column("id", sa.String(), nullable=False),
        sa.Column("key", sa.String(), nullable=False),
        sa.Column("state", sa.String(), nullable=False),
        sa.Column("operation", sa.String(), nullable=False),
        sa.Column("label", sa.String(), nullable=False),
        sa.Column("entity_id", sa.String(), nullable=False),
        sa.Column("authenticator", sa.String(), nullable=False),
        sa.Column("names", sa.String(), nullable=False),
        sa.Column("csr_der", sa.LargeBinary(), nullable=False),
        sa.Column("client_certificate_der", sa.LargeBinary(), nullable=True),
        sa.Column("otp_id", sa.String(), nullable=True),
        sa.Column("reason", sa.String(), nullable=False),
        sa.Column("retry_after_seconds", sa.Integer(), nullable=False),
        sa.Column("source_address", sa.String(), nullable=False),
        sa.Column("tls_version", sa.String(), nullable=False),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.Column("decided_at", sa.BigInteger(), nullable=True),
        sa.Column("certificate_der", sa.LargeBinary(), nullable=True),
        sa.Column("has_waited", sa.Boolean(), nullable=False),
        sa.Column("fetched_at", sa.BigInteger(), nullable=True),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_requests")),
    )
    op.create_index("ix_requests_key_created_at", "requests", ["key", "created_at"], unique=False)
    op.create_index(
        "uq_requests_key_open",
        "requests",
        ["key"],
        unique=True,
        sqlite_where=sa.text("state = 'intent' OR state = 'waiting'"),
        postgresql_where=sa.text("state = 'intent' OR state = 'waiting'"),
    )


def _create_certificate_names() -> None:
    op.create_table(
        "certificate_names",
        sa.Column("name", sa.String().with_variant(sa.VARCHAR(collation="C"), "postgresql"), nullable=False),
        sa.Column("certificate_id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False),
        sa.ForeignKeyConstraint(
            ["certificate_id"], ["certificates.id"], name=op.f("fk_certificate_names_certificate_id_certificates")
        ),
        sa.PrimaryKeyConstraint("name", "certificate_id", name=op.f("pk_certificate_names")),
        sqlite_with_rowid=False,
    )


def _create_otp_reservations() -> None:
    op.create_table(
        "otp_reservations",
        sa.Column("request_id", sa.String(), nullable=False),
        sa.Column("otp_id", sa.String(), nullable=False),
        sa.Column("csr_fingerprint", sa.String(), nullable=False),
        sa.Column("owner", sa.String(), nullable=False),
        sa.Column("lease_expires_at", sa.BigInteger(), nullable=True),
        sa.Column("kept_for", sa.String(), nullable=True),
        sa.CheckConstraint(
            "(lease_expires_at IS NULL) = (kept_for IS NOT NULL)", name=op.f("ck_otp_reservations_leased_or_kept")
        ),
        sa.ForeignKeyConstraint(["kept_for"], ["requests.id"], name=op.f("fk_otp_reservations_kept_for_requests")),
        sa.ForeignKeyConstraint(["otp_id"], ["otps.id"], name=op.f("fk_otp_reservations_otp_id_otps")),
        sa.PrimaryKeyConstraint("request_id", name=op.f("pk_otp_reservations")),
    )
    op.create_index(op.f("ix_otp_reservations_kept_for"), "otp_reservations", ["kept_for"], unique=False)
    op.create_index(op.f("ix_otp_reservations_otp_id"), "otp_reservations", ["otp_id"], unique=False)
