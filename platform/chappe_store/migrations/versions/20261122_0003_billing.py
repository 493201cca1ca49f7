"""The price book, the ledger, budgets and their grants, and usage.

Forward only. Expand first; contract in a later release, when nothing reads the old shape any more.
"""

from alembic import op

from chappe_store.row_security import make_append_only, protect_operator_table, protect_tenant_table
from chappe_store.session import Role

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None

_MONTHS_AHEAD = 24


def upgrade() -> None:
    # A migration that cannot get its lock soon gives up, instead of making every query queue behind it.
    op.execute("SET LOCAL lock_timeout = '3s'")
    op.execute("SET LOCAL statement_timeout = '60s'")
    _create_prices()
    _create_ledger()
    _balance_ledger()
    _create_budgets()
    _guard_budgets()
    _create_grants()
    _create_usage()
    _create_usage_hours()
    _create_quarantine()
    _create_usage_partitions()


def _create_prices() -> None:
    op.execute(
        """
        CREATE TABLE price_version (
            id uuid CONSTRAINT pk_price_version PRIMARY KEY,
            listing_id uuid NOT NULL CONSTRAINT fk_price_version_listing_id_listing REFERENCES listing,
            region text NOT NULL CONSTRAINT fk_price_version_region_region REFERENCES region,
            currency text NOT NULL CONSTRAINT ck_price_version_currency CHECK (currency ~ '^[A-Z]{3}$'),
            starts_at timestamptz NOT NULL,
            input_nano_per_token bigint NOT NULL,
            cached_input_nano_per_token bigint NOT NULL,
            output_nano_per_token bigint NOT NULL,
            request_nano bigint NOT NULL,
            created_at timestamptz NOT NULL DEFAULT now(),
            CONSTRAINT uq_price_version_listing_id_region_starts_at UNIQUE (listing_id, region, starts_at),
            CONSTRAINT ck_price_version_components CHECK (
                least(input_nano_per_token, cached_input_nano_per_token, output_nano_per_token, request_nano) >= 0
            )
        )
        """
    )
    make_append_only("price_version")
    protect_operator_table("price_version", dict.fromkeys(Role, "SELECT") | {Role.OPERATOR: "SELECT, INSERT"})


def _create_ledger() -> None:
    op.execute(
        """
        CREATE TABLE ledger_account (
            id uuid CONSTRAINT pk_ledger_account PRIMARY KEY,
            kind text NOT NULL CONSTRAINT ck_ledger_account_kind CHECK (
                kind IN ('tenant_funds', 'promotional_credit', 'revenue', 'write_off')
            ),
            currency text NOT NULL CONSTRAINT ck_ledger_account_currency CHECK (currency ~ '^[A-Z]{3}$'),
            tenant_id uuid CONSTRAINT fk_ledger_account_tenant_id_tenant REFERENCES tenant,
            region text CONSTRAINT fk_ledger_account_region_region REFERENCES region,
            created_at timestamptz NOT NULL DEFAULT now(),
            CONSTRAINT ck_ledger_account_owner CHECK ((kind = 'tenant_funds') = (tenant_id IS NOT NULL)),
            CONSTRAINT uq_ledger_account_id_currency UNIQUE (id, currency),
            CONSTRAINT uq_ledger_account_kind_currency_tenant_id_region
                UNIQUE NULLS NOT DISTINCT (kind, currency, tenant_id, region)
        )
        """
    )
    op.execute(
        """
        CREATE TABLE ledger_transaction (
            id uuid CONSTRAINT pk_ledger_transaction PRIMARY KEY,
            kind text NOT NULL CONSTRAINT ck_ledger_transaction_kind CHECK (kind IN ('welcome_credit', 'usage')),
            tenant_id uuid CONSTRAINT fk_ledger_transaction_tenant_id_tenant REFERENCES tenant,
            currency text NOT NULL,
            created_at timestamptz NOT NULL DEFAULT now(),
            CONSTRAINT uq_ledger_transaction_id_currency UNIQUE (id, currency)
        )
        """
    )
    op.execute(
        "CREATE UNIQUE INDEX uq_ledger_transaction_welcome_credit ON ledger_transaction (tenant_id) "
        "WHERE kind = 'welcome_credit'"
    )
    # Composite foreign keys: all entries of a transaction are in its currency, and so are their accounts.
    op.execute(
        """
        CREATE TABLE ledger_entry (
            transaction_id uuid NOT NULL,
            line bigint NOT NULL,
            account_id uuid NOT NULL,
            tenant_id uuid,
            currency text NOT NULL,
            amount_nano bigint NOT NULL CONSTRAINT ck_ledger_entry_amount_nano CHECK (amount_nano <> 0),
            CONSTRAINT pk_ledger_entry PRIMARY KEY (transaction_id, line),
            CONSTRAINT fk_ledger_entry_transaction_id_currency_ledger_transaction
                FOREIGN KEY (transaction_id, currency) REFERENCES ledger_transaction (id, currency),
            CONSTRAINT fk_ledger_entry_account_id_currency_ledger_account
                FOREIGN KEY (account_id, currency) REFERENCES ledger_account (id, currency)
        )
        """
    )
    op.execute("CREATE INDEX ix_ledger_entry_account_id ON ledger_entry (account_id)")
    for table in ("ledger_account", "ledger_transaction", "ledger_entry"):
        make_append_only(table)
        protect_tenant_table(table, {Role.INGEST: "SELECT, INSERT", Role.OPERATOR: "SELECT, INSERT"})


