"""VAT rates by effective date, what registers say of VAT numbers, the operator's rulings, and invoices' documents.

Forward only. Expand first; contract in a later release, when nothing reads the old shape any more.
"""

from alembic import op

from chappe_store.audit_log.triggers import audit_table
from chappe_store.row_security import make_append_only, protect_operator_table, protect_tenant_table
from chappe_store.session import Role

revision = "0032"
down_revision = "0031"
branch_labels = None
depends_on = None

# `eu-vat-rates-data` 2026.9.29, which holds the rates of that day and no dates. They are in force at least since this
# year began, which is before any supply of Chappe's.
_SEEDED_FROM = "2026-01-01"
_SEED = "eu-vat-rates-data 2026.9.29"
_STANDARD_RATES_BP = {
    "AD": 450,
    "AL": 2000,
    "AT": 2000,
    "BA": 1700,
    "BE": 2100,
    "BG": 2000,
    "CH": 810,
    "CY": 1900,
    "CZ": 2100,
    "DE": 1900,
    "DK": 2500,
    "EE": 2400,
    "ES": 2100,
    "FI": 2550,
    "FR": 2000,
    "GB": 2000,
    "GE": 1800,
    "GR": 2400,
    "HR": 2500,
    "HU": 2700,
    "IE": 2300,
    "IS": 2400,
    "IT": 2200,
    "LT": 2100,
    "LU": 1700,
    "LV": 2100,
    "MD": 2000,
    "ME": 2100,
    "MK": 1800,
    "MT": 1800,
    "NL": 2100,
    "NO": 2500,
    "PL": 2300,
    "PT": 2300,
    "RO": 2100,
    "RS": 2000,
    "SE": 2500,
    "SI": 2200,
    "SK": 2300,
    "TR": 2000,
    "UA": 2000,
    "XK": 1800,
}


def upgrade() -> None:
    # A migration that cannot get its lock soon gives up, instead of making every query queue behind it.
    op.execute("SET LOCAL lock_timeout = '3s'")
    op.execute("SET LOCAL statement_timeout = '60s'")
    _create_rates()
    _create_settings()
    _create_rulings()
    _create_answers()
    _create_checks()
    _create_documents()
    _create_refusals()


def _create_rates() -> None:
    op.execute(
        """
        CREATE TABLE vat_rate (
            id uuid CONSTRAINT pk_vat_rate PRIMARY KEY,
            country text NOT NULL CONSTRAINT ck_vat_rate_country CHECK (country ~ '^[A-Z]{2}$'),
            starts_on date NOT NULL,
            rate_bp bigint NOT NULL CONSTRAINT ck_vat_rate_rate_bp CHECK (rate_bp BETWEEN 0 AND 5000),
            source text NOT NULL CONSTRAINT ck_vat_rate_source CHECK (length(source) BETWEEN 1 AND 200),
            created_at timestamptz NOT NULL DEFAULT now()
        )
        """
    )
    op.execute("CREATE INDEX ix_vat_rate_country_starts_on ON vat_rate (country, starts_on, id)")
    rows = ", ".join(
        f"(uuidv7(), '{country}', DATE '{_SEEDED_FROM}', {rate_bp}, '{_SEED}')"
        for country, rate_bp in _STANDARD_RATES_BP.items()
    )
    op.execute(f"INSERT INTO vat_rate (id, country, starts_on, rate_bp, source) VALUES {rows}")
    protect_operator_table("vat_rate", {Role.APP: "SELECT", Role.OPERATOR: "SELECT, INSERT"})
    make_append_only("vat_rate")
    audit_table("vat_rate", subject=("id",), shown=("country", "starts_on", "rate_bp", "source"))


def _create_settings() -> None:
    op.execute(
        """
        CREATE TABLE entity_tax (
            legal_entity_id uuid CONSTRAINT pk_entity_tax PRIMARY KEY
                CONSTRAINT fk_entity_tax_legal_entity_id_legal_entity REFERENCES legal_entity,
            one_stop_shop boolean NOT NULL DEFAULT false
        )
        """
    )
    protect_operator_table("entity_tax", {Role.APP: "SELECT", Role.OPERATOR: "SELECT, INSERT, UPDATE (one_stop_shop)"})
    audit_table("entity_tax", subject=("legal_entity_id",), shown=("one_stop_shop",))


def _create_rulings() -> None:
    op.execute(
        """
        CREATE TABLE tax_ruling (
            tenant_id uuid NOT NULL CONSTRAINT fk_tax_ruling_tenant_id_tenant REFERENCES tenant,
            id uuid NOT NULL,
            starts_on date NOT NULL,
            category text CONSTRAINT ck_tax_ruling_category CHECK (category IN ('S', 'AE', 'O')),
            rate_bp bigint NOT NULL CONSTRAINT ck_tax_ruling_rate_bp CHECK (
                rate_bp BETWEEN 0 AND 5000 AND (coalesce(category, 'O') = 'S') = (rate_bp > 0)
            ),
            reason text NOT NULL CONSTRAINT ck_tax_ruling_reason CHECK (length(reason) BETWEEN 1 AND 500),
            created_at timestamptz NOT NULL DEFAULT now(),
            CONSTRAINT pk_tax_ruling PRIMARY KEY (tenant_id, id)
        )
        """
    )
    protect_tenant_table("tax_ruling", {Role.APP: "SELECT", Role.OPERATOR: "SELECT, INSERT"})
    make_append_only("tax_ruling")
    audit_table(
        "tax_ruling",
        subject=("id",),
        shown=("starts_on", "category", "rate_bp", "reason"),
        tenant_column="tenant_id",
    )


