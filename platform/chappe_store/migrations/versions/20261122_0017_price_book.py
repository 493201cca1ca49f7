"""The price book whole: drafts, withdrawals, contract prices, sums to simulate with, corrections, and terms at cut-off.

Forward only. Expand first; contract in a later release, when nothing reads the old shape any more.
"""

from alembic import op

from chappe_store.audit_log.triggers import audit_table
from chappe_store.row_security import (
    make_append_only,
    protect_operator_table,
    protect_shared_table,
    protect_tenant_table,
)
from chappe_store.session import Role

revision = "0017"
down_revision = "0023"
branch_labels = None
depends_on = None

_COMPONENTS = (
    *("input_nano_per_token", "cached_input_nano_per_token", "output_nano_per_token"),
    *("request_nano", "second_nano", "image_nano"),
)
_MAX_COMPONENT_NANO = 10**12
_MAX_NANO = 10**18
_SUMS = (
    *("requests", "prompt_tokens", "cached_tokens", "completion_tokens", "seconds", "images"),
    *("amount_nano", "written_off_nano"),
)
# What `charge` in the kernel asks, and that it repeats no other request.
_CHARGEABLE = (
    "e.repeats IS NULL AND (e.completion_tokens + e.seconds + e.images > 0 "
    "OR (e.prompt_tokens > 0 AND e.outcome <> 'failed'))"
)


def upgrade() -> None:
    # A migration that cannot get its lock soon gives up, instead of making every query queue behind it.
    op.execute("SET LOCAL lock_timeout = '3s'")
    op.execute("SET LOCAL statement_timeout = '60s'")
    _widen_versions()
    _one_version_per_start()
    _create_withdrawals()
    _create_drafts()
    _widen_usage()
    _create_terms()
    _create_cut_offs()
    _create_price_days()
    _create_corrections()
    _audit()


def _widen_versions() -> None:
    # Nothing is rewritten: the defaults are constants, and prices of before are everybody's.
    op.execute(
        """
        ALTER TABLE price_version
            ADD COLUMN second_nano bigint NOT NULL DEFAULT 0,
            ADD COLUMN image_nano bigint NOT NULL DEFAULT 0,
            ADD COLUMN tenant_id uuid,
            ADD COLUMN discount_basis_points bigint,
            ADD COLUMN draft_id uuid,
            ADD COLUMN reverts_id uuid,
            ADD COLUMN reason text
        """
    )
    checks = {
        "ck_price_version_more_components": "CHECK (least(second_nano, image_nano) >= 0)",
        "ck_price_version_discount": (
            "CHECK (discount_basis_points IS NULL "
            "OR (tenant_id IS NOT NULL AND discount_basis_points BETWEEN 0 AND 10000))"
        ),
        "ck_price_version_reason": "CHECK (length(reason) BETWEEN 1 AND 500 AND (reverts_id IS NULL OR reason <> ''))",
        "fk_price_version_tenant_id_tenant": "FOREIGN KEY (tenant_id) REFERENCES tenant",
        "fk_price_version_reverts_id_price_version": "FOREIGN KEY (reverts_id) REFERENCES price_version",
    }
    for name, rule in checks.items():
        op.execute(f"ALTER TABLE price_version ADD CONSTRAINT {name} {rule} NOT VALID")
        op.execute(f"ALTER TABLE price_version VALIDATE CONSTRAINT {name}")
    op.execute("CREATE INDEX ix_price_version_tenant_id ON price_version (tenant_id) WHERE tenant_id IS NOT NULL")
    op.execute("CREATE INDEX ix_price_version_reverts_id ON price_version (reverts_id) WHERE reverts_id IS NOT NULL")
    protect_shared_table("price_version", Role)
    # A list price goes to gateways with the snapshot. A tenant's own goes with what its keys may do.
    op.execute(
        "CREATE TRIGGER price_version_announce_key_change AFTER INSERT ON price_version "
        "FOR EACH ROW WHEN (NEW.tenant_id IS NOT NULL) EXECUTE FUNCTION announce_key_change()"
    )


