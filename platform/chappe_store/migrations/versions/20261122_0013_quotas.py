"""Quotas as data: plans, what each level sets, raises with an end; and what monthly budgets are measured by.

Forward only. Expand first; contract in a later release, when nothing reads the old shape any more: then
`tenant.requests_per_minute` and `api_key.requests_per_minute` go, with the triggers that follow them.
"""

from alembic import op

from chappe_store.audit_log.triggers import audit_table
from chappe_store.row_security import protect_operator_table, protect_tenant_table
from chappe_store.session import Role

revision = "0013"
down_revision = "0014"
branch_labels = None
depends_on = None

_RATES = ("requests_per_minute", "tokens_per_minute", "concurrent_requests")
_VALUES = (*_RATES, "monthly_budget_nano", "hard_stop", "alert_percents")
# The most that a budget can be: with sums of usage it stays within 64 bits.
_MAX_BUDGET_NANO = 10**18


def upgrade() -> None:
    # A migration that cannot get its lock soon gives up, instead of making every query queue behind it.
    op.execute("SET LOCAL lock_timeout = '3s'")
    op.execute("SET LOCAL statement_timeout = '60s'")
    _create_plans()
    _create_quotas()
    _create_raises()
    _announce_changes()
    _create_spending()
    _create_alerts()
    op.execute("ALTER TABLE budget_grant ADD COLUMN budgets uuid[] NOT NULL DEFAULT '{}'")
    op.execute(
        "CREATE INDEX ix_budget_grant_open_within ON budget_grant (tenant_id) "
        "WHERE released_at IS NULL AND budgets <> '{}'"
    )
    # Before the audit: what moves here is no decision of anybody's, and the log has it as it was made.
    _move_old_columns()
    _follow_old_columns()
    _audit()


def _value_columns(table: str) -> str:
    rates = ",\n".join(
        f"{name} bigint CONSTRAINT ck_{table}_{name} CHECK ({name} BETWEEN 1 AND 1000000000000)" for name in _RATES
    )
    return f"""
        {rates},
        monthly_budget_nano bigint CONSTRAINT ck_{table}_monthly_budget_nano
            CHECK (monthly_budget_nano BETWEEN 0 AND {_MAX_BUDGET_NANO})
    """


def _budget_columns(table: str) -> str:
    return f"""
        hard_stop boolean NOT NULL DEFAULT true,
        alert_percents bigint[] NOT NULL DEFAULT '{{}}' CONSTRAINT ck_{table}_alert_percents
            CHECK (cardinality(alert_percents) <= 10 AND 1 <= ALL (alert_percents) AND 1000 >= ALL (alert_percents)),
        CONSTRAINT ck_{table}_values CHECK (
            num_nonnulls({", ".join(_RATES)}, monthly_budget_nano) > 0
            AND (monthly_budget_nano IS NOT NULL OR alert_percents = '{{}}')
        )
    """


def _create_plans() -> None:
    op.execute(
        """
        CREATE TABLE plan (
            name text CONSTRAINT pk_plan PRIMARY KEY CONSTRAINT ck_plan_name CHECK (length(name) BETWEEN 1 AND 100),
            id uuid NOT NULL DEFAULT uuidv7() CONSTRAINT uq_plan_id UNIQUE,
            title text NOT NULL CONSTRAINT ck_plan_title CHECK (length(title) BETWEEN 1 AND 100),
            created_at timestamptz NOT NULL DEFAULT now()
        )
        """
    )
    op.execute(
        f"""
        CREATE TABLE plan_quota (
            id uuid CONSTRAINT pk_plan_quota PRIMARY KEY,
            plan text NOT NULL CONSTRAINT fk_plan_quota_plan_plan REFERENCES plan ON DELETE CASCADE,
            model text,
            {_value_columns("plan_quota")},
            {_budget_columns("plan_quota")},
            CONSTRAINT uq_plan_quota_plan_model UNIQUE NULLS NOT DISTINCT (plan, model)
        )
        """
    )
    everyone = dict.fromkeys(Role, "SELECT")
    protect_operator_table("plan", everyone | {Role.OPERATOR: "SELECT, INSERT, UPDATE (title), DELETE"})
    protect_operator_table("plan_quota", everyone | {Role.OPERATOR: "SELECT, INSERT, UPDATE, DELETE"})
    op.execute("INSERT INTO plan (name, title) VALUES ('standard', 'Standard')")
    # What tenants' plans were called so far becomes plans without limits.
    op.execute("ALTER TABLE tenant NO FORCE ROW LEVEL SECURITY")
    op.execute("INSERT INTO plan (name, title) SELECT DISTINCT plan, plan FROM tenant ON CONFLICT DO NOTHING")
    op.execute("ALTER TABLE tenant FORCE ROW LEVEL SECURITY")
    op.execute("CREATE INDEX ix_tenant_plan ON tenant (plan)")
    op.execute("ALTER TABLE tenant ADD CONSTRAINT fk_tenant_plan_plan FOREIGN KEY (plan) REFERENCES plan NOT VALID")
    op.execute("ALTER TABLE tenant VALIDATE CONSTRAINT fk_tenant_plan_plan")


