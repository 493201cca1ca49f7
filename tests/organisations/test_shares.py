"""Whose requests wait by which weight: who is verified, and the share of a plan or a contract, as gateways are told."""

import secrets

from chappe_control.onboarding.service import Terms, open_organisation
from chappe_kernel.ids import TENANT, encode_id
from chappe_tenants.organisations.service import Seller
from tests.organisations.world import DETAILS, Organisation, Organisations, tenant_id_of


async def told(world: Organisations, made: Organisation) -> tuple[bool, int]:
    """What gateways hear of the organisation's key."""
    facts = await world.cell().resolve(made.keys["inference"])
    assert facts is not None
    return facts.verified, facts.share


async def change(world: Organisations, made: Organisation, **fields: object) -> None:
    before = await world.cell().keys_revision()
    operator = await world.operator()
    await operator.change(f"/operator/tenants/{made.public_id}", fields)
    assert await world.cell().keys_revision() > before


async def test_who_signs_up_alone_is_not_verified_until_the_operator_says_so(world: Organisations) -> None:
    terms = Terms(Seller(), 60, welcome_credit_nano=0, allowed_regions=("fr-par",))
    async with world.control.database.operator() as session:
        opened = await open_organisation(session, name="Signs up", terms=terms)
    begun = await (await world.operator()).get(f"/operator/tenants/{encode_id(TENANT, opened.scope.tenant_id)}")
    assert (begun["state"], begun["verified"]) == ("active", False)
    made = await world.organisation()
    await change(world, made, verified=False)
    assert await told(world, made) == (False, 1)
    await change(world, made, verified=True)
    assert await told(world, made) == (True, 1)
    assert "verified" not in await made.api.get("/organisation")
    assert (await made.api.change("/organisation", {"verified": True}, 400))["param"] is not None


async def test_to_be_verified_as_a_state_is_to_be_verified_for_good(world: Organisations) -> None:
    applied = await world.create(**DETAILS, name="Applies", state="applied")
    assert applied["verified"] is False
    assert (await world.step(tenant_id_of(applied), "verified", "details_checked"))["verified"] is True
    assert (await world.step(tenant_id_of(applied), "active", "contract_signed"))["verified"] is True
    assert (await world.create(name="Known", state="active"))["verified"] is True


async def test_a_contracts_share_holds_before_its_plans(world: Organisations) -> None:
    made = await world.organisation()
    operator = await world.operator()
    plan = f"gold-{secrets.token_hex(3)}"
    created = await operator.post("/operator/plans", {"name": plan, "title": "Gold", "share": 3}, 201)
    assert created["share"] == 3
    await change(world, made, plan=plan)
    assert (await told(world, made))[1] == 3
    await change(world, made, share=7)
    assert (await told(world, made))[1] == 7
    await change(world, made, share=None)
    assert (await told(world, made))[1] == 3
    before = await world.cell().keys_revision()
    await operator.change(f"/operator/plans/{plan}", {"title": "Gold", "share": 5}, method="PUT")
    assert await world.cell().keys_revision() > before
    assert (await told(world, made))[1] == 5
    for wrong in (0, 1001, "2"):
        assert (await operator.change(f"/operator/tenants/{made.public_id}", {"share": wrong}, 400))[
            "param"
        ] is not None
