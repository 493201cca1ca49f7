"""The price book, read only."""

from uuid import UUID

from litestar import Response, get

from chappe_catalogue.listings.queries import list_listings, sold_in
from chappe_catalogue.publishers.queries import publisher_names
from chappe_control.console.prices.book import arrange
from chappe_control.console.prices.queries import list_versions
from chappe_control.console.rendering import ConsoleRequest, console_page
from chappe_control.permissions import Permission
from chappe_control.state import Given
from chappe_kernel.ids import PRICE_VERSION, encode_id
from chappe_store.queries import read_now


@get("/prices", permission=Permission.SEE_PRICES)
async def show_prices(request: ConsoleRequest, services: Given) -> Response[bytes]:
    async with services.database.audit() as session:
        now = await read_now(session)
        listings = await list_listings(session)
        publishers = await publisher_names(session)
        book = arrange(await list_versions(session), now, await sold_in(session))

    def show_id(version_id: UUID) -> str:
        return encode_id(PRICE_VERSION, version_id)

    return console_page(
        request,
        "console/prices.html",
        listings=listings,
        publishers=publishers,
        book=book,
        now=now,
        show_id=show_id,
    )
