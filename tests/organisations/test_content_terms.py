"""How long a region may keep a project's content: as long as its organisation says, and nowhere that it may not be."""

import msgspec

from chappe_kernel.ids import new_id
from chappe_kernel.wire.control import AskContentTerms, ContentHolder, ContentTerms
from tests.organisations.world import Organisation, Organisations


async def terms(world: Organisations, *holders: ContentHolder, region: str = "fr-par") -> list[float]:
    answer = await world.cell(region).call("POST", "/content/terms", AskContentTerms(holders))
    assert answer.status_code == 200, answer.text
    told = msgspec.json.decode(answer.content, type=list[ContentTerms])
    assert [one.holder for one in told] == list(holders)
    return [one.kept_for_s for one in told]


async def holder_of(world: Organisations, made: Organisation) -> ContentHolder:
    facts = await world.cell().resolve(made.keys["inference"])
    assert facts is not None
    return ContentHolder(facts.tenant_id, facts.project_id)


async def test_nothing_is_kept_unless_the_organisation_says_so_and_gateways_are_told(world: Organisations) -> None:
    made = await world.organisation()
    holder = await holder_of(world, made)
    assert (await made.api.get("/organisation"))["content_kept_for_s"] == 0
    assert await terms(world, holder) == [0]
    before = await world.cell().keys_revision()
    await made.api.change("/organisation", {"content_kept_for_s": 604_800})
    assert await world.cell().keys_revision() > before
    facts = await world.cell().resolve(made.keys["inference"])
    assert facts is not None and facts.content_kept_for_s == 604_800
    assert await terms(world, holder) == [604_800]
    for wrong in (-1, 30 * 24 * 3600 + 1, "1", None):
        assert (await made.api.change("/organisation", {"content_kept_for_s": wrong}, 400))["param"] is not None


async def test_a_region_outside_the_residency_keeps_nothing(world: Organisations) -> None:
    made, other = await world.organisation(), await world.organisation()
    holder, beside = await holder_of(world, made), await holder_of(world, other)
    for one in (made, other):
        await one.api.change("/organisation", {"content_kept_for_s": 3600})
    assert await terms(world, holder, beside, region="de-fra") == [3600, 3600]
    await made.api.change("/organisation", {"allowed_regions": ["FR"]})
    assert await terms(world, holder, beside, region="de-fra") == [0, 3600]
    assert await terms(world, holder, beside) == [3600, 3600]
    await world.sql(f"UPDATE project SET allowed_regions = '{{DE}}' WHERE id = '{beside.project_id}'")
    assert await terms(world, holder, beside) == [3600, 0]


async def test_a_closed_organisation_and_one_that_nobody_knows_keep_nothing(world: Organisations) -> None:
    made = await world.organisation()
    holder = await holder_of(world, made)
    await made.api.change("/organisation", {"content_kept_for_s": 3600})
    strangers = [
        ContentHolder(new_id(), holder.project_id),
        ContentHolder(holder.tenant_id, new_id()),
    ]
    assert await terms(world, *strangers, holder) == [0, 0, 3600]
    await world.sql(f"UPDATE tenant SET state = 'suspended', state_reason = 'unpaid' WHERE id = '{holder.tenant_id}'")
    assert await terms(world, holder) == [3600], "suspended is not over"
    await world.sql(f"UPDATE tenant SET state = 'closed', state_reason = 'unpaid' WHERE id = '{holder.tenant_id}'")
    assert await terms(world, holder) == [0]


async def test_too_many_at_once_are_refused(world: Organisations) -> None:
    holders = tuple(ContentHolder(new_id(), new_id()) for _ in range(1001))
    answer = await world.cell().call("POST", "/content/terms", AskContentTerms(holders))
    assert (answer.status_code, answer.json()["param"]) == (400, "holders")