def _one_version_per_start() -> None:
    # A withdrawn version leaves its start to another: no constraint can say that of two tables. Whoever publishes a
    # listing's price in a region takes turns (the same lock as the service's), so what is seen here cannot change.
    op.execute("ALTER TABLE price_version DROP CONSTRAINT uq_price_version_listing_id_region_starts_at")
    op.execute(
        "CREATE INDEX ix_price_version_listing_id_region_tenant_id_starts_at "
        "ON price_version (listing_id, region, tenant_id, starts_at)"
    )
    op.execute(
        """
        CREATE FUNCTION keep_one_version_per_start() RETURNS trigger LANGUAGE plpgsql
        SET search_path = pg_catalog, pg_temp AS $$
        BEGIN
            PERFORM pg_advisory_xact_lock(hashtextextended('price ' || NEW.listing_id || ' ' || NEW.region, 0));
            IF EXISTS (
                SELECT FROM public.price_version v
                WHERE v.listing_id = NEW.listing_id AND v.region = NEW.region
                  AND v.tenant_id IS NOT DISTINCT FROM NEW.tenant_id AND v.starts_at = NEW.starts_at
                  AND NOT EXISTS (SELECT FROM public.price_withdrawal w WHERE w.price_version_id = v.id)
            ) THEN
                RAISE EXCEPTION 'another price version starts then' USING ERRCODE = 'unique_violation';
            END IF;
            RETURN NEW;
        END $$
        """
    )
    op.execute(
        "CREATE TRIGGER price_version_one_per_start BEFORE INSERT ON price_version "
        "FOR EACH ROW EXECUTE FUNCTION keep_one_version_per_start()"
    )


def _create_withdrawals() -> None:
    op.execute(
        """
        CREATE TABLE price_withdrawal (
            price_version_id uuid CONSTRAINT pk_price_withdrawal PRIMARY KEY
                CONSTRAINT fk_price_withdrawal_price_version_id_price_version REFERENCES price_version,
            tenant_id uuid CONSTRAINT fk_price_withdrawal_tenant_id_tenant REFERENCES tenant,
            reason text NOT NULL CONSTRAINT ck_price_withdrawal_reason CHECK (length(reason) BETWEEN 1 AND 500),
            withdrawn_at timestamptz NOT NULL DEFAULT now()
        )
        """
    )
    op.execute("CREATE INDEX ix_price_withdrawal_tenant_id ON price_withdrawal (tenant_id)")
    make_append_only("price_withdrawal")
    protect_shared_table("price_withdrawal", Role)
    protect_operator_table("price_withdrawal", dict.fromkeys(Role, "SELECT") | {Role.OPERATOR: "SELECT, INSERT"})
    op.execute(
        """
        CREATE FUNCTION check_price_withdrawal() RETURNS trigger LANGUAGE plpgsql
        SET search_path = pg_catalog, pg_temp AS $$
        BEGIN
            IF NOT EXISTS (
                SELECT FROM public.price_version v WHERE v.id = NEW.price_version_id
                  AND v.tenant_id IS NOT DISTINCT FROM NEW.tenant_id AND v.starts_at > clock_timestamp()
            ) THEN
                RAISE EXCEPTION 'a price version that has started cannot be withdrawn'
                    USING ERRCODE = 'check_violation';
            END IF;
            RETURN NEW;
        END $$
        """
    )
    op.execute(
        "CREATE TRIGGER price_withdrawal_in_time BEFORE INSERT ON price_withdrawal "
        "FOR EACH ROW EXECUTE FUNCTION check_price_withdrawal()"
    )
    op.execute(
        "CREATE TRIGGER price_withdrawal_announce_key_change AFTER INSERT ON price_withdrawal "
        "FOR EACH ROW WHEN (NEW.tenant_id IS NOT NULL) EXECUTE FUNCTION announce_key_change()"
    )


