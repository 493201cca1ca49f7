"""Payments through a payment service: customers, methods, payments, calls to the service, refunds, disputes, events.

Forward only. Expand first; contract in a later release, when nothing reads the old shape any more.
"""

from alembic import op

from chappe_store.audit_log.triggers import audit_table
from chappe_store.row_security import make_append_only, protect_operator_table, protect_tenant_table
from chappe_store.session import Role

revision = "0033"
down_revision = "0032"
branch_labels = None
depends_on = None

_OF_TENANT = """
    CONSTRAINT fk_{table}_tenant_id_legal_entity_id_tenant
        FOREIGN KEY (tenant_id, legal_entity_id) REFERENCES tenant (id, legal_entity_id)
"""
_STRIPE_ID = "length({column}) BETWEEN 4 AND 255"


def upgrade() -> None:
    # A migration that cannot get its lock soon gives up, instead of making every query queue behind it.
    op.execute("SET LOCAL lock_timeout = '3s'")
    op.execute("SET LOCAL statement_timeout = '60s'")
    _create_customers()
    _create_methods()
    _create_payments()
    _keep_payments_true()
    _create_refunds()
    _create_disputes()
    _create_calls()
    _create_auto_top_ups()
    _create_events()


def _create_customers() -> None:
    op.execute(
        f"""
        CREATE TABLE payment_customer (
            tenant_id uuid CONSTRAINT pk_payment_customer PRIMARY KEY,
            legal_entity_id uuid NOT NULL,
            service_id text NOT NULL CONSTRAINT uq_payment_customer_service_id UNIQUE
                CONSTRAINT ck_payment_customer_service_id CHECK ({_STRIPE_ID.format(column="service_id")}),
            created_at timestamptz NOT NULL DEFAULT now(),
            {_OF_TENANT.format(table="payment_customer")}
        )
        """
    )
    protect_tenant_table("payment_customer", {Role.APP: "SELECT", Role.OPERATOR: "SELECT, INSERT"})
    audit_table(
        "payment_customer",
        subject=("tenant_id",),
        tenant_column="tenant_id",
        shown=("legal_entity_id", "service_id"),
    )


def _create_methods() -> None:
    op.execute(
        f"""
        CREATE TABLE payment_method (
            tenant_id uuid CONSTRAINT fk_payment_method_tenant_id_payment_customer REFERENCES payment_customer,
            service_id text CONSTRAINT uq_payment_method_service_id UNIQUE
                CONSTRAINT ck_payment_method_service_id CHECK ({_STRIPE_ID.format(column="service_id")}),
            kind text NOT NULL CONSTRAINT ck_payment_method_kind CHECK (kind IN ('card', 'sepa_debit')),
            label text NOT NULL CONSTRAINT ck_payment_method_label CHECK (length(label) BETWEEN 1 AND 100),
            expires text CONSTRAINT ck_payment_method_expires CHECK (expires ~ '^[0-9]{{4}}-[0-9]{{2}}$'),
            is_default boolean NOT NULL DEFAULT false,
            added_at timestamptz NOT NULL DEFAULT now(),
            removed_at timestamptz,
            CONSTRAINT pk_payment_method PRIMARY KEY (tenant_id, service_id),
            CONSTRAINT ck_payment_method_default CHECK (NOT is_default OR removed_at IS NULL)
        )
        """
    )
    op.execute("CREATE UNIQUE INDEX uq_payment_method_default ON payment_method (tenant_id) WHERE is_default")
    protect_tenant_table(
        "payment_method",
        {
            Role.APP: "SELECT, UPDATE (is_default, removed_at)",
            Role.OPERATOR: "SELECT, INSERT, UPDATE (label, expires, is_default, removed_at)",
        },
    )
    audit_table(
        "payment_method",
        subject=("service_id",),
        tenant_column="tenant_id",
        shown=("kind", "label", "expires", "is_default", "added_at", "removed_at"),
    )


