"""Usage in bulk: events as rows of one parameter, rollups once per statement, sums by minute; and requests that
repeat another under one Idempotency-Key; and what the events of a dropped month summed to.

Forward only. Expand first; contract in a later release, when nothing reads the old shape any more.
"""

from alembic import op

from chappe_store.row_security import make_append_only, protect_operator_table, protect_tenant_table
from chappe_store.session import Role

revision = "0020"
down_revision = "0021"
branch_labels = None
depends_on = None

_SUMS = ("requests", "prompt_tokens", "cached_tokens", "completion_tokens", "amount_nano", "written_off_nano")


def upgrade() -> None:
    # A migration that cannot get its lock soon gives up, instead of making every query queue behind it.
    op.execute("SET LOCAL lock_timeout = '3s'")
    op.execute("SET LOCAL statement_timeout = '60s'")
    _widen_usage()
    _create_lines()
    _create_minutes()
    _create_kept()
    _follow_the_hours_at_once()
    _create_seals()
    _drop_partitions()


def _widen_usage() -> None:
    # Nothing is rewritten: events of before have neither.
    op.execute("ALTER TABLE usage_event ADD COLUMN idempotency_digest bytea, ADD COLUMN repeats uuid")
    # While it is built, ingestion waits and gateways spool. Few requests carry a key, and none of before did.
    op.execute(
        "CREATE INDEX ix_usage_event_idempotency ON usage_event (tenant_id, idempotency_digest, request_id) "
        "WHERE idempotency_digest IS NOT NULL"
    )


def _create_lines() -> None:
    # An array of these is the one parameter that brings a batch: COPY is closed to tables with row-level security, and
    # an array for each column takes three times as long to send. What a batch's events share stands in `standing`, an
    # index into further arrays. A later shape is a type with another name: the release before this one goes on sending
    # what it knows.
    op.execute(
        """
        CREATE TYPE usage_line AS (
            standing bigint,
            request_id uuid,
            outcome text,
            prompt_tokens bigint,
            cached_tokens bigint,
            completion_tokens bigint,
            amount_nano bigint,
            granted_nano bigint,
            written_off_nano bigint,
            hold_nano bigint,
            started_at timestamptz,
            finished_at timestamptz,
            ttft_ms bigint,
            delivered_tokens bigint,
            generated_tokens bigint,
            settled_by text,
            idempotency_digest bytea,
            repeats uuid
        )
        """
    )


def _create_minutes() -> None:
    op.execute(
        """
        CREATE TABLE usage_minute (
            tenant_id uuid NOT NULL,
            minute timestamptz NOT NULL,
            listing_id uuid NOT NULL,
            region text NOT NULL,
            requests bigint NOT NULL,
            prompt_tokens bigint NOT NULL,
            cached_tokens bigint NOT NULL,
            completion_tokens bigint NOT NULL,
            amount_nano bigint NOT NULL,
            written_off_nano bigint NOT NULL,
            CONSTRAINT pk_usage_minute PRIMARY KEY (tenant_id, minute, listing_id, region)
        )
        """
    )
    op.execute("CREATE INDEX ix_usage_minute_minute ON usage_minute (minute)")
    protect_tenant_table(
        "usage_minute",
        {Role.APP: "SELECT", Role.INGEST: "SELECT, INSERT, UPDATE", Role.OPERATOR: "SELECT, DELETE"},
    )


def _create_kept() -> None:
    """From where on usage is all there: one row. Of what was posted before this migration there are no minutes."""
    op.execute(
        """
        CREATE TABLE usage_kept (
            singleton boolean NOT NULL DEFAULT true CONSTRAINT pk_usage_kept PRIMARY KEY
                CONSTRAINT ck_usage_kept_singleton CHECK (singleton),
            first_request_id uuid NOT NULL DEFAULT '00000000-0000-0000-0000-000000000000',
            first_minute timestamptz NOT NULL
        )
        """
    )
    # Row-level security binds the owner too: it is lifted for this one look.
    op.execute("ALTER TABLE usage_hour NO FORCE ROW LEVEL SECURITY")
    op.execute(
        "INSERT INTO usage_kept (first_minute) SELECT CASE WHEN EXISTS (SELECT FROM usage_hour) "
        "THEN date_trunc('minute', now()) + interval '1 minute' ELSE '-infinity' END"
    )
    op.execute("ALTER TABLE usage_hour FORCE ROW LEVEL SECURITY")
    protect_operator_table("usage_kept", {Role.INGEST: "SELECT", Role.OPERATOR: "SELECT, UPDATE"})


