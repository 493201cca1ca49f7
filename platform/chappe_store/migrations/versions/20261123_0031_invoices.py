"""Invoices: whom they go to, their numbers, what is in them, what settles them, and the runs that issue them.

Forward only. Expand first; contract in a later release, when nothing reads the old shape any more.
"""

from alembic import op

from chappe_store.audit_log.triggers import audit_table
from chappe_store.row_security import make_append_only, protect_operator_table, protect_tenant_table
from chappe_store.session import Role

revision = "0031"
down_revision = "0030"
branch_labels = None
depends_on = None

_PROFILE = (
    *("purchase_order", "buyer_reference", "invoice_email", "language", "payment_terms_days", "split_by_project"),
    "billed_to",
)
_ISSUED = {Role.APP: "SELECT", Role.OPERATOR: "SELECT, INSERT"}


def upgrade() -> None:
    # A migration that cannot get its lock soon gives up, instead of making every query queue behind it.
    op.execute("SET LOCAL lock_timeout = '3s'")
    op.execute("SET LOCAL statement_timeout = '60s'")
    _create_profiles()
    _create_runs()
    _create_invoices()
    _create_cuts()
    _create_parts()
    _create_fundings()
    _create_settlements()
    _guard_credit_notes()
    _create_chart()
    # What is no usage is little, and looked for among all of a tenant's transactions.
    op.execute(
        "CREATE INDEX ix_ledger_transaction_not_usage ON ledger_transaction (tenant_id, id) WHERE kind <> 'usage'"
    )


def _create_profiles() -> None:
    op.execute(
        """
        CREATE TABLE billing_profile (
            tenant_id uuid CONSTRAINT pk_billing_profile PRIMARY KEY
                CONSTRAINT fk_billing_profile_tenant_id_tenant REFERENCES tenant,
            purchase_order text
                CONSTRAINT ck_billing_profile_purchase_order CHECK (length(purchase_order) BETWEEN 1 AND 100),
            buyer_reference text
                CONSTRAINT ck_billing_profile_buyer_reference CHECK (length(buyer_reference) BETWEEN 1 AND 100),
            invoice_email text
                CONSTRAINT ck_billing_profile_invoice_email CHECK (length(invoice_email) BETWEEN 3 AND 254),
            language text NOT NULL DEFAULT 'en'
                CONSTRAINT ck_billing_profile_language CHECK (language IN ('en', 'fr', 'de')),
            payment_terms_days bigint NOT NULL DEFAULT 30
                CONSTRAINT ck_billing_profile_payment_terms_days CHECK (payment_terms_days BETWEEN 0 AND 365),
            split_by_project boolean NOT NULL DEFAULT false,
            billed_to uuid CONSTRAINT fk_billing_profile_billed_to_tenant REFERENCES tenant
                CONSTRAINT ck_billing_profile_billed_to CHECK (billed_to <> tenant_id)
        )
        """
    )
    op.execute("CREATE INDEX ix_billing_profile_billed_to ON billing_profile (billed_to) WHERE billed_to IS NOT NULL")
    protect_tenant_table(
        "billing_profile",
        {
            Role.APP: "SELECT, INSERT (tenant_id, purchase_order, buyer_reference, invoice_email, language, "
            "split_by_project), UPDATE (purchase_order, buyer_reference, invoice_email, language, split_by_project)",
            Role.OPERATOR: f"SELECT, INSERT, UPDATE ({', '.join(_PROFILE)})",
        },
    )
    audit_table("billing_profile", subject=("tenant_id",), tenant_column="tenant_id", shown=_PROFILE)
    # Whoever stands on another's invoice is its subsidiary, and nobody stands on its own: one step, and no circles.
    # Those who change either side take turns, so that what is seen here cannot change.
    op.execute(
        """
        CREATE FUNCTION check_billed_to() RETURNS trigger LANGUAGE plpgsql
        SET search_path = pg_catalog, pg_temp AS $$
        BEGIN
            PERFORM pg_advisory_xact_lock(hashtextextended('billed to', 0));
            IF NOT EXISTS (
                SELECT FROM public.tenant t JOIN public.tenant p ON p.id = t.parent_id
                WHERE t.id = NEW.tenant_id AND p.id = NEW.billed_to AND p.legal_entity_id = t.legal_entity_id
            ) OR EXISTS (
                SELECT FROM public.billing_profile b
                WHERE b.billed_to = NEW.tenant_id OR (b.tenant_id = NEW.billed_to AND b.billed_to IS NOT NULL)
            ) THEN
                RAISE EXCEPTION 'only a subsidiary stands on its parent''s invoice' USING ERRCODE = 'check_violation';
            END IF;
            RETURN NEW;
        END $$
        """
    )
    op.execute(
        "CREATE TRIGGER billing_profile_billed_to BEFORE INSERT OR UPDATE OF billed_to ON billing_profile "
        "FOR EACH ROW WHEN (NEW.billed_to IS NOT NULL) EXECUTE FUNCTION check_billed_to()"
    )