def _create_payments() -> None:
    op.execute(
        f"""
        CREATE TABLE payment (
            tenant_id uuid NOT NULL,
            id uuid CONSTRAINT pk_payment PRIMARY KEY,
            legal_entity_id uuid NOT NULL,
            purpose text NOT NULL
                CONSTRAINT ck_payment_purpose CHECK (purpose IN ('top_up', 'auto_top_up', 'invoice')),
            invoice_id uuid CONSTRAINT fk_payment_invoice_id_invoice REFERENCES invoice,
            method text NOT NULL
                CONSTRAINT ck_payment_method CHECK (method IN ('card', 'sepa_debit', 'bank_transfer')),
            currency text NOT NULL CONSTRAINT ck_payment_currency CHECK (currency ~ '^[A-Z]{{3}}$'),
            net_nano bigint NOT NULL CONSTRAINT ck_payment_net_nano CHECK (net_nano > 0),
            tax_nano bigint NOT NULL CONSTRAINT ck_payment_tax_nano CHECK (tax_nano >= 0),
            gross_minor bigint NOT NULL CONSTRAINT ck_payment_gross_minor CHECK (gross_minor > 0),
            treatment jsonb,
            attempt bigint NOT NULL DEFAULT 1 CONSTRAINT ck_payment_attempt CHECK (attempt > 0),
            state text NOT NULL DEFAULT 'asked' CONSTRAINT ck_payment_state CHECK (
                state IN ('asked', 'open', 'processing', 'succeeded', 'failed', 'expired', 'quarantined')
            ),
            problem text CONSTRAINT ck_payment_problem CHECK (length(problem) BETWEEN 1 AND 200),
            session_id text CONSTRAINT uq_payment_session_id UNIQUE,
            intent_id text CONSTRAINT uq_payment_intent_id UNIQUE,
            transaction_id uuid CONSTRAINT uq_payment_transaction_id UNIQUE
                CONSTRAINT fk_payment_transaction_id_ledger_transaction REFERENCES ledger_transaction,
            created_at timestamptz NOT NULL DEFAULT now(),
            changed_at timestamptz NOT NULL DEFAULT now(),
            looked_at timestamptz,
            {_OF_TENANT.format(table="payment")},
            CONSTRAINT uq_payment_tenant_id_id UNIQUE (tenant_id, id),
            CONSTRAINT ck_payment_invoice CHECK ((purpose = 'invoice') = (invoice_id IS NOT NULL)),
            CONSTRAINT ck_payment_taxed CHECK ((purpose = 'invoice') = (treatment IS NULL)),
            CONSTRAINT ck_payment_posted CHECK ((state = 'succeeded') = (transaction_id IS NOT NULL))
        )
        """
    )
    op.execute("CREATE INDEX ix_payment_tenant_id_created_at ON payment (tenant_id, created_at)")
    under_way = "state IN ('asked', 'open', 'processing')"
    op.execute(f"CREATE INDEX ix_payment_under_way ON payment (id) WHERE {under_way}")
    op.execute(
        "CREATE UNIQUE INDEX uq_payment_auto_top_up ON payment (tenant_id) "
        f"WHERE purpose = 'auto_top_up' AND {under_way}"
    )
    op.execute(f"CREATE UNIQUE INDEX uq_payment_invoice ON payment (invoice_id) WHERE {under_way}")
    columns = (
        "tenant_id, id, legal_entity_id, purpose, method, currency, net_nano, tax_nano, gross_minor, treatment, attempt"
    )
    changed = "state, problem, method, session_id, intent_id, transaction_id, changed_at, looked_at"
    protect_tenant_table(
        "payment",
        {
            Role.APP: f"SELECT, INSERT ({columns})",
            Role.OPERATOR: f"SELECT, INSERT ({columns}, invoice_id), UPDATE ({changed})",
        },
    )
    audit_table(
        "payment",
        subject=("id",),
        tenant_column="tenant_id",
        shown=(
            *("legal_entity_id", "purpose", "invoice_id", "method", "currency", "net_nano", "tax_nano", "gross_minor"),
            *("treatment", "attempt", "state", "problem", "session_id", "intent_id", "transaction_id"),
        ),
    )


def _keep_payments_true() -> None:
    # A second lock beside the code's: what was credited stays credited, to the one payment that brought the money.
    op.execute(
        """
        CREATE FUNCTION keep_payment() RETURNS trigger LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
        BEGIN
            IF OLD.state = 'succeeded' AND (NEW.state, NEW.transaction_id, NEW.intent_id)
                IS DISTINCT FROM (OLD.state, OLD.transaction_id, OLD.intent_id) THEN
                RAISE EXCEPTION 'payment % has succeeded', OLD.id USING ERRCODE = 'check_violation';
            END IF;
            IF OLD.intent_id IS NOT NULL AND NEW.intent_id IS DISTINCT FROM OLD.intent_id THEN
                RAISE EXCEPTION 'payment % has its intent', OLD.id USING ERRCODE = 'check_violation';
            END IF;
            RETURN NEW;
        END $$
        """
    )
    op.execute(
        "CREATE TRIGGER payment_kept BEFORE UPDATE OF state, transaction_id, intent_id ON payment "
        "FOR EACH ROW EXECUTE FUNCTION keep_payment()"
    )


