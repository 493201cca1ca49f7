"""SQL for publishers."""

from uuid import UUID

from sqlalchemy import select
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncSession

from chappe_catalogue.publishers.models import Publisher
from chappe_kernel.ids import PublisherId


async def put_publisher(session: AsyncSession, *, publisher_id: PublisherId, name: str, title: str) -> PublisherId:
    """Insert, or change the title of the one with this name, which keeps its id."""
    kept: UUID = (
        await session.execute(
            insert(Publisher)
            .values(id=publisher_id, name=name, title=title)
            .on_conflict_do_update(index_elements=["name"], set_={"title": title})
            .returning(Publisher.id)
        )
    ).scalar_one()
    return PublisherId(kept)


async def publisher_names(session: AsyncSession) -> dict[UUID, str]:
    return {row.id: row.name for row in await session.execute(select(Publisher.id, Publisher.name))}