def _create_runs() -> None:
    op.execute(
        """
        CREATE TABLE invoice_run (
            id uuid CONSTRAINT pk_invoice_run PRIMARY KEY,
            legal_entity_id uuid NOT NULL
                CONSTRAINT fk_invoice_run_legal_entity_id_legal_entity REFERENCES legal_entity,
            month date NOT NULL CONSTRAINT ck_invoice_run_month CHECK (extract(day FROM month) = 1),
            cut_off_at timestamptz NOT NULL,
            started_at timestamptz NOT NULL DEFAULT now(),
            ended_at timestamptz,
            CONSTRAINT uq_invoice_run_legal_entity_id_month UNIQUE (legal_entity_id, month)
        )
        """
    )
    protect_operator_table("invoice_run", {Role.OPERATOR: "SELECT, INSERT, UPDATE (ended_at)"})
    audit_table(
        "invoice_run", subject=("id",), shown=("legal_entity_id", "month", "cut_off_at", "started_at", "ended_at")
    )
    op.execute(
        """
        CREATE TABLE invoice_run_tenant (
            run_id uuid NOT NULL CONSTRAINT fk_invoice_run_tenant_run_id_invoice_run REFERENCES invoice_run,
            tenant_id uuid NOT NULL CONSTRAINT fk_invoice_run_tenant_tenant_id_tenant REFERENCES tenant,
            outcome text NOT NULL DEFAULT 'waiting' CONSTRAINT ck_invoice_run_tenant_outcome
                CHECK (outcome IN ('waiting', 'issued', 'nothing', 'later')),
            code text,
            detail text,
            invoices bigint NOT NULL DEFAULT 0,
            decided_at timestamptz,
            CONSTRAINT pk_invoice_run_tenant PRIMARY KEY (run_id, tenant_id),
            CONSTRAINT ck_invoice_run_tenant_code CHECK ((outcome = 'later') = (code IS NOT NULL)),
            CONSTRAINT ck_invoice_run_tenant_decided CHECK ((outcome = 'waiting') = (decided_at IS NULL))
        )
        """
    )
    op.execute(
        "CREATE INDEX ix_invoice_run_tenant_open ON invoice_run_tenant (run_id, tenant_id) "
        "WHERE outcome IN ('waiting', 'later')"
    )
    op.execute("CREATE INDEX ix_invoice_run_tenant_tenant_id ON invoice_run_tenant (tenant_id)")
    protect_tenant_table(
        "invoice_run_tenant",
        {Role.OPERATOR: "SELECT, INSERT, UPDATE (outcome, code, detail, invoices, decided_at)"},
    )


