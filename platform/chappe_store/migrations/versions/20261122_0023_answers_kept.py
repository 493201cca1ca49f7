"""How long a tenant lets a region keep its answers for a repeat with the same Idempotency-Key.

Forward only.
"""

from alembic import op

from chappe_store.audit_log.triggers import audit_table
from chappe_store.session import Role

revision = "0023"
down_revision = "0022"
branch_labels = None
depends_on = None

_TENANT_COLUMNS = (
    *("name", "legal_name", "address_line_1", "address_line_2", "postal_code", "city", "country", "vat_number"),
    *("contact_name", "contact_email", "contact_phone", "allowed_regions", "answers_kept_for_s"),
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
        ALTER TABLE tenant ADD COLUMN answers_kept_for_s bigint NOT NULL DEFAULT 0
            CONSTRAINT ck_tenant_answers_kept_for_s CHECK (answers_kept_for_s BETWEEN 0 AND 86400)
        """
    )
    op.execute(f"GRANT UPDATE (answers_kept_for_s) ON tenant TO {Role.APP}")
    op.execute("DROP TRIGGER tenant_audit ON tenant")
    audit_table("tenant", subject=("id",), tenant_column="id", shown=_TENANT_COLUMNS)
    # It is among what a gateway is told of a key.
    op.execute(
        """
        CREATE TRIGGER tenant_answers_announce_key_change AFTER UPDATE OF answers_kept_for_s ON tenant
        FOR EACH ROW WHEN (OLD.answers_kept_for_s <> NEW.answers_kept_for_s) EXECUTE FUNCTION announce_key_change()
        """
    )
