"""Sign-ins: sessions of members and of the operator's users, and the look-ups that come before a tenant is known.

Forward only. Expand first; contract in a later release, when nothing reads the old shape any more.
"""

from alembic import op

from chappe_store.row_security import LOOKUP, admit_role, hand_to_lookup, protect_operator_table, protect_tenant_table
from chappe_store.session import Role

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None

# All but the digest, which only the look-up function reads.
_SESSION_COLUMNS = "tenant_id, id, member_id, created_at, seen_at, expires_at"


def upgrade() -> None:
    # A migration that cannot get its lock soon gives up, instead of making every query queue behind it.
    op.execute("SET LOCAL lock_timeout = '3s'")
    op.execute("SET LOCAL statement_timeout = '60s'")
    _widen_people()
    _create_sessions()
    _create_lookups()


def _widen_people() -> None:
    # A person signs in with an address alone, so one address is one member, whatever the tenant. The constraint per
    # tenant stays for the release before this one, whose inserts name it.
    op.execute("ALTER TABLE member ADD CONSTRAINT uq_member_email UNIQUE (email)")
    op.execute(
        "ALTER TABLE operator_user ADD CONSTRAINT ck_operator_user_role "
        "CHECK (role IN ('administrator', 'support', 'finance', 'auditor'))"
    )


def _create_sessions() -> None:
    op.execute(
        """
        CREATE TABLE member_session (
            tenant_id uuid NOT NULL,
            id uuid NOT NULL,
            member_id uuid NOT NULL,
            digest bytea NOT NULL CONSTRAINT uq_member_session_digest UNIQUE
                CONSTRAINT ck_member_session_digest CHECK (length(digest) = 32),
            created_at timestamptz NOT NULL DEFAULT now(),
            seen_at timestamptz NOT NULL DEFAULT now(),
            expires_at timestamptz NOT NULL
                CONSTRAINT ck_member_session_expires_at CHECK (expires_at > created_at),
            CONSTRAINT pk_member_session PRIMARY KEY (tenant_id, id),
            CONSTRAINT fk_member_session_tenant_id_member_id_member
                FOREIGN KEY (tenant_id, member_id) REFERENCES member (tenant_id, id) ON DELETE CASCADE
        )
        """
    )
    op.execute("CREATE INDEX ix_member_session_tenant_id_member_id ON member_session (tenant_id, member_id)")
    op.execute(
        """
        CREATE TABLE operator_session (
            id uuid CONSTRAINT pk_operator_session PRIMARY KEY,
            user_id uuid NOT NULL CONSTRAINT fk_operator_session_user_id_operator_user
                REFERENCES operator_user ON DELETE CASCADE,
            digest bytea NOT NULL CONSTRAINT uq_operator_session_digest UNIQUE
                CONSTRAINT ck_operator_session_digest CHECK (length(digest) = 32),
            created_at timestamptz NOT NULL DEFAULT now(),
            seen_at timestamptz NOT NULL DEFAULT now(),
            expires_at timestamptz NOT NULL
                CONSTRAINT ck_operator_session_expires_at CHECK (expires_at > created_at)
        )
        """
    )
    op.execute("CREATE INDEX ix_operator_session_user_id ON operator_session (user_id)")
    protect_tenant_table(
        "member_session",
        {
            Role.APP: f"SELECT ({_SESSION_COLUMNS}), INSERT, UPDATE (seen_at), DELETE",
            Role.OPERATOR: f"SELECT ({_SESSION_COLUMNS}), INSERT, DELETE",
            LOOKUP: "SELECT",
        },
    )
    protect_operator_table("operator_session", {Role.OPERATOR: "SELECT, INSERT, UPDATE (seen_at), DELETE"})


def _create_lookups() -> None:
    admit_role("member", LOOKUP, "SELECT (tenant_id, id, email, role, password_hash)")
    op.execute(
        """
        CREATE FUNCTION find_member_by_email(address text)
        RETURNS TABLE (tenant_id uuid, member_id uuid, password_hash text, tenant_state text)
        LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
        AS $$
            SELECT m.tenant_id, m.id, m.password_hash, t.state
            FROM public.member m
            JOIN public.tenant t ON t.id = m.tenant_id
            WHERE m.email = address
        $$
        """
    )
    # The tenant's state is part of the answer and not a condition: who signs out of a suspended organisation must
    # still find the session.
    op.execute(
        """
        CREATE FUNCTION find_member_session(asked bytea, idle interval, rest interval)
        RETURNS TABLE (
            tenant_id uuid, session_id uuid, member_id uuid, email text, role text,
            tenant_name text, tenant_state text, currency text, rested boolean
        )
        LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
        AS $$
            SELECT s.tenant_id, s.id, s.member_id, m.email, m.role,
                   t.name, t.state, t.currency, s.seen_at < now() - rest
            FROM public.member_session s
            JOIN public.member m ON m.tenant_id = s.tenant_id AND m.id = s.member_id
            JOIN public.tenant t ON t.id = s.tenant_id
            WHERE s.digest = asked AND s.expires_at > now() AND s.seen_at > now() - idle
        $$
        """
    )
    hand_to_lookup("find_member_by_email(text)", Role.APP)
    hand_to_lookup("find_member_session(bytea, interval, interval)", Role.APP)