def _create_quotas() -> None:
    op.execute(
        f"""
        CREATE TABLE quota (
            tenant_id uuid NOT NULL CONSTRAINT fk_quota_tenant_id_tenant REFERENCES tenant,
            id uuid NOT NULL,
            level text NOT NULL
                CONSTRAINT ck_quota_level CHECK (level IN ('contract', 'tenant', 'project', 'key')),
            project_id uuid,
            key_id uuid,
            model text,
            {_value_columns("quota")},
            {_budget_columns("quota")},
            created_at timestamptz NOT NULL DEFAULT now(),
            CONSTRAINT pk_quota PRIMARY KEY (tenant_id, id),
            CONSTRAINT fk_quota_tenant_id_project_id_project
                FOREIGN KEY (tenant_id, project_id) REFERENCES project (tenant_id, id),
            CONSTRAINT fk_quota_tenant_id_key_id_api_key
                FOREIGN KEY (tenant_id, key_id) REFERENCES api_key (tenant_id, id),
            CONSTRAINT ck_quota_subject CHECK (
                (level = 'project') = (project_id IS NOT NULL) AND (level = 'key') = (key_id IS NOT NULL)
            ),
            CONSTRAINT uq_quota_tenant_id_level_project_id_key_id_model
                UNIQUE NULLS NOT DISTINCT (tenant_id, level, project_id, key_id, model)
        )
        """
    )
    protect_tenant_table(
        "quota",
        {
            Role.APP: "SELECT, INSERT, UPDATE, DELETE",
            Role.INGEST: "SELECT",
            Role.OPERATOR: "SELECT, INSERT, UPDATE, DELETE",
        },
    )
    # Ingestion asks at each batch who wants to be told, and it is few.
    op.execute("CREATE INDEX ix_quota_alerting ON quota (tenant_id) WHERE alert_percents <> '{}'")
    # What was agreed with the operator a tenant sees and cannot change, whatever the code above forgets to ask.
    for command, condition in (
        ("INSERT", "WITH CHECK (level <> 'contract')"),
        ("UPDATE", "USING (level <> 'contract') WITH CHECK (level <> 'contract')"),
        ("DELETE", "USING (level <> 'contract')"),
    ):
        op.execute(
            f"CREATE POLICY no_contract_{command.lower()} ON quota AS RESTRICTIVE FOR {command} "
            f"TO {Role.APP} {condition}"
        )


def _create_raises() -> None:
    op.execute(
        f"""
        CREATE TABLE quota_raise (
            tenant_id uuid NOT NULL CONSTRAINT fk_quota_raise_tenant_id_tenant REFERENCES tenant,
            id uuid NOT NULL,
            model text,
            {_value_columns("quota_raise")},
            reason text NOT NULL CONSTRAINT ck_quota_raise_reason CHECK (length(reason) BETWEEN 1 AND 500),
            created_at timestamptz NOT NULL DEFAULT now(),
            ends_at timestamptz NOT NULL,
            CONSTRAINT pk_quota_raise PRIMARY KEY (tenant_id, id),
            CONSTRAINT ck_quota_raise_ends_at CHECK (ends_at >= created_at AND isfinite(ends_at)),
            CONSTRAINT ck_quota_raise_values CHECK (num_nonnulls({", ".join(_RATES)}, monthly_budget_nano) > 0)
        )
        """
    )
    op.execute("CREATE INDEX ix_quota_raise_tenant_id_ends_at ON quota_raise (tenant_id, ends_at)")
    protect_tenant_table(
        "quota_raise",
        {Role.APP: "SELECT", Role.INGEST: "SELECT", Role.OPERATOR: "SELECT, INSERT, UPDATE (ends_at)"},
    )


