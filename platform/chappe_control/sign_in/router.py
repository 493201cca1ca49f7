"""Everything that somebody who is not signed in yet may open."""

from litestar import Router

from chappe_control.joining import routes as joining
from chappe_control.sign_in import console, password_reset, portal, sign_up


def make_router() -> Router:
    return Router(
        "/",
        route_handlers=[
            portal.show_sign_in,
            portal.sign_in,
            portal.sign_out,
            joining.show_invitation,
            joining.accept_invitation,
            sign_up.show_sign_up,
            sign_up.sign_up,
            sign_up.show_sign_up_link,
            sign_up.finish_sign_up,
            password_reset.show_forgot_password,
            password_reset.forgot_password,
            password_reset.show_reset_link,
            password_reset.reset_password,
            console.show_console_sign_in,
            console.sign_in_to_console,
            console.sign_out_of_console,
        ],
        include_in_schema=False,
    )
