"""Which server has the database's epoch, and what a restored one waits for before it lends.

Forward only. Expand first; contract in a later release, when nothing reads the old shape any more.
"""

from alembic import op

from chappe_store.session import Role

revision = "0022"
down_revision = "0020"
branch_labels = None
depends_on = None


def upgrade() -> None:
    # A migration that cannot get its lock soon gives up, instead of making every query queue behind it.
    op.execute("SET LOCAL lock_timeout = '3s'")
    op.execute("SET LOCAL statement_timeout = '60s'")
    # A cluster and its timeline: recovery to an instant, a standby's promotion and a dump that is read in elsewhere all
    # change one of them. What `pg_control_system` says is the cluster's; the name of the segment that is written now
    # begins with the timeline, at once, where the control file tells it only after the next checkpoint.
    op.execute(
        """
        CREATE FUNCTION server_identity() RETURNS text LANGUAGE sql STABLE
        SET search_path = pg_catalog, pg_temp AS $$
            SELECT system_identifier || '-' || left(pg_walfile_name(pg_current_wal_lsn()), 8) FROM pg_control_system()
        $$
        """
    )
    for role in Role:
        op.execute(f"GRANT EXECUTE ON FUNCTION server_identity() TO {role}")
    op.execute(
        """
        ALTER TABLE instance
            ADD COLUMN server text NOT NULL DEFAULT '',
            ADD COLUMN listens_until timestamptz,
            ADD COLUMN lends_from timestamptz
        """
    )
    # One row: the server that migrates has the epoch.
    op.execute("UPDATE instance SET server = server_identity()")
    op.execute("ALTER TABLE gateway_heartbeat ADD COLUMN sent_again text NOT NULL DEFAULT ''")
    op.execute(f"GRANT UPDATE (lends_from) ON instance TO {Role.INGEST}")
    op.execute(f"GRANT SELECT, DELETE ON gateway_heartbeat TO {Role.OPERATOR}")
    op.execute(f"GRANT UPDATE (settle_by, release_at) ON budget_grant TO {Role.INGEST}")
    op.execute(f"GRANT UPDATE (released_at) ON budget_grant TO {Role.OPERATOR}")
    op.execute(f"GRANT UPDATE (pending_nano) ON budget TO {Role.OPERATOR}")
