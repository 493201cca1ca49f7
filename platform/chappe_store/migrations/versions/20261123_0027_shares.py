"""Who is verified, and how many shares of a busy deployment a plan or a contract gives.

Forward only. Everybody who is there already counts as verified: nobody is slowed by an update.
"""

from alembic import op

from chappe_store.audit_log.triggers import audit_table
from chappe_store.session import Role

revision = "0027"
down_revision = "0026"
branch_labels = None
depends_on = None

_TENANT_COLUMNS = (
    *("name", "legal_name", "address_line_1", "address_line_2", "postal_code", "city", "country", "vat_number"),
    *("contact_name", "contact_email", "contact_phone", "allowed_regions", "answers_kept_for_s"),
    *("parent_id", "relation", "is_reseller", "reference", "state", "state_reason", "state_by", "currency"),
    *("requests_per_minute", "plan", "contract_reference", "legal_entity_id", "verified", "share"),
)


def upgrade() -> None:
    # A migration that cannot get its lock soon gives up, instead of making every query queue behind it.
    op.execute("SET LOCAL lock_timeout = '3s'")
    op.execute("SET LOCAL statement_timeout = '60s'")
    # A constant default rewrites nothing; whoever begins from now on is verified by the operator.
    op.execute("ALTER TABLE tenant ADD COLUMN verified boolean NOT NULL DEFAULT true")
    op.execute("ALTER TABLE tenant ALTER COLUMN verified SET DEFAULT false")
    op.execute("ALTER TABLE tenant ADD COLUMN share bigint CONSTRAINT ck_tenant_share CHECK (share BETWEEN 1 AND 1000)")
    op.execute(
        "ALTER TABLE plan ADD COLUMN share bigint NOT NULL DEFAULT 1 "
        "CONSTRAINT ck_plan_share CHECK (share BETWEEN 1 AND 1000)"
    )
    op.execute(f"GRANT UPDATE (share) ON plan TO {Role.OPERATOR}")
    op.execute("DROP TRIGGER tenant_audit ON tenant")
    audit_table("tenant", subject=("id",), tenant_column="id", shown=_TENANT_COLUMNS)
    op.execute("DROP TRIGGER plan_audit ON plan")
    audit_table("plan", subject=("name",), shown=("id", "title", "share"))
    _announce_changes()


def _announce_changes() -> None:
    # Both are among what a gateway is told of a key; a plan's are of everybody's.
    for table, condition in (
        ("tenant", "(OLD.verified, OLD.share) IS DISTINCT FROM (NEW.verified, NEW.share)"),
        ("plan", "OLD.share <> NEW.share"),
    ):
        columns = "verified, share" if table == "tenant" else "share"
        op.execute(
            f"CREATE TRIGGER {table}_share_announce_key_change AFTER UPDATE OF {columns} ON {table} "
            f"FOR EACH ROW WHEN ({condition}) EXECUTE FUNCTION announce_key_change()"
        )
