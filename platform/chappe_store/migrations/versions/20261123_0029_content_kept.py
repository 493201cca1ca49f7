"""How long a tenant lets its regions keep content: Responses' state, files, batches. What a region asks to know when
it has to delete it.

Forward only.
"""

from alembic import op

from chappe_store.audit_log.triggers import audit_table
from chappe_store.row_security import hand_to_lookup
from chappe_store.session import Role

revision = "0029"
down_revision = "0026"
branch_labels = None
depends_on = None

_TENANT_COLUMNS = (
    *("name", "legal_name", "address_line_1", "address_line_2", "postal_code", "city", "country", "vat_number"),
    *("contact_name", "contact_email", "contact_phone", "allowed_regions", "answers_kept_for_s", "content_kept_for_s"),
    *("parent_id", "relation", "is_reseller", "reference", "state", "state_reason", "state_by", "currency"),
    *("requests_per_minute", "plan", "contract_reference", "legal_entity_id"),
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
