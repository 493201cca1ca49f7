"""Routes that belong to no single page."""

from litestar import Router

from chappe_control.pages.assets import serve_asset
from chappe_control.pages.csp_reports import take_report
from chappe_control.pages.preferences import set_preferences


def make_router() -> Router:
    return Router("/", route_handlers=[serve_asset, take_report, set_preferences])