def _follow_the_hours_at_once() -> None:
    # Once for all hours that a statement touched, instead of three times for each of them. The tenants' budgets are
    # locked by then, so nobody waits here who did not wait before. All usage is posted in the hour and the minute of
    # its transaction: what is added to another hour was not posted now, and has no minute.
    for name in ("day", "month", "spending"):
        op.execute(f"DROP TRIGGER usage_hour_add_to_{name} ON usage_hour")
        op.execute(f"DROP FUNCTION add_hour_to_{name}()")
    # Sums are changed in place, many times: with room in their page no index needs to follow.
    for table in ("usage_minute", "usage_hour", "usage_day", "usage_month", "usage_spending"):
        op.execute(f"ALTER TABLE {table} SET (fillfactor = 60)")
    for event in ("insert", "update"):
        grown = "new_hour"
        if event == "update":
            # No join of the two: without statistics it would be a nested loop.
            key = "tenant_id, hour, project_id, key_id, listing_id, region"
            grown = (
                f"(SELECT {key}, {', '.join(_SUMS)} FROM new_hour "
                f"UNION ALL SELECT {key}, {', '.join(f'-{name}' for name in _SUMS)} FROM old_hour) g"
            )
        op.execute(
            f"""
            CREATE FUNCTION follow_hours_{event}() RETURNS trigger LANGUAGE plpgsql
            SET search_path = pg_catalog, pg_temp AS $$
            BEGIN
                {
                _add_up(
                    "usage_minute",
                    "date_trunc('minute', now())",
                    "minute",
                    grown,
                    "listing_id, region",
                    where="WHERE hour = date_trunc('hour', now(), 'UTC')",
                )
            }
                {_add_up("usage_day", "(hour AT TIME ZONE 'UTC')::date", "day", grown, "listing_id, region")}
                {_add_up("usage_month", "date_trunc('month', hour, 'UTC')", "month", grown, "")}
                INSERT INTO public.usage_spending AS s (tenant_id, month, project_id, key_id, listing_id, paid_nano)
                SELECT tenant_id, date_trunc('month', hour, 'UTC'), project_id, key_id, listing_id,
                       sum(amount_nano - written_off_nano)
                FROM {grown} GROUP BY 1, 2, 3, 4, 5
                ON CONFLICT (tenant_id, month, project_id, key_id, listing_id)
                DO UPDATE SET paid_nano = s.paid_nano + excluded.paid_nano;
                RETURN NULL;
            END $$
            """
        )
        old = "OLD TABLE AS old_hour " if event == "update" else ""
        op.execute(
            f"CREATE TRIGGER usage_hour_follow_{event} AFTER {event.upper()} ON usage_hour "
            f"REFERENCING {old}NEW TABLE AS new_hour FOR EACH STATEMENT EXECUTE FUNCTION follow_hours_{event}()"
        )


def _add_up(table: str, period: str, column: str, grown: str, further: str, *, where: str = "") -> str:
    keys = ", ".join(filter(None, ("tenant_id", column, further)))
    read = ", ".join(filter(None, ("tenant_id", period, further)))
    positions = ", ".join(str(number) for number in range(1, keys.count(",") + 2))
    added = ", ".join(f"{name} = r.{name} + excluded.{name}" for name in _SUMS)
    return f"""
                INSERT INTO public.{table} AS r ({keys}, {", ".join(_SUMS)})
                SELECT {read}, {", ".join(f"sum({name})" for name in _SUMS)}
                FROM {grown} {where} GROUP BY {positions}
                ON CONFLICT ({keys}) DO UPDATE SET {added};
    """


