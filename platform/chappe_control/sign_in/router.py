"""Everything that somebody who is not signed in yet may open."""

from litestar import Router

from chappe_control.joining import routes as joining
from chappe_control.sign_in import console, portal


def make_router() -> Router:
    return Router(
        "/",
        route_handlers=[
            portal.show_sign_in,
            portal.sign_in,
            portal.sign_out,
            portal.show_sign_up,
            portal.sign_up,
            joining.show_invitation,
            joining.accept_invitation,
            console.show_console_sign_in,
            console.sign_in_to_console,
            console.sign_out_of_console,
        ],
        include_in_schema=False,
    )
