"""Publishers' earnings, for the operator: what they are owed, what they earned by month, and what they were paid."""

import re
from datetime import datetime
from http import HTTPStatus
from typing import Annotated

from litestar import get, post
from litestar.params import JSONBody, PathParameter
from msgspec import Meta, Struct
from sqlalchemy.ext.asyncio import AsyncSession

from chappe_billing.contract_terms.schemas import Month, read_month
from chappe_billing.funds.once import Moved
from chappe_billing.ledger.postings import Rail
from chappe_billing.payouts import queries, service
from chappe_billing.payouts.queries import Earned, Owed, Payout
from chappe_billing.payouts.service import AskedPayout, PublisherStatement
from chappe_control.authentication import OperatorRequest
from chappe_control.cursors import cut_page, decode_cursor
from chappe_control.operator_api.funds import PositiveAmount, Reason, Reference, Reverse, TransactionPath
from chappe_control.operator_api.performing import perform
from chappe_control.operator_api.references import EntityInBody, EntityInQuery, entity_in_body
from chappe_control.permissions import Permission
from chappe_control.public import answers
from chappe_control.public.parameters import DEFAULT_LIMIT, Amount, Cursor, IdempotencyKey, Limit
from chappe_control.public.references import MAX_ID_LENGTH, id_in_path
from chappe_control.public.transactions import TransactionId
from chappe_control.state import Given
from chappe_kernel.errors import NotFound
from chappe_kernel.ids import LEDGER_TRANSACTION, LEGAL_ENTITY, PUBLISHER, encode_id
from chappe_kernel.money import format_nano, parse_nano

_TAG = "Publishers"

PublisherPath = Annotated[str, PathParameter(max_length=MAX_ID_LENGTH, description="The publisher's id, `pub_…`.")]
MonthPath = Annotated[str, PathParameter(max_length=7, description="A month of UTC, `YYYY-MM`.")]
_MONTH = re.compile(r"20[0-9]{2}-(0[1-9]|1[0-2])", re.ASCII)
EntityId = Annotated[str, Meta(pattern="^ent_")]


class OwedView(Struct, frozen=True):
    """In one legal entity's books."""

    legal_entity_id: EntityId
    currency: str
    payable: Annotated[Amount, Meta(description="Negative: corrections took back what was paid already.")]


class PublisherView(Struct, frozen=True):
    id: Annotated[str, Meta(pattern="^pub_")]
    name: str
    title: str
    owed: list[OwedView]


class PublisherList(Struct, frozen=True):
    items: list[PublisherView]
    next_cursor: str | None


class ShareView(Struct, frozen=True):
    """What a listing's usage in a region brought, by one term. What was given back to tenants is negative."""

    model: str
    region: str
    share_basis_points: int
    paid_by_tenants: Amount
    share: Amount


class StatementView(Struct, frozen=True):
    """`opening` + `earned` + `taken_back` - `paid_out` = `closing`. `earned` and `taken_back` sum to the shares."""

    publisher_id: Annotated[str, Meta(pattern="^pub_")]
    legal_entity_id: EntityId
    month: Month
    currency: str
    opening: Amount
    earned: Amount
    taken_back: Annotated[Amount, Meta(description="Of what tenants were given back; never positive.")]
    paid_out: Annotated[Amount, Meta(description="Less payouts that were taken back.")]
    closing: Amount
    shares: list[ShareView]


