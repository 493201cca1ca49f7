"""Tenants, projects, keys, people, and the catalogue of regions, publishers, listings and deployments.

Forward only. Expand first; contract in a later release, when nothing reads the old shape any more.
"""

from alembic import op

from chappe_store.row_security import LOOKUP, hand_to_lookup, protect_operator_table, protect_tenant_table
from chappe_store.session import Role

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None

# All but the digest, which only the look-up function reads.
_KEY_COLUMNS = (
    "tenant_id, id, project_id, kind, name, prefix, regions, models, requests_per_minute, "
    "created_at, revoked_at, last_used_at"
)


def upgrade() -> None:
    # A migration that cannot get its lock soon gives up, instead of making every query queue behind it.
    op.execute("SET LOCAL lock_timeout = '3s'")
    op.execute("SET LOCAL statement_timeout = '60s'")
    _create_tenants()
    _create_keys()
    _create_people()
    _create_regions()
    _create_listings()
    _create_deployments()
    _announce_key_changes()
    _create_key_lookup()


def _create_tenants() -> None:
    op.execute(
        """
        CREATE TABLE tenant (
            id uuid CONSTRAINT pk_tenant PRIMARY KEY,
            parent_id uuid CONSTRAINT fk_tenant_parent_id_tenant REFERENCES tenant,
            reference text CONSTRAINT uq_tenant_reference UNIQUE,
            name text NOT NULL CONSTRAINT ck_tenant_name CHECK (length(name) BETWEEN 1 AND 100),
            state text NOT NULL CONSTRAINT ck_tenant_state CHECK (state IN ('active', 'suspended', 'closed')),
            currency text NOT NULL CONSTRAINT ck_tenant_currency CHECK (currency ~ '^[A-Z]{3}$'),
            allowed_regions text[] NOT NULL,
            requests_per_minute bigint NOT NULL
                CONSTRAINT ck_tenant_requests_per_minute CHECK (requests_per_minute > 0),
            created_at timestamptz NOT NULL DEFAULT now()
        )
        """
    )
    op.execute("CREATE INDEX ix_tenant_parent_id ON tenant (parent_id)")
    op.execute(
        """
        CREATE TABLE project (
            tenant_id uuid NOT NULL CONSTRAINT fk_project_tenant_id_tenant REFERENCES tenant,
            id uuid NOT NULL,
            name text NOT NULL CONSTRAINT ck_project_name CHECK (length(name) BETWEEN 1 AND 100),
            allowed_regions text[],
            created_at timestamptz NOT NULL DEFAULT now(),
            CONSTRAINT pk_project PRIMARY KEY (tenant_id, id),
            CONSTRAINT uq_project_tenant_id_name UNIQUE (tenant_id, name)
        )
        """
    )
    protect_tenant_table(
        "tenant",
        {Role.APP: "SELECT", Role.INGEST: "SELECT", Role.OPERATOR: "SELECT, INSERT, UPDATE", LOOKUP: "SELECT"},
        tenant_column="id",
    )
    protect_tenant_table(
        "project",
        {
            Role.APP: "SELECT, INSERT",
            Role.INGEST: "SELECT",
            Role.OPERATOR: "SELECT, INSERT, UPDATE",
            LOOKUP: "SELECT",
        },
    )