def _create_invoices() -> None:
    op.execute(
        """
        CREATE TABLE invoice_counter (
            legal_entity_id uuid NOT NULL
                CONSTRAINT fk_invoice_counter_legal_entity_id_legal_entity REFERENCES legal_entity,
            series text NOT NULL,
            last_ordinal bigint NOT NULL CONSTRAINT ck_invoice_counter_last_ordinal CHECK (last_ordinal > 0),
            CONSTRAINT pk_invoice_counter PRIMARY KEY (legal_entity_id, series)
        )
        """
    )
    protect_operator_table("invoice_counter", {Role.OPERATOR: "SELECT, INSERT, UPDATE (last_ordinal)"})
    op.execute(
        """
        CREATE TABLE invoice (
            id uuid CONSTRAINT pk_invoice PRIMARY KEY,
            kind text NOT NULL
                CONSTRAINT ck_invoice_kind CHECK (kind IN ('invoice', 'advance', 'credit_note')),
            legal_entity_id uuid NOT NULL,
            tenant_id uuid NOT NULL,
            currency text NOT NULL,
            minor_digits bigint NOT NULL CONSTRAINT ck_invoice_minor_digits CHECK (minor_digits BETWEEN 0 AND 4),
            series text NOT NULL,
            ordinal bigint NOT NULL,
            number text NOT NULL,
            issued_on date NOT NULL,
            due_on date,
            cut_off_at timestamptz,
            period_from date,
            period_to date,
            net_minor bigint NOT NULL,
            tax_minor bigint NOT NULL,
            gross_minor bigint NOT NULL,
            paid_minor bigint NOT NULL DEFAULT 0,
            preceding_id uuid CONSTRAINT fk_invoice_preceding_id_invoice REFERENCES invoice,
            source_id uuid CONSTRAINT fk_invoice_source_id_ledger_transaction REFERENCES ledger_transaction
                CONSTRAINT uq_invoice_source_id UNIQUE,
            project_id uuid,
            run_id uuid CONSTRAINT fk_invoice_run_id_invoice_run REFERENCES invoice_run,
            reason text CONSTRAINT ck_invoice_reason CHECK (length(reason) BETWEEN 1 AND 500),
            content jsonb NOT NULL,
            created_at timestamptz NOT NULL DEFAULT now(),
            CONSTRAINT uq_invoice_legal_entity_id_series_ordinal UNIQUE (legal_entity_id, series, ordinal),
            CONSTRAINT uq_invoice_legal_entity_id_number UNIQUE (legal_entity_id, number),
            CONSTRAINT uq_invoice_tenant_id_id UNIQUE (tenant_id, id),
            CONSTRAINT ck_invoice_amounts CHECK (net_minor + tax_minor = gross_minor
                AND least(net_minor, tax_minor, paid_minor) >= 0 AND paid_minor <= gross_minor),
            CONSTRAINT ck_invoice_preceding CHECK ((kind = 'credit_note') = (preceding_id IS NOT NULL)),
            CONSTRAINT ck_invoice_source CHECK (kind <> 'advance' OR source_id IS NOT NULL),
            CONSTRAINT ck_invoice_cut_off CHECK ((kind = 'invoice') = (cut_off_at IS NOT NULL)),
            CONSTRAINT ck_invoice_reasoned CHECK (kind <> 'credit_note' OR reason IS NOT NULL),
            CONSTRAINT fk_invoice_tenant_id_legal_entity_id_tenant
                FOREIGN KEY (tenant_id, legal_entity_id) REFERENCES tenant (id, legal_entity_id),
            CONSTRAINT fk_invoice_legal_entity_id_currency_legal_entity
                FOREIGN KEY (legal_entity_id, currency) REFERENCES legal_entity (id, currency)
        )
        """
    )
    op.execute("CREATE INDEX ix_invoice_tenant_id_number ON invoice (tenant_id, number)")
    op.execute("CREATE INDEX ix_invoice_preceding_id ON invoice (preceding_id) WHERE preceding_id IS NOT NULL")
    op.execute("CREATE INDEX ix_invoice_run_id ON invoice (run_id) WHERE run_id IS NOT NULL")
    op.execute("CREATE INDEX ix_invoice_due_on ON invoice (due_on) WHERE due_on IS NOT NULL")
    make_append_only("invoice")
    protect_tenant_table("invoice", _ISSUED)
    audit_table(
        "invoice",
        subject=("id",),
        tenant_column="tenant_id",
        shown=(
            *("kind", "number", "legal_entity_id", "currency", "issued_on", "due_on", "net_minor", "tax_minor"),
            *("gross_minor", "paid_minor", "minor_digits", "preceding_id", "source_id", "reason", "series", "ordinal"),
            *("cut_off_at", "period_from", "period_to", "project_id", "run_id"),
        ),
        withheld=("content",),
    )