def _create_drafts() -> None:
    op.execute(
        """
        CREATE TABLE price_draft (
            id uuid CONSTRAINT pk_price_draft PRIMARY KEY,
            title text NOT NULL CONSTRAINT ck_price_draft_title CHECK (length(title) BETWEEN 1 AND 100),
            tenant_id uuid CONSTRAINT fk_price_draft_tenant_id_tenant REFERENCES tenant,
            created_at timestamptz NOT NULL DEFAULT now(),
            simulated_lines bytea,
            published_at timestamptz,
            discarded_at timestamptz,
            CONSTRAINT ck_price_draft_end CHECK (num_nonnulls(published_at, discarded_at) <= 1)
        )
        """
    )
    values = ",\n".join(
        f"{name} bigint CONSTRAINT ck_price_draft_line_{name} CHECK ({name} BETWEEN 0 AND {_MAX_COMPONENT_NANO})"
        for name in _COMPONENTS
    )
    op.execute(
        f"""
        CREATE TABLE price_draft_line (
            draft_id uuid NOT NULL CONSTRAINT fk_price_draft_line_draft_id_price_draft REFERENCES price_draft,
            listing_id uuid NOT NULL CONSTRAINT fk_price_draft_line_listing_id_listing REFERENCES listing,
            region text NOT NULL CONSTRAINT fk_price_draft_line_region_region REFERENCES region,
            discount_basis_points bigint CONSTRAINT ck_price_draft_line_discount
                CHECK (discount_basis_points BETWEEN 0 AND 10000),
            {values},
            CONSTRAINT pk_price_draft_line PRIMARY KEY (draft_id, listing_id, region),
            CONSTRAINT ck_price_draft_line_values CHECK (
                num_nonnulls({", ".join(_COMPONENTS)})
                    = CASE WHEN discount_basis_points IS NULL THEN {len(_COMPONENTS)} ELSE 0 END
            )
        )
        """
    )
    op.execute("CREATE INDEX ix_price_draft_tenant_id ON price_draft (tenant_id)")
    protect_shared_table("price_draft", [Role.OPERATOR])
    protect_operator_table(
        "price_draft",
        {Role.OPERATOR: "SELECT, INSERT, UPDATE (title, simulated_lines, published_at, discarded_at)"},
    )
    protect_operator_table("price_draft_line", {Role.OPERATOR: "SELECT, INSERT, DELETE"})
    # What was published, or thrown away, stays as it was then.
    op.execute(
        """
        CREATE FUNCTION keep_ended_draft() RETURNS trigger LANGUAGE plpgsql
        SET search_path = pg_catalog, pg_temp AS $$
        DECLARE
            changed jsonb := CASE TG_OP WHEN 'INSERT' THEN to_jsonb(NEW) ELSE to_jsonb(OLD) END;
            draft public.price_draft;
        BEGIN
            SELECT * INTO draft FROM public.price_draft
            WHERE id = (changed ->> CASE TG_TABLE_NAME WHEN 'price_draft' THEN 'id' ELSE 'draft_id' END)::uuid;
            IF TG_TABLE_NAME || TG_OP = 'price_draftDELETE'
               OR num_nonnulls(draft.published_at, draft.discarded_at) > 0 THEN
                RAISE EXCEPTION 'a price draft that has ended stays as it is' USING ERRCODE = 'insufficient_privilege';
            END IF;
            RETURN CASE TG_OP WHEN 'DELETE' THEN OLD ELSE NEW END;
        END $$
        """
    )
    op.execute(
        "CREATE TRIGGER price_draft_ended BEFORE UPDATE OR DELETE ON price_draft "
        "FOR EACH ROW EXECUTE FUNCTION keep_ended_draft()"
    )
    op.execute(
        "CREATE TRIGGER price_draft_line_ended BEFORE INSERT OR UPDATE OR DELETE ON price_draft_line "
        "FOR EACH ROW EXECUTE FUNCTION keep_ended_draft()"
    )


def _widen_usage() -> None:
    op.execute(
        """
        ALTER TABLE usage_event
            ADD COLUMN seconds bigint NOT NULL DEFAULT 0,
            ADD COLUMN images bigint NOT NULL DEFAULT 0
        """
    )
    # No release has sent lines without them yet.
    op.execute("ALTER TYPE usage_line ADD ATTRIBUTE seconds bigint, ADD ATTRIBUTE images bigint")


