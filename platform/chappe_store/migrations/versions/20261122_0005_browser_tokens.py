"""Tokens with which a member's browser calls the gateways, and the key of the project that they stand for.

Forward only. Expand first; contract in a later release, when nothing reads the old shape any more: then
`resolve_api_key` goes, which the release before this one still calls.
"""

from alembic import op

from chappe_store.row_security import LOOKUP, hand_to_lookup, protect_tenant_table
from chappe_store.session import Role

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None

# All but the digest, which only the look-up function reads.
_SHOWN_COLUMNS = "tenant_id, id, key_id, session_id, created_at, expires_at"


def upgrade() -> None:
    # A migration that cannot get its lock soon gives up, instead of making every query queue behind it.
    op.execute("SET LOCAL lock_timeout = '3s'")
    op.execute("SET LOCAL statement_timeout = '60s'")
    _mark_playground_keys()
    _create_tokens()
    _announce_ended_tokens()
    _create_lookup()


def _mark_playground_keys() -> None:
    # A mark and not the name: a tenant may well have a key of that name, whose secret somebody knows.
    op.execute(
        "ALTER TABLE api_key ADD COLUMN purpose text CONSTRAINT ck_api_key_purpose CHECK (purpose = 'playground')"
    )
    op.execute(
        "CREATE UNIQUE INDEX uq_api_key_playground ON api_key (tenant_id, project_id) "
        "WHERE purpose = 'playground' AND revoked_at IS NULL"
    )
    for role in Role:
        op.execute(f"GRANT SELECT (purpose) ON api_key TO {role}")


def _create_tokens() -> None:
    op.execute(
        """
        CREATE TABLE browser_token (
            tenant_id uuid NOT NULL,
            id uuid NOT NULL,
            pepper_version bigint NOT NULL,
            digest bytea NOT NULL CONSTRAINT ck_browser_token_digest CHECK (length(digest) = 32),
            key_id uuid NOT NULL,
            session_id uuid NOT NULL,
            created_at timestamptz NOT NULL DEFAULT now(),
            expires_at timestamptz NOT NULL,
            CONSTRAINT pk_browser_token PRIMARY KEY (tenant_id, id),
            CONSTRAINT fk_browser_token_tenant_id_key_id_api_key
                FOREIGN KEY (tenant_id, key_id) REFERENCES api_key (tenant_id, id),
            CONSTRAINT fk_browser_token_tenant_id_session_id_member_session
                FOREIGN KEY (tenant_id, session_id) REFERENCES member_session (tenant_id, id) ON DELETE CASCADE,
            CONSTRAINT uq_browser_token_pepper_version_digest UNIQUE (pepper_version, digest)
        )
        """
    )
    op.execute("CREATE INDEX ix_browser_token_tenant_id_session_id ON browser_token (tenant_id, session_id)")
    op.execute("CREATE INDEX ix_browser_token_tenant_id_key_id ON browser_token (tenant_id, key_id)")
    protect_tenant_table("browser_token", {Role.APP: f"SELECT ({_SHOWN_COLUMNS}), INSERT, DELETE", LOOKUP: "SELECT"})


def _announce_ended_tokens() -> None:
    # Only what ends early is news: gateways know by themselves when a token's time is over, and a new one they look up.
    op.execute(
        "CREATE TRIGGER browser_token_announce_key_change AFTER DELETE ON browser_token "
        "FOR EACH ROW WHEN (OLD.expires_at > now()) EXECUTE FUNCTION announce_key_change()"
    )


def _create_lookup() -> None:
    op.execute(
        """
        CREATE FUNCTION resolve_secret(versions bigint[], digests bytea[])
        RETURNS TABLE (
            key_id uuid, project_id uuid, tenant_id uuid, kind text,
            key_regions text[], models text[], key_requests_per_minute bigint, project_regions text[],
            tenant_regions text[], tenant_requests_per_minute bigint, tenant_state text, currency text,
            valid_for_s double precision
        )
        LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
        AS $$
            WITH found AS (
                SELECT k.tenant_id, k.id AS key_id, NULL::timestamptz AS expires_at
                FROM unnest(versions, digests) AS asked (version, digest)
                JOIN public.api_key k ON k.pepper_version = asked.version AND k.digest = asked.digest
                UNION ALL
                SELECT b.tenant_id, b.key_id, b.expires_at
                FROM unnest(versions, digests) AS asked (version, digest)
                JOIN public.browser_token b ON b.pepper_version = asked.version AND b.digest = asked.digest
                WHERE b.expires_at > now()
            )
            SELECT k.id, k.project_id, k.tenant_id, k.kind,
                   k.regions, k.models, k.requests_per_minute, p.allowed_regions,
                   t.allowed_regions, t.requests_per_minute, t.state, t.currency,
                   extract(epoch FROM found.expires_at - now())::double precision
            FROM found
            JOIN public.api_key k ON k.tenant_id = found.tenant_id AND k.id = found.key_id
            JOIN public.project p ON p.tenant_id = k.tenant_id AND p.id = k.project_id
            JOIN public.tenant t ON t.id = k.tenant_id
            WHERE k.revoked_at IS NULL
            LIMIT 1
        $$
        """
    )
    hand_to_lookup("resolve_secret(bigint[], bytea[])", *Role)