def _create_cuts() -> None:
    op.execute(
        """
        CREATE TABLE invoice_cut (
            id uuid CONSTRAINT pk_invoice_cut PRIMARY KEY,
            tenant_id uuid NOT NULL CONSTRAINT fk_invoice_cut_tenant_id_tenant REFERENCES tenant,
            cut_off_at timestamptz NOT NULL,
            charged_nano bigint NOT NULL,
            created_at timestamptz NOT NULL DEFAULT now(),
            CONSTRAINT uq_invoice_cut_id_tenant_id UNIQUE (id, tenant_id)
        )
        """
    )
    op.execute("CREATE INDEX ix_invoice_cut_tenant_id_cut_off_at ON invoice_cut (tenant_id, cut_off_at)")
    # The key is what makes a transaction be invoiced once.
    op.execute(
        """
        CREATE TABLE invoice_transaction (
            transaction_id uuid CONSTRAINT pk_invoice_transaction PRIMARY KEY
                CONSTRAINT fk_invoice_transaction_transaction_id_ledger_transaction REFERENCES ledger_transaction,
            tenant_id uuid NOT NULL,
            cut_id uuid NOT NULL,
            CONSTRAINT fk_invoice_transaction_cut_id_tenant_id_invoice_cut
                FOREIGN KEY (cut_id, tenant_id) REFERENCES invoice_cut (id, tenant_id)
        )
        """
    )
    op.execute(
        "CREATE INDEX ix_invoice_transaction_tenant_id_transaction_id "
        "ON invoice_transaction (tenant_id, transaction_id)"
    )
    op.execute("CREATE INDEX ix_invoice_transaction_cut_id ON invoice_transaction (cut_id)")
    for table in ("invoice_cut", "invoice_transaction"):
        make_append_only(table)
        protect_tenant_table(table, _ISSUED)


def _create_parts() -> None:
    op.execute(
        """
        CREATE TABLE invoice_part (
            invoice_id uuid NOT NULL CONSTRAINT fk_invoice_part_invoice_id_invoice REFERENCES invoice,
            tenant_id uuid NOT NULL CONSTRAINT fk_invoice_part_tenant_id_tenant REFERENCES tenant,
            cut_id uuid,
            transaction_id uuid
                CONSTRAINT fk_invoice_part_transaction_id_ledger_transaction REFERENCES ledger_transaction
                CONSTRAINT uq_invoice_part_transaction_id UNIQUE,
            charged_nano bigint NOT NULL,
            rounding_nano bigint NOT NULL,
            lines_minor bigint NOT NULL,
            gifts_minor bigint NOT NULL,
            advances_minor bigint NOT NULL,
            net_minor bigint NOT NULL,
            tax_minor bigint NOT NULL,
            gross_minor bigint NOT NULL,
            CONSTRAINT pk_invoice_part PRIMARY KEY (invoice_id, tenant_id),
            CONSTRAINT fk_invoice_part_cut_id_tenant_id_invoice_cut
                FOREIGN KEY (cut_id, tenant_id) REFERENCES invoice_cut (id, tenant_id),
            CONSTRAINT ck_invoice_part_net CHECK (lines_minor - gifts_minor - advances_minor = net_minor),
            CONSTRAINT ck_invoice_part_gross CHECK (
                net_minor + tax_minor = gross_minor AND least(net_minor, tax_minor) >= 0
            )
        )
        """
    )
    op.execute("CREATE INDEX ix_invoice_part_tenant_id ON invoice_part (tenant_id)")
    op.execute("CREATE INDEX ix_invoice_part_cut_id ON invoice_part (cut_id)")
    make_append_only("invoice_part")
    protect_tenant_table("invoice_part", _ISSUED)