def _balance_ledger() -> None:
    # At commit: the entries of every transaction that was touched sum to zero. An entry can only join in the database
    # transaction that made its header (`now()` is that transaction's start), so what is committed is complete.
    op.execute(
        """
        CREATE FUNCTION check_ledger_balanced() RETURNS trigger LANGUAGE plpgsql
        SET search_path = pg_catalog, pg_temp AS $$
        DECLARE
            checked uuid := CASE TG_TABLE_NAME
                WHEN 'ledger_transaction' THEN to_jsonb(NEW) ->> 'id' ELSE to_jsonb(NEW) ->> 'transaction_id' END;
            entries bigint;
            total numeric;
        BEGIN
            SELECT count(*), sum(amount_nano) INTO entries, total
            FROM public.ledger_entry WHERE transaction_id = checked;
            IF entries < 2 OR total <> 0 THEN
                RAISE EXCEPTION 'ledger transaction % does not balance', checked USING ERRCODE = 'check_violation';
            END IF;
            IF NOT EXISTS (
                SELECT FROM public.ledger_transaction WHERE id = checked AND created_at = now()
            ) THEN
                RAISE EXCEPTION 'ledger transaction % is closed', checked USING ERRCODE = 'check_violation';
            END IF;
            RETURN NULL;
        END $$
        """
    )
    for table in ("ledger_transaction", "ledger_entry"):
        op.execute(
            f"CREATE CONSTRAINT TRIGGER {table}_balanced AFTER INSERT ON {table} DEFERRABLE INITIALLY DEFERRED "
            "FOR EACH ROW EXECUTE FUNCTION check_ledger_balanced()"
        )


def _create_budgets() -> None:
    op.execute(
        """
        CREATE TABLE budget (
            tenant_id uuid CONSTRAINT pk_budget PRIMARY KEY
                CONSTRAINT fk_budget_tenant_id_tenant REFERENCES tenant,
            currency text NOT NULL CONSTRAINT ck_budget_currency CHECK (currency ~ '^[A-Z]{3}$'),
            funds_nano bigint NOT NULL DEFAULT 0,
            posted_nano bigint NOT NULL DEFAULT 0 CONSTRAINT ck_budget_posted_nano CHECK (posted_nano >= 0),
            pending_nano bigint NOT NULL DEFAULT 0 CONSTRAINT ck_budget_pending_nano CHECK (pending_nano >= 0),
            credit_limit_nano bigint NOT NULL DEFAULT 0
                CONSTRAINT ck_budget_credit_limit_nano CHECK (credit_limit_nano >= 0)
        )
        """
    )
    protect_tenant_table(
        "budget",
        {
            Role.APP: "SELECT",
            Role.INGEST: "SELECT, UPDATE (posted_nano, pending_nano)",
            Role.OPERATOR: "SELECT, INSERT (tenant_id, currency), UPDATE (funds_nano, credit_limit_nano)",
        },
    )


def _guard_budgets() -> None:
    # A second lock behind the conditional updates. It guards increases only: when funds fall (a chargeback) the
    # debt stands, and nothing more is admitted.
    op.execute(
        """
        CREATE FUNCTION check_budget_increase() RETURNS trigger LANGUAGE plpgsql
        SET search_path = pg_catalog, pg_temp AS $$
        BEGIN
            IF NEW.posted_nano + NEW.pending_nano > OLD.posted_nano + OLD.pending_nano
               AND NEW.posted_nano + NEW.pending_nano > NEW.funds_nano + NEW.credit_limit_nano THEN
                RAISE EXCEPTION 'budget of tenant % would be exceeded', NEW.tenant_id
                    USING ERRCODE = 'check_violation';
            END IF;
            RETURN NEW;
        END $$
        """
    )
    op.execute(
        "CREATE TRIGGER budget_increase BEFORE UPDATE ON budget FOR EACH ROW EXECUTE FUNCTION check_budget_increase()"
    )