class RecordPayout(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A payment that somebody made, in the legal entity's currency. `reference` is the bank's name for it."""

    amount: PositiveAmount
    reference: Reference
    rail: Rail = Rail.BANK_TRANSFER
    note: Reason | None = None
    legal_entity_id: EntityInBody = None


class PaidView(Struct, frozen=True):
    """`repeated`: the reference had done it before. `owed` is what the publisher is owed afterwards, in all books."""

    transaction_id: TransactionId
    repeated: bool
    owed: list[OwedView]


class PayoutView(Struct, frozen=True):
    id: TransactionId
    legal_entity_id: EntityId
    amount: Amount
    currency: str
    reference: str
    rail: str | None
    note: str | None
    paid_at: datetime
    taken_back: bool


class PayoutList(Struct, frozen=True):
    items: list[PayoutView]
    next_cursor: str | None


@get(
    "/publishers",
    permission=Permission.SEE_PAYOUTS,
    tags=[_TAG],
    summary="List publishers and what they are owed",
    operation_id="operator_list_publishers",
    responses=answers.LIST,
)
async def list_all(services: Given, limit: Limit = DEFAULT_LIMIT, cursor: Cursor = None) -> PublisherList:
    """Newest first."""
    async with services.database.audit() as session:
        rows = await queries.list_publishers(session, limit=limit + 1, before=decode_cursor(cursor))
        page, next_cursor = cut_page(rows, limit, lambda row: row.id)
        owed = await queries.read_owed(session, [row.id for row in page])
    items = [
        PublisherView(
            encode_id(PUBLISHER, row.id), row.name, row.title, _show_owed([o for o in owed if o.publisher_id == row.id])
        )
        for row in page
    ]
    return PublisherList(items, next_cursor)


@get(
    "/publishers/{publisher_id:str}/statements/{month:str}",
    permission=Permission.SEE_PAYOUTS,
    tags=[_TAG],
    summary="Read a publisher's statement of a month",
    operation_id="operator_get_publisher_statement",
    responses=answers.READ_ONE,
)
async def read_statement(
    services: Given, publisher_id: PublisherPath, month: MonthPath, legal_entity_id: EntityInQuery = None
) -> StatementView:
    """In one legal entity's books. The month that is running is shown as it is so far."""
    publisher = id_in_path(PUBLISHER, publisher_id, "publisher")
    entity = entity_in_body(legal_entity_id)
    if _MONTH.fullmatch(month) is None:
        raise NotFound("no such month")
    async with services.database.audit() as session:
        found = await service.read_statement(session, publisher, entity, read_month(month))
    return _show_statement(found, publisher_id, encode_id(LEGAL_ENTITY, entity), month)


@get(
    "/publishers/{publisher_id:str}/payouts",
    permission=Permission.SEE_PAYOUTS,
    tags=[_TAG],
    summary="List a publisher's payouts",
    operation_id="operator_list_payouts",
    responses=answers.READ_ONE,
)
async def list_of_publisher(
    services: Given, publisher_id: PublisherPath, limit: Limit = DEFAULT_LIMIT, cursor: Cursor = None
) -> PayoutList:
    """Newest first, those included that were taken back."""
    publisher = id_in_path(PUBLISHER, publisher_id, "publisher")
    async with services.database.audit() as session:
        await service.get_publisher(session, publisher)
        rows = await queries.list_payouts(session, publisher, limit=limit + 1, before=decode_cursor(cursor))
    page, next_cursor = cut_page(rows, limit, lambda row: row.id)
    return PayoutList([_show_payout(row) for row in page], next_cursor)


@post(
    "/publishers/{publisher_id:str}/payouts",
    permission=Permission.PAY_PUBLISHERS,
    tags=[_TAG],
    summary="Record a payout",
    operation_id="operator_record_payout",
    responses=answers.CREATE,
    status_code=HTTPStatus.CREATED,
)
async def record(
    request: OperatorRequest,
    services: Given,
    publisher_id: PublisherPath,
    data: JSONBody[RecordPayout],
    idempotency_key: IdempotencyKey = None,
) -> PaidView:
    """Never more than is payable, and once for each reference. Only the books: the bank's order is somebody else's to
    give."""
    publisher = id_in_path(PUBLISHER, publisher_id, "publisher")
    asked = AskedPayout(
        legal_entity_id=entity_in_body(data.legal_entity_id),
        amount_nano=parse_nano(data.amount),
        reference=data.reference,
        rail=data.rail,
        note=data.note,
    )

    async def work(session: AsyncSession) -> PaidView:
        moved = await service.record_payout(session, publisher, asked)
        return _show_paid(moved, await service.owed_to(session, publisher))

    return await perform(request, services, PaidView, work)


@post(
    "/publishers/{publisher_id:str}/payouts/{transaction_id:str}/reversal",
    permission=Permission.PAY_PUBLISHERS,
    tags=[_TAG],
    summary="Take a payout back",
    operation_id="operator_reverse_payout",
    responses=answers.CREATE,
    status_code=HTTPStatus.CREATED,
)
async def take_back(  # noqa: PLR0917 -- the framework passes them by name
    request: OperatorRequest,
    services: Given,
    publisher_id: PublisherPath,
    transaction_id: TransactionPath,
    data: JSONBody[Reverse],
    idempotency_key: IdempotencyKey = None,
) -> PaidView:
    """By another transaction that names it, once: it did not arrive, or was typed wrongly."""
    publisher = id_in_path(PUBLISHER, publisher_id, "publisher")
    payout = id_in_path(LEDGER_TRANSACTION, transaction_id, "payout")

    async def work(session: AsyncSession) -> PaidView:
        moved = await service.take_payout_back(session, publisher, payout, reference=data.reference, reason=data.reason)
        return _show_paid(moved, await service.owed_to(session, publisher))

    return await perform(request, services, PaidView, work)


def _show_paid(moved: Moved, owed: list[Owed]) -> PaidView:
    return PaidView(encode_id(LEDGER_TRANSACTION, moved.transaction_id), moved.repeated, _show_owed(owed))


def _show_owed(rows: list[Owed]) -> list[OwedView]:
    return [
        OwedView(encode_id(LEGAL_ENTITY, row.legal_entity_id), row.currency, format_nano(row.payable_nano))
        for row in rows
    ]


def _show_statement(found: PublisherStatement, publisher_id: str, entity_id: str, month: str) -> StatementView:
    return StatementView(
        publisher_id=publisher_id,
        legal_entity_id=entity_id,
        month=month,
        currency=found.currency,
        opening=format_nano(found.opening_nano),
        earned=format_nano(found.earned_nano),
        taken_back=format_nano(found.taken_back_nano),
        paid_out=format_nano(found.paid_nano),
        closing=format_nano(found.closing_nano),
        shares=[_show_share(row) for row in found.shares],
    )


def _show_share(row: Earned) -> ShareView:
    return ShareView(row.listing, row.region, row.share_bp, format_nano(row.base_nano), format_nano(row.share_nano))


def _show_payout(row: Payout) -> PayoutView:
    return PayoutView(
        id=encode_id(LEDGER_TRANSACTION, row.id),
        legal_entity_id=encode_id(LEGAL_ENTITY, row.legal_entity_id),
        amount=format_nano(row.amount_nano),
        currency=row.currency,
        reference=row.reference,
        rail=row.rail,
        note=row.note,
        paid_at=row.paid_at,
        taken_back=row.taken_back,
    )