def _create_seals() -> None:
    """What a month's events summed to, in every way in which the books are verified, from before they were dropped."""
    sums = ",\n".join(f"            {name} bigint NOT NULL" for name in _SUMS)
    op.execute(
        f"""
        CREATE TABLE usage_sealed_month (
            month date CONSTRAINT pk_usage_sealed_month PRIMARY KEY,
{sums},
            sealed_at timestamptz NOT NULL DEFAULT now()
        )
        """
    )
    op.execute(
        f"""
        CREATE TABLE usage_sealed_hour (
            tenant_id uuid NOT NULL,
            month date NOT NULL CONSTRAINT fk_usage_sealed_hour_month_usage_sealed_month REFERENCES usage_sealed_month,
            hour timestamptz NOT NULL,
            project_id uuid NOT NULL,
            key_id uuid NOT NULL,
            listing_id uuid NOT NULL,
            region text NOT NULL,
{sums},
            CONSTRAINT pk_usage_sealed_hour
                PRIMARY KEY (tenant_id, month, hour, project_id, key_id, listing_id, region)
        )
        """
    )
    op.execute(
        """
        CREATE TABLE usage_sealed_posting (
            tenant_id uuid NOT NULL,
            month date NOT NULL
                CONSTRAINT fk_usage_sealed_posting_month_usage_sealed_month REFERENCES usage_sealed_month,
            transaction_id uuid NOT NULL,
            listing_id uuid NOT NULL,
            region text NOT NULL,
            amount_nano bigint NOT NULL,
            written_off_nano bigint NOT NULL,
            CONSTRAINT pk_usage_sealed_posting PRIMARY KEY (transaction_id, month, listing_id, region)
        )
        """
    )
    op.execute(
        """
        CREATE TABLE usage_sealed_grant (
            tenant_id uuid NOT NULL,
            month date NOT NULL
                CONSTRAINT fk_usage_sealed_grant_month_usage_sealed_month REFERENCES usage_sealed_month,
            grant_id uuid NOT NULL,
            granted_nano bigint NOT NULL,
            CONSTRAINT pk_usage_sealed_grant PRIMARY KEY (grant_id, month)
        )
        """
    )
    op.execute(
        f"""
        CREATE TABLE usage_sealed_price_day (
            tenant_id uuid NOT NULL,
            month date NOT NULL
                CONSTRAINT fk_usage_sealed_price_day_month_usage_sealed_month REFERENCES usage_sealed_month,
            day date NOT NULL,
            price_version_id uuid NOT NULL,
            seconds bigint NOT NULL,
            images bigint NOT NULL,
{sums},
            CONSTRAINT pk_usage_sealed_price_day PRIMARY KEY (tenant_id, month, day, price_version_id)
        )
        """
    )
    make_append_only("usage_sealed_month")
    protect_operator_table("usage_sealed_month", {Role.OPERATOR: "SELECT, INSERT"})
    for table in ("usage_sealed_hour", "usage_sealed_posting", "usage_sealed_grant", "usage_sealed_price_day"):
        make_append_only(table)
        protect_tenant_table(table, {Role.OPERATOR: "SELECT, INSERT"})


def _drop_partitions() -> None:
    # Only the owner can drop a table. The operator's role may ask for a month that is sealed, and into which nothing
    # can come any more.
    op.execute(
        """
        CREATE FUNCTION drop_usage_partition(dropped date) RETURNS void LANGUAGE plpgsql SECURITY DEFINER
        SET search_path = pg_catalog, pg_temp SET timezone = 'UTC' SET lock_timeout = '3s' AS $$
        BEGIN
            IF NOT EXISTS (
                SELECT FROM public.usage_sealed_month s, public.usage_kept k
                WHERE s.month = dropped
                  AND k.first_request_id >= public.first_request_id((dropped + interval '1 month')::timestamptz)
            ) THEN
                RAISE EXCEPTION 'usage of % is not sealed', dropped USING ERRCODE = 'check_violation';
            END IF;
            EXECUTE format('DROP TABLE public.%I', to_char(dropped, '"usage_event_"YYYY_MM'));
        END $$
        """
    )
    op.execute("REVOKE EXECUTE ON FUNCTION drop_usage_partition(date) FROM PUBLIC")
    op.execute(f"GRANT EXECUTE ON FUNCTION first_request_id(timestamptz) TO {Role.OPERATOR}")
    op.execute(f"GRANT EXECUTE ON FUNCTION drop_usage_partition(date) TO {Role.OPERATOR}")