def _create_refunds() -> None:
    op.execute(
        f"""
        CREATE TABLE payment_refund (
            tenant_id uuid NOT NULL,
            id uuid CONSTRAINT pk_payment_refund PRIMARY KEY,
            legal_entity_id uuid NOT NULL,
            payment_id uuid NOT NULL,
            currency text NOT NULL CONSTRAINT ck_payment_refund_currency CHECK (currency ~ '^[A-Z]{{3}}$'),
            net_nano bigint NOT NULL CONSTRAINT ck_payment_refund_net_nano CHECK (net_nano > 0),
            gross_minor bigint NOT NULL CONSTRAINT ck_payment_refund_gross_minor CHECK (gross_minor > 0),
            reason text NOT NULL CONSTRAINT ck_payment_refund_reason CHECK (length(reason) BETWEEN 1 AND 500),
            state text NOT NULL DEFAULT 'asked'
                CONSTRAINT ck_payment_refund_state CHECK (state IN ('asked', 'processing', 'succeeded', 'failed')),
            problem text CONSTRAINT ck_payment_refund_problem CHECK (length(problem) BETWEEN 1 AND 200),
            service_id text CONSTRAINT uq_payment_refund_service_id UNIQUE,
            transaction_id uuid NOT NULL CONSTRAINT uq_payment_refund_transaction_id UNIQUE
                CONSTRAINT fk_payment_refund_transaction_id_ledger_transaction REFERENCES ledger_transaction,
            reversal_id uuid CONSTRAINT uq_payment_refund_reversal_id UNIQUE
                CONSTRAINT fk_payment_refund_reversal_id_ledger_transaction REFERENCES ledger_transaction,
            created_at timestamptz NOT NULL DEFAULT now(),
            changed_at timestamptz NOT NULL DEFAULT now(),
            {_OF_TENANT.format(table="payment_refund")},
            CONSTRAINT fk_payment_refund_tenant_id_payment_id_payment
                FOREIGN KEY (tenant_id, payment_id) REFERENCES payment (tenant_id, id),
            CONSTRAINT ck_payment_refund_given_back CHECK ((state = 'failed') = (reversal_id IS NOT NULL))
        )
        """
    )
    op.execute("CREATE INDEX ix_payment_refund_tenant_id_payment_id ON payment_refund (tenant_id, payment_id)")
    op.execute("CREATE INDEX ix_payment_refund_under_way ON payment_refund (id) WHERE state IN ('asked', 'processing')")
    protect_tenant_table(
        "payment_refund",
        {
            Role.APP: "SELECT",
            Role.OPERATOR: "SELECT, INSERT, UPDATE (state, problem, service_id, reversal_id, changed_at)",
        },
    )
    audit_table(
        "payment_refund",
        subject=("id",),
        tenant_column="tenant_id",
        shown=(
            *("legal_entity_id", "payment_id", "currency", "net_nano", "gross_minor", "reason", "state", "problem"),
            *("service_id", "transaction_id", "reversal_id"),
        ),
    )


def _create_disputes() -> None:
    op.execute(
        f"""
        CREATE TABLE payment_dispute (
            tenant_id uuid NOT NULL,
            service_id text CONSTRAINT pk_payment_dispute PRIMARY KEY
                CONSTRAINT ck_payment_dispute_service_id CHECK ({_STRIPE_ID.format(column="service_id")}),
            payment_id uuid NOT NULL,
            currency text NOT NULL CONSTRAINT ck_payment_dispute_currency CHECK (currency ~ '^[A-Z]{{3}}$'),
            amount_minor bigint NOT NULL CONSTRAINT ck_payment_dispute_amount_minor CHECK (amount_minor > 0),
            reason text NOT NULL CONSTRAINT ck_payment_dispute_reason CHECK (length(reason) BETWEEN 1 AND 100),
            state text NOT NULL CONSTRAINT ck_payment_dispute_state CHECK (state IN ('open', 'lost', 'won')),
            chargeback_id uuid CONSTRAINT uq_payment_dispute_chargeback_id UNIQUE
                CONSTRAINT fk_payment_dispute_chargeback_id_ledger_transaction REFERENCES ledger_transaction,
            reversal_id uuid CONSTRAINT uq_payment_dispute_reversal_id UNIQUE
                CONSTRAINT fk_payment_dispute_reversal_id_ledger_transaction REFERENCES ledger_transaction,
            opened_at timestamptz NOT NULL DEFAULT now(),
            changed_at timestamptz NOT NULL DEFAULT now(),
            CONSTRAINT fk_payment_dispute_tenant_id_payment_id_payment
                FOREIGN KEY (tenant_id, payment_id) REFERENCES payment (tenant_id, id),
            CONSTRAINT ck_payment_dispute_reversed CHECK (reversal_id IS NULL OR chargeback_id IS NOT NULL)
        )
        """
    )
    op.execute("CREATE INDEX ix_payment_dispute_tenant_id_payment_id ON payment_dispute (tenant_id, payment_id)")
    protect_tenant_table(
        "payment_dispute",
        {
            Role.APP: "SELECT",
            Role.OPERATOR: "SELECT, INSERT, UPDATE (state, chargeback_id, reversal_id, changed_at)",
        },
    )
    audit_table(
        "payment_dispute",
        subject=("service_id",),
        tenant_column="tenant_id",
        shown=(
            *("payment_id", "currency", "amount_minor", "reason", "state", "chargeback_id", "reversal_id", "opened_at"),
        ),
    )


