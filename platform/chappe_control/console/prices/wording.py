"""Who did something with a price, in words."""

from collections.abc import Mapping
from uuid import UUID

from chappe_control.console.prices.queries import Deed, Maker
from chappe_control.console.prices.texts import MAKERS
from chappe_control.console.rendering import ConsoleRequest
from chappe_control.pages.languages import translate
from chappe_store.audit_log.origin import ActorKind


def maker_text(request: ConsoleRequest, makers: Mapping[Deed, Maker], noun: str, version_id: UUID) -> str:
    """A dash for what the audit log knows nothing of: it is younger than the price."""
    maker = makers.get((noun, str(version_id)))
    if maker is None:
        return "\N{EN DASH}"
    if maker.email is not None:
        return maker.email
    return translate(request, MAKERS.get(ActorKind(maker.kind), maker.kind), user=maker.actor)