def _announce_changes() -> None:
    # A raise that ends by itself announces nothing: gateways are told how long what they know holds.
    values = ", ".join(("model", *_RATES, "monthly_budget_nano", "hard_stop"))
    for table, columns in (
        ("quota", values),
        ("plan_quota", values),
        ("quota_raise", "ends_at"),
        ("tenant", "plan"),
    ):
        events = "UPDATE OF plan" if table == "tenant" else f"INSERT OR DELETE OR UPDATE OF {columns}"
        # A quota that follows its tenant's or key's own row: that row announces it, unless nobody knows it yet.
        itself = "WHEN (pg_trigger_depth() = 0) " if table == "quota" else ""
        op.execute(
            f"CREATE TRIGGER {table}_quota_announce_key_change AFTER {events} ON {table} "
            f"FOR EACH ROW {itself}EXECUTE FUNCTION announce_key_change()"
        )


def _create_spending() -> None:
    """What each key spent on each listing in a month: budgets of every level add up a few of these rows, so that
    one which is set in mid-month knows what was spent before it, and none has a counter that could drift."""
    op.execute(
        """
        CREATE TABLE usage_spending (
            tenant_id uuid NOT NULL,
            month timestamptz NOT NULL,
            project_id uuid NOT NULL,
            key_id uuid NOT NULL,
            listing_id uuid NOT NULL,
            paid_nano bigint NOT NULL,
            CONSTRAINT pk_usage_spending PRIMARY KEY (tenant_id, month, project_id, key_id, listing_id)
        )
        """
    )
    # Row-level security binds the owner too: before it is on for the new table, and while it is lifted for the old
    # one, what was used before this migration is added up. Nobody else gets to see that in between.
    op.execute("ALTER TABLE usage_hour NO FORCE ROW LEVEL SECURITY")
    op.execute(
        "INSERT INTO usage_spending SELECT tenant_id, date_trunc('month', hour, 'UTC'), project_id, key_id, "
        "listing_id, sum(amount_nano - written_off_nano) FROM usage_hour GROUP BY 1, 2, 3, 4, 5"
    )
    op.execute("ALTER TABLE usage_hour FORCE ROW LEVEL SECURITY")
    protect_tenant_table(
        "usage_spending", {Role.APP: "SELECT", Role.INGEST: "SELECT, INSERT, UPDATE", Role.OPERATOR: "SELECT"}
    )
    # A trigger and not a statement of ingestion's: while releases change over, the one before this adds to hours too.
    # The tenant's budget is locked by then, so nobody waits here who did not wait before. OLD is null in an insert.
    op.execute(
        """
        CREATE FUNCTION add_hour_to_spending() RETURNS trigger LANGUAGE plpgsql
        SET search_path = pg_catalog, pg_temp AS $$
        BEGIN
            INSERT INTO public.usage_spending AS s (tenant_id, month, project_id, key_id, listing_id, paid_nano)
            VALUES (
                NEW.tenant_id, date_trunc('month', NEW.hour, 'UTC'), NEW.project_id, NEW.key_id, NEW.listing_id,
                NEW.amount_nano - NEW.written_off_nano
                    - coalesce(OLD.amount_nano, 0) + coalesce(OLD.written_off_nano, 0)
            )
            ON CONFLICT (tenant_id, month, project_id, key_id, listing_id)
            DO UPDATE SET paid_nano = s.paid_nano + excluded.paid_nano;
            RETURN NULL;
        END $$
        """
    )
    op.execute(
        "CREATE TRIGGER usage_hour_add_to_spending AFTER INSERT OR UPDATE ON usage_hour "
        "FOR EACH ROW EXECUTE FUNCTION add_hour_to_spending()"
    )