def _create_calls() -> None:
    op.execute(
        f"""
        CREATE TABLE payment_call (
            tenant_id uuid NOT NULL,
            id uuid CONSTRAINT pk_payment_call PRIMARY KEY,
            legal_entity_id uuid NOT NULL,
            kind text NOT NULL CONSTRAINT ck_payment_call_kind CHECK (kind IN (
                'customer', 'checkout', 'setup', 'charge', 'invoice', 'refund', 'forget_method', 'usage'
            )),
            parameters jsonb NOT NULL,
            payment_id uuid,
            refund_id uuid CONSTRAINT fk_payment_call_refund_id_payment_refund REFERENCES payment_refund,
            state text NOT NULL DEFAULT 'waiting'
                CONSTRAINT ck_payment_call_state CHECK (state IN ('waiting', 'done', 'refused', 'poisoned')),
            attempts bigint NOT NULL DEFAULT 0,
            retries bigint NOT NULL DEFAULT 0,
            first_tried_at timestamptz,
            due_at timestamptz NOT NULL DEFAULT now(),
            service_id text,
            url text CONSTRAINT ck_payment_call_url CHECK (length(url) BETWEEN 1 AND 5000),
            created_at timestamptz NOT NULL DEFAULT now(),
            ended_at timestamptz,
            {_OF_TENANT.format(table="payment_call")},
            CONSTRAINT uq_payment_call_tenant_id_id UNIQUE (tenant_id, id),
            CONSTRAINT fk_payment_call_tenant_id_payment_id_payment
                FOREIGN KEY (tenant_id, payment_id) REFERENCES payment (tenant_id, id),
            CONSTRAINT ck_payment_call_ended CHECK ((state IN ('done', 'refused')) = (ended_at IS NOT NULL))
        )
        """
    )
    op.execute("CREATE INDEX ix_payment_call_due ON payment_call (due_at) WHERE state = 'waiting'")
    op.execute("CREATE INDEX ix_payment_call_poisoned ON payment_call (id) WHERE state = 'poisoned'")
    op.execute("CREATE INDEX ix_payment_call_tenant_id_payment_id ON payment_call (tenant_id, payment_id)")
    op.execute("CREATE UNIQUE INDEX uq_payment_call_refund ON payment_call (refund_id) WHERE refund_id IS NOT NULL")
    op.execute(
        "CREATE UNIQUE INDEX uq_payment_call_customer ON payment_call (tenant_id) "
        "WHERE kind = 'customer' AND state IN ('waiting', 'poisoned')"
    )
    columns = "tenant_id, id, legal_entity_id, kind, parameters, payment_id"
    protect_tenant_table(
        "payment_call",
        {
            Role.APP: f"SELECT, INSERT ({columns})",
            Role.OPERATOR: (
                f"SELECT, INSERT ({columns}, refund_id), "
                "UPDATE (state, attempts, retries, first_tried_at, due_at, service_id, url, ended_at)"
            ),
        },
    )
    op.execute(
        """
        CREATE TABLE payment_call_attempt (
            tenant_id uuid,
            call_id uuid,
            attempt bigint,
            outcome text NOT NULL CONSTRAINT ck_payment_call_attempt_outcome
                CHECK (outcome IN ('done', 'found', 'refused', 'later', 'poisoned', 'again')),
            detail text CONSTRAINT ck_payment_call_attempt_detail CHECK (length(detail) BETWEEN 1 AND 500),
            at timestamptz NOT NULL DEFAULT now(),
            CONSTRAINT pk_payment_call_attempt PRIMARY KEY (tenant_id, call_id, attempt, outcome),
            CONSTRAINT fk_payment_call_attempt_tenant_id_call_id_payment_call
                FOREIGN KEY (tenant_id, call_id) REFERENCES payment_call (tenant_id, id)
        )
        """
    )
    protect_tenant_table("payment_call_attempt", {Role.OPERATOR: "SELECT, INSERT"})
    make_append_only("payment_call_attempt")


