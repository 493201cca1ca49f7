"""Write-offs that are taken back, VAT rates that are taken back before they begin, documents
that are mailed once, and since when a legal entity collects as it does.

Forward only. Expand first; contract in a later release, when nothing reads the old shape any more.
"""

from alembic import op

from chappe_store.audit_log.triggers import audit_table
from chappe_store.row_security import make_append_only, protect_operator_table, protect_tenant_table
from chappe_store.session import Role

revision = "0037"
down_revision = "0036"
branch_labels = None
depends_on = None


def upgrade() -> None:
    # A migration that cannot get its lock soon gives up, instead of making every query queue behind it.
    op.execute("SET LOCAL lock_timeout = '3s'")
    op.execute("SET LOCAL statement_timeout = '60s'")
    _let_write_offs_be_taken_back()
    _let_rates_be_taken_back()
    _create_letters()
    _note_how_entities_collect()
    _let_what_was_asked_again_be_credited()


def _let_write_offs_be_taken_back() -> None:
    # Not checked against old rows: the old constraints admitted less.
    op.execute(
        """
        ALTER TABLE invoice_settlement DROP CONSTRAINT ck_invoice_settlement_kind,
            ADD CONSTRAINT ck_invoice_settlement_kind CHECK (kind IN (
                'payment', 'deposit', 'credit_note', 'write_off', 'reopened', 'reclaimed'
            )) NOT VALID,
            DROP CONSTRAINT ck_invoice_settlement_amount_nano,
            ADD CONSTRAINT ck_invoice_settlement_amount_nano CHECK (
                amount_nano <> 0 AND (amount_nano < 0) = (kind IN ('reopened', 'reclaimed'))
            ) NOT VALID
        """
    )
    op.execute("ALTER TABLE invoice_settlement VALIDATE CONSTRAINT ck_invoice_settlement_kind")
    op.execute("ALTER TABLE invoice_settlement VALIDATE CONSTRAINT ck_invoice_settlement_amount_nano")


def _let_rates_be_taken_back() -> None:
    op.execute(
        """
        CREATE TABLE vat_rate_withdrawal (
            rate_id uuid CONSTRAINT pk_vat_rate_withdrawal PRIMARY KEY
                CONSTRAINT fk_vat_rate_withdrawal_rate_id_vat_rate REFERENCES vat_rate,
            withdrawn_at timestamptz NOT NULL DEFAULT now()
        )
        """
    )
    protect_operator_table("vat_rate_withdrawal", {Role.APP: "SELECT", Role.OPERATOR: "SELECT, INSERT"})
    make_append_only("vat_rate_withdrawal")
    audit_table("vat_rate_withdrawal", subject=("rate_id",), shown=("withdrawn_at",))
    op.execute(
        """
        CREATE FUNCTION check_vat_rate_withdrawal() RETURNS trigger LANGUAGE plpgsql
        SET search_path = pg_catalog, pg_temp AS $$
        BEGIN
            IF NOT EXISTS (
                SELECT FROM public.vat_rate r
                WHERE r.id = NEW.rate_id AND r.starts_on > (clock_timestamp() AT TIME ZONE 'UTC')::date
            ) THEN
                RAISE EXCEPTION 'a VAT rate that has begun cannot be withdrawn' USING ERRCODE = 'check_violation';
            END IF;
            RETURN NEW;
        END $$
        """
    )
    op.execute(
        "CREATE TRIGGER vat_rate_withdrawal_in_time BEFORE INSERT ON vat_rate_withdrawal "
        "FOR EACH ROW EXECUTE FUNCTION check_vat_rate_withdrawal()"
    )


def _create_letters() -> None:
    op.execute(
        """
        CREATE TABLE invoice_letter (
            tenant_id uuid NOT NULL,
            invoice_id uuid NOT NULL,
            letters bigint NOT NULL CONSTRAINT ck_invoice_letter_letters CHECK (letters >= 0),
            mailed_at timestamptz NOT NULL DEFAULT now(),
            CONSTRAINT pk_invoice_letter PRIMARY KEY (tenant_id, invoice_id),
            CONSTRAINT fk_invoice_letter_tenant_id_invoice_id_invoice
                FOREIGN KEY (tenant_id, invoice_id) REFERENCES invoice (tenant_id, id)
        )
        """
    )
    op.execute("CREATE INDEX ix_invoice_letter_invoice_id ON invoice_letter (invoice_id)")
    make_append_only("invoice_letter")
    protect_tenant_table("invoice_letter", {Role.APP: "SELECT", Role.OPERATOR: "SELECT, INSERT"})


