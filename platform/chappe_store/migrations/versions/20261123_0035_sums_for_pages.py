"""Sums that pages of money read: usage by project too, what is open of invoices, and what was written off.

Forward only. Expand first; contract in a later release, when nothing reads the old shape any more. The release before
this one goes on posting meanwhile: a trigger keeps the sums by project. It drops no month of events until it is gone.
"""

from alembic import op

from chappe_store.row_security import protect_tenant_table
from chappe_store.session import Role

revision = "0035"
down_revision = "0034"
branch_labels = None
depends_on = None

_SUMS = (
    *("requests", "prompt_tokens", "cached_tokens", "completion_tokens", "seconds", "images"),
    *("amount_nano", "written_off_nano"),
)
_KEY = ("tenant_id", "day", "project_id", "price_version_id")
_COLUMNS = ", ".join((*_KEY, *_SUMS))
# What `charge` in the kernel asks, and that it repeats no other request.
_CHARGEABLE = (
    "e.repeats IS NULL AND (e.completion_tokens + e.seconds + e.images > 0 "
    "OR (e.prompt_tokens > 0 AND e.outcome <> 'failed'))"
)
_ADDED = f"""
    SELECT e.tenant_id, (e.posted_at AT TIME ZONE 'UTC')::date, e.project_id, e.price_version_id, count(*),
           {", ".join(f"sum(e.{name})" for name in _SUMS[1:])}
    FROM {{events}} e WHERE {_CHARGEABLE} GROUP BY 1, 2, 3, 4
"""
_NOBODY = "00000000-0000-0000-0000-000000000000"


def upgrade() -> None:
    # A migration that cannot get its lock soon gives up, instead of making every query queue behind it.
    op.execute("SET LOCAL lock_timeout = '3s'")
    op.execute("SET LOCAL statement_timeout = '60s'")
    _split_price_days()
    # Few events are written off. Those that no invoice shows are looked for among them.
    op.execute(
        "CREATE INDEX ix_usage_event_written_off ON usage_event (tenant_id, posted_at) WHERE written_off_nano > 0"
    )
    _create_open_invoices()


def _split_price_days() -> None:
    """By project too, as an invoice's lines are. Of months whose events are dropped nobody knows the project."""
    # Who posts waits until these sums are what they will add to.
    op.execute("LOCK TABLE usage_event IN SHARE ROW EXCLUSIVE MODE")
    for table, key in (
        ("usage_price_day", _KEY),
        ("usage_sealed_price_day", ("tenant_id", "month", *_KEY[1:])),
    ):
        op.execute(f"ALTER TABLE {table} ADD COLUMN project_id uuid NOT NULL DEFAULT '{_NOBODY}'")
        op.execute(f"ALTER TABLE {table} ALTER COLUMN project_id DROP DEFAULT")
        op.execute(f"ALTER TABLE {table} DROP CONSTRAINT pk_{table}")
        op.execute(f"ALTER TABLE {table} ADD CONSTRAINT pk_{table} PRIMARY KEY ({', '.join(key)})")
    # Row-level security binds the owner too. Nobody else gets to see what is lifted here until it is back.
    tables = ("usage_event", "usage_price_day", "usage_sealed_price_day")
    for table in tables:
        op.execute(f"ALTER TABLE {table} NO FORCE ROW LEVEL SECURITY")
    op.execute("DELETE FROM usage_price_day")
    op.execute(
        f"""
        INSERT INTO usage_price_day ({_COLUMNS})
        SELECT {", ".join(_KEY)}, {", ".join(f"sum({name})" for name in _SUMS)}
        FROM ({_ADDED.format(events="usage_event")} UNION ALL SELECT {_COLUMNS} FROM usage_sealed_price_day)
             s ({_COLUMNS})
        GROUP BY {", ".join(_KEY)}
        """
    )
    for table in tables:
        op.execute(f"ALTER TABLE {table} FORCE ROW LEVEL SECURITY")
    op.execute(
        f"""
        CREATE OR REPLACE FUNCTION add_events_to_price_days() RETURNS trigger LANGUAGE plpgsql
        SET search_path = pg_catalog, pg_temp AS $$
        BEGIN
            IF EXISTS (
                SELECT FROM (SELECT DISTINCT tenant_id, posted_at FROM added) a
                JOIN public.month_cut_off c
                    ON c.tenant_id = a.tenant_id AND c.month = date_trunc('month', a.posted_at, 'UTC')::date
            ) THEN
                RAISE EXCEPTION 'this month is closed' USING ERRCODE = 'check_violation';
            END IF;
            INSERT INTO public.usage_price_day AS d ({_COLUMNS})
            {_ADDED.format(events="added")} ORDER BY 1, 2, 3, 4
            ON CONFLICT ({", ".join(_KEY)})
            DO UPDATE SET {", ".join(f"{name} = d.{name} + excluded.{name}" for name in _SUMS)};
            RETURN NULL;
        END $$
        """
    )


