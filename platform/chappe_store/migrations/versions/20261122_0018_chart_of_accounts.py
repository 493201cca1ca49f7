"""The chart of accounts: legal entities, every kind of account and transaction, publishers' shares.

Forward only. Expand first; contract in a later release, when nothing reads the old shape any more.
"""

from alembic import op

from chappe_store.audit_log.triggers import audit_table
from chappe_store.row_security import make_append_only, protect_operator_table
from chappe_store.session import Role

revision = "0018"
down_revision = "0016"
branch_labels = None
depends_on = None

# The entity that each tenant, account and transaction of before belongs to, and whoever names none.
_DEFAULT_ENTITY = "00000000-0000-7000-8000-000000000000"

_ENTITY_DETAILS = (
    *("name", "address_line_1", "address_line_2", "postal_code", "city", "country"),
    *("vat_number", "registration"),
)
_TENANT_COLUMNS = (
    *("name", "legal_name", "address_line_1", "address_line_2", "postal_code", "city", "country", "vat_number"),
    *("contact_name", "contact_email", "contact_phone", "allowed_regions"),
    *("parent_id", "relation", "is_reseller", "reference", "state", "state_reason", "state_by", "currency"),
    *("requests_per_minute", "plan", "contract_reference", "legal_entity_id"),
)


def upgrade() -> None:
    # A migration that cannot get its lock soon gives up, instead of making every query queue behind it.
    op.execute("SET LOCAL lock_timeout = '3s'")
    op.execute("SET LOCAL statement_timeout = '60s'")
    _create_entities()
    _give_tenants_an_entity()
    _widen_accounts()
    _widen_transactions()
    _keep_entities_apart()
    _share_with_publishers()
    _audit_discrepancies()
    _decide_about_quarantine()
    _announce_transactions()


def _create_entities() -> None:
    op.execute(
        """
        CREATE TABLE legal_entity (
            id uuid CONSTRAINT pk_legal_entity PRIMARY KEY,
            name text NOT NULL CONSTRAINT uq_legal_entity_name UNIQUE
                CONSTRAINT ck_legal_entity_name CHECK (length(name) BETWEEN 1 AND 200),
            currency text NOT NULL CONSTRAINT ck_legal_entity_currency CHECK (currency ~ '^[A-Z]{3}$'),
            address_line_1 text
                CONSTRAINT ck_legal_entity_address_line_1 CHECK (length(address_line_1) BETWEEN 1 AND 100),
            address_line_2 text
                CONSTRAINT ck_legal_entity_address_line_2 CHECK (length(address_line_2) BETWEEN 1 AND 100),
            postal_code text CONSTRAINT ck_legal_entity_postal_code CHECK (length(postal_code) BETWEEN 1 AND 100),
            city text CONSTRAINT ck_legal_entity_city CHECK (length(city) BETWEEN 1 AND 100),
            country text CONSTRAINT ck_legal_entity_country CHECK (country ~ '^[A-Z]{2}$'),
            vat_number text CONSTRAINT ck_legal_entity_vat_number CHECK (vat_number ~ '^[A-Z0-9+*]{4,20}$'),
            registration text CONSTRAINT ck_legal_entity_registration CHECK (length(registration) BETWEEN 1 AND 100),
            created_at timestamptz NOT NULL DEFAULT now(),
            CONSTRAINT uq_legal_entity_id_currency UNIQUE (id, currency)
        )
        """
    )
    # Its books are in the currency of the budgets that there are. Row-level security binds the owner too, so it is
    # lifted for the one statement.
    op.execute("ALTER TABLE budget NO FORCE ROW LEVEL SECURITY")
    op.execute(
        f"""
        DO $$
        BEGIN
            IF (SELECT count(DISTINCT currency) FROM budget) > 1 THEN
                RAISE EXCEPTION 'budgets are in several currencies, and a legal entity keeps its books in one';
            END IF;
            INSERT INTO legal_entity (id, name, currency)
            VALUES ('{_DEFAULT_ENTITY}', 'Operator', coalesce((SELECT min(currency) FROM budget), 'EUR'));
        END $$
        """
    )
    op.execute("ALTER TABLE budget FORCE ROW LEVEL SECURITY")
    protect_operator_table(
        "legal_entity",
        dict.fromkeys(Role, "SELECT")
        | {Role.OPERATOR: f"SELECT, INSERT, UPDATE (currency, {', '.join(_ENTITY_DETAILS)})"},
    )
    audit_table("legal_entity", subject=("id",), shown=("currency", *_ENTITY_DETAILS))


