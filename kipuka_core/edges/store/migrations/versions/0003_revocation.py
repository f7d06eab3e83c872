"""Changes of certificates' status are counted, and the newest CRL of each issuer is kept.

Revision ID: 0003
"""

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add what CRLs and OCSP need; what was revoked before is the first change."""
    op.add_column("certificates", sa.Column("status_change", sa.BigInteger(), nullable=True))
    op.create_table(
        "revocation_changes",
        sa.Column("issuer_key_id", sa.String(), nullable=False),
        sa.Column("changes", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("issuer_key_id", name=op.f("pk_revocation_changes")),
    )
    op.create_table(
        "crls",
        sa.Column("issuer_key_id", sa.String(), nullable=False),
        sa.Column("ca_id", sa.String(), nullable=False),
        sa.Column("number", sa.BigInteger(), nullable=False),
        sa.Column("changes", sa.BigInteger(), nullable=False),
        sa.Column("entries", sa.Integer(), nullable=False),
        sa.Column("this_update", sa.BigInteger(), nullable=False),
        sa.Column("next_update", sa.BigInteger(), nullable=False),
        sa.Column("scheduled_at", sa.BigInteger(), nullable=False),
        sa.Column("crl_der", sa.LargeBinary(), nullable=False),
        sa.PrimaryKeyConstraint("issuer_key_id", name=op.f("pk_crls")),
    )
    op.execute("UPDATE certificates SET status_change = 1 WHERE status = 'revoked'")
    op.execute(
        "INSERT INTO revocation_changes (issuer_key_id, changes)"
        " SELECT DISTINCT issuer_key_id, 1 FROM certificates WHERE status_change = 1"
    )
    op.create_index(
        "ix_certificates_status_change",
        "certificates",
        [
            "issuer_key_id",
            "status_change",
            "not_after",
            "serial_hex",
            "status",
            "revoked_at",
            "revocation_reason",
        ],
        unique=False,
        sqlite_where=sa.text("status_change IS NOT NULL"),
        postgresql_where=sa.text("status_change IS NOT NULL"),
    )
