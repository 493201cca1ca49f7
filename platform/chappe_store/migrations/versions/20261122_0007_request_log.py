"""What the portal reads quickly: indexes for the request log, sums by day, and a tenant's own part of the ledger.

Forward only. Expand first; contract in a later release, when nothing reads the old shape any more.
"""

from alembic import op

from chappe_store.row_security import admit_role, protect_tenant_table
from chappe_store.session import Role

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None

_SUMS = ("requests", "prompt_tokens", "cached_tokens", "completion_tokens", "amount_nano", "written_off_nano")


def upgrade() -> None:
    # A migration that cannot get its lock soon gives up, instead of making every query queue behind it.
    op.execute("SET LOCAL lock_timeout = '3s'")
    op.execute("SET LOCAL statement_timeout = '60s'")
    _create_usage_days()
    _index_usage()
    # A tenant may see which transaction its requests were posted in, and its own line of it: entries on the
    # operator's accounts carry no tenant. The accounts themselves stay closed; a tenant's has an id that follows
    # from the tenant.
    for table in ("ledger_transaction", "ledger_entry"):
        admit_role(table, Role.APP, "SELECT")


def _create_usage_days() -> None:
    # A month of hours is tens of thousands of rows for a tenant with many keys, and the overview sums it every few
    # seconds. By day and without keys it is a few hundred.
    op.execute(
        """
        CREATE TABLE usage_day (
            tenant_id uuid NOT NULL,
            day date NOT NULL,
            listing_id uuid NOT NULL,
            region text NOT NULL,
            requests bigint NOT NULL,
            prompt_tokens bigint NOT NULL,
            cached_tokens bigint NOT NULL,
            completion_tokens bigint NOT NULL,
            amount_nano bigint NOT NULL,
            written_off_nano bigint NOT NULL,
            CONSTRAINT pk_usage_day PRIMARY KEY (tenant_id, day, listing_id, region)
        )
        """
    )
    # Row-level security binds the owner too: before it is on for the new table, and while it is lifted for the old
    # one, what was used before this migration is added up. Nobody else gets to see that in between.
    op.execute("ALTER TABLE usage_hour NO FORCE ROW LEVEL SECURITY")
    columns = ", ".join(_SUMS)
    sums = ", ".join(f"sum({name})" for name in _SUMS)
    op.execute(
        f"INSERT INTO usage_day (tenant_id, day, listing_id, region, {columns}) "
        f"SELECT tenant_id, (hour AT TIME ZONE 'UTC')::date, listing_id, region, {sums} "
        "FROM usage_hour GROUP BY 1, 2, 3, 4"
    )
    op.execute("ALTER TABLE usage_hour FORCE ROW LEVEL SECURITY")
    protect_tenant_table(
        "usage_day", {Role.APP: "SELECT", Role.INGEST: "SELECT, INSERT, UPDATE", Role.OPERATOR: "SELECT"}
    )
    _follow_the_hours()


def _follow_the_hours() -> None:
    # A trigger and not a statement of ingestion's: while releases change over, the one before this adds to hours too.
    # The tenant's budget is locked by then, so nobody waits here who did not wait before. OLD is null in an insert.
    columns = ", ".join(_SUMS)
    grown = ", ".join(f"NEW.{name} - coalesce(OLD.{name}, 0)" for name in _SUMS)
    added = ", ".join(f"{name} = d.{name} + excluded.{name}" for name in _SUMS)
    op.execute(
        f"""
        CREATE FUNCTION add_hour_to_day() RETURNS trigger LANGUAGE plpgsql
        SET search_path = pg_catalog, pg_temp AS $$
        BEGIN
            INSERT INTO public.usage_day AS d (tenant_id, day, listing_id, region, {columns})
            VALUES (NEW.tenant_id, (NEW.hour AT TIME ZONE 'UTC')::date, NEW.listing_id, NEW.region, {grown})
            ON CONFLICT (tenant_id, day, listing_id, region) DO UPDATE SET {added};
            RETURN NULL;
        END $$
        """
    )
    op.execute(
        "CREATE TRIGGER usage_hour_add_to_day AFTER INSERT OR UPDATE ON usage_hour "
        "FOR EACH ROW EXECUTE FUNCTION add_hour_to_day()"
    )


def _index_usage() -> None:
    # While these are built, ingestion waits and gateways spool.
    # One key's requests, however seldom it is used.
    op.execute("CREATE INDEX ix_usage_event_tenant_id_key_id_request_id ON usage_event (tenant_id, key_id, request_id)")
    # The few that did not complete: small, and what somebody with a problem looks for.
    op.execute(
        "CREATE INDEX ix_usage_event_not_completed ON usage_event (tenant_id, outcome, request_id) "
        "WHERE outcome <> 'completed'"
    )
    # The last requests with a first token: after a million embeddings they would be far back.
    op.execute(
        "CREATE INDEX ix_usage_event_first_token ON usage_event (tenant_id, request_id) WHERE ttft_ms IS NOT NULL"
    )
