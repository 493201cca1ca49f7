"""Payments and calls to the payment service that requests of the matrix are about: Alpha's, made by SQL."""

from uuid import UUID

from sqlalchemy import text

from chappe_kernel.ids import PAYMENT, PAYMENT_CALL, QUARANTINED_PAYMENT, encode_id, new_id
from tests.access.world import AccessWorld, unlike


async def an_own_payment(access: AccessWorld) -> dict[str, str]:
    """Alpha's, which it has not paid."""
    return {"payment_id": encode_id(PAYMENT, await _payment(access))}


async def an_own_setup(access: AccessWorld) -> dict[str, str]:
    """A page on which Alpha may save a card, some time."""
    return {"call_id": encode_id(PAYMENT_CALL, await _call(access, "setup", "waiting"))}


async def an_own_setup_by_its_name(access: AccessWorld) -> dict[str, str]:
    return {"setup_id": (await an_own_setup(access))["call_id"]}


async def no_method(access: AccessWorld) -> dict[str, str]:
    return {"method_id": unlike("pm")}


async def a_poisoned_call(access: AccessWorld) -> dict[str, str]:
    return {"call_id": encode_id(PAYMENT_CALL, await _call(access, "setup", "poisoned"))}


async def a_payment_in_quarantine(access: AccessWorld) -> dict[str, str]:
    quarantined_id = new_id()
    async with access.control.database.operator() as session:
        await session.execute(
            text(
                "INSERT INTO payment_quarantine (id, service_id, reason, currency, amount_minor) "
                "VALUES (:id, :name, 'unknown_payment', 'EUR', 100)"
            ),
            {"id": quarantined_id, "name": unlike("pi")},
        )
    return {"quarantined_id": encode_id(QUARANTINED_PAYMENT, quarantined_id)}


async def _payment(access: AccessWorld) -> UUID:
    payment_id = new_id()
    async with access.control.database.operator() as session:
        await session.execute(
            text(
                "INSERT INTO payment (tenant_id, id, legal_entity_id, purpose, method, currency, net_nano, tax_nano, "
                "gross_minor, treatment) SELECT id, :id, legal_entity_id, 'top_up', 'card', 'EUR', 10000000000, "
                '2000000000, 1200, \'{"category": "S", "rate_bp": 2000}\' FROM tenant WHERE id = :tenant'
            ),
            {"id": payment_id, "tenant": access.alpha.id},
        )
    return payment_id


async def _call(access: AccessWorld, kind: str, state: str) -> UUID:
    call_id = new_id()
    async with access.control.database.operator() as session:
        await session.execute(
            text(
                "INSERT INTO payment_call (tenant_id, id, legal_entity_id, kind, parameters) "
                "SELECT id, :id, legal_entity_id, :kind, '{}' FROM tenant WHERE id = :tenant"
            ),
            {"id": call_id, "kind": kind, "tenant": access.alpha.id},
        )
        await session.execute(
            text("UPDATE payment_call SET state = :state WHERE id = :id"), {"id": call_id, "state": state}
        )
    return call_id