def _create_auto_top_ups() -> None:
    op.execute(
        """
        CREATE TABLE auto_top_up (
            tenant_id uuid CONSTRAINT pk_auto_top_up PRIMARY KEY
                CONSTRAINT fk_auto_top_up_tenant_id_tenant REFERENCES tenant,
            is_on boolean NOT NULL,
            below_nano bigint NOT NULL CONSTRAINT ck_auto_top_up_below_nano CHECK (below_nano >= 0),
            net_nano bigint NOT NULL CONSTRAINT ck_auto_top_up_net_nano CHECK (net_nano > 0),
            most_per_month bigint NOT NULL
                CONSTRAINT ck_auto_top_up_most_per_month CHECK (most_per_month BETWEEN 1 AND 100),
            failures bigint NOT NULL DEFAULT 0,
            next_at timestamptz NOT NULL DEFAULT now(),
            changed_at timestamptz NOT NULL DEFAULT now()
        )
        """
    )
    columns = "tenant_id, is_on, below_nano, net_nano, most_per_month"
    changed = "is_on, below_nano, net_nano, most_per_month, failures, next_at, changed_at"
    protect_tenant_table(
        "auto_top_up",
        {
            Role.APP: f"SELECT, INSERT ({columns}), UPDATE ({changed})",
            Role.OPERATOR: "SELECT, UPDATE (is_on, failures, next_at)",
        },
    )
    audit_table(
        "auto_top_up",
        subject=("tenant_id",),
        tenant_column="tenant_id",
        shown=("is_on", "below_nano", "net_nano", "most_per_month"),
    )


def _create_events() -> None:
    op.execute(
        f"""
        CREATE TABLE payment_event (
            id text CONSTRAINT pk_payment_event PRIMARY KEY
                CONSTRAINT ck_payment_event_id CHECK ({_STRIPE_ID.format(column="id")}),
            kind text NOT NULL CONSTRAINT ck_payment_event_kind CHECK (length(kind) BETWEEN 1 AND 100),
            object_id text,
            happened_at timestamptz NOT NULL,
            effect text NOT NULL CONSTRAINT ck_payment_event_effect CHECK (length(effect) BETWEEN 1 AND 50),
            received_at timestamptz NOT NULL DEFAULT now()
        )
        """
    )
    protect_operator_table("payment_event", {Role.OPERATOR: "SELECT, INSERT"})
    make_append_only("payment_event")
    op.execute(
        """
        CREATE TABLE payment_event_look (
            one boolean DEFAULT true CONSTRAINT pk_payment_event_look PRIMARY KEY
                CONSTRAINT ck_payment_event_look_one CHECK (one),
            seen_until timestamptz NOT NULL
        )
        """
    )
    protect_operator_table("payment_event_look", {Role.OPERATOR: "SELECT, INSERT, UPDATE (seen_until)"})
    op.execute(
        f"""
        CREATE TABLE payment_quarantine (
            id uuid CONSTRAINT pk_payment_quarantine PRIMARY KEY,
            service_id text NOT NULL
                CONSTRAINT ck_payment_quarantine_service_id CHECK ({_STRIPE_ID.format(column="service_id")}),
            reason text NOT NULL CONSTRAINT ck_payment_quarantine_reason CHECK (length(reason) BETWEEN 1 AND 50),
            payment_id uuid CONSTRAINT fk_payment_quarantine_payment_id_payment REFERENCES payment,
            currency text NOT NULL CONSTRAINT ck_payment_quarantine_currency CHECK (currency ~ '^[A-Z]{{3}}$'),
            amount_minor bigint NOT NULL,
            opened_at timestamptz NOT NULL DEFAULT now(),
            closed_at timestamptz,
            resolution text CONSTRAINT ck_payment_quarantine_resolution CHECK (length(resolution) BETWEEN 1 AND 500),
            CONSTRAINT uq_payment_quarantine_service_id UNIQUE (service_id),
            CONSTRAINT ck_payment_quarantine_closed CHECK ((closed_at IS NULL) = (resolution IS NULL))
        )
        """
    )
    protect_operator_table("payment_quarantine", {Role.OPERATOR: "SELECT, INSERT, UPDATE (closed_at, resolution)"})
    audit_table(
        "payment_quarantine",
        subject=("id",),
        shown=(
            "service_id",
            "reason",
            "payment_id",
            "currency",
            "amount_minor",
            "opened_at",
            "closed_at",
            "resolution",
        ),
    )