def _create_keys() -> None:
    op.execute(
        """
        CREATE TABLE api_key (
            tenant_id uuid NOT NULL,
            id uuid NOT NULL,
            project_id uuid NOT NULL,
            kind text NOT NULL CONSTRAINT ck_api_key_kind CHECK (kind IN ('inference', 'management')),
            name text NOT NULL CONSTRAINT ck_api_key_name CHECK (length(name) BETWEEN 1 AND 100),
            prefix text NOT NULL CONSTRAINT ck_api_key_prefix CHECK (length(prefix) <= 8),
            pepper_version bigint NOT NULL,
            digest bytea NOT NULL CONSTRAINT ck_api_key_digest CHECK (length(digest) = 32),
            regions text[],
            models text[],
            requests_per_minute bigint
                CONSTRAINT ck_api_key_requests_per_minute CHECK (requests_per_minute > 0),
            created_at timestamptz NOT NULL DEFAULT now(),
            revoked_at timestamptz,
            last_used_at timestamptz,
            CONSTRAINT pk_api_key PRIMARY KEY (tenant_id, id),
            CONSTRAINT fk_api_key_tenant_id_project_id_project
                FOREIGN KEY (tenant_id, project_id) REFERENCES project (tenant_id, id),
            CONSTRAINT uq_api_key_pepper_version_digest UNIQUE (pepper_version, digest)
        )
        """
    )
    op.execute("CREATE INDEX ix_api_key_tenant_id_project_id ON api_key (tenant_id, project_id)")
    protect_tenant_table(
        "api_key",
        {
            Role.APP: f"SELECT ({_KEY_COLUMNS}), INSERT, UPDATE (revoked_at)",
            Role.INGEST: f"SELECT ({_KEY_COLUMNS}), UPDATE (last_used_at)",
            Role.OPERATOR: f"SELECT ({_KEY_COLUMNS}), INSERT, UPDATE (revoked_at)",
            LOOKUP: "SELECT",
        },
    )
    op.execute(
        """
        CREATE TABLE idempotency_record (
            tenant_id uuid NOT NULL CONSTRAINT fk_idempotency_record_tenant_id_tenant REFERENCES tenant,
            route text NOT NULL,
            key text NOT NULL CONSTRAINT ck_idempotency_record_key CHECK (length(key) BETWEEN 1 AND 255),
            body_digest bytea NOT NULL,
            answer jsonb,
            created_at timestamptz NOT NULL DEFAULT now(),
            CONSTRAINT pk_idempotency_record PRIMARY KEY (tenant_id, route, key)
        )
        """
    )
    protect_tenant_table("idempotency_record", {Role.APP: "SELECT, INSERT, UPDATE, DELETE"})


def _create_people() -> None:
    op.execute(
        """
        CREATE TABLE member (
            tenant_id uuid NOT NULL CONSTRAINT fk_member_tenant_id_tenant REFERENCES tenant,
            id uuid NOT NULL,
            email text NOT NULL CONSTRAINT ck_member_email CHECK (email = lower(email) AND length(email) <= 254),
            role text NOT NULL,
            password_hash text NOT NULL CONSTRAINT ck_member_password_hash CHECK (password_hash LIKE '$argon2id$%'),
            created_at timestamptz NOT NULL DEFAULT now(),
            CONSTRAINT pk_member PRIMARY KEY (tenant_id, id),
            CONSTRAINT uq_member_tenant_id_email UNIQUE (tenant_id, email)
        )
        """
    )
    op.execute(
        """
        CREATE TABLE operator_user (
            id uuid CONSTRAINT pk_operator_user PRIMARY KEY,
            email text NOT NULL CONSTRAINT uq_operator_user_email UNIQUE
                CONSTRAINT ck_operator_user_email CHECK (email = lower(email) AND length(email) <= 254),
            role text NOT NULL,
            password_hash text NOT NULL
                CONSTRAINT ck_operator_user_password_hash CHECK (password_hash LIKE '$argon2id$%'),
            created_at timestamptz NOT NULL DEFAULT now()
        )
        """
    )
    protect_tenant_table(
        "member",
        {Role.APP: "SELECT (tenant_id, id, email, role, created_at)", Role.OPERATOR: "SELECT, INSERT, UPDATE"},
    )
    protect_operator_table("operator_user", {Role.OPERATOR: "SELECT, INSERT, UPDATE"})


