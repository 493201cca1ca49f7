"""Organisations: who they are in law, to whom they belong, and the states that they go through.

Forward only. Expand first; contract in a later release, when nothing reads the old shape any more.
"""

from alembic import op

from chappe_store.audit_log.triggers import audit_table
from chappe_store.row_security import admit_parent
from chappe_store.session import Role

revision = "0010"
down_revision = "0009"
branch_labels = None
depends_on = None

# What an organisation's own people may change, and its reseller's. Their role gets no other column of the table.
_OWN_COLUMNS = (
    *("name", "legal_name", "address_line_1", "address_line_2", "postal_code", "city", "country", "vat_number"),
    *("contact_name", "contact_email", "contact_phone", "allowed_regions"),
)
_OPERATORS_COLUMNS = (
    *("parent_id", "relation", "is_reseller", "reference", "state", "state_reason", "state_by", "currency"),
    *("requests_per_minute", "plan", "contract_reference"),
)


def upgrade() -> None:
    # A migration that cannot get its lock soon gives up, instead of making every query queue behind it.
    op.execute("SET LOCAL lock_timeout = '3s'")
    op.execute("SET LOCAL statement_timeout = '60s'")
    _add_columns()
    _relate_to_parents()
    _widen_states()
    _guard_changes()
    _guard_closed()
    op.execute("DROP TRIGGER tenant_audit ON tenant")
    audit_table("tenant", subject=("id",), tenant_column="id", shown=(*_OWN_COLUMNS, *_OPERATORS_COLUMNS))
    op.execute(f"GRANT UPDATE ({', '.join(_OWN_COLUMNS)}) ON tenant TO {Role.APP}")
    admit_parent("tenant", "relation = 'customer'")


def _add_columns() -> None:
    op.execute(
        """
        ALTER TABLE tenant
            ADD COLUMN relation text
                CONSTRAINT ck_tenant_relation CHECK (relation IN ('subsidiary', 'customer')),
            ADD COLUMN is_reseller boolean NOT NULL DEFAULT false,
            ADD COLUMN state_reason text CONSTRAINT ck_tenant_state_reason CHECK (state_reason IN (
                'details_checked', 'contract_signed', 'unpaid', 'abuse', 'compliance', 'requested', 'resolved',
                'rejected', 'contract_ended'
            )),
            ADD COLUMN state_by text NOT NULL DEFAULT 'operator'
                CONSTRAINT ck_tenant_state_by CHECK (state_by IN ('operator', 'reseller')),
            ADD COLUMN state_changed_at timestamptz NOT NULL DEFAULT now(),
            ADD COLUMN plan text NOT NULL DEFAULT 'standard'
                CONSTRAINT ck_tenant_plan CHECK (length(plan) BETWEEN 1 AND 100),
            ADD COLUMN contract_reference text
                CONSTRAINT ck_tenant_contract_reference CHECK (length(contract_reference) BETWEEN 1 AND 100),
            ADD COLUMN legal_name text CONSTRAINT ck_tenant_legal_name CHECK (length(legal_name) BETWEEN 1 AND 200),
            ADD COLUMN address_line_1 text
                CONSTRAINT ck_tenant_address_line_1 CHECK (length(address_line_1) BETWEEN 1 AND 100),
            ADD COLUMN address_line_2 text
                CONSTRAINT ck_tenant_address_line_2 CHECK (length(address_line_2) BETWEEN 1 AND 100),
            ADD COLUMN postal_code text CONSTRAINT ck_tenant_postal_code CHECK (length(postal_code) BETWEEN 1 AND 100),
            ADD COLUMN city text CONSTRAINT ck_tenant_city CHECK (length(city) BETWEEN 1 AND 100),
            ADD COLUMN country text CONSTRAINT ck_tenant_country CHECK (country ~ '^[A-Z]{2}$'),
            ADD COLUMN vat_number text CONSTRAINT ck_tenant_vat_number CHECK (vat_number ~ '^[A-Z0-9+*]{4,20}$'),
            ADD COLUMN contact_name text
                CONSTRAINT ck_tenant_contact_name CHECK (length(contact_name) BETWEEN 1 AND 100),
            ADD COLUMN contact_email text
                CONSTRAINT ck_tenant_contact_email
                    CHECK (contact_email = lower(contact_email) AND length(contact_email) <= 254),
            ADD COLUMN contact_phone text CONSTRAINT ck_tenant_contact_phone CHECK (contact_phone ~ '^\\+[0-9]{6,15}$')
        """
    )
    op.execute("CREATE INDEX ix_tenant_state ON tenant (state, id)")


def _relate_to_parents() -> None:
    # Row-level security binds the owner too, so it is lifted for the one statement. The audit log's trigger does not
    # know the column yet: what is written here is no decision of anybody's.
    op.execute("ALTER TABLE tenant NO FORCE ROW LEVEL SECURITY")
    op.execute("UPDATE tenant SET relation = 'subsidiary' WHERE parent_id IS NOT NULL")
    op.execute("ALTER TABLE tenant FORCE ROW LEVEL SECURITY")
    op.execute(
        "ALTER TABLE tenant ADD CONSTRAINT ck_tenant_parent "
        "CHECK ((parent_id IS NULL) = (relation IS NULL) AND parent_id <> id)"
    )