def _note_how_entities_collect() -> None:
    op.execute(
        """
        CREATE TABLE legal_entity_payments (
            legal_entity_id uuid NOT NULL
                CONSTRAINT fk_legal_entity_payments_legal_entity_id_legal_entity REFERENCES legal_entity,
            since timestamptz NOT NULL,
            payments text NOT NULL
                CONSTRAINT ck_legal_entity_payments_payments CHECK (payments IN ('stripe', 'external', 'none')),
            CONSTRAINT pk_legal_entity_payments PRIMARY KEY (legal_entity_id, since)
        )
        """
    )
    op.execute("INSERT INTO legal_entity_payments SELECT id, timestamptz 'epoch', payments FROM legal_entity")
    protect_operator_table("legal_entity_payments", {Role.APP: "SELECT", Role.OPERATOR: "SELECT, INSERT"})
    make_append_only("legal_entity_payments")
    # Whoever issues invoices holds the same lock, shared: it sees how its seller collects at its own cut-off for good.
    op.execute(
        """
        CREATE FUNCTION note_how_entity_collects() RETURNS trigger LANGUAGE plpgsql
        SET search_path = pg_catalog, pg_temp AS $$
        BEGIN
            PERFORM pg_advisory_xact_lock(hashtextextended('payments of ' || NEW.id, 0));
            INSERT INTO public.legal_entity_payments VALUES (
                NEW.id, CASE TG_OP WHEN 'INSERT' THEN timestamptz 'epoch' ELSE clock_timestamp() END, NEW.payments
            );
            RETURN NULL;
        END $$
        """
    )
    op.execute(
        "CREATE TRIGGER legal_entity_note_new AFTER INSERT ON legal_entity "
        "FOR EACH ROW EXECUTE FUNCTION note_how_entity_collects()"
    )
    op.execute(
        "CREATE TRIGGER legal_entity_note_payments AFTER UPDATE OF payments ON legal_entity "
        "FOR EACH ROW WHEN (OLD.payments IS DISTINCT FROM NEW.payments) EXECUTE FUNCTION note_how_entity_collects()"
    )
    # Who bills what was posted then. What a contract asks for a month is of whoever billed at the month's end.
    op.execute(
        """
        CREATE FUNCTION is_billed_elsewhere(entity uuid, posted_at timestamptz, month date) RETURNS boolean
        LANGUAGE sql STABLE PARALLEL SAFE
        RETURN (
            SELECT h.payments = 'external' FROM legal_entity_payments h
            WHERE h.legal_entity_id = entity AND h.since <= least(
                posted_at, (month + interval '1 month') AT TIME ZONE 'UTC' - interval '1 microsecond'
            )
            ORDER BY h.since DESC LIMIT 1
        )
        """
    )
    op.execute(f"GRANT EXECUTE ON FUNCTION is_billed_elsewhere (uuid, timestamptz, date) TO {Role.OPERATOR}")


def _let_what_was_asked_again_be_credited() -> None:
    # An invoice that asks again for an advance that was charged back uses it by a negative amount. Whoever takes that
    # invoice back takes this back too: the advance is used beyond what is left of it, until the next one asks.
    op.execute(
        """
        CREATE OR REPLACE FUNCTION check_funding_used() RETURNS trigger LANGUAGE plpgsql
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
            IF used < 0 OR (NEW.amount_nano > 0 AND used > funded AND NOT EXISTS (
                SELECT FROM public.invoice i
                JOIN public.invoice_funding f ON f.invoice_id = i.preceding_id AND f.funding_id = NEW.funding_id
                WHERE i.id = NEW.invoice_id AND i.kind = 'credit_note' AND f.tenant_id = NEW.tenant_id
                GROUP BY i.id HAVING sum(f.amount_nano) + NEW.amount_nano <= 0
            )) THEN
                RAISE EXCEPTION 'funding % would be used beyond its amount', NEW.funding_id
                    USING ERRCODE = 'check_violation';
            END IF;
            RETURN NULL;
        END $$
        """
    )