def _create_grants() -> None:
    # The gateway chooses the id, so it is unique across tenants; only regions see that, never a tenant.
    op.execute(
        """
        CREATE TABLE budget_grant (
            id uuid CONSTRAINT pk_budget_grant PRIMARY KEY,
            tenant_id uuid NOT NULL CONSTRAINT fk_budget_grant_tenant_id_budget REFERENCES budget,
            region text NOT NULL CONSTRAINT fk_budget_grant_region_region REFERENCES region,
            gateway text NOT NULL,
            amount_nano bigint NOT NULL,
            returned_nano bigint NOT NULL DEFAULT 0,
            posted_nano bigint NOT NULL DEFAULT 0,
            created_at timestamptz NOT NULL DEFAULT now(),
            admit_until timestamptz NOT NULL,
            settle_by timestamptz NOT NULL,
            release_at timestamptz NOT NULL,
            released_at timestamptz,
            CONSTRAINT ck_budget_grant_amounts CHECK (
                least(amount_nano, returned_nano, posted_nano) >= 0 AND returned_nano + posted_nano <= amount_nano
            )
        )
        """
    )
    op.execute("CREATE INDEX ix_budget_grant_open ON budget_grant (tenant_id, release_at) WHERE released_at IS NULL")
    protect_tenant_table(
        "budget_grant",
        {
            Role.APP: "SELECT",
            Role.INGEST: "SELECT, INSERT, UPDATE (returned_nano, posted_nano, released_at)",
            Role.OPERATOR: "SELECT",
        },
    )


def _create_usage() -> None:
    # No foreign keys: ingestion checks tenant, project, key, listing and price in bulk, and a look-up per row and key
    # would cost more than all the rest. `chappe ledger verify` checks them again.
    op.execute(
        """
        CREATE TABLE usage_event (
            request_id uuid NOT NULL,
            tenant_id uuid NOT NULL,
            project_id uuid NOT NULL,
            key_id uuid NOT NULL,
            grant_id uuid NOT NULL,
            region text NOT NULL,
            gateway text NOT NULL,
            listing_id uuid NOT NULL,
            price_version_id uuid NOT NULL,
            outcome text NOT NULL CONSTRAINT ck_usage_event_outcome CHECK (
                outcome IN ('completed', 'disconnected', 'failed')
            ),
            prompt_tokens bigint NOT NULL,
            cached_tokens bigint NOT NULL,
            completion_tokens bigint NOT NULL,
            amount_nano bigint NOT NULL,
            granted_nano bigint NOT NULL,
            written_off_nano bigint NOT NULL,
            hold_nano bigint NOT NULL,
            started_at timestamptz NOT NULL,
            finished_at timestamptz NOT NULL,
            ttft_ms bigint,
            transaction_id uuid,
            posted_at timestamptz NOT NULL DEFAULT now(),
            CONSTRAINT pk_usage_event PRIMARY KEY (request_id),
            CONSTRAINT ck_usage_event_counts CHECK (
                cached_tokens >= 0 AND cached_tokens <= prompt_tokens AND completion_tokens >= 0
            ),
            CONSTRAINT ck_usage_event_amounts CHECK (
                least(amount_nano, granted_nano, written_off_nano) >= 0
                AND granted_nano + written_off_nano <= amount_nano AND amount_nano <= hold_nano
            ),
            CONSTRAINT ck_usage_event_transaction CHECK (transaction_id IS NOT NULL OR amount_nano = 0)
        ) PARTITION BY RANGE (request_id)
        """
    )
    op.execute("CREATE INDEX ix_usage_event_tenant_id_request_id ON usage_event (tenant_id, request_id)")
    make_append_only("usage_event")
    protect_tenant_table("usage_event", {Role.APP: "SELECT", Role.INGEST: "SELECT, INSERT", Role.OPERATOR: "SELECT"})


