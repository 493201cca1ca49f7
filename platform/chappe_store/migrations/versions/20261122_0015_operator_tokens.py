"""The operator's programs: tokens of its people, and their calls that must not happen twice.

Forward only. Expand first; contract in a later release, when nothing reads the old shape any more.
"""

from alembic import op

from chappe_store.audit_log.triggers import audit_table
from chappe_store.row_security import admit_role, protect_operator_table
from chappe_store.session import Role

revision = "0015"
down_revision = "0008"
branch_labels = None
depends_on = None


def upgrade() -> None:
    # A migration that cannot get its lock soon gives up, instead of making every query queue behind it.
    op.execute("SET LOCAL lock_timeout = '3s'")
    op.execute("SET LOCAL statement_timeout = '60s'")
    _create_tokens()
    _create_idempotency()


def _create_tokens() -> None:
    # A token without an end is one that somebody forgets.
    op.execute(
        """
        CREATE TABLE operator_token (
            id uuid CONSTRAINT pk_operator_token PRIMARY KEY,
            user_id uuid NOT NULL CONSTRAINT fk_operator_token_user_id_operator_user
                REFERENCES operator_user ON DELETE CASCADE,
            name text NOT NULL CONSTRAINT ck_operator_token_name CHECK (length(name) BETWEEN 1 AND 100),
            role text NOT NULL CONSTRAINT ck_operator_token_role
                CHECK (role IN ('administrator', 'support', 'finance', 'auditor')),
            prefix text NOT NULL,
            pepper_version bigint NOT NULL,
            digest bytea NOT NULL CONSTRAINT ck_operator_token_digest CHECK (length(digest) = 32),
            created_at timestamptz NOT NULL DEFAULT now(),
            expires_at timestamptz NOT NULL
                CONSTRAINT ck_operator_token_expires_at CHECK (expires_at > created_at AND isfinite(expires_at)),
            revoked_at timestamptz,
            last_used_at timestamptz,
            CONSTRAINT uq_operator_token_pepper_version_digest UNIQUE (pepper_version, digest)
        )
        """
    )
    op.execute("CREATE INDEX ix_operator_token_user_id ON operator_token (user_id)")
    protect_operator_table("operator_token", {Role.OPERATOR: "SELECT, INSERT, UPDATE (revoked_at, last_used_at)"})
    audit_table(
        "operator_token",
        subject=("id",),
        shown=("user_id", "name", "role", "prefix", "pepper_version", "expires_at", "revoked_at"),
        withheld=("digest",),
    )


def _create_idempotency() -> None:
    op.execute(
        """
        CREATE TABLE operator_idempotency_record (
            user_id uuid NOT NULL CONSTRAINT fk_operator_idempotency_record_user_id_operator_user
                REFERENCES operator_user ON DELETE CASCADE,
            route text NOT NULL,
            key text NOT NULL CONSTRAINT ck_operator_idempotency_record_key CHECK (length(key) BETWEEN 1 AND 255),
            body_digest bytea NOT NULL,
            answer jsonb,
            created_at timestamptz NOT NULL DEFAULT now(),
            CONSTRAINT pk_operator_idempotency_record PRIMARY KEY (user_id, route, key)
        )
        """
    )
    protect_operator_table("operator_idempotency_record", {Role.OPERATOR: "SELECT, INSERT, UPDATE, DELETE"})
    # A tenant's call whose work crosses tenants (a reseller makes a customer) runs as the operator's role, and its
    # record belongs into the same transaction.
    admit_role("idempotency_record", Role.OPERATOR, "SELECT, INSERT, UPDATE, DELETE")
