"""The headers that keep a page to itself."""

from collections.abc import Iterable, Sequence
from typing import Final

CSP_REPORT_PATH: Final = "/csp-report"
_HSTS = "max-age=31536000; includeSubDomains"
_PERMISSIONS = ("camera", "microphone", "geolocation", "payment", "usb", "serial", "display-capture")

_PAGE_HEADERS: Final = {
    "x-content-type-options": "nosniff",
    "referrer-policy": "same-origin",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "permissions-policy": ", ".join(f"{feature}=()" for feature in _PERMISSIONS),
    # What a page shows is its tenant's; after signing out, the back button has nothing to show.
    "cache-control": "no-store",
}


def content_policy(connect_to: Iterable[str] = ()) -> str:
    """The page's Content-Security-Policy; `connect_to` are the only other origins that its scripts may call."""
    return "; ".join(
        (
            "default-src 'none'",
            "script-src 'self'",
            "style-src 'self'",
            "img-src 'self' data:",
            "font-src 'self'",
            " ".join(("connect-src 'self'", *connect_to)),
            "form-action 'self'",
            "base-uri 'none'",
            "frame-ancestors 'none'",
            "manifest-src 'self'",
            f"report-uri {CSP_REPORT_PATH}",
        )
    )


def page_headers(portal_url: str, connect_to: Sequence[str] = ()) -> dict[str, str]:
    """All of a page's headers. HSTS only where the portal is reached by HTTPS: elsewhere it would lock people out."""
    headers = {**_PAGE_HEADERS, "content-security-policy": content_policy(connect_to)}
    if portal_url.startswith("https:"):
        headers["strict-transport-security"] = _HSTS
    return headers
