"""What a key is tied to, service accounts, and projects that can be renamed, narrowed and archived.

Forward only. Expand first; contract in a later release, when nothing reads the old shape any more: then
`resolve_secret` goes, which the release before this one still calls.
"""

from alembic import op

from chappe_store.audit_log.triggers import audit_table
from chappe_store.row_security import LOOKUP, hand_to_lookup, protect_tenant_table
from chappe_store.session import Role

revision = "0011"
down_revision = "0013"
branch_labels = None
depends_on = None

_TIES = ("networks", "expires_at", "member_id", "service_account_id", "predecessor_id", "revoked_for")
_LAST_USE = ("last_used_region", "last_used_network")
_MAX_NETWORKS = 100


def upgrade() -> None:
    # A migration that cannot get its lock soon gives up, instead of making every query queue behind it.
    op.execute("SET LOCAL lock_timeout = '3s'")
    op.execute("SET LOCAL statement_timeout = '60s'")
    _change_projects()
    _create_service_accounts()
    _change_keys()
    _end_personal_keys_with_their_members()
    _create_lookup()
    _plan_the_look_up_once()


def _change_projects() -> None:
    op.execute("ALTER TABLE project ADD COLUMN archived_at timestamptz")
    op.execute(f"GRANT UPDATE (name, allowed_regions, archived_at) ON project TO {Role.APP}")
    op.execute("DROP TRIGGER project_audit ON project")
    audit_table("project", subject=("id",), tenant_column="tenant_id", shown=("name", "allowed_regions", "archived_at"))
    _announce_changes_of("project", "allowed_regions, archived_at", anew=True)


def _create_service_accounts() -> None:
    op.execute(
        """
        CREATE TABLE service_account (
            tenant_id uuid NOT NULL,
            id uuid NOT NULL,
            project_id uuid NOT NULL,
            name text NOT NULL CONSTRAINT ck_service_account_name CHECK (length(name) BETWEEN 1 AND 100),
            scopes text[] NOT NULL CONSTRAINT ck_service_account_scopes
                CHECK (cardinality(scopes) > 0 AND scopes <@ '{inference,management}'),
            created_at timestamptz NOT NULL DEFAULT now(),
            removed_at timestamptz,
            CONSTRAINT pk_service_account PRIMARY KEY (tenant_id, id),
            CONSTRAINT uq_service_account_tenant_id_project_id_id UNIQUE (tenant_id, project_id, id),
            CONSTRAINT fk_service_account_tenant_id_project_id_project
                FOREIGN KEY (tenant_id, project_id) REFERENCES project (tenant_id, id)
        )
        """
    )
    op.execute(
        "CREATE UNIQUE INDEX uq_service_account_name ON service_account (tenant_id, project_id, name) "
        "WHERE removed_at IS NULL"
    )
    protect_tenant_table(
        "service_account",
        {Role.APP: "SELECT, INSERT, UPDATE (name, scopes, removed_at)", Role.OPERATOR: "SELECT", LOOKUP: "SELECT"},
    )
    audit_table(
        "service_account",
        subject=("id",),
        tenant_column="tenant_id",
        shown=("project_id", "name", "scopes", "removed_at"),
    )
    _announce_changes_of("service_account", "scopes, removed_at")


