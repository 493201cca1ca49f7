"""Customers."""

from typing import Final

from chappe_local.stripe_stand_in.errors import Json, invalid
from chappe_local.stripe_stand_in.listing import page, search
from chappe_local.stripe_stand_in.parameters import (
    PAGE,
    Spec,
    created_range,
    fields,
    integer,
    items,
    metadata,
    name,
    one_of,
    text,
)
from chappe_local.stripe_stand_in.resources.common import ADDRESS, SHIPPING, address, change, new_metadata
from chappe_local.stripe_stand_in.resources.payment_methods import attach_to
from chappe_local.stripe_stand_in.routing import Route
from chappe_local.stripe_stand_in.world import World, new_id, random_text

_INVOICE_SETTINGS: Final = fields(default_payment_method=text, footer=text)
_WRITABLE: Final[dict[str, Spec]] = {
    "address": ADDRESS,
    "description": text,
    "email": text,
    "invoice_prefix": name,
    "invoice_settings": _INVOICE_SETTINGS,
    "metadata": metadata,
    "name": text,
    "next_invoice_sequence": integer,
    "phone": text,
    "preferred_locales": items(name),
    "shipping": SHIPPING,
    "tax_exempt": one_of("", "exempt", "none", "reverse"),
}
_SEARCHABLE: Final = frozenset({"created", "email", "name", "phone"})


def create(world: World, params: Json) -> Json:
    customer: Json = {
        "id": new_id("cus", 14),
        "object": "customer",
        "address": None,
        "balance": 0,
        "created": world.now,
        "currency": None,
        "customer_account": None,
        "default_source": None,
        "delinquent": False,
        "description": None,
        "discount": None,
        "email": None,
        "invoice_prefix": random_text(8).upper(),
        "invoice_settings": {
            "custom_fields": None,
            "default_payment_method": None,
            "footer": None,
            "rendering_options": None,
        },
        "livemode": False,
        "metadata": {},
        "name": None,
        "next_invoice_sequence": 1,
        "phone": None,
        "preferred_locales": [],
        "shipping": None,
        "tax_exempt": "none",
        "test_clock": None,
    }
    method = params.pop("payment_method", None)
    customer |= _values(customer, {**params, "metadata": new_metadata(params)})
    customer.pop("expand", None)
    world.save(customer)
    world.announce("customer.created", customer)
    if method is not None:
        attach_to(world, method, customer["id"])
    return customer


def retrieve(world: World, _params: Json, customer_id: str) -> Json:
    found = world.store.find(customer_id)
    if found is not None and found["object"] == "customer" and found.get("deleted"):
        return _tombstone(found)
    return world.get("customer", customer_id)


def update(world: World, params: Json, customer_id: str) -> Json:
    customer = world.get("customer", customer_id)
    settings = params.get("invoice_settings") or {}
    default = settings.get("default_payment_method")
    if default is not None:
        method = world.get("payment_method", default, "invoice_settings[default_payment_method]")
        if method["customer"] != customer_id:
            raise invalid(
                f"The customer does not have a payment method with the ID {default}. The payment method must be "
                "attached to the customer.",
                param="invoice_settings[default_payment_method]",
                code="resource_missing",
            )
    return change(world, customer, _values(customer, params), event="customer.updated")


def delete(world: World, _params: Json, customer_id: str) -> Json:
    customer = world.get("customer", customer_id)
    customer["deleted"] = True
    world.save(customer)
    world.announce("customer.deleted", {key: value for key, value in customer.items() if key != "deleted"})
    return _tombstone(customer)


def list_all(world: World, params: Json) -> Json:
    return page(world, "customer", "/v1/customers", params, {"email": params.get("email")})


def search_all(world: World, params: Json) -> Json:
    return search(world, "customer", "/v1/customers/search", params, _SEARCHABLE)


def _values(customer: Json, params: Json) -> Json:
    values = dict(params)
    if "address" in values:
        values["address"] = address(values["address"]) if values["address"] else None
    if "invoice_settings" in values:
        values["invoice_settings"] = {**customer["invoice_settings"], **(values["invoice_settings"] or {})}
    if "tax_exempt" in values:
        values["tax_exempt"] = values["tax_exempt"] or "none"
    return values


def _tombstone(customer: Json) -> Json:
    return {"id": customer["id"], "object": "customer", "deleted": True}


ROUTES: Final = (
    Route("POST", "/v1/customers", create, {**_WRITABLE, "payment_method": name}),
    Route(
        "GET", "/v1/customers/search", search_all, {"query": name, "limit": integer, "page": name}, required=("query",)
    ),
    Route("GET", "/v1/customers", list_all, {**PAGE, "created": created_range, "email": name}),
    Route("GET", "/v1/customers/{id}", retrieve),
    Route("POST", "/v1/customers/{id}", update, _WRITABLE),
    Route("DELETE", "/v1/customers/{id}", delete),
)
