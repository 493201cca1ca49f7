"""Which keys' facts changed, so that gateways forget those alone, and how far each gateway has followed.

Forward only. Expand first; contract in a later release, when nothing reads the old shape any more.
"""

from alembic import op

from chappe_store.row_security import ANNOUNCER, hand_over, protect_tenant_table
from chappe_store.session import Role

revision = "0012"
down_revision = "0010"
branch_labels = None
depends_on = None


def upgrade() -> None:
    # A migration that cannot get its lock soon gives up, instead of making every query queue behind it.
    op.execute("SET LOCAL lock_timeout = '3s'")
    op.execute("SET LOCAL statement_timeout = '60s'")
    op.execute("ALTER TABLE gateway_heartbeat ADD COLUMN keys_revision bigint NOT NULL DEFAULT 0")
    _create_role()
    _create_changes()
    _write_down_what_changes()


def _create_role() -> None:
    # Roles belong to the whole server: another database of the same server may have made it already.
    op.execute(
        f"DO $$ BEGIN CREATE ROLE {ANNOUNCER} NOLOGIN NOBYPASSRLS; EXCEPTION WHEN duplicate_object THEN NULL; END $$"
    )
    op.execute(f"GRANT {ANNOUNCER} TO CURRENT_USER WITH INHERIT FALSE, SET TRUE")
    op.execute(f"GRANT USAGE ON SCHEMA public TO {ANNOUNCER}")
    op.execute(f"GRANT SELECT (revision), UPDATE (revision) ON keys_revision TO {ANNOUNCER}")


def _create_changes() -> None:
    # A row for each key or tenant that ever changed, with its newest revision: it grows with the keys and not with
    # time, so nothing is ever too old to be told, and nobody has to clear up.
    op.execute(
        """
        CREATE TABLE key_change (
            revision bigint CONSTRAINT pk_key_change PRIMARY KEY,
            tenant_id uuid,
            key_id uuid,
            changed_at timestamptz NOT NULL,
            CONSTRAINT ck_key_change_subject CHECK (tenant_id IS NOT NULL OR key_id IS NULL),
            CONSTRAINT uq_key_change_tenant_id_key_id UNIQUE NULLS NOT DISTINCT (tenant_id, key_id)
        )
        """
    )
    protect_tenant_table("key_change", dict.fromkeys(Role, "SELECT") | {ANNOUNCER: "SELECT, INSERT, UPDATE"})


def _write_down_what_changes() -> None:
    # The triggers stay as they are. What a row is about is read from the row: a table that says neither tenant nor key
    # (a region, and whatever a later migration adds) is about every key. The revision's row stays locked until the
    # commit, so revisions become visible in their order, and whoever reads one misses nothing before it.
    op.execute(
        """
        CREATE OR REPLACE FUNCTION announce_key_change() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER
        SET search_path = pg_catalog, pg_temp AS $$
        DECLARE
            changed jsonb := CASE TG_OP WHEN 'DELETE' THEN to_jsonb(OLD) ELSE to_jsonb(NEW) END;
            next_revision bigint;
        BEGIN
            -- No gateway remembers anything of a tenant, project or key that is new.
            IF TG_OP = 'INSERT' AND TG_TABLE_NAME IN ('tenant', 'project', 'api_key') THEN
                RETURN NULL;
            END IF;
            UPDATE public.keys_revision SET revision = revision + 1 RETURNING revision INTO next_revision;
            INSERT INTO public.key_change AS c (revision, tenant_id, key_id, changed_at)
            VALUES (
                next_revision,
                (changed ->> CASE TG_TABLE_NAME WHEN 'tenant' THEN 'id' ELSE 'tenant_id' END)::uuid,
                (changed ->> CASE TG_TABLE_NAME WHEN 'api_key' THEN 'id' ELSE 'key_id' END)::uuid,
                clock_timestamp()
            )
            ON CONFLICT (tenant_id, key_id)
            DO UPDATE SET revision = excluded.revision, changed_at = excluded.changed_at;
            RETURN NULL;
        END $$
        """
    )
    # Later migrations make triggers that call it.
    hand_over("announce_key_change()", ANNOUNCER, "SESSION_USER")