def _change_keys() -> None:
    op.execute(
        f"""
        ALTER TABLE api_key
            ADD COLUMN networks text[]
                CONSTRAINT ck_api_key_networks CHECK (cardinality(networks) BETWEEN 1 AND {_MAX_NETWORKS}),
            ADD COLUMN expires_at timestamptz CONSTRAINT ck_api_key_expires_at CHECK (isfinite(expires_at)),
            ADD COLUMN member_id uuid,
            ADD COLUMN service_account_id uuid,
            ADD COLUMN predecessor_id uuid,
            ADD COLUMN revoked_for text CONSTRAINT ck_api_key_revoked_for CHECK (revoked_for = 'leaked'),
            ADD COLUMN last_used_region text,
            ADD COLUMN last_used_network text
        """
    )
    # Who owns it is somebody, or a service account of its own project. The columns are new and empty, so the rows that
    # are there need no look; what comes is checked.
    for name, condition in (
        ("ck_api_key_owner", "CHECK (num_nonnulls(member_id, service_account_id) <= 1)"),
        ("ck_api_key_revoked", "CHECK (revoked_for IS NULL OR revoked_at IS NOT NULL)"),
        (
            "fk_api_key_tenant_id_member_id_member",
            "FOREIGN KEY (tenant_id, member_id) REFERENCES member (tenant_id, id) ON DELETE SET NULL (member_id)",
        ),
        (
            "fk_api_key_service_account",
            (
                "FOREIGN KEY (tenant_id, project_id, service_account_id) "
                "REFERENCES service_account (tenant_id, project_id, id)"
            ),
        ),
        (
            "fk_api_key_tenant_id_predecessor_id_api_key",
            "FOREIGN KEY (tenant_id, predecessor_id) REFERENCES api_key (tenant_id, id)",
        ),
    ):
        op.execute(f"ALTER TABLE api_key ADD CONSTRAINT {name} {condition} NOT VALID")
        op.execute(f"ALTER TABLE api_key VALIDATE CONSTRAINT {name}")
    # One successor: two who rotate a key at once do not both get one.
    for index, column in (("uq_api_key_predecessor", "predecessor_id"), ("ix_api_key_member", "member_id")):
        unique = "UNIQUE " if index.startswith("uq") else ""
        op.execute(f"CREATE {unique}INDEX {index} ON api_key (tenant_id, {column}) WHERE {column} IS NOT NULL")
    op.execute(
        "CREATE INDEX ix_api_key_service_account ON api_key (tenant_id, service_account_id) "
        "WHERE service_account_id IS NOT NULL"
    )
    for role in Role:
        op.execute(f"GRANT SELECT ({', '.join((*_TIES, *_LAST_USE))}) ON api_key TO {role}")
    # When a key was used last is noted by ingestion, and of a management key by the control plane itself.
    op.execute(
        f"GRANT UPDATE (name, regions, models, requests_per_minute, networks, expires_at, revoked_for, "
        f"last_used_at, last_used_network) ON api_key TO {Role.APP}"
    )
    op.execute(f"GRANT UPDATE ({', '.join(_LAST_USE)}) ON api_key TO {Role.INGEST}")
    op.execute("DROP TRIGGER api_key_audit ON api_key")
    audit_table(
        "api_key",
        subject=("id",),
        tenant_column="tenant_id",
        shown=(
            *("project_id", "kind", "name", "prefix", "pepper_version", "regions", "models"),
            *("requests_per_minute", "revoked_at", "purpose", *_TIES),
        ),
        withheld=("digest",),
    )
    _announce_changes_of(
        "api_key",
        "project_id, kind, pepper_version, digest, regions, models, requests_per_minute, revoked_at, networks, "
        "expires_at, service_account_id",
        anew=True,
    )


def _announce_changes_of(table: str, columns: str, *, anew: bool = False) -> None:
    """A new service account announces nothing: no key can be its own yet."""
    if anew:
        op.execute(f"DROP TRIGGER {table}_announce_key_change ON {table}")
    events = f"{'INSERT OR DELETE OR ' if anew else ''}UPDATE OF {columns}"
    op.execute(
        f"CREATE TRIGGER {table}_announce_key_change AFTER {events} ON {table} "
        "FOR EACH ROW EXECUTE FUNCTION announce_key_change()"
    )


def _end_personal_keys_with_their_members() -> None:
    # Before the row goes: by then nobody else can give it another key, since theirs would have to see it there. The
    # rights are those of whoever removes the member.
    op.execute(
        """
        CREATE FUNCTION revoke_keys_of_member() RETURNS trigger LANGUAGE plpgsql
        SET search_path = pg_catalog, pg_temp AS $$
        BEGIN
            UPDATE public.api_key k SET revoked_at = now()
            WHERE k.tenant_id = OLD.tenant_id AND k.member_id = OLD.id AND k.revoked_at IS NULL;
            RETURN OLD;
        END $$
        """
    )
    op.execute(
        "CREATE TRIGGER member_revoke_keys BEFORE DELETE ON member "
        "FOR EACH ROW EXECUTE FUNCTION revoke_keys_of_member()"
    )