def _create_fundings() -> None:
    op.execute(
        """
        CREATE TABLE invoice_funding (
            id uuid CONSTRAINT pk_invoice_funding PRIMARY KEY,
            invoice_id uuid NOT NULL,
            tenant_id uuid NOT NULL,
            funding_id uuid NOT NULL
                CONSTRAINT fk_invoice_funding_funding_id_ledger_transaction REFERENCES ledger_transaction,
            amount_nano bigint NOT NULL CONSTRAINT ck_invoice_funding_amount_nano CHECK (amount_nano <> 0),
            created_at timestamptz NOT NULL DEFAULT now(),
            CONSTRAINT fk_invoice_funding_invoice_id_tenant_id_invoice_part
                FOREIGN KEY (invoice_id, tenant_id) REFERENCES invoice_part (invoice_id, tenant_id)
        )
        """
    )
    op.execute("CREATE INDEX ix_invoice_funding_tenant_id ON invoice_funding (tenant_id)")
    op.execute("CREATE INDEX ix_invoice_funding_funding_id ON invoice_funding (funding_id)")
    op.execute("CREATE INDEX ix_invoice_funding_invoice_id ON invoice_funding (invoice_id)")
    make_append_only("invoice_funding")
    protect_tenant_table("invoice_funding", _ISSUED)
    # Whoever uses a funding holds its tenant's budget. More is never used than is left after what took it back.
    op.execute(
        """
        CREATE FUNCTION check_funding_used() RETURNS trigger LANGUAGE plpgsql
        SET search_path = pg_catalog, pg_temp AS $$
        DECLARE
            funded numeric;
            used numeric;
        BEGIN
            WITH RECURSIVE moved AS (
                SELECT t.id FROM public.ledger_transaction t WHERE t.id = NEW.funding_id
                UNION ALL
                SELECT t.id FROM public.ledger_transaction t JOIN moved m ON t.reverses = m.id
                WHERE t.kind IN ('refund', 'chargeback', 'reversal')
            )
            SELECT coalesce(sum(e.amount_nano), 0) INTO funded
            FROM moved m
            JOIN public.ledger_entry e ON e.transaction_id = m.id AND e.tenant_id = NEW.tenant_id
            JOIN public.ledger_account a ON a.id = e.account_id AND a.kind = 'tenant_funds';
            SELECT sum(f.amount_nano) INTO used FROM public.invoice_funding f WHERE f.funding_id = NEW.funding_id;
            IF used < 0 OR (NEW.amount_nano > 0 AND used > funded) THEN
                RAISE EXCEPTION 'funding % would be used beyond its amount', NEW.funding_id
                    USING ERRCODE = 'check_violation';
            END IF;
            RETURN NULL;
        END $$
        """
    )
    op.execute(
        "CREATE TRIGGER invoice_funding_used AFTER INSERT ON invoice_funding "
        "FOR EACH ROW EXECUTE FUNCTION check_funding_used()"
    )