def _widen_states() -> None:
    op.execute(
        "ALTER TABLE tenant DROP CONSTRAINT ck_tenant_state, ADD CONSTRAINT ck_tenant_state "
        "CHECK (state IN ('applied', 'verified', 'active', 'suspended', 'closed'))"
    )


def _guard_changes() -> None:
    # The rules of `chappe_tenants.organisations` once more, for whoever comes around it or changes both sides of a
    # rule at once. FOR SHARE: a parent that is being changed is waited for.
    op.execute(
        """
        CREATE FUNCTION check_tenant_state() RETURNS trigger LANGUAGE plpgsql
        SET search_path = pg_catalog, pg_temp AS $$
        BEGIN
            IF TG_OP = 'INSERT' AND NEW.state NOT IN ('applied', 'verified', 'active') THEN
                RAISE EXCEPTION 'no tenant begins %', NEW.state USING ERRCODE = 'check_violation';
            END IF;
            IF TG_OP = 'UPDATE' AND NEW.state = OLD.state THEN
                RETURN NEW;
            END IF;
            IF TG_OP = 'UPDATE' AND (OLD.state, NEW.state) NOT IN (
                ('applied', 'verified'), ('applied', 'closed'),
                ('verified', 'active'), ('verified', 'closed'),
                ('active', 'suspended'), ('active', 'closed'),
                ('suspended', 'active'), ('suspended', 'closed')
            ) THEN
                RAISE EXCEPTION 'a tenant that is % cannot become %', OLD.state, NEW.state
                    USING ERRCODE = 'check_violation';
            END IF;
            IF NEW.state = 'verified' AND num_nulls(
                NEW.legal_name, NEW.address_line_1, NEW.city, NEW.country, NEW.contact_email) > 0 THEN
                RAISE EXCEPTION 'a tenant without its details cannot be verified' USING ERRCODE = 'check_violation';
            END IF;
            NEW.state_changed_at := now();
            RETURN NEW;
        END $$
        """
    )
    op.execute(
        "CREATE TRIGGER tenant_state BEFORE INSERT OR UPDATE OF state ON tenant "
        "FOR EACH ROW EXECUTE FUNCTION check_tenant_state()"
    )
    op.execute(
        """
        CREATE FUNCTION check_tenant_parent() RETURNS trigger LANGUAGE plpgsql
        SET search_path = pg_catalog, pg_temp AS $$
        DECLARE
            ancestor record;
        BEGIN
            IF TG_OP = 'UPDATE' AND OLD.is_reseller AND NOT NEW.is_reseller AND EXISTS (
                SELECT FROM public.tenant t WHERE t.parent_id = NEW.id AND t.relation = 'customer'
            ) THEN
                RAISE EXCEPTION 'tenant % still has customers', NEW.id USING ERRCODE = 'check_violation';
            END IF;
            IF NEW.parent_id IS NULL THEN
                RETURN NEW;
            END IF;
            SELECT t.id, t.parent_id, t.is_reseller INTO ancestor
            FROM public.tenant t WHERE t.id = NEW.parent_id FOR SHARE;
            IF NEW.relation = 'customer' AND NOT ancestor.is_reseller THEN
                RAISE EXCEPTION 'tenant % is no reseller', NEW.parent_id USING ERRCODE = 'check_violation';
            END IF;
            WHILE ancestor.id IS NOT NULL LOOP
                IF ancestor.id = NEW.id THEN
                    RAISE EXCEPTION 'tenant % would be above itself', NEW.id USING ERRCODE = 'check_violation';
                END IF;
                SELECT t.id, t.parent_id INTO ancestor FROM public.tenant t WHERE t.id = ancestor.parent_id FOR SHARE;
            END LOOP;
            RETURN NEW;
        END $$
        """
    )
    op.execute(
        "CREATE TRIGGER tenant_parent BEFORE INSERT OR UPDATE OF parent_id, relation, is_reseller ON tenant "
        "FOR EACH ROW EXECUTE FUNCTION check_tenant_parent()"
    )


def _guard_closed() -> None:
    # Who makes a key waits for who closes the organisation, on the project's row, and then sees it closed. Trying again
    # (40001) tells them so.
    op.execute(
        """
        CREATE FUNCTION refuse_in_closed_tenant() RETURNS trigger LANGUAGE plpgsql
        SET search_path = pg_catalog, pg_temp AS $$
        BEGIN
            IF EXISTS (SELECT FROM public.tenant t WHERE t.id = NEW.tenant_id AND t.state = 'closed') THEN
                RAISE EXCEPTION 'tenant % is closed', NEW.tenant_id USING ERRCODE = 'serialization_failure';
            END IF;
            RETURN NULL;
        END $$
        """
    )
    # After the foreign keys' own triggers, which take the lock: triggers run in the order of their names.
    op.execute(
        "CREATE TRIGGER tenant_is_open AFTER INSERT ON api_key FOR EACH ROW EXECUTE FUNCTION refuse_in_closed_tenant()"
    )