def _create_lookup() -> None:
    # What is over is not found: a key that has expired, one of an archived project, one whose service account is
    # removed or may do its kind of thing no more. Every row is reached by a primary key or the digests' index.
    op.execute(
        """
        CREATE FUNCTION find_secret(versions bigint[], digests bytea[])
        RETURNS TABLE (
            key_id uuid, project_id uuid, tenant_id uuid, kind text,
            key_regions text[], models text[], key_requests_per_minute bigint, project_regions text[],
            tenant_regions text[], tenant_requests_per_minute bigint, tenant_state text, currency text,
            networks text[], valid_for_s double precision, browser_token_id uuid, rested boolean
        )
        LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
        AS $$
            WITH found AS (
                SELECT k.tenant_id, k.id AS key_id, NULL::uuid AS browser_token_id, NULL::timestamptz AS expires_at
                FROM unnest(versions, digests) AS asked (version, digest)
                JOIN public.api_key k ON k.pepper_version = asked.version AND k.digest = asked.digest
                UNION ALL
                SELECT b.tenant_id, b.key_id, b.id, b.expires_at
                FROM unnest(versions, digests) AS asked (version, digest)
                JOIN public.browser_token b ON b.pepper_version = asked.version AND b.digest = asked.digest
                WHERE b.expires_at > now()
            )
            SELECT k.id, k.project_id, k.tenant_id, k.kind,
                   k.regions, k.models, k.requests_per_minute, p.allowed_regions,
                   t.allowed_regions, t.requests_per_minute, t.state, t.currency, k.networks,
                   extract(epoch FROM least(found.expires_at, k.expires_at) - now())::double precision,
                   found.browser_token_id,
                   coalesce(k.last_used_at, '-infinity') < now() - interval '1 minute'
            FROM found
            JOIN public.api_key k ON k.tenant_id = found.tenant_id AND k.id = found.key_id
            JOIN public.project p ON p.tenant_id = k.tenant_id AND p.id = k.project_id
            JOIN public.tenant t ON t.id = k.tenant_id
            LEFT JOIN public.service_account s ON s.tenant_id = k.tenant_id AND s.id = k.service_account_id
            WHERE k.revoked_at IS NULL AND coalesce(k.expires_at, 'infinity') > now() AND p.archived_at IS NULL
              AND (k.service_account_id IS NULL OR (s.removed_at IS NULL AND k.kind = ANY (s.scopes)))
            LIMIT 1
        $$
        """
    )
    hand_to_lookup("find_secret(bigint[], bytea[])", *Role)
    # For a report of a leak: also what opens nothing now and could again.
    op.execute(
        """
        CREATE FUNCTION find_leaked_secret(versions bigint[], digests bytea[])
        RETURNS TABLE (tenant_id uuid, key_id uuid, browser_token_id uuid)
        LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
        AS $$
            SELECT k.tenant_id, k.id, NULL::uuid
            FROM unnest(versions, digests) AS asked (version, digest)
            JOIN public.api_key k ON k.pepper_version = asked.version AND k.digest = asked.digest
            WHERE k.revoked_at IS NULL
            UNION ALL
            SELECT b.tenant_id, b.key_id, b.id
            FROM unnest(versions, digests) AS asked (version, digest)
            JOIN public.browser_token b ON b.pepper_version = asked.version AND b.digest = asked.digest
            LIMIT 1
        $$
        """
    )
    hand_to_lookup("find_leaked_secret(bigint[], bytea[])", Role.APP)
    # The release before this one knows no networks, so it finds no key that is tied to some.
    op.execute(f"GRANT CREATE ON SCHEMA public TO {LOOKUP}")
    op.execute(f"SET LOCAL ROLE {LOOKUP}")
    op.execute(
        """
        CREATE OR REPLACE FUNCTION resolve_secret(versions bigint[], digests bytea[])
        RETURNS TABLE (
            key_id uuid, project_id uuid, tenant_id uuid, kind text,
            key_regions text[], models text[], key_requests_per_minute bigint, project_regions text[],
            tenant_regions text[], tenant_requests_per_minute bigint, tenant_state text, currency text,
            valid_for_s double precision
        )
        LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
        AS $$
            SELECT f.key_id, f.project_id, f.tenant_id, f.kind, f.key_regions, f.models, f.key_requests_per_minute,
                   f.project_regions, f.tenant_regions, f.tenant_requests_per_minute, f.tenant_state, f.currency,
                   f.valid_for_s
            FROM public.find_secret(versions, digests) f WHERE f.networks IS NULL
        $$
        """
    )
    op.execute("RESET ROLE")
    op.execute(f"REVOKE CREATE ON SCHEMA public FROM {LOOKUP}")


def _plan_the_look_up_once() -> None:
    # Planned anew for each key it took ten times as long as to read the row. One plan is right for all of them, and it
    # must never be a scan, however small the table was when it was made.
    op.execute(f"SET LOCAL ROLE {LOOKUP}")
    for setting in ("plan_cache_mode = 'force_generic_plan'", "enable_seqscan = off"):
        op.execute(f"ALTER FUNCTION find_secret(bigint[], bytea[]) SET {setting}")
    op.execute("RESET ROLE")