def _give_tenants_an_entity() -> None:
    # The defaults are constants, so nothing is rewritten, and they stay: a control plane of before may still write.
    # Whoever relies on one wrongly is refused by the foreign keys and by the ledger's balance.
    op.execute(
        f"""
        ALTER TABLE tenant
            ADD COLUMN legal_entity_id uuid NOT NULL DEFAULT '{_DEFAULT_ENTITY}',
            ADD CONSTRAINT fk_tenant_legal_entity_id_legal_entity
                FOREIGN KEY (legal_entity_id) REFERENCES legal_entity,
            ADD CONSTRAINT uq_tenant_id_legal_entity_id UNIQUE (id, legal_entity_id)
        """
    )
    op.execute("DROP TRIGGER tenant_audit ON tenant")
    audit_table("tenant", subject=("id",), tenant_column="id", shown=_TENANT_COLUMNS)
    # With the first budget a tenant's entity, and with its first budget an entity's currency, is fixed.
    op.execute(
        f"""
        ALTER TABLE budget
            ADD COLUMN legal_entity_id uuid NOT NULL DEFAULT '{_DEFAULT_ENTITY}',
            ADD CONSTRAINT fk_budget_tenant_id_legal_entity_id_tenant
                FOREIGN KEY (tenant_id, legal_entity_id) REFERENCES tenant (id, legal_entity_id),
            ADD CONSTRAINT fk_budget_legal_entity_id_currency_legal_entity
                FOREIGN KEY (legal_entity_id, currency) REFERENCES legal_entity (id, currency)
        """
    )
    op.execute(f"GRANT INSERT (legal_entity_id) ON budget TO {Role.OPERATOR}")
    op.execute("DROP TRIGGER budget_audit ON budget")
    audit_table(
        "budget",
        subject=("tenant_id",),
        tenant_column="tenant_id",
        shown=("currency", "legal_entity_id", "funds_nano", "credit_limit_nano"),
    )


def _widen_accounts() -> None:
    op.execute(
        f"""
        ALTER TABLE ledger_account
            ADD COLUMN legal_entity_id uuid NOT NULL DEFAULT '{_DEFAULT_ENTITY}',
            ADD COLUMN publisher_id uuid,
            ADD CONSTRAINT fk_ledger_account_publisher_id_publisher
                FOREIGN KEY (publisher_id) REFERENCES publisher,
            ADD CONSTRAINT fk_ledger_account_legal_entity_id_currency_legal_entity
                FOREIGN KEY (legal_entity_id, currency) REFERENCES legal_entity (id, currency),
            DROP CONSTRAINT ck_ledger_account_kind,
            DROP CONSTRAINT ck_ledger_account_owner,
            DROP CONSTRAINT uq_ledger_account_kind_currency_tenant_id_region,
            ADD CONSTRAINT ck_ledger_account_kind CHECK (kind IN (
                'tenant_funds', 'receivable', 'revenue', 'publisher_payable', 'vat_payable', 'payment_clearing',
                'promotional_credit', 'rounding', 'write_off', 'suspense'
            )),
            ADD CONSTRAINT ck_ledger_account_owner CHECK (
                (kind IN ('tenant_funds', 'receivable')) = (tenant_id IS NOT NULL)
                AND (kind = 'publisher_payable') = (publisher_id IS NOT NULL)
            ),
            ADD CONSTRAINT ck_ledger_account_region CHECK (
                region IS NULL OR kind IN ('revenue', 'publisher_payable')
            ),
            ADD CONSTRAINT uq_ledger_account_what UNIQUE NULLS NOT DISTINCT
                (legal_entity_id, kind, currency, tenant_id, region, publisher_id)
        """
    )


