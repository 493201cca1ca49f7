"""Invoice items: what will be, or is, on an invoice."""

from typing import Final

from chappe_local.stripe_stand_in.errors import Json, invalid
from chappe_local.stripe_stand_in.listing import list_object, page
from chappe_local.stripe_stand_in.parameters import (
    PAGE,
    Spec,
    created_range,
    currency,
    fields,
    flag,
    integer,
    metadata,
    name,
    text,
)
from chappe_local.stripe_stand_in.resources.common import change, new_metadata
from chappe_local.stripe_stand_in.routing import Route
from chappe_local.stripe_stand_in.world import World, new_id

_MOST_LINES: Final = 250


def create(world: World, params: Json) -> Json:
    customer = world.get("customer", params["customer"], "customer")
    invoice = world.optional("invoice", params.get("invoice"))
    if invoice is not None:
        require_draft(invoice)
        if invoice["customer"] != customer["id"]:
            raise invalid("The invoice belongs to another customer.", param="invoice")
    if "amount" not in params:
        raise invalid("Missing required param: amount.", code="parameter_missing", param="amount")
    item: Json = {
        "id": new_id("ii"),
        "object": "invoiceitem",
        "amount": params["amount"],
        "currency": params.get("currency") or (invoice or customer)["currency"] or "eur",
        "customer": customer["id"],
        "customer_account": None,
        "date": world.now,
        "description": params.get("description"),
        "discountable": params.get("discountable", params["amount"] > 0),
        "discounts": [],
        "invoice": params.get("invoice"),
        "livemode": False,
        "metadata": new_metadata(params),
        "net_amount": params["amount"],
        "parent": None,
        "period": params.get("period") or {"start": world.now, "end": world.now},
        "pricing": None,
        "proration": False,
        "quantity": 1,
        "quantity_decimal": "1",
        "tax_rates": [],
        "test_clock": None,
    }
    if invoice is not None and item["currency"] != invoice["currency"]:
        raise invalid(f"The invoice is in {invoice['currency']}.", param="currency")
    world.save(item)
    world.announce("invoiceitem.created", item)
    return item


def retrieve(world: World, _params: Json, item_id: str) -> Json:
    return world.get("invoiceitem", item_id)


def update(world: World, params: Json, item_id: str) -> Json:
    item = world.get("invoiceitem", item_id)
    _require_free(world, item)
    values = dict(params)
    if "amount" in values:
        values["net_amount"] = values["amount"]
    return change(world, item, values)


def delete(world: World, _params: Json, item_id: str) -> Json:
    item = world.get("invoiceitem", item_id)
    _require_free(world, item)
    world.save({**item, "deleted": True})
    world.announce("invoiceitem.deleted", item)
    return {"id": item_id, "object": "invoiceitem", "deleted": True}


def list_all(world: World, params: Json) -> Json:
    filters = {key: params.get(key) for key in ("customer", "invoice")}
    conditions = [("invoice", "IS", None)] if params.get("pending") else []
    return page(world, "invoiceitem", "/v1/invoiceitems", params, filters, conditions=conditions)


def items_of(world: World, invoice_id: str) -> list[Json]:
    """Of one invoice, in the order of their creation."""
    found = world.store.select("invoiceitem", [("invoice", "=", invoice_id)], oldest_first=True, limit=_MOST_LINES)
    return [item for item in found if not item.get("deleted")]


def take_pending(world: World, invoice: Json) -> None:
    """The customer's items that are on no invoice yet, in the invoice's currency, are on this one."""
    conditions = [
        ("customer", "=", invoice["customer"]),
        ("invoice", "IS", None),
        ("currency", "=", invoice["currency"]),
    ]
    for item in world.store.select("invoiceitem", conditions, oldest_first=True, limit=_MOST_LINES):
        if not item.get("deleted"):
            world.save({**item, "invoice": invoice["id"]})


def release(world: World, invoice_id: str) -> None:
    """The draft is deleted, and its items with it."""
    for item in items_of(world, invoice_id):
        world.save({**item, "deleted": True})


def lines(world: World, invoice: Json) -> Json:
    found = [_line(item) for item in items_of(world, invoice["id"])]
    return list_object(found, f"/v1/invoices/{invoice['id']}/lines")


def require_draft(invoice: Json) -> None:
    if invoice["status"] != "draft":
        raise invalid(
            f"This invoice is no longer editable: its status is {invoice['status']}.", code="invoice_not_editable"
        )


def _require_free(world: World, item: Json) -> None:
    if item["invoice"] is not None:
        require_draft(world.get("invoice", item["invoice"]))


def _line(item: Json) -> Json:
    details = {"invoice_item": item["id"], "proration": False, "proration_details": None, "subscription": None}
    kept = ("amount", "currency", "description", "discountable", "livemode", "metadata", "period", "quantity")
    return {
        "id": f"il_{item['id'].removeprefix('ii_')}",
        "object": "line_item",
        **{key: item[key] for key in kept},
        "discount_amounts": [],
        "discounts": [],
        "invoice": item["invoice"],
        "parent": {
            "invoice_item_details": details,
            "subscription_item_details": None,
            "type": "invoice_item_details",
        },
        "pretax_credit_amounts": [],
        "pricing": None,
        "quantity_decimal": item["quantity_decimal"],
        "subscription": None,
        "subtotal": item["amount"],
        "taxes": [],
    }


_WRITABLE: Final[dict[str, Spec]] = {
    "amount": integer,
    "description": text,
    "discountable": flag,
    "metadata": metadata,
    "period": fields(("end", "start"), end=integer, start=integer),
}
ROUTES: Final = (
    Route(
        "POST",
        "/v1/invoiceitems",
        create,
        {**_WRITABLE, "currency": currency, "customer": name, "invoice": name},
        required=("customer",),
    ),
    Route(
        "GET",
        "/v1/invoiceitems",
        list_all,
        {**PAGE, "created": created_range, "customer": name, "invoice": name, "pending": flag},
    ),
    Route("GET", "/v1/invoiceitems/{id}", retrieve),
    Route("POST", "/v1/invoiceitems/{id}", update, _WRITABLE),
    Route("DELETE", "/v1/invoiceitems/{id}", delete),
)