def _create_terms() -> None:
    op.execute(
        f"""
        CREATE TABLE contract_term (
            id uuid CONSTRAINT pk_contract_term PRIMARY KEY,
            tenant_id uuid NOT NULL CONSTRAINT fk_contract_term_tenant_id_tenant REFERENCES tenant,
            kind text NOT NULL CONSTRAINT ck_contract_term_kind CHECK (
                kind IN ('volume_discount', 'minimum', 'commitment')
            ),
            first_month date NOT NULL,
            last_month date,
            amount_nano bigint CONSTRAINT ck_contract_term_amount_nano CHECK (amount_nano BETWEEN 1 AND {_MAX_NANO}),
            tier_from_nano bigint[] NOT NULL DEFAULT '{{}}',
            tier_basis_points bigint[] NOT NULL DEFAULT '{{}}',
            created_at timestamptz NOT NULL DEFAULT now(),
            CONSTRAINT ck_contract_term_months CHECK (
                extract(day FROM first_month) = 1 AND (last_month IS NULL OR extract(day FROM last_month) = 1)
                AND (kind <> 'commitment' OR last_month IS NOT NULL)
            ),
            CONSTRAINT ck_contract_term_values CHECK (
                (kind = 'volume_discount') = (amount_nano IS NULL)
                AND (kind = 'volume_discount') = (cardinality(tier_from_nano) > 0)
                AND cardinality(tier_from_nano) = cardinality(tier_basis_points)
                AND cardinality(tier_from_nano) <= 20
                AND 0 <= ALL (tier_from_nano) AND 0 <= ALL (tier_basis_points) AND 10000 >= ALL (tier_basis_points)
            )
        )
        """
    )
    op.execute("CREATE INDEX ix_contract_term_tenant_id ON contract_term (tenant_id)")
    protect_tenant_table("contract_term", {Role.APP: "SELECT", Role.OPERATOR: "SELECT, INSERT, UPDATE (last_month)"})


def _create_cut_offs() -> None:
    # The key is what makes a month be cut off once; its row comes with all of the month's entries.
    op.execute(
        """
        CREATE TABLE month_cut_off (
            tenant_id uuid NOT NULL CONSTRAINT fk_month_cut_off_tenant_id_tenant REFERENCES tenant,
            month date NOT NULL,
            used_nano bigint NOT NULL,
            cut_at timestamptz NOT NULL DEFAULT now(),
            CONSTRAINT pk_month_cut_off PRIMARY KEY (tenant_id, month)
        )
        """
    )
    op.execute(
        """
        CREATE TABLE cut_off_entry (
            tenant_id uuid NOT NULL,
            month date NOT NULL,
            term_id uuid NOT NULL CONSTRAINT fk_cut_off_entry_term_id_contract_term REFERENCES contract_term,
            base_nano bigint NOT NULL,
            amount_nano bigint NOT NULL,
            transaction_id uuid,
            CONSTRAINT pk_cut_off_entry PRIMARY KEY (tenant_id, month, term_id),
            CONSTRAINT fk_cut_off_entry_tenant_id_month_month_cut_off
                FOREIGN KEY (tenant_id, month) REFERENCES month_cut_off (tenant_id, month),
            CONSTRAINT ck_cut_off_entry_transaction CHECK ((transaction_id IS NULL) = (amount_nano = 0))
        )
        """
    )
    for table in ("month_cut_off", "cut_off_entry"):
        make_append_only(table)
    protect_tenant_table("month_cut_off", {Role.APP: "SELECT", Role.INGEST: "SELECT", Role.OPERATOR: "SELECT, INSERT"})
    protect_tenant_table("cut_off_entry", {Role.APP: "SELECT", Role.OPERATOR: "SELECT, INSERT"})


