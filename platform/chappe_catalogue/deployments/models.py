"""Tables of what should run in each region, and of what the region's reconciler says that does."""

from datetime import datetime
from typing import Any

from sqlalchemy import ForeignKey, ForeignKeyConstraint, func
from sqlalchemy.orm import Mapped, mapped_column

from chappe_store.base import Base


class Deployment(Base):
    """Wanted. Its name is its listing's name."""

    __tablename__ = "deployment"

    region: Mapped[str] = mapped_column(ForeignKey("region.name"), primary_key=True)
    name: Mapped[str] = mapped_column(ForeignKey("listing.name"), primary_key=True)
    engine: Mapped[str]
    replicas: Mapped[int]
    max_ongoing_requests: Mapped[int]
    options: Mapped[dict[str, Any]]


class DeploymentState(Base):
    """Seen. A row goes when its deployment does."""

    __tablename__ = "deployment_state"
    __table_args__ = (
        ForeignKeyConstraint(["region", "name"], ["deployment.region", "deployment.name"], ondelete="CASCADE"),
    )

    region: Mapped[str] = mapped_column(primary_key=True)
    name: Mapped[str] = mapped_column(primary_key=True)
    state: Mapped[str]
    message: Mapped[str]
    replicas_running: Mapped[int]
    reported_at: Mapped[datetime] = mapped_column(server_default=func.now())
