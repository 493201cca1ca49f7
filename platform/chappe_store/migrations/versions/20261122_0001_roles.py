"""Roles, what tables need to be protected, and the store's own tables.

Forward only. Expand first; contract in a later release, when nothing reads the old shape any more.
"""

from alembic import op

from chappe_store.row_security import LOOKUP, protect_operator_table
from chappe_store.session import Role

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

_GROUPS = (*Role, LOOKUP)


def upgrade() -> None:
    # A migration that cannot get its lock soon gives up, instead of making every query queue behind it.
    op.execute("SET LOCAL lock_timeout = '3s'")
    op.execute("SET LOCAL statement_timeout = '60s'")
    _create_roles()
    _create_helpers()
    _create_tables()


def _create_roles() -> None:
    for role in _GROUPS:
        # Roles belong to the whole server: another database of the same server may have made them already.
        op.execute(
            f"DO $$ BEGIN CREATE ROLE {role} NOLOGIN NOBYPASSRLS; EXCEPTION WHEN duplicate_object THEN NULL; END $$"
        )
    # The owner hands functions over to this role, which takes SET; it does not inherit what the role may see.
    op.execute(f"GRANT {LOOKUP} TO CURRENT_USER WITH INHERIT FALSE, SET TRUE")
    op.execute("REVOKE ALL ON SCHEMA public FROM PUBLIC")
    op.execute("ALTER DEFAULT PRIVILEGES REVOKE EXECUTE ON FUNCTIONS FROM PUBLIC")
    for role in _GROUPS:
        op.execute(f"GRANT USAGE ON SCHEMA public TO {role}")
    op.execute(f"GRANT SELECT ON alembic_version TO {Role.OPERATOR}")


def _create_helpers() -> None:
    op.execute(
        """
        CREATE FUNCTION refuse_change() RETURNS trigger LANGUAGE plpgsql AS $$
        BEGIN
            RAISE EXCEPTION '% is append-only', TG_TABLE_NAME USING ERRCODE = 'insufficient_privilege';
        END $$
        """
    )


def _create_tables() -> None:
    # One row each: a boolean that can only be true is the key.
    op.execute(
        """
        CREATE TABLE instance (
            singleton boolean CONSTRAINT pk_instance PRIMARY KEY DEFAULT true
                CONSTRAINT ck_instance_singleton CHECK (singleton),
            epoch uuid NOT NULL
        )
        """
    )
    op.execute("INSERT INTO instance (epoch) VALUES (uuidv7())")
    # A table and not a sequence: a new revision must become visible with the change that it announces, not before.
    op.execute(
        """
        CREATE TABLE keys_revision (
            singleton boolean CONSTRAINT pk_keys_revision PRIMARY KEY DEFAULT true
                CONSTRAINT ck_keys_revision_singleton CHECK (singleton),
            revision bigint NOT NULL
        )
        """
    )
    op.execute("INSERT INTO keys_revision (revision) VALUES (1)")
    op.execute(
        """
        CREATE TABLE outbox (
            id uuid CONSTRAINT pk_outbox PRIMARY KEY,
            topic text NOT NULL,
            payload jsonb NOT NULL,
            created_at timestamptz NOT NULL DEFAULT now(),
            delivered_at timestamptz
        )
        """
    )
    op.execute("CREATE INDEX ix_outbox_undelivered ON outbox (id) WHERE delivered_at IS NULL")
    everyone = dict.fromkeys(Role, "SELECT")
    protect_operator_table("instance", everyone | {Role.OPERATOR: "SELECT, UPDATE"})
    protect_operator_table("keys_revision", dict.fromkeys(Role, "SELECT, UPDATE (revision)"))
    protect_operator_table(
        "outbox",
        {Role.APP: "INSERT", Role.INGEST: "INSERT", Role.OPERATOR: "SELECT, INSERT, UPDATE (delivered_at)"},
    )