def _create_usage_hours() -> None:
    op.execute(
        """
        CREATE TABLE usage_hour (
            tenant_id uuid NOT NULL,
            hour timestamptz NOT NULL,
            project_id uuid NOT NULL,
            key_id uuid NOT NULL,
            listing_id uuid NOT NULL,
            region text NOT NULL,
            requests bigint NOT NULL,
            prompt_tokens bigint NOT NULL,
            cached_tokens bigint NOT NULL,
            completion_tokens bigint NOT NULL,
            amount_nano bigint NOT NULL,
            written_off_nano bigint NOT NULL,
            CONSTRAINT pk_usage_hour PRIMARY KEY (tenant_id, hour, project_id, key_id, listing_id, region)
        )
        """
    )
    protect_tenant_table(
        "usage_hour", {Role.APP: "SELECT", Role.INGEST: "SELECT, INSERT, UPDATE", Role.OPERATOR: "SELECT"}
    )


def _create_quarantine() -> None:
    op.execute(
        """
        CREATE TABLE usage_quarantine (
            request_id uuid NOT NULL,
            digest bytea NOT NULL,
            code text NOT NULL,
            region text NOT NULL,
            gateway text NOT NULL,
            tenant_id uuid NOT NULL,
            event jsonb NOT NULL,
            received_at timestamptz NOT NULL DEFAULT now(),
            CONSTRAINT pk_usage_quarantine PRIMARY KEY (request_id, digest)
        )
        """
    )
    make_append_only("usage_quarantine")
    protect_tenant_table("usage_quarantine", {Role.INGEST: "SELECT, INSERT", Role.OPERATOR: "SELECT"})


def _create_usage_partitions() -> None:
    # A UUIDv7 begins with 48 bits of Unix milliseconds, so a month is a range of ids. Only the owner can create tables;
    # the operator's role may ask for these. Rights are on the parent alone: nobody can go around its policies.
    op.execute(
        """
        CREATE FUNCTION prepare_usage_partition(partition text) RETURNS void LANGUAGE plpgsql
        SET search_path = pg_catalog, pg_temp AS $$
        BEGIN
            EXECUTE format('ALTER TABLE public.%I ENABLE ROW LEVEL SECURITY', partition);
            EXECUTE format('ALTER TABLE public.%I FORCE ROW LEVEL SECURITY', partition);
            EXECUTE format('CREATE TRIGGER %I BEFORE TRUNCATE ON public.%I FOR EACH STATEMENT '
                           'EXECUTE FUNCTION public.refuse_change()', partition || '_no_truncate', partition);
        END $$
        """
    )
    op.execute(
        """
        CREATE FUNCTION ensure_usage_partitions(months_ahead integer) RETURNS integer LANGUAGE plpgsql SECURITY DEFINER
        SET search_path = pg_catalog, pg_temp SET timezone = 'UTC' SET lock_timeout = '3s' AS $$
        DECLARE
            starts timestamptz;
            partition text;
            made integer := 0;
        BEGIN
            FOR month IN 0..months_ahead LOOP
                starts := date_trunc('month', now()) + make_interval(months => month);
                partition := to_char(starts, '"usage_event_"YYYY_MM');
                CONTINUE WHEN to_regclass('public.' || partition) IS NOT NULL;
                BEGIN
                    EXECUTE format(
                        'CREATE TABLE public.%I PARTITION OF public.usage_event FOR VALUES FROM (%L) TO (%L)',
                        partition, public.first_request_id(starts),
                        public.first_request_id(starts + interval '1 month'));
                    PERFORM public.prepare_usage_partition(partition);
                    made := made + 1;
                EXCEPTION WHEN check_violation THEN
                    -- Events of that month are in the default partition already. They are as safe there.
                    RAISE WARNING 'usage of % stays in the default partition', partition;
                END;
            END LOOP;
            RETURN made;
        END $$
        """
    )
    op.execute(
        """
        CREATE FUNCTION first_request_id(at timestamptz) RETURNS uuid LANGUAGE sql IMMUTABLE
        SET search_path = pg_catalog, pg_temp AS $$
            SELECT (lpad(to_hex((extract(epoch FROM at) * 1000)::bigint), 12, '0') || repeat('0', 20))::uuid
        $$
        """
    )
    op.execute("CREATE TABLE usage_event_default PARTITION OF usage_event DEFAULT")
    op.execute("SELECT prepare_usage_partition('usage_event_default')")
    op.execute(f"SELECT ensure_usage_partitions({_MONTHS_AHEAD})")
    op.execute(f"GRANT EXECUTE ON FUNCTION ensure_usage_partitions(integer) TO {Role.OPERATOR}")
