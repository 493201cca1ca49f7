"""The declarative base that every feature's `models.py` builds on."""

import pkgutil
from datetime import datetime
from importlib import import_module
from typing import Any, ClassVar
from uuid import UUID

from sqlalchemy import BigInteger, DateTime, LargeBinary, MetaData, Text, Uuid
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.orm import DeclarativeBase

_PACKAGES = ("chappe_store", "chappe_catalogue", "chappe_tenants", "chappe_billing", "chappe_control")
# Constraints have predictable names, so that a migration can name the one that it replaces.
_NAMES = {
    "ix": "ix_%(table_name)s_%(column_0_N_name)s",
    "uq": "uq_%(table_name)s_%(column_0_N_name)s",
    "ck": "ck_%(table_name)s_%(constraint_name)s",
    "fk": "fk_%(table_name)s_%(column_0_N_name)s_%(referred_table_name)s",
    "pk": "pk_%(table_name)s",
}


class Base(DeclarativeBase):
    """Integers are 64 bits wide, times carry their zone. Relationships, if any, are declared `lazy="raise"`."""

    metadata = MetaData(naming_convention=_NAMES)
    type_annotation_map: ClassVar[dict[Any, Any]] = {
        UUID: Uuid(),
        datetime: DateTime(timezone=True),
        int: BigInteger(),
        str: Text(),
        bytes: LargeBinary(),
        dict[str, Any]: JSONB(),
    }


def load_models() -> MetaData:
    """Every table of every feature. A flush follows foreign keys, and so needs also those tables that nothing else
    in its process has imported."""
    for package in _PACKAGES:
        for module in pkgutil.walk_packages(import_module(package).__path__, f"{package}."):
            if module.name.endswith(".models"):
                import_module(module.name)
    return Base.metadata