def _create_open_invoices() -> None:
    """What is open of each invoice, so that those of which anything is are found without looking at the settled. The
    settlements' own trigger sees to it that it is never below zero."""
    op.execute(
        """
        CREATE TABLE invoice_open (
            invoice_id uuid CONSTRAINT pk_invoice_open PRIMARY KEY
                CONSTRAINT fk_invoice_open_invoice_id_invoice REFERENCES invoice,
            tenant_id uuid NOT NULL CONSTRAINT fk_invoice_open_tenant_id_tenant REFERENCES tenant,
            due_on date,
            open_nano bigint NOT NULL
        )
        """
    )
    filled = """
        SELECT i.id, i.tenant_id, i.due_on, i.gross_minor * (10 ^ (9 - i.minor_digits))::bigint - coalesce((
            SELECT sum(s.amount_nano) FROM invoice_settlement s WHERE s.invoice_id = i.id
        ), 0)
        FROM invoice i WHERE i.kind = 'invoice'
    """
    for table in ("invoice", "invoice_settlement"):
        op.execute(f"LOCK TABLE {table} IN SHARE ROW EXCLUSIVE MODE")
        op.execute(f"ALTER TABLE {table} NO FORCE ROW LEVEL SECURITY")
    op.execute(f"INSERT INTO invoice_open {filled}")
    for table in ("invoice", "invoice_settlement"):
        op.execute(f"ALTER TABLE {table} FORCE ROW LEVEL SECURITY")
    op.execute("CREATE INDEX ix_invoice_open_invoice_id ON invoice_open (invoice_id) WHERE open_nano > 0")
    op.execute("CREATE INDEX ix_invoice_open_tenant_id ON invoice_open (tenant_id, due_on) WHERE open_nano > 0")
    op.execute("CREATE INDEX ix_invoice_open_due_on ON invoice_open (due_on, tenant_id) WHERE open_nano > 0")
    protect_tenant_table("invoice_open", {Role.APP: "SELECT", Role.OPERATOR: "SELECT, INSERT, UPDATE (open_nano)"})
    op.execute(
        """
        CREATE FUNCTION open_invoice() RETURNS trigger LANGUAGE plpgsql
        SET search_path = pg_catalog, pg_temp AS $$
        BEGIN
            INSERT INTO public.invoice_open (invoice_id, tenant_id, due_on, open_nano)
            VALUES (NEW.id, NEW.tenant_id, NEW.due_on, NEW.gross_minor * (10 ^ (9 - NEW.minor_digits))::bigint);
            RETURN NULL;
        END $$
        """
    )
    op.execute(
        "CREATE TRIGGER invoice_follow_open AFTER INSERT ON invoice "
        "FOR EACH ROW WHEN (NEW.kind = 'invoice') EXECUTE FUNCTION open_invoice()"
    )
    op.execute(
        """
        CREATE FUNCTION settle_open_invoice() RETURNS trigger LANGUAGE plpgsql
        SET search_path = pg_catalog, pg_temp AS $$
        BEGIN
            UPDATE public.invoice_open SET open_nano = open_nano - NEW.amount_nano WHERE invoice_id = NEW.invoice_id;
            RETURN NULL;
        END $$
        """
    )
    op.execute(
        "CREATE TRIGGER invoice_settlement_follow_open AFTER INSERT ON invoice_settlement "
        "FOR EACH ROW EXECUTE FUNCTION settle_open_invoice()"
    )