def _create_regions() -> None:
    op.execute(
        """
        CREATE TABLE region (
            name text CONSTRAINT pk_region PRIMARY KEY
                CONSTRAINT ck_region_name CHECK (name ~ '^[a-z][a-z0-9-]{0,62}$'),
            jurisdiction text NOT NULL CONSTRAINT ck_region_jurisdiction CHECK (jurisdiction ~ '^[A-Z]{2}$'),
            gateway_url text NOT NULL,
            position bigint NOT NULL,
            created_at timestamptz NOT NULL DEFAULT now()
        )
        """
    )
    op.execute(
        """
        CREATE TABLE region_credential (
            digest bytea CONSTRAINT pk_region_credential PRIMARY KEY
                CONSTRAINT ck_region_credential_digest CHECK (length(digest) = 32),
            region text NOT NULL CONSTRAINT fk_region_credential_region_region REFERENCES region,
            created_at timestamptz NOT NULL DEFAULT now()
        )
        """
    )
    op.execute("CREATE INDEX ix_region_credential_region ON region_credential (region)")
    op.execute(
        """
        CREATE TABLE gateway_heartbeat (
            region text NOT NULL CONSTRAINT fk_gateway_heartbeat_region_region REFERENCES region,
            gateway text NOT NULL CONSTRAINT ck_gateway_heartbeat_gateway CHECK (length(gateway) BETWEEN 1 AND 100),
            snapshot_version text NOT NULL,
            healthy_deployments text[] NOT NULL,
            seen_at timestamptz NOT NULL DEFAULT now(),
            CONSTRAINT pk_gateway_heartbeat PRIMARY KEY (region, gateway)
        )
        """
    )
    everyone = dict.fromkeys(Role, "SELECT")
    protect_operator_table("region", everyone | {Role.OPERATOR: "SELECT, INSERT, UPDATE"})
    protect_operator_table(
        "region_credential", {Role.INGEST: "SELECT", Role.OPERATOR: "SELECT, INSERT, UPDATE (created_at), DELETE"}
    )
    protect_operator_table("gateway_heartbeat", everyone | {Role.INGEST: "SELECT, INSERT, UPDATE, DELETE"})


def _create_listings() -> None:
    op.execute(
        """
        CREATE TABLE publisher (
            id uuid CONSTRAINT pk_publisher PRIMARY KEY,
            name text NOT NULL CONSTRAINT uq_publisher_name UNIQUE,
            title text NOT NULL,
            created_at timestamptz NOT NULL DEFAULT now()
        )
        """
    )
    op.execute(
        """
        CREATE TABLE listing (
            id uuid CONSTRAINT pk_listing PRIMARY KEY,
            name text NOT NULL CONSTRAINT uq_listing_name UNIQUE,
            publisher_id uuid NOT NULL CONSTRAINT fk_listing_publisher_id_publisher REFERENCES publisher,
            task text NOT NULL CONSTRAINT ck_listing_task CHECK (task IN ('chat', 'embeddings')),
            currency text NOT NULL CONSTRAINT ck_listing_currency CHECK (currency ~ '^[A-Z]{3}$'),
            context_tokens bigint NOT NULL CONSTRAINT ck_listing_context_tokens CHECK (context_tokens > 0),
            template_tokens bigint NOT NULL CONSTRAINT ck_listing_template_tokens CHECK (template_tokens >= 0),
            default_output_tokens bigint NOT NULL
                CONSTRAINT ck_listing_default_output_tokens CHECK (default_output_tokens >= 0),
            max_output_tokens bigint NOT NULL
                CONSTRAINT ck_listing_max_output_tokens CHECK (max_output_tokens >= default_output_tokens),
            created_at timestamptz NOT NULL DEFAULT now()
        )
        """
    )
    op.execute("CREATE INDEX ix_listing_publisher_id ON listing (publisher_id)")
    op.execute(
        """
        CREATE TABLE listing_region (
            listing_id uuid NOT NULL CONSTRAINT fk_listing_region_listing_id_listing REFERENCES listing,
            region text NOT NULL CONSTRAINT fk_listing_region_region_region REFERENCES region,
            CONSTRAINT pk_listing_region PRIMARY KEY (listing_id, region)
        )
        """
    )
    everyone = dict.fromkeys(Role, "SELECT")
    for table in ("publisher", "listing"):
        protect_operator_table(table, everyone | {Role.OPERATOR: "SELECT, INSERT, UPDATE"})
    protect_operator_table("listing_region", everyone | {Role.OPERATOR: "SELECT, INSERT, DELETE"})