def _create_answers() -> None:
    op.execute(
        """
        CREATE TABLE vat_answer (
            tenant_id uuid NOT NULL CONSTRAINT fk_vat_answer_tenant_id_tenant REFERENCES tenant,
            id uuid NOT NULL,
            vat_number text NOT NULL CONSTRAINT ck_vat_answer_vat_number CHECK (vat_number ~ '^[A-Z0-9+*]{4,20}$'),
            outcome text NOT NULL CONSTRAINT ck_vat_answer_outcome CHECK (outcome IN ('confirmed', 'invalid')),
            source text NOT NULL CONSTRAINT ck_vat_answer_source CHECK (source IN ('vies', 'operator')),
            requester text,
            consultation_number text CONSTRAINT ck_vat_answer_consultation_number
                CHECK (length(consultation_number) BETWEEN 1 AND 100),
            name text CONSTRAINT ck_vat_answer_name CHECK (length(name) <= 1000),
            address text CONSTRAINT ck_vat_answer_address CHECK (length(address) <= 2000),
            checked_at timestamptz NOT NULL DEFAULT now(),
            CONSTRAINT pk_vat_answer PRIMARY KEY (tenant_id, id)
        )
        """
    )
    protect_tenant_table("vat_answer", {Role.APP: "SELECT", Role.OPERATOR: "SELECT, INSERT"})
    make_append_only("vat_answer")
    audit_table(
        "vat_answer",
        subject=("id",),
        shown=("vat_number", "outcome", "source", "requester", "consultation_number", "name", "address"),
        tenant_column="tenant_id",
    )


def _create_checks() -> None:
    op.execute(
        """
        CREATE TABLE vat_check (
            tenant_id uuid CONSTRAINT pk_vat_check PRIMARY KEY
                CONSTRAINT fk_vat_check_tenant_id_tenant REFERENCES tenant,
            vat_number text NOT NULL CONSTRAINT ck_vat_check_vat_number CHECK (vat_number ~ '^[A-Z0-9+*]{4,20}$'),
            due_at timestamptz NOT NULL DEFAULT now(),
            attempts bigint NOT NULL DEFAULT 0,
            last_error text CONSTRAINT ck_vat_check_last_error CHECK (length(last_error) <= 200),
            last_tried_at timestamptz
        )
        """
    )
    op.execute("CREATE INDEX ix_vat_check_due_at ON vat_check (due_at)")
    protect_tenant_table(
        "vat_check",
        {
            Role.APP: "SELECT",
            Role.OPERATOR: "SELECT, INSERT, UPDATE (vat_number, due_at, attempts, last_error, last_tried_at)",
        },
    )


def _create_documents() -> None:
    op.execute(
        """
        CREATE TABLE invoice_document (
            tenant_id uuid NOT NULL,
            invoice_id uuid NOT NULL,
            kind text NOT NULL CONSTRAINT ck_invoice_document_kind CHECK (kind IN ('pdf', 'xml')),
            content bytea NOT NULL,
            sha256 bytea NOT NULL CONSTRAINT ck_invoice_document_sha256 CHECK (sha256 = sha256(content)),
            renderer text NOT NULL,
            keep_until date NOT NULL,
            created_at timestamptz NOT NULL DEFAULT now(),
            CONSTRAINT pk_invoice_document PRIMARY KEY (tenant_id, invoice_id, kind),
            CONSTRAINT fk_invoice_document_tenant_id_invoice_id_invoice
                FOREIGN KEY (tenant_id, invoice_id) REFERENCES invoice (tenant_id, id)
        )
        """
    )
    op.execute("CREATE INDEX ix_invoice_document_invoice_id ON invoice_document (invoice_id)")
    op.execute("CREATE INDEX ix_invoice_document_keep_until ON invoice_document (keep_until)")
    protect_tenant_table("invoice_document", {Role.APP: "SELECT", Role.OPERATOR: "SELECT, INSERT, DELETE"})
    # Nobody changes one, its owner included; and nobody deletes one before the law's time is over.
    op.execute(
        """
        CREATE FUNCTION keep_document() RETURNS trigger LANGUAGE plpgsql
        SET search_path = pg_catalog, pg_temp AS $$
        BEGIN
            IF TG_OP = 'DELETE' AND OLD.keep_until <= current_date THEN
                RETURN OLD;
            END IF;
            RAISE EXCEPTION '% is kept as it is for its time', TG_TABLE_NAME USING ERRCODE = 'insufficient_privilege';
        END $$
        """
    )
    op.execute(
        "CREATE TRIGGER invoice_document_kept BEFORE UPDATE OR DELETE ON invoice_document "
        "FOR EACH ROW EXECUTE FUNCTION keep_document()"
    )
    op.execute(
        "CREATE TRIGGER invoice_document_no_truncate BEFORE TRUNCATE ON invoice_document "
        "FOR EACH STATEMENT EXECUTE FUNCTION refuse_change()"
    )


def _create_refusals() -> None:
    op.execute(
        """
        CREATE TABLE document_refusal (
            invoice_id uuid CONSTRAINT pk_document_refusal PRIMARY KEY
                CONSTRAINT fk_document_refusal_invoice_id_invoice REFERENCES invoice,
            renderer text NOT NULL,
            findings text[] NOT NULL,
            refused_at timestamptz NOT NULL DEFAULT now()
        )
        """
    )
    protect_operator_table(
        "document_refusal", {Role.OPERATOR: "SELECT, INSERT, UPDATE (renderer, findings, refused_at), DELETE"}
    )
