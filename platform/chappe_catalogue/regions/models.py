"""Tables of regions, their credentials and their gateways' heartbeats."""

from datetime import datetime
from typing import Any

from sqlalchemy import ForeignKey, Text, func, text
from sqlalchemy.dialects.postgresql import ARRAY
from sqlalchemy.orm import Mapped, mapped_column

from chappe_store.base import Base


class Region(Base):
    __tablename__ = "region"

    name: Mapped[str] = mapped_column(primary_key=True)
    jurisdiction: Mapped[str]
    gateway_url: Mapped[str]
    position: Mapped[int]
    created_at: Mapped[datetime] = mapped_column(server_default=func.now())


class RegionCredential(Base):
    """SHA-256 of a region's credential. The newest two are valid, so that a new one breaks no running gateway."""

    __tablename__ = "region_credential"

    digest: Mapped[bytes] = mapped_column(primary_key=True)
    region: Mapped[str] = mapped_column(ForeignKey("region.name"), index=True)
    created_at: Mapped[datetime] = mapped_column(server_default=func.now())


class GatewayHeartbeat(Base):
    """The last sign of life of each gateway, in the database's time. `loads` is requests in flight by deployment,
    `keys_revision` how far it has followed the changes of keys, `sent_again` the epoch whose database has all that it
    recorded before."""

    __tablename__ = "gateway_heartbeat"

    region: Mapped[str] = mapped_column(ForeignKey("region.name"), primary_key=True)
    gateway: Mapped[str] = mapped_column(primary_key=True)
    snapshot_version: Mapped[str]
    healthy_deployments: Mapped[list[str]] = mapped_column(ARRAY(Text))
    loads: Mapped[dict[str, Any]] = mapped_column(server_default=text("'{}'"))
    seen_at: Mapped[datetime] = mapped_column(server_default=func.now())
    keys_revision: Mapped[int] = mapped_column(server_default=text("0"))
    sent_again: Mapped[str] = mapped_column(server_default=text("''"))
