"""Row-level security as the migrations declare it: one call per table, nothing granted that is not named here."""

from collections.abc import Iterable, Mapping

from alembic import op

from chappe_store.session import Role

Grants = Mapping[str, str] | Mapping[Role, str]
"""Privileges by role, as they stand in a GRANT."""

LOOKUP = "chappe_lookup"
"""Owns the SECURITY DEFINER functions that look something up before a tenant is known (a key, a sign-in)."""

AUDIT = "chappe_audit"
"""Owns the SECURITY DEFINER functions that write the audit log, and alone may insert an entry."""

ANNOUNCER = "chappe_announcer"
"""Owns the SECURITY DEFINER function that notes whose keys' facts changed, and alone may note it."""

# In a sub-select, so that it is evaluated once per query and not once per row. `nullif`: a setting that was only
# ever set locally reads as '' in a later transaction of the same connection.
_CURRENT_TENANT = "(SELECT nullif(current_setting('chappe.tenant_id', true), '')::uuid)"


def protect_tenant_table(table: str, grants: Grants, *, tenant_column: str = "tenant_id") -> None:
    """Force row-level security on `table`, and grant each role of `grants` the privileges listed for it.

    `chappe_app` gets a policy for the current tenant's rows, every other role a policy of its own for all rows.
    A role that is not in `grants` gets neither.
    """
    op.execute(f"ALTER TABLE {table} ENABLE ROW LEVEL SECURITY")
    op.execute(f"ALTER TABLE {table} FORCE ROW LEVEL SECURITY")
    for role, privileges in grants.items():
        admit_role(table, role, privileges, tenant_column=tenant_column)


def admit_role(table: str, role: str, privileges: str, *, tenant_column: str = "tenant_id") -> None:
    """One more role for a tenant table that is protected already: a policy of its own, and these privileges."""
    rows = f"{tenant_column} = {_CURRENT_TENANT}" if role == Role.APP else "true"
    op.execute(f"CREATE POLICY {role} ON {table} TO {role} USING ({rows}) WITH CHECK ({rows})")
    op.execute(f"GRANT {privileges} ON {table} TO {role}")


def admit_parent(table: str, condition: str) -> None:
    """`chappe_app` sees and changes rows whose `parent_id` is the current tenant and which meet `condition`, as far as
    its privileges go. It cannot take them from their parent: the changed row must be its own as well."""
    rows = f"parent_id = {_CURRENT_TENANT} AND {condition}"
    op.execute(f"CREATE POLICY {Role.APP}_parent_reads ON {table} FOR SELECT TO {Role.APP} USING ({rows})")
    op.execute(
        f"CREATE POLICY {Role.APP}_parent_changes ON {table} FOR UPDATE TO {Role.APP} "
        f"USING ({rows}) WITH CHECK ({rows})"
    )


def protect_operator_table(table: str, grants: Grants) -> None:
    """For a table without tenants' rows: the roles of `grants` see all of it, others nothing."""
    for role, privileges in grants.items():
        op.execute(f"GRANT {privileges} ON {table} TO {role}")


def protect_shared_table(table: str, roles: Iterable[str], *, tenant_column: str = "tenant_id") -> None:
    """Force row-level security on a table whose rows belong to one tenant, or without one to everybody.

    `chappe_app` gets a policy for the current tenant's rows and everybody's, every other role one for all rows.
    """
    op.execute(f"ALTER TABLE {table} ENABLE ROW LEVEL SECURITY")
    op.execute(f"ALTER TABLE {table} FORCE ROW LEVEL SECURITY")
    for role in roles:
        rows = f"{tenant_column} IS NULL OR {tenant_column} = {_CURRENT_TENANT}" if role == Role.APP else "true"
        op.execute(f"CREATE POLICY {role} ON {table} TO {role} USING ({rows}) WITH CHECK ({rows})")


def make_append_only(table: str) -> None:
    """A second lock beside missing privileges: UPDATE, DELETE and TRUNCATE raise, for the owner too."""
    op.execute(
        f"CREATE TRIGGER {table}_append_only BEFORE UPDATE OR DELETE ON {table} "
        "FOR EACH ROW EXECUTE FUNCTION refuse_change()"
    )
    op.execute(
        f"CREATE TRIGGER {table}_no_truncate BEFORE TRUNCATE ON {table} "
        "FOR EACH STATEMENT EXECUTE FUNCTION refuse_change()"
    )


def hand_to_lookup(signature: str, *callers: Role) -> None:
    """Make `chappe_lookup` the owner of the SECURITY DEFINER function `signature`; only `callers` may execute it.

    The function must set its own `search_path`. `chappe_lookup` must have been granted what the function reads
    (`protect_tenant_table(…, {LOOKUP: "SELECT (…)"})`).
    """
    hand_over(signature, LOOKUP, *callers)


def hand_over(signature: str, owner: str, *callers: str) -> None:
    """Make `owner` the owner of the SECURITY DEFINER function `signature`; only `callers` may execute it."""
    # A function's new owner needs CREATE on the schema at that moment only.
    op.execute(f"GRANT CREATE ON SCHEMA public TO {owner}")
    op.execute(f"ALTER FUNCTION {signature} OWNER TO {owner}")
    op.execute(f"REVOKE CREATE ON SCHEMA public FROM {owner}")
    op.execute(f"SET LOCAL ROLE {owner}")
    op.execute(f"REVOKE EXECUTE ON FUNCTION {signature} FROM PUBLIC")
    for caller in callers:
        op.execute(f"GRANT EXECUTE ON FUNCTION {signature} TO {caller}")
    op.execute("RESET ROLE")
