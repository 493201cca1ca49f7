"""Where an invitation's link leads."""

from urllib.parse import urlencode

from chappe_control.settings import ControlSettings

JOIN = "/join"


def invitation_link(settings: ControlSettings, secret: str) -> str:
    return f"{settings.portal_url}{JOIN}?{urlencode({'link': secret})}"
