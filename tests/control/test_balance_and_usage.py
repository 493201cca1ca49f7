"""The balance falls by exactly what usage cost."""

from tests.control.world import WELCOME_NANO, World


async def test_balance_falls_by_the_sum_of_the_events(world: World) -> None:
    grant = await world.paris.lease(world.alice.id)
    events = await world.paris.use(world.alice.keys["inference"], grant, 3)
    spent = sum(event.amount_nano for event in events)
    assert spent == 3 * (42 * 60 + 8 * 210)
    assert await world.available_nano(world.alice) == WELCOME_NANO - spent
    assert await world.available_nano(world.bob) == WELCOME_NANO