def _widen_transactions() -> None:
    # Rows of before are the default entity's, without any of the rest, and the old constraint admitted fewer kinds:
    # they are looked at while nobody has to wait.
    op.execute(
        f"""
        ALTER TABLE ledger_transaction
            ADD COLUMN legal_entity_id uuid NOT NULL DEFAULT '{_DEFAULT_ENTITY}',
            ADD COLUMN reference text,
            ADD COLUMN reason text,
            ADD COLUMN rail text,
            ADD COLUMN reverses uuid,
            DROP CONSTRAINT ck_ledger_transaction_kind,
            ADD CONSTRAINT ck_ledger_transaction_kind CHECK (kind IN (
                'welcome_credit', 'usage', 'usage_correction', 'top_up', 'refund', 'chargeback', 'goodwill_credit',
                'volume_discount', 'minimum_fee', 'commitment_fee', 'write_off', 'suspense', 'publisher_share',
                'reversal'
            )) NOT VALID,
            ADD CONSTRAINT ck_ledger_transaction_reference CHECK (length(reference) BETWEEN 1 AND 200) NOT VALID,
            ADD CONSTRAINT ck_ledger_transaction_reason CHECK (
                length(reason) BETWEEN 1 AND 500
                AND (reason IS NOT NULL
                     OR kind NOT IN ('refund', 'chargeback', 'goodwill_credit', 'write_off', 'reversal'))
            ) NOT VALID,
            ADD CONSTRAINT ck_ledger_transaction_rail CHECK (
                rail IN ('bank_transfer', 'direct_debit', 'card', 'cash', 'other')
            ) NOT VALID,
            ADD CONSTRAINT ck_ledger_transaction_reverses CHECK (kind <> 'reversal' OR reverses IS NOT NULL) NOT VALID,
            ADD CONSTRAINT fk_ledger_transaction_legal_entity_id_currency_legal_entity
                FOREIGN KEY (legal_entity_id, currency) REFERENCES legal_entity (id, currency) NOT VALID,
            ADD CONSTRAINT fk_ledger_transaction_reverses_currency_ledger_transaction
                FOREIGN KEY (reverses, currency) REFERENCES ledger_transaction (id, currency) NOT VALID
        """
    )
    for constraint in (
        *("ck_ledger_transaction_kind", "ck_ledger_transaction_reference", "ck_ledger_transaction_reason"),
        *("ck_ledger_transaction_rail", "ck_ledger_transaction_reverses"),
        "fk_ledger_transaction_legal_entity_id_currency_legal_entity",
        "fk_ledger_transaction_reverses_currency_ledger_transaction",
    ):
        op.execute(f"ALTER TABLE ledger_transaction VALIDATE CONSTRAINT {constraint}")
    # Partial, and of no row yet.
    op.execute(
        "CREATE UNIQUE INDEX uq_ledger_transaction_reference ON ledger_transaction (legal_entity_id, reference) "
        "WHERE reference IS NOT NULL"
    )
    op.execute(
        "CREATE UNIQUE INDEX uq_ledger_transaction_reversal ON ledger_transaction (reverses) WHERE kind = 'reversal'"
    )
    op.execute(
        "CREATE INDEX ix_ledger_transaction_reverses ON ledger_transaction (reverses) WHERE reverses IS NOT NULL"
    )
    op.execute("DROP TRIGGER ledger_transaction_audit ON ledger_transaction")
    audit_table(
        "ledger_transaction",
        subject=("id",),
        tenant_column="tenant_id",
        shown=("kind", "currency", "legal_entity_id", "reference", "reason", "rail", "reverses"),
        only_inserts_when="NEW.kind <> 'usage'",
    )


def _keep_entities_apart() -> None:
    # As it was, and one rule more: money does not pass from one entity's books into another's.
    op.execute(
        """
        CREATE OR REPLACE FUNCTION check_ledger_balanced() RETURNS trigger LANGUAGE plpgsql
        SET search_path = pg_catalog, pg_temp AS $$
        DECLARE
            checked uuid := CASE TG_TABLE_NAME
                WHEN 'ledger_transaction' THEN to_jsonb(NEW) ->> 'id' ELSE to_jsonb(NEW) ->> 'transaction_id' END;
            header record;
            entries bigint;
            foreign_entries bigint;
            total numeric;
        BEGIN
            SELECT t.legal_entity_id, t.created_at INTO header FROM public.ledger_transaction t WHERE t.id = checked;
            SELECT count(*), sum(e.amount_nano), count(*) FILTER (WHERE a.legal_entity_id <> header.legal_entity_id)
            INTO entries, total, foreign_entries
            FROM public.ledger_entry e JOIN public.ledger_account a ON a.id = e.account_id
            WHERE e.transaction_id = checked;
            IF entries < 2 OR total <> 0 THEN
                RAISE EXCEPTION 'ledger transaction % does not balance', checked USING ERRCODE = 'check_violation';
            END IF;
            IF foreign_entries > 0 THEN
                RAISE EXCEPTION 'ledger transaction % is of two legal entities', checked
                    USING ERRCODE = 'check_violation';
            END IF;
            IF header.created_at <> now() THEN
                RAISE EXCEPTION 'ledger transaction % is closed', checked USING ERRCODE = 'check_violation';
            END IF;
            RETURN NULL;
        END $$
        """
    )


