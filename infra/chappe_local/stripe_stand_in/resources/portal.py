"""Billing portal sessions: a page where a customer adds and removes payment methods."""

from collections.abc import Mapping
from typing import Any, Final

from chappe_local.stripe_stand_in.errors import Json, StripeError, invalid
from chappe_local.stripe_stand_in.parameters import Spec, fields, name, one_of
from chappe_local.stripe_stand_in.resources import customers, payment_methods, setup_intents
from chappe_local.stripe_stand_in.routing import Route
from chappe_local.stripe_stand_in.world import World, new_id, random_text

_LIFE_S: Final = 3600
_CONFIGURATION: Final = "bpc_stand_in"


def create(world: World, params: Json) -> Json:
    customer = world.get("customer", params["customer"], "customer")
    flow = params.get("flow_data")
    done = {"hosted_confirmation": None, "redirect": None, "type": "portal_homepage"}
    none = dict.fromkeys(("subscription_cancel", "subscription_update", "subscription_update_confirm"))
    return world.save(
        {
            "id": new_id("bps"),
            "object": "billing_portal.session",
            "configuration": _CONFIGURATION,
            "created": world.now,
            "customer": customer["id"],
            "customer_account": None,
            "flow": {"after_completion": done, **none, "type": flow["type"]} if flow else None,
            "livemode": False,
            "locale": params.get("locale"),
            "on_behalf_of": None,
            "return_url": params.get("return_url"),
            "url": f"{world.public_url}/p/session/{(secret := random_text(40))}",
            "_secret": secret,
        }
    )


def find(world: World, secret: str) -> Json | None:
    """The session that a page's address opens, for an hour."""
    found = world.store.select("billing_portal.session", [("_secret", "=", secret)], limit=1)
    return found[0] if found and found[0]["created"] + _LIFE_S > world.now else None


def add(world: World, session: Json, method_data: Mapping[str, Any]) -> Json:
    """Save a method, by a setup intent. The intent, which may wait for the bank's page. Raises the bank's refusal."""
    method = payment_methods.make(world, method_data)
    intent = setup_intents.new(
        world,
        {
            "customer": session["customer"],
            "allowed_payment_method_types": [method["type"]],
            "payment_method": method["id"],
        },
    )
    intent["_return_url"] = session["url"]
    return setup_intents.confirm_with(world, intent)


def remove(world: World, session: Json, method_id: str) -> None:
    _own(world, session, method_id)
    payment_methods.detach(world, {}, method_id)


def make_default(world: World, session: Json, method_id: str) -> None:
    _own(world, session, method_id)
    settings = {"invoice_settings": {"default_payment_method": method_id}}
    customers.update(world, settings, session["customer"])


def methods_of(world: World, session: Json) -> list[Json]:
    """Newest first, each with its `label` and whether it is the `default`."""
    customer = world.get("customer", session["customer"])
    default = customer["invoice_settings"]["default_payment_method"]
    found = world.store.select("payment_method", [("customer", "=", customer["id"])])
    return [{**one, "label": payment_methods.label(one), "default": one["id"] == default} for one in found]


def _own(world: World, session: Json, method_id: str) -> None:
    method = world.store.find(method_id)
    if method is None or method["object"] != "payment_method" or method["customer"] != session["customer"]:
        raise _not_yours(method_id)


def _not_yours(method_id: str) -> StripeError:
    return invalid(f"No such PaymentMethod: '{method_id}'", code="resource_missing")


_CREATE: Final[dict[str, Spec]] = {
    "customer": name,
    "flow_data": fields(("type",), type=one_of("payment_method_update")),
    "locale": name,
    "return_url": name,
}
ROUTES: Final = (Route("POST", "/v1/billing_portal/sessions", create, _CREATE, required=("customer",)),)