def _create_deployments() -> None:
    op.execute(
        """
        CREATE TABLE deployment (
            region text NOT NULL CONSTRAINT fk_deployment_region_region REFERENCES region,
            name text NOT NULL CONSTRAINT fk_deployment_name_listing REFERENCES listing (name),
            engine text NOT NULL
                CONSTRAINT ck_deployment_engine CHECK (engine IN ('llama.cpp', 'e5', 'vllm', 'simulated')),
            replicas bigint NOT NULL CONSTRAINT ck_deployment_replicas CHECK (replicas >= 0),
            max_ongoing_requests bigint NOT NULL
                CONSTRAINT ck_deployment_max_ongoing_requests CHECK (max_ongoing_requests > 0),
            options jsonb NOT NULL,
            CONSTRAINT pk_deployment PRIMARY KEY (region, name)
        )
        """
    )
    op.execute(
        """
        CREATE TABLE deployment_state (
            region text NOT NULL,
            name text NOT NULL,
            state text NOT NULL,
            message text NOT NULL,
            replicas_running bigint NOT NULL,
            reported_at timestamptz NOT NULL DEFAULT now(),
            CONSTRAINT pk_deployment_state PRIMARY KEY (region, name),
            CONSTRAINT fk_deployment_state_region_name_deployment
                FOREIGN KEY (region, name) REFERENCES deployment (region, name) ON DELETE CASCADE
        )
        """
    )
    everyone = dict.fromkeys(Role, "SELECT")
    protect_operator_table("deployment", everyone | {Role.OPERATOR: "SELECT, INSERT, UPDATE, DELETE"})
    protect_operator_table("deployment_state", everyone | {Role.INGEST: "SELECT, INSERT, UPDATE, DELETE"})


def _announce_key_changes() -> None:
    """Whatever changes what some key may do bumps the keys' revision, in the same transaction.

    Per row, so that a statement that changed nothing announces nothing. `last_used_at` is left out: it changes with
    use, and every gateway would forget every key each time.
    """
    op.execute(
        """
        CREATE FUNCTION announce_key_change() RETURNS trigger LANGUAGE plpgsql
        SET search_path = pg_catalog, public, pg_temp AS $$
        BEGIN
            UPDATE public.keys_revision SET revision = revision + 1;
            RETURN NULL;
        END $$
        """
    )
    watched = {
        "tenant": "state, currency, allowed_regions, requests_per_minute",
        "project": "allowed_regions",
        "api_key": "project_id, kind, pepper_version, digest, regions, models, requests_per_minute, revoked_at",
        "region": "name, jurisdiction",
    }
    for table, columns in watched.items():
        op.execute(
            f"CREATE TRIGGER {table}_announce_key_change AFTER INSERT OR DELETE OR UPDATE OF {columns} ON {table} "
            "FOR EACH ROW EXECUTE FUNCTION announce_key_change()"
        )


def _create_key_lookup() -> None:
    op.execute(
        """
        CREATE FUNCTION resolve_api_key(versions bigint[], digests bytea[])
        RETURNS TABLE (
            key_id uuid, project_id uuid, tenant_id uuid, kind text,
            key_regions text[], models text[], key_requests_per_minute bigint, project_regions text[],
            tenant_regions text[], tenant_requests_per_minute bigint, tenant_state text, currency text
        )
        LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
        AS $$
            SELECT k.id, k.project_id, k.tenant_id, k.kind,
                   k.regions, k.models, k.requests_per_minute, p.allowed_regions,
                   t.allowed_regions, t.requests_per_minute, t.state, t.currency
            FROM unnest(versions, digests) AS asked (version, digest)
            JOIN public.api_key k ON k.pepper_version = asked.version AND k.digest = asked.digest
            JOIN public.project p ON p.tenant_id = k.tenant_id AND p.id = k.project_id
            JOIN public.tenant t ON t.id = k.tenant_id
            WHERE k.revoked_at IS NULL
            LIMIT 1
        $$
        """
    )
    hand_to_lookup("resolve_api_key(bigint[], bytea[])", *Role)
