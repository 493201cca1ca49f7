"""What is told, by the names that the API has for it."""

from enum import StrEnum
from typing import Final

NOTICE: Final = "notice"
"""The outbox's topic of what people and programs of a tenant are told: `kind`, `tenant_id`, `data`."""


class AlertKind(StrEnum):
    """What is watched here, and told once for each crossing."""

    FORECAST = "forecast.exceeded"
    LOW_BALANCE = "balance.low"