def _create_settlements() -> None:
    op.execute(
        """
        CREATE TABLE invoice_settlement (
            id uuid CONSTRAINT pk_invoice_settlement PRIMARY KEY,
            invoice_id uuid NOT NULL,
            tenant_id uuid NOT NULL,
            transaction_id uuid NOT NULL
                CONSTRAINT fk_invoice_settlement_transaction_id_ledger_transaction REFERENCES ledger_transaction,
            kind text NOT NULL CONSTRAINT ck_invoice_settlement_kind
                CHECK (kind IN ('payment', 'deposit', 'credit_note', 'write_off', 'reopened')),
            amount_nano bigint NOT NULL CONSTRAINT ck_invoice_settlement_amount_nano CHECK (
                amount_nano <> 0 AND (amount_nano < 0) = (kind = 'reopened')
            ),
            created_at timestamptz NOT NULL DEFAULT now(),
            CONSTRAINT uq_invoice_settlement_transaction_id_invoice_id UNIQUE (transaction_id, invoice_id, tenant_id),
            CONSTRAINT fk_invoice_settlement_invoice_id_tenant_id_invoice_part
                FOREIGN KEY (invoice_id, tenant_id) REFERENCES invoice_part (invoice_id, tenant_id)
        )
        """
    )
    op.execute("CREATE INDEX ix_invoice_settlement_invoice_id_tenant_id ON invoice_settlement (invoice_id, tenant_id)")
    op.execute("CREATE INDEX ix_invoice_settlement_tenant_id ON invoice_settlement (tenant_id)")
    make_append_only("invoice_settlement")
    protect_tenant_table("invoice_settlement", _ISSUED)
    # Whoever pays a group's invoice sees what is open of it; a tenant sees no invoice but its own.
    op.execute(
        f"CREATE POLICY {Role.APP}_payer_reads ON invoice_settlement FOR SELECT TO {Role.APP} "
        "USING (EXISTS (SELECT FROM invoice i WHERE i.id = invoice_id "
        "AND i.tenant_id = (SELECT nullif(current_setting('chappe.tenant_id', true), '')::uuid)))"
    )
    op.execute(
        """
        CREATE FUNCTION check_invoice_settled() RETURNS trigger LANGUAGE plpgsql
        SET search_path = pg_catalog, pg_temp AS $$
        BEGIN
            IF NOT EXISTS (
                SELECT FROM public.invoice_part p JOIN public.invoice i ON i.id = p.invoice_id AND i.kind = 'invoice'
                WHERE p.invoice_id = NEW.invoice_id AND p.tenant_id = NEW.tenant_id AND (
                    SELECT sum(s.amount_nano) FROM public.invoice_settlement s
                    WHERE s.invoice_id = NEW.invoice_id AND s.tenant_id = NEW.tenant_id
                ) BETWEEN 0 AND p.gross_minor * (10 ^ (9 - i.minor_digits))::numeric
            ) THEN
                RAISE EXCEPTION 'invoice % would be settled beyond its amount', NEW.invoice_id
                    USING ERRCODE = 'check_violation';
            END IF;
            RETURN NULL;
        END $$
        """
    )
    op.execute(
        "CREATE TRIGGER invoice_settlement_within AFTER INSERT ON invoice_settlement "
        "FOR EACH ROW EXECUTE FUNCTION check_invoice_settled()"
    )


def _create_chart() -> None:
    # What the operator's own books call the ledger's accounts.
    op.execute(
        """
        CREATE TABLE journal_account (
            legal_entity_id uuid NOT NULL
                CONSTRAINT fk_journal_account_legal_entity_id_legal_entity REFERENCES legal_entity,
            account text NOT NULL
                CONSTRAINT ck_journal_account_account CHECK (account ~ '^[a-z_]{1,40}$'),
            number text NOT NULL CONSTRAINT ck_journal_account_number CHECK (number ~ '^[A-Za-z0-9._-]{1,30}$'),
            CONSTRAINT pk_journal_account PRIMARY KEY (legal_entity_id, account)
        )
        """
    )
    protect_operator_table("journal_account", {Role.OPERATOR: "SELECT, INSERT, UPDATE (number)"})
    audit_table(
        "journal_account", subject=("legal_entity_id", "account"), shown=("legal_entity_id", "account", "number")
    )


def _guard_credit_notes() -> None:
    # Of one seller, buyer and currency, and never more than there is.
    op.execute(
        """
        CREATE FUNCTION check_credit_notes() RETURNS trigger LANGUAGE plpgsql
        SET search_path = pg_catalog, pg_temp AS $$
        BEGIN
            PERFORM pg_advisory_xact_lock(hashtextextended('credit notes of ' || NEW.preceding_id, 0));
            IF NOT EXISTS (
                SELECT FROM public.invoice i
                WHERE i.id = NEW.preceding_id AND i.kind <> 'credit_note' AND i.tenant_id = NEW.tenant_id
                  AND i.net_minor >= (SELECT sum(c.net_minor) FROM public.invoice c WHERE c.preceding_id = i.id)
                  AND i.tax_minor >= (SELECT sum(c.tax_minor) FROM public.invoice c WHERE c.preceding_id = i.id)
            ) THEN
                RAISE EXCEPTION 'invoice % would be credited beyond its amount', NEW.preceding_id
                    USING ERRCODE = 'check_violation';
            END IF;
            RETURN NULL;
        END $$
        """
    )
    op.execute(
        "CREATE TRIGGER invoice_credit_notes AFTER INSERT ON invoice "
        "FOR EACH ROW WHEN (NEW.kind = 'credit_note') EXECUTE FUNCTION check_credit_notes()"
    )
