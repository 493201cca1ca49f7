"""One call's view of everything: what there is, what time it is, and what it announces."""

import secrets
import string
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

from chappe_local.stripe_stand_in.errors import Json, missing
from chappe_local.stripe_stand_in.store import Store

API_VERSION: Final = "2026-10-28.endive"
"""The one that stripe 16.1 speaks; a call under another is refused."""

_ALPHABET: Final = string.ascii_letters + string.digits
_ID_LENGTH: Final = 24
_REORDER_WITHIN_S: Final = 1.3
"""How long events are collected before they go in the opposite order. Its clock is in whole seconds: at least 0.3."""


@dataclass(frozen=True)
class Endpoint:
    """Where webhooks go, from the configuration."""

    url: str
    secret: str
    events: tuple[str, ...] = ("*",)


@dataclass
class World:
    """Everything, inside one transaction of the store. `now` is in whole seconds of the stand-in's own clock."""

    store: Store
    now: int
    public_url: str
    """Where people open hosted pages, without a slash at its end."""
    followers: tuple[Callable[["World", Json], None], ...] = ()
    """Told whenever a payment intent changed for good: Checkout and invoices look at what became of theirs."""
    request_id: str | None = None
    idempotency_key: str | None = None

    def get(self, kind: str, object_id: Any, param: str | None = None) -> Json:
        """An object that must be there. Raises `StripeError` in Stripe's words otherwise."""
        found = self.store.find(str(object_id))
        if found is None or found["object"] != kind or found.get("deleted"):
            raise missing(kind.rpartition(".")[2], str(object_id), param)
        return found

    def optional(self, kind: str, object_id: Any) -> Json | None:
        return None if object_id is None else self.get(kind, object_id)

    def save(self, body: Json) -> Json:
        self.store.put(body)
        return body

    def announce(self, event_type: str, subject: Json, previous: Json | None = None) -> None:
        """An event about `subject` as it is now, for whoever lists events and for every endpoint that wants it."""
        data: Json = {"object": visible(subject)}
        if previous is not None:
            data["previous_attributes"] = previous
        event = {
            "id": new_id("evt"),
            "object": "event",
            "api_version": API_VERSION,
            "created": self.now,
            "data": data,
            "livemode": False,
            "pending_webhooks": 0,
            "request": {"id": self.request_id, "idempotency_key": self.idempotency_key},
            "type": event_type,
        }
        self.store.put(event)
        switches = self.store.setting("webhooks", {})
        if self._drops(switches):
            return
        window = _REORDER_WITHIN_S if switches.get("reorder") else 0.0
        due = self.now + float(switches.get("delay_s", 0)) + window
        for endpoint in self.store.select("webhook_endpoint", oldest_first=True):
            if endpoint["status"] == "enabled" and wants(endpoint["enabled_events"], event_type):
                for _ in range(int(switches.get("copies", 1))):
                    self.store.add_delivery(str(event["id"]), endpoint["id"], due)

    def later(self, after_s: float, action: str, subject: str) -> None:
        """Do `action` about an object when the clock says so."""
        self.store.add_task(self.now + after_s, action, subject)

    def payment_changed(self, intent: Json) -> None:
        for follow in self.followers:
            follow(self, intent)

    def _drops(self, switches: Json) -> bool:
        left = int(switches.get("drop", 0))
        if left:
            self.store.set("webhooks", {**switches, "drop": left - 1})
        return left > 0


def wants(enabled: list[str], event_type: str) -> bool:
    return "*" in enabled or event_type in enabled


def visible(body: Json) -> Json:
    """An object as the world sees it: without the stand-in's own notes, whose names begin with an underscore."""
    return {key: value for key, value in body.items() if not key.startswith("_")}


def new_id(prefix: str, length: int = _ID_LENGTH) -> str:
    return f"{prefix}_{random_text(length)}"


def random_text(length: int) -> str:
    return "".join(secrets.choice(_ALPHABET) for _ in range(length))
