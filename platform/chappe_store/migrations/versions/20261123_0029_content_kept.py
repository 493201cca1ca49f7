"""How long a tenant lets its regions keep content (Responses' state, files, batches), what a region asks to know when
it has to delete it, and prices of batches' lines.

Forward only.
"""

from alembic import op

from chappe_store.audit_log.triggers import audit_table
from chappe_store.row_security import hand_to_lookup
from chappe_store.session import Role

revision = "0029"
down_revision = "0027"
branch_labels = None
depends_on = None

_TENANT_COLUMNS = (
    *("name", "legal_name", "address_line_1", "address_line_2", "postal_code", "city", "country", "vat_number"),
    *("contact_name", "contact_email", "contact_phone", "allowed_regions", "answers_kept_for_s", "content_kept_for_s"),
    *("parent_id", "relation", "is_reseller", "reference", "state", "state_reason", "state_by", "currency"),
    *("requests_per_minute", "plan", "contract_reference", "legal_entity_id", "verified", "share"),
)

_PRICE_COLUMNS = (
    *("listing_id", "region", "currency", "starts_at"),
    *("input_nano_per_token", "cached_input_nano_per_token", "output_nano_per_token", "request_nano"),
    *("second_nano", "image_nano", "tenant_id", "discount_basis_points", "draft_id", "reverts_id", "reason"),
    "for_batches",
)


def upgrade() -> None:
    # A migration that cannot get its lock soon gives up, instead of making every query queue behind it.
    op.execute("SET LOCAL lock_timeout = '3s'")
    op.execute("SET LOCAL statement_timeout = '60s'")
    # A constant default rewrites nothing, and keeps nothing of anybody who has not asked for it.
    op.execute(
        """
        ALTER TABLE tenant ADD COLUMN content_kept_for_s bigint NOT NULL DEFAULT 0
            CONSTRAINT ck_tenant_content_kept_for_s CHECK (content_kept_for_s BETWEEN 0 AND 2592000)
        """
    )
    op.execute(f"GRANT UPDATE (content_kept_for_s) ON tenant TO {Role.APP}")
    op.execute("DROP TRIGGER tenant_audit ON tenant")
    audit_table("tenant", subject=("id",), tenant_column="id", shown=_TENANT_COLUMNS)
    # It is among what a gateway is told of a key.
    op.execute(
        """
        CREATE TRIGGER tenant_content_announce_key_change AFTER UPDATE OF content_kept_for_s ON tenant
        FOR EACH ROW WHEN (OLD.content_kept_for_s <> NEW.content_kept_for_s) EXECUTE FUNCTION announce_key_change()
        """
    )
    # A region asks about whatever it keeps, whosever it is, and is told nothing else of them.
    op.execute(
        """
        CREATE FUNCTION find_content_terms(tenant_ids uuid[], project_ids uuid[])
        RETURNS TABLE (
            tenant_id uuid, project_id uuid, kept_for_s bigint, tenant_state text, tenant_regions text[],
            project_regions text[]
        )
        LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
        AS $$
            SELECT t.id, p.id, t.content_kept_for_s, t.state, t.allowed_regions, p.allowed_regions
            FROM unnest(tenant_ids, project_ids) AS asked (tenant_id, project_id)
            JOIN public.tenant t ON t.id = asked.tenant_id
            JOIN public.project p ON p.tenant_id = t.id AND p.id = asked.project_id
        $$
        """
    )
    hand_to_lookup("find_content_terms(uuid[], uuid[])", Role.INGEST)
    _price_batches()


def _price_batches() -> None:
    # A list of its own beside everybody's, under whose versions nothing else is rated. A constant default rewrites
    # nothing: all that was published before is no batch's.
    op.execute("ALTER TABLE price_version ADD COLUMN for_batches boolean NOT NULL DEFAULT false")
    # Everybody's list price follows nothing; what is of batches follows it, and is nobody's own.
    op.execute("ALTER TABLE price_version DROP CONSTRAINT ck_price_version_discount")
    op.execute(
        "ALTER TABLE price_version ADD CONSTRAINT ck_price_version_discount CHECK (discount_basis_points IS NULL OR "
        "(discount_basis_points BETWEEN 0 AND 10000 AND (tenant_id IS NOT NULL OR for_batches)))"
    )
    op.execute(
        "ALTER TABLE price_version ADD CONSTRAINT ck_price_version_for_batches "
        "CHECK (NOT for_batches OR (tenant_id IS NULL AND discount_basis_points IS NOT NULL))"
    )
    op.execute(
        """
        CREATE OR REPLACE FUNCTION keep_one_version_per_start() RETURNS trigger LANGUAGE plpgsql
        SET search_path = pg_catalog, pg_temp AS $$
        BEGIN
            PERFORM pg_advisory_xact_lock(hashtextextended('price ' || NEW.listing_id || ' ' || NEW.region, 0));
            IF EXISTS (
                SELECT FROM public.price_version v
                WHERE v.listing_id = NEW.listing_id AND v.region = NEW.region
                  AND v.tenant_id IS NOT DISTINCT FROM NEW.tenant_id AND v.for_batches = NEW.for_batches
                  AND v.starts_at = NEW.starts_at
                  AND NOT EXISTS (SELECT FROM public.price_withdrawal w WHERE w.price_version_id = v.id)
            ) THEN
                RAISE EXCEPTION 'another price version starts then' USING ERRCODE = 'unique_violation';
            END IF;
            RETURN NEW;
        END $$
        """
    )
    op.execute("DROP TRIGGER price_version_audit ON price_version")
    audit_table("price_version", subject=("id",), tenant_column="tenant_id", shown=_PRICE_COLUMNS)
