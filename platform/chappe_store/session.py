"""Transactions, each as one role, and as one tenant where the role is the tenants'.

The login role has no rights of its own and inherits none: outside these transactions it sees nothing. Role, tenant and
origin are set for the transaction only, always together, so that whatever an earlier user of a pooled connection left
behind is overruled.
"""

from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass
from enum import StrEnum
from uuid import UUID

from sqlalchemy import text
from sqlalchemy.exc import DBAPIError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError
from sqlalchemy.ext.asyncio import AsyncEngine, AsyncSession, create_async_engine

from chappe_kernel.errors import Unavailable
from chappe_kernel.ids import TenantId
from chappe_store.audit_log.origin import Origin

_ENTER = text(
    "SELECT set_config('role', :role, true), set_config('chappe.tenant_id', :tenant, true), "
    "set_config('chappe.origin', :origin, true)"
)
_ACT_AS = text("SELECT set_config('role', :role, true)")
_SERVER_SETTINGS = {
    "application_name": "chappe",
    "timezone": "UTC",
    "statement_timeout": "30s",
    "lock_timeout": "10s",
    "idle_in_transaction_session_timeout": "60s",
}


class Role(StrEnum):
    """The group roles that a transaction can run as. `chappe_lookup` is none of them: it only owns functions."""

    APP = "chappe_app"
    INGEST = "chappe_ingest"
    OPERATOR = "chappe_operator"


@dataclass(frozen=True)
class TenantScope:
    """Proof that the caller may act for this tenant. Only authorisation makes one; tenants' queries take no less."""

    tenant_id: TenantId


NOBODY = TenantScope(TenantId(UUID(int=0)))
"""The role of tenants, as nobody: it sees no tenant's rows, and may call the look-ups."""


class Database:
    """A pool of connections and the only ways to use it. Every way is one transaction: committed at the end of the
    block, rolled back when the block raises. Entering raises `Unavailable` when the database does not answer.

    What changes anything that the audit log watches must name its `origin`, or cannot commit. A command is one origin
    for all that it does, and gives it once, to the constructor.
    """

    def __init__(self, url: str, *, pool_size: int = 10, origin: Origin | None = None) -> None:
        self._origin = origin
        self._engine: AsyncEngine = create_async_engine(
            url,
            pool_size=pool_size,
            max_overflow=0,
            pool_timeout=10,
            pool_pre_ping=True,
            hide_parameters=True,  # an error's text goes to logs, and parameters may be what tenants wrote
            connect_args={"server_settings": _SERVER_SETTINGS},
        )

    async def close(self) -> None:
        await self._engine.dispose()

    def tenant(self, scope: TenantScope, origin: Origin | None = None) -> AbstractAsyncContextManager[AsyncSession]:
        """As `chappe_app`, which sees this tenant's rows and nobody else's."""
        return self._transaction(Role.APP, str(scope.tenant_id), origin=origin)

    def tenant_snapshot(self, scope: TenantScope) -> AbstractAsyncContextManager[AsyncSession]:
        """As `chappe_app`, read-only, everything as of one instant: figures that stand beside each other agree."""
        return self._transaction(Role.APP, str(scope.tenant_id), snapshot=True)

    def ingest(self, origin: Origin | None = None) -> AbstractAsyncContextManager[AsyncSession]:
        """As `chappe_ingest`: what regions do with grants, keys and usage, across tenants."""
        return self._transaction(Role.INGEST, origin=origin)

    def operator(self, origin: Origin | None = None) -> AbstractAsyncContextManager[AsyncSession]:
        """As `chappe_operator`: the telco's own work, across tenants."""
        return self._transaction(Role.OPERATOR, origin=origin)

    def audit(self) -> AbstractAsyncContextManager[AsyncSession]:
        """As `chappe_operator`, read-only, everything as of one instant."""
        return self._transaction(Role.OPERATOR, snapshot=True)

    @asynccontextmanager
    async def _transaction(
        self, role: Role, tenant: str = "", *, origin: Origin | None = None, snapshot: bool = False
    ) -> AsyncIterator[AsyncSession]:
        named = origin or self._origin
        async with AsyncSession(self._engine, expire_on_commit=False) as session, session.begin():
            try:
                if snapshot:
                    await session.connection(
                        execution_options={"isolation_level": "REPEATABLE READ", "postgresql_readonly": True}
                    )
                await session.execute(
                    _ENTER, {"role": role, "tenant": tenant, "origin": named.encoded() if named else ""}
                )
            except (DBAPIError, PoolTimeoutError, OSError) as error:
                raise Unavailable("the database does not answer", code="database_unavailable") from error
            yield session


@asynccontextmanager
async def acting_as(session: AsyncSession, role: Role) -> AsyncIterator[None]:
    """The block's statements as another role, in the same transaction, of the same tenant and under the same origin.

    For what one role may begin and only another may do. When the block raises, the role stays as it is: the error has
    to end the transaction, which may be good for nothing any more.
    """
    before = await session.scalar(text("SELECT current_setting('role')"))
    await session.execute(_ACT_AS, {"role": role})
    yield
    await session.execute(_ACT_AS, {"role": before})