def _share_with_publishers() -> None:
    op.execute(
        "ALTER TABLE listing ADD COLUMN publisher_share_bp bigint NOT NULL DEFAULT 0 "
        "CONSTRAINT ck_listing_publisher_share_bp CHECK (publisher_share_bp BETWEEN 0 AND 10000)"
    )
    op.execute("DROP TRIGGER listing_audit ON listing")
    audit_table(
        "listing",
        subject=("id",),
        shown=(
            *("name", "publisher_id", "task", "currency", "context_tokens", "template_tokens"),
            *("default_output_tokens", "max_output_tokens", "publisher_share_bp"),
        ),
    )
    # What was shared is kept with the terms by which it was: the listing's may change the moment after. A share that is
    # taken back is negative. `div` cuts off towards zero, so both favour the publisher by less than a nano.
    op.execute(
        """
        CREATE TABLE publisher_share (
            transaction_id uuid NOT NULL
                CONSTRAINT fk_publisher_share_transaction_id_ledger_transaction REFERENCES ledger_transaction,
            listing_id uuid NOT NULL CONSTRAINT fk_publisher_share_listing_id_listing REFERENCES listing,
            publisher_id uuid NOT NULL CONSTRAINT fk_publisher_share_publisher_id_publisher REFERENCES publisher,
            region text NOT NULL CONSTRAINT fk_publisher_share_region_region REFERENCES region,
            share_bp bigint NOT NULL CONSTRAINT ck_publisher_share_share_bp CHECK (share_bp BETWEEN 1 AND 10000),
            base_nano bigint NOT NULL,
            share_nano bigint NOT NULL CONSTRAINT ck_publisher_share_share_nano CHECK (
                share_nano = div(base_nano::numeric * share_bp, 10000)
            ),
            CONSTRAINT pk_publisher_share PRIMARY KEY (transaction_id, listing_id, region, share_bp)
        )
        """
    )
    op.execute(
        "CREATE INDEX ix_publisher_share_publisher_id_transaction_id ON publisher_share (publisher_id, transaction_id)"
    )
    make_append_only("publisher_share")
    protect_operator_table("publisher_share", {Role.INGEST: "SELECT, INSERT", Role.OPERATOR: "SELECT, INSERT"})


def _audit_discrepancies() -> None:
    # Whoever resolves one decides about a tenant's money. No tenant's to see: its statement shows what it got back.
    audit_table(
        "usage_discrepancy",
        subject=("id",),
        shown=(
            *("request_id", "tenant_id", "region", "gateway", "kind", "outcome", "prompt_tokens", "cached_tokens"),
            *("completion_tokens", "amount_nano", "opened_at", "resolved_at", "reason", "corrected_nano"),
            "transaction_id",
        ),
        withheld=("digest",),
    )


def _decide_about_quarantine() -> None:
    # A decision stands beside the event, which stays as it came. What the event says of its tenant is unverified, so
    # this is no tenant's table either.
    op.execute(
        """
        CREATE TABLE usage_quarantine_decision (
            request_id uuid NOT NULL,
            digest bytea NOT NULL,
            decision text NOT NULL CONSTRAINT ck_usage_quarantine_decision_decision CHECK (
                decision IN ('accepted', 'corrected', 'written_off', 'dismissed')
            ),
            reason text NOT NULL
                CONSTRAINT ck_usage_quarantine_decision_reason CHECK (length(reason) BETWEEN 1 AND 500),
            amount_nano bigint NOT NULL,
            transaction_id uuid CONSTRAINT fk_usage_quarantine_decision_transaction_id_ledger_transaction
                REFERENCES ledger_transaction,
            decided_at timestamptz NOT NULL DEFAULT now(),
            CONSTRAINT pk_usage_quarantine_decision PRIMARY KEY (request_id, digest),
            CONSTRAINT fk_usage_quarantine_decision_request_id_digest_usage_quarantine
                FOREIGN KEY (request_id, digest) REFERENCES usage_quarantine
        )
        """
    )
    make_append_only("usage_quarantine_decision")
    protect_operator_table("usage_quarantine_decision", {Role.INGEST: "SELECT, INSERT", Role.OPERATOR: "SELECT"})
    audit_table(
        "usage_quarantine_decision",
        subject=("request_id",),
        shown=("request_id", "decision", "reason", "amount_nano", "transaction_id", "decided_at"),
        withheld=("digest",),
    )


def _announce_transactions() -> None:
    # From now on a transaction's message has its id. Those of before were announced under other ids, or not at all:
    # they get one that is delivered, so that `chappe ledger verify` can ask for one of each. Row-level security binds
    # the owner too, so it is lifted for the one statement.
    op.execute("ALTER TABLE ledger_transaction NO FORCE ROW LEVEL SECURITY")
    op.execute(
        "INSERT INTO outbox (id, topic, payload, delivered_at) "
        "SELECT id, 'ledger.posted', '{}', now() FROM ledger_transaction"
    )
    op.execute("ALTER TABLE ledger_transaction FORCE ROW LEVEL SECURITY")