def _create_price_days() -> None:
    """What each tenant used under each price version, by day: rating is linear in what is chargeable, so these sums are
    rated as exactly as their events, and there are few of them however many events there are."""
    op.execute(
        f"""
        CREATE TABLE usage_price_day (
            tenant_id uuid NOT NULL,
            day date NOT NULL,
            price_version_id uuid NOT NULL,
            {", ".join(f"{name} bigint NOT NULL" for name in _SUMS)},
            CONSTRAINT pk_usage_price_day PRIMARY KEY (tenant_id, day, price_version_id)
        )
        """
    )
    added = f"""
        SELECT e.tenant_id, (e.posted_at AT TIME ZONE 'UTC')::date, e.price_version_id, count(*),
               {", ".join(f"sum(e.{name})" for name in _SUMS[1:])}
        FROM {{events}} e WHERE {_CHARGEABLE} GROUP BY 1, 2, 3
    """
    columns = ", ".join(("tenant_id", "day", "price_version_id", *_SUMS))
    # Row-level security binds the owner too: before it is on for the new table, and while it is lifted for the old
    # one, what was used before this migration is added up. Nobody else gets to see that in between.
    op.execute("ALTER TABLE usage_event NO FORCE ROW LEVEL SECURITY")
    op.execute(f"INSERT INTO usage_price_day ({columns}) {added.format(events='usage_event')}")
    op.execute("ALTER TABLE usage_event FORCE ROW LEVEL SECURITY")
    op.execute("CREATE INDEX ix_usage_price_day_price_version_id ON usage_price_day (price_version_id)")
    op.execute("CREATE INDEX ix_usage_price_day_day ON usage_price_day (day)")
    protect_tenant_table(
        "usage_price_day", {Role.APP: "SELECT", Role.INGEST: "SELECT, INSERT, UPDATE", Role.OPERATOR: "SELECT"}
    )
    # Once per statement, whatever statement adds events: the release before this one posts too while they change over.
    # The tenants' budgets are locked by then, so nobody waits here who did not wait before.
    op.execute(
        f"""
        CREATE FUNCTION add_events_to_price_days() RETURNS trigger LANGUAGE plpgsql
        SET search_path = pg_catalog, pg_temp AS $$
        BEGIN
            IF EXISTS (
                SELECT FROM (SELECT DISTINCT tenant_id, posted_at FROM added) a
                JOIN public.month_cut_off c
                    ON c.tenant_id = a.tenant_id AND c.month = date_trunc('month', a.posted_at, 'UTC')::date
            ) THEN
                RAISE EXCEPTION 'this month is closed' USING ERRCODE = 'check_violation';
            END IF;
            INSERT INTO public.usage_price_day AS d ({columns})
            {added.format(events="added")} ORDER BY 1, 2, 3
            ON CONFLICT (tenant_id, day, price_version_id)
            DO UPDATE SET {", ".join(f"{name} = d.{name} + excluded.{name}" for name in _SUMS)};
            RETURN NULL;
        END $$
        """
    )
    op.execute(
        "CREATE TRIGGER usage_event_add_to_price_days AFTER INSERT ON usage_event "
        "REFERENCING NEW TABLE AS added FOR EACH STATEMENT EXECUTE FUNCTION add_events_to_price_days()"
    )


def _create_corrections() -> None:
    op.execute(
        f"""
        CREATE TABLE price_correction (
            id uuid CONSTRAINT pk_price_correction PRIMARY KEY,
            tenant_id uuid NOT NULL CONSTRAINT fk_price_correction_tenant_id_tenant REFERENCES tenant,
            price_version_id uuid NOT NULL
                CONSTRAINT fk_price_correction_price_version_id_price_version REFERENCES price_version,
            reverted_by uuid NOT NULL
                CONSTRAINT fk_price_correction_reverted_by_price_version REFERENCES price_version,
            paid_nano bigint NOT NULL,
            right_nano bigint NOT NULL,
            corrected_nano bigint NOT NULL
                CONSTRAINT ck_price_correction_corrected_nano CHECK (corrected_nano BETWEEN 1 AND {_MAX_NANO}),
            transaction_id uuid NOT NULL CONSTRAINT uq_price_correction_transaction_id UNIQUE,
            created_at timestamptz NOT NULL DEFAULT now()
        )
        """
    )
    op.execute(
        "CREATE INDEX ix_price_correction_tenant_id_price_version_id ON price_correction (tenant_id, price_version_id)"
    )
    make_append_only("price_correction")
    protect_tenant_table("price_correction", {Role.APP: "SELECT", Role.OPERATOR: "SELECT, INSERT"})


def _audit() -> None:
    op.execute("DROP TRIGGER price_version_audit ON price_version")
    audit_table(
        "price_version",
        subject=("id",),
        tenant_column="tenant_id",
        shown=(
            *("listing_id", "region", "currency", "starts_at", *_COMPONENTS),
            *("tenant_id", "discount_basis_points", "draft_id", "reverts_id", "reason"),
        ),
    )
    audit_table(
        "price_withdrawal",
        subject=("price_version_id",),
        tenant_column="tenant_id",
        shown=("price_version_id", "tenant_id", "reason", "withdrawn_at"),
    )
    audit_table("price_draft", subject=("id",), shown=("title", "tenant_id", "published_at", "discarded_at"))
    audit_table(
        "price_draft_line",
        subject=("draft_id", "listing_id", "region"),
        shown=("draft_id", "listing_id", "region", "discount_basis_points", *_COMPONENTS),
    )
    audit_table(
        "contract_term",
        subject=("id",),
        tenant_column="tenant_id",
        shown=("kind", "first_month", "last_month", "amount_nano", "tier_from_nano", "tier_basis_points"),
    )