def _create_alerts() -> None:
    # Its key is what makes a threshold be announced once a month, and again for a budget that was changed.
    op.execute(
        """
        CREATE TABLE budget_alert (
            tenant_id uuid NOT NULL CONSTRAINT fk_budget_alert_tenant_id_tenant REFERENCES tenant,
            quota_id uuid NOT NULL,
            month timestamptz NOT NULL,
            percent bigint NOT NULL,
            budget_nano bigint NOT NULL,
            spent_nano bigint NOT NULL,
            reached_at timestamptz NOT NULL DEFAULT now(),
            CONSTRAINT pk_budget_alert PRIMARY KEY (tenant_id, quota_id, month, percent, budget_nano)
        )
        """
    )
    protect_tenant_table("budget_alert", {Role.APP: "SELECT", Role.INGEST: "SELECT, INSERT", Role.OPERATOR: "SELECT"})


def _audit() -> None:
    audit_table("plan", subject=("name",), shown=("id", "title"))
    audit_table("plan_quota", subject=("id",), shown=("plan", "model", *_VALUES))
    audit_table(
        "quota",
        subject=("id",),
        tenant_column="tenant_id",
        shown=("level", "project_id", "key_id", "model", *_VALUES),
    )
    audit_table(
        "quota_raise",
        subject=("id",),
        tenant_column="tenant_id",
        shown=("model", *_RATES, "monthly_budget_nano", "reason", "ends_at"),
    )


def _follow_old_columns() -> None:
    """The release before this one, and whoever makes a tenant or a key with a limit, writes it into a column of the
    row: it becomes the quota that is read."""
    for table, level, tenant, key in (
        ("tenant", "contract", "NEW.id", "NULL"),
        ("api_key", "key", "NEW.tenant_id", "NEW.id"),
    ):
        op.execute(
            f"""
            CREATE FUNCTION follow_{table}_limit() RETURNS trigger LANGUAGE plpgsql
            SET search_path = pg_catalog, pg_temp AS $$
            BEGIN
                IF NEW.requests_per_minute IS NOT NULL THEN
                    INSERT INTO public.quota AS q (tenant_id, id, level, key_id, requests_per_minute)
                    VALUES ({tenant}, uuidv7(), '{level}', {key}, NEW.requests_per_minute)
                    ON CONFLICT (tenant_id, level, project_id, key_id, model)
                    DO UPDATE SET requests_per_minute = excluded.requests_per_minute;
                ELSE
                    DELETE FROM public.quota q
                    WHERE q.tenant_id = {tenant} AND q.level = '{level}' AND q.key_id IS NOT DISTINCT FROM {key}
                      AND q.model IS NULL
                      AND num_nonnulls(q.tokens_per_minute, q.concurrent_requests, q.monthly_budget_nano) = 0;
                    UPDATE public.quota q SET requests_per_minute = NULL
                    WHERE q.tenant_id = {tenant} AND q.level = '{level}' AND q.key_id IS NOT DISTINCT FROM {key}
                      AND q.model IS NULL;
                END IF;
                RETURN NULL;
            END $$
            """
        )
        op.execute(
            f"CREATE TRIGGER {table}_follow_new_limit AFTER INSERT ON {table} FOR EACH ROW "
            f"WHEN (NEW.requests_per_minute IS NOT NULL) EXECUTE FUNCTION follow_{table}_limit()"
        )
        op.execute(
            f"CREATE TRIGGER {table}_follow_limit AFTER UPDATE OF requests_per_minute ON {table} FOR EACH ROW "
            "WHEN (NEW.requests_per_minute IS DISTINCT FROM OLD.requests_per_minute) "
            f"EXECUTE FUNCTION follow_{table}_limit()"
        )


def _move_old_columns() -> None:
    tables = ("tenant", "api_key", "quota")
    for table in tables:
        op.execute(f"ALTER TABLE {table} NO FORCE ROW LEVEL SECURITY")
    op.execute(
        "INSERT INTO quota (tenant_id, id, level, requests_per_minute) "
        "SELECT id, uuidv7(), 'contract', requests_per_minute FROM tenant"
    )
    op.execute(
        "INSERT INTO quota (tenant_id, id, level, key_id, requests_per_minute) "
        "SELECT tenant_id, uuidv7(), 'key', id, requests_per_minute FROM api_key WHERE requests_per_minute IS NOT NULL"
    )
    for table in tables:
        op.execute(f"ALTER TABLE {table} FORCE ROW LEVEL SECURITY")
