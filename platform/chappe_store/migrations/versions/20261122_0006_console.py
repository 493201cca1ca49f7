"""What the operator's console reads: load by deployment, usage by month, and the ways to what it lists.

Forward only. Expand first; contract in a later release, when nothing reads the old shape any more.
"""

from alembic import op

from chappe_store.row_security import protect_tenant_table
from chappe_store.session import Role

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None

_SUMS = ("requests", "prompt_tokens", "cached_tokens", "completion_tokens", "amount_nano", "written_off_nano")


def upgrade() -> None:
    # A migration that cannot get its lock soon gives up, instead of making every query queue behind it.
    op.execute("SET LOCAL lock_timeout = '3s'")
    op.execute("SET LOCAL statement_timeout = '60s'")
    op.execute("ALTER TABLE gateway_heartbeat ADD COLUMN loads jsonb NOT NULL DEFAULT '{}'")
    _create_indexes()
    _create_usage_months()


def _create_indexes() -> None:
    # Across tenants by time: today's revenue. The rows' sums are in no index, so that adding to an hour stays cheap.
    op.execute("CREATE INDEX ix_usage_hour_hour ON usage_hour (hour)")
    op.execute("CREATE INDEX ix_ledger_transaction_created_at ON ledger_transaction (created_at)")
    op.execute("CREATE INDEX ix_ledger_transaction_tenant_id_id ON ledger_transaction (tenant_id, id)")
    op.execute("CREATE INDEX ix_tenant_name ON tenant (lower(name), id)")


def _create_usage_months() -> None:
    """Ten thousand tenants sorted by what they spent this month: too many hours to add up for each look."""
    op.execute(
        """
        CREATE TABLE usage_month (
            month timestamptz NOT NULL,
            tenant_id uuid NOT NULL,
            requests bigint NOT NULL,
            prompt_tokens bigint NOT NULL,
            cached_tokens bigint NOT NULL,
            completion_tokens bigint NOT NULL,
            amount_nano bigint NOT NULL,
            written_off_nano bigint NOT NULL,
            CONSTRAINT pk_usage_month PRIMARY KEY (month, tenant_id)
        )
        """
    )
    # Row-level security binds the owner too: before it is on for the new table, and while it is lifted for the old
    # one, what was used before this migration is added up. Nobody else gets to see that in between.
    op.execute("ALTER TABLE usage_hour NO FORCE ROW LEVEL SECURITY")
    sums = ", ".join(f"sum({name})" for name in _SUMS)
    op.execute(
        f"INSERT INTO usage_month SELECT date_trunc('month', hour, 'UTC'), tenant_id, {sums} "
        "FROM usage_hour GROUP BY 1, 2"
    )
    op.execute("ALTER TABLE usage_hour FORCE ROW LEVEL SECURITY")
    protect_tenant_table(
        "usage_month", {Role.APP: "SELECT", Role.INGEST: "SELECT, INSERT, UPDATE", Role.OPERATOR: "SELECT"}
    )
    _follow_the_hours()


def _follow_the_hours() -> None:
    # A trigger and not a statement of ingestion's: while releases change over, the one before this adds to hours too.
    # The tenant's budget is locked by then, so nobody waits here who did not wait before.
    columns = ", ".join(_SUMS)
    new = ", ".join(f"NEW.{name}" for name in _SUMS)
    grown = ", ".join(f"NEW.{name} - OLD.{name}" for name in _SUMS)
    added = ", ".join(f"{name} = m.{name} + excluded.{name}" for name in _SUMS)
    op.execute(
        f"""
        CREATE FUNCTION add_hour_to_month() RETURNS trigger LANGUAGE plpgsql
        SET search_path = pg_catalog, pg_temp AS $$
        BEGIN
            IF TG_OP = 'INSERT' THEN
                INSERT INTO public.usage_month AS m (month, tenant_id, {columns})
                VALUES (date_trunc('month', NEW.hour, 'UTC'), NEW.tenant_id, {new})
                ON CONFLICT (month, tenant_id) DO UPDATE SET {added};
            ELSE
                INSERT INTO public.usage_month AS m (month, tenant_id, {columns})
                VALUES (date_trunc('month', NEW.hour, 'UTC'), NEW.tenant_id, {grown})
                ON CONFLICT (month, tenant_id) DO UPDATE SET {added};
            END IF;
            RETURN NULL;
        END $$
        """
    )
    op.execute(
        "CREATE TRIGGER usage_hour_add_to_month AFTER INSERT OR UPDATE ON usage_hour "
        "FOR EACH ROW EXECUTE FUNCTION add_hour_to_month()"
    )
