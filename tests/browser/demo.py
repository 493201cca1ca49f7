"""Tenants with a past and a present, so that a new instance's pages look as they do after weeks of work.

The past is usage that the internal API takes as from the regions, moved back in time afterwards; only a throw-away
instance may be treated so. The present is real: programs that call the gateways until they are told to stop.
"""

import contextlib
import json
import math
import random
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Self
from uuid import UUID

import asyncpg
import httpx
import msgspec
import openai

from chappe_kernel.api_keys import KeyKind, generate_key
from chappe_kernel.ids import TenantId, new_id
from chappe_kernel.rating import Counts, Outcome, Price, charge
from chappe_kernel.wire import control as wire
from chappe_tenants.api_keys.service import digest_all
from chappe_tenants.peppers import parse_peppers
from tests.browser.screens import Account
from tests.instance import Instance

PASSWORD = "lantern-meadow-copper-drift"
_HOURS = 44
_SPAN_S = 3500
"""Of an hour: whatever begins in it ends in it."""
_FRENCH_KEY = "Back office"
# Everything but the events themselves is a sum over them, or belongs to the catalogue and the accounts.
_MOVE_BACK = """
    SET LOCAL session_replication_role = replica;
    UPDATE usage_event SET posted_at = least(finished_at + interval '1.2 s', posted_at);
    UPDATE ledger_transaction SET created_at = moved.at
      FROM (SELECT transaction_id, max(posted_at) AS at FROM usage_event GROUP BY 1) moved WHERE id = transaction_id;
    UPDATE ledger_transaction SET created_at = created_at - interval '23 days' WHERE kind = 'welcome_credit';
    UPDATE tenant SET created_at = created_at - interval '23 days';
    UPDATE api_key SET created_at = created_at - interval '22 days';
    UPDATE price_version SET starts_at = starts_at - interval '30 days';
    DELETE FROM usage_hour; DELETE FROM usage_day; DELETE FROM usage_month;
    SET LOCAL session_replication_role = origin;
    INSERT INTO usage_hour (tenant_id, hour, project_id, key_id, listing_id, region, requests, prompt_tokens,
                            cached_tokens, completion_tokens, amount_nano, written_off_nano)
    SELECT tenant_id, date_trunc('hour', posted_at, 'UTC'), project_id, key_id, listing_id, region, count(*),
           sum(prompt_tokens), sum(cached_tokens), sum(completion_tokens), sum(amount_nano), sum(written_off_nano)
    FROM usage_event GROUP BY 1, 2, 3, 4, 5, 6;
"""


@dataclass(frozen=True)
class Customer:
    """A tenant of the demonstration. `share` is how much it uses, `keys` are secrets by name."""

    name: str
    email: str
    share: float
    keys: dict[str, str]

    @property
    def account(self) -> Account:
        return Account(self.email, PASSWORD)


def customers() -> list[Customer]:
    """The first one is whose portal is shown."""
    made = [
        ("Maison Lumière", "camille@maison-lumiere.example", 1.0, (_FRENCH_KEY, "Product search", "Chatbot")),
        ("Alpenblick Kliniken", "anna@alpenblick.example", 0.7, ("Patient letters", "Triage")),
        ("Ville de Valmont", "marc@valmont.example", 0.45, ("Citizens' desk",)),
        ("Nordlicht Energie", "jonas@nordlicht.example", 0.3, ("Forecast reports",)),
        ("Atelier Brume", "lea@brume.example", 0.1, ("Drafts",)),
    ]
    return [
        Customer(name, email, share, {key: generate_key(KeyKind.INFERENCE) for key in keys})
        for name, email, share, keys in made
    ]


def plant(instance: Instance, folder: Path, wanted: list[Customer]) -> None:
    """Make the tenants, with the operator's own command."""
    regions = [region["name"] for region in instance.run["regions"]]
    for number, customer in enumerate(wanted):
        seed = {
            "tenant": {"name": customer.name, "allowed_regions": regions, "requests_per_minute": 6000},
            "project": "Production",
            "keys": [_key(name, secret) for name, secret in customer.keys.items()],
            "member": {"email": customer.email, "password": PASSWORD},
        }
        file = folder / f"{number}.json"
        file.write_text(json.dumps(seed))
        instance.chappe("tenant", "seed", str(file))


def _key(name: str, secret: str) -> dict[str, Any]:
    """One of them stays in France."""
    return {"name": name, "kind": "inference", "secret": secret, "regions": ["FR"] if name == _FRENCH_KEY else None}


async def give_past(instance: Instance, wanted: list[Customer]) -> None:
    """Two days of usage in every region, hour by hour, until a minute ago."""
    drawn = random.Random(1794)  # noqa: S311 -- figures of a demonstration, the same each time
    secrets: dict[str, Any] = json.loads((instance.state_dir / "secrets.json").read_text())
    peppers = parse_peppers(secrets["key_peppers"])
    for region, cell in secrets["cells"].items():
        with _Cell(instance, region, cell["credential"]) as calls:
            for customer in wanted:
                facts = [calls.facts(digest_all(key, peppers)) for key in customer.keys.values()]
                calls.post([one for one in facts if region in one.regions], customer.share, drawn)
    await _move_back(instance, secrets["postgres"]["superuser"])


@contextlib.contextmanager
def present(instance: Instance, wanted: list[Customer]) -> Iterator[None]:
    """Programs of all customers call both regions while the block runs."""
    ended = threading.Event()
    # One each, so that a small machine's model still has time for whoever takes the pictures.
    calls = list(zip(wanted, ("fr-par", "de-fra"), strict=False))
    threads = [threading.Thread(target=_call, args=(instance, *call, ended)) for call in calls]
    for thread in threads:
        thread.start()
    try:
        yield
    finally:
        ended.set()
        for thread in threads:
            thread.join()


_PROMPTS = (
    "Write a friendly reply to a customer whose parcel is late.",
    "Summarise in one sentence: the optical telegraph carried messages across France within minutes.",
    "Give three names for a bakery by the sea.",
    "Explain what a light year is to a child.",
)


def _call(instance: Instance, customer: Customer, region: str, ended: threading.Event) -> None:
    keys = [key for name, key in customer.keys.items() if name != _FRENCH_KEY]
    for number in range(10_000):
        if ended.wait(1.0):
            return
        client = openai.OpenAI(base_url=f"{instance.gateway(region)}/v1", api_key=keys[number % len(keys)])
        prompt = _PROMPTS[number % len(_PROMPTS)]
        client.chat.completions.create(
            model=instance.chat_model, messages=[{"role": "user", "content": prompt}], max_tokens=30
        )


class _Cell:
    """The internal API as one region's gateway calls it."""

    def __init__(self, instance: Instance, region: str, credential: str) -> None:
        self._gateway = f"{region}-gateway-0"
        self._region = region
        headers = {"authorization": f"Bearer {credential}"}
        self._http = httpx.Client(base_url=f"{instance.run['control']['url']}/internal/v1", headers=headers, timeout=60)
        self._offers: dict[str, tuple[UUID, Price]] = {}

    def __enter__(self) -> Self:
        snapshot = msgspec.json.decode(self._ask("GET", "/snapshot"), type=wire.Snapshot)
        for listing in snapshot.listings:
            for offer in listing.regions:
                if offer.region == self._region:
                    self._offers[listing.name] = (offer.prices[0].id, offer.prices[0].price)
        return self

    def __exit__(self, *_: object) -> None:
        self._http.close()

    def facts(self, digests: Any) -> wire.KeyFacts:
        return msgspec.json.decode(self._ask("POST", "/keys/resolve", wire.ResolveKey(digests)), type=wire.KeyFacts)

    def post(self, facts: list[wire.KeyFacts], share: float, drawn: random.Random) -> None:
        """Each batch lies within one hour: it is one transaction of the ledger."""
        until = datetime.now(UTC) - timedelta(minutes=1)
        this_hour = until.replace(minute=0, second=0, microsecond=0)
        for back in range(_HOURS, -1, -1):
            hour = this_hour - timedelta(hours=back)
            span_s = min((until - hour).total_seconds(), _SPAN_S)
            count = int(_busyness(hour) * share * drawn.uniform(0.75, 1.25) * span_s / _SPAN_S)
            moments = (hour + timedelta(seconds=drawn.uniform(0, span_s)) for _ in range(count))
            self._post([self._event(drawn.choice(facts), moment, drawn) for moment in moments])

    def _post(self, events: list[wire.UsageEvent]) -> None:
        if not events:
            return
        grant = wire.AskGrant(new_id(), TenantId(events[0].tenant_id), self._gateway, _total(events), _total(events))
        self._ask("POST", "/grants", grant)
        named = tuple(msgspec.structs.replace(event, grant_id=grant.grant_id) for event in events)
        batch = wire.UsageBatch(self._gateway, named)
        receipt = msgspec.json.decode(self._ask("POST", "/usage", batch), type=wire.UsageReceipt)
        assert receipt.posted == len(events), receipt

    def _event(self, facts: wire.KeyFacts, started: datetime, drawn: random.Random) -> wire.UsageEvent:
        listing = drawn.choices(list(self._offers), [4 if "smollm" in name else 1 for name in self._offers])[0]
        is_chat = "smollm" in listing
        version, price = self._offers[listing]
        prompt = int(drawn.lognormvariate(6.0, 0.7)) % 1600 + 12
        cached = drawn.choice((0, 0, prompt // 2)) if is_chat else 0
        counts = Counts(prompt, cached, int(drawn.lognormvariate(5.0, 0.6)) % 900 + 4 if is_chat else 0)
        outcome = drawn.choices((Outcome.COMPLETED, Outcome.DISCONNECTED), (97, 3))[0] if is_chat else Outcome.COMPLETED
        ttft_ms = int(drawn.lognormvariate(4.6, 0.35)) if is_chat else None
        took_ms = (ttft_ms or 20) + counts.completion_tokens * 9
        amount = charge(price, outcome, counts)
        return wire.UsageEvent(
            request_id=_id_at(started),
            tenant_id=facts.tenant_id,
            project_id=facts.project_id,
            key_id=facts.key_id,
            grant_id=new_id(),
            listing=listing,
            price_version=version,
            outcome=outcome,
            counts=counts,
            amount_nano=amount,
            hold_nano=amount * 2 + 50_000,
            started_at=started,
            finished_at=started + timedelta(milliseconds=took_ms),
            ttft_ms=ttft_ms,
        )

    def _ask(self, method: str, path: str, message: object = None) -> bytes:
        content = None if message is None else msgspec.json.encode(message)
        answer = self._http.request(method, path, content=content)
        assert answer.is_success, f"{path}: {answer.status_code} {answer.text}"
        return answer.content


def _busyness(hour: datetime) -> float:
    """Requests in that hour: few at night, most in the afternoon."""
    daylight = max(0.0, math.sin((hour.hour - 5) / 17 * math.pi))
    return 14 + 60 * daylight * math.sqrt(daylight)


def _total(events: list[wire.UsageEvent]) -> int:
    return sum(event.amount_nano for event in events)


def _id_at(moment: datetime) -> UUID:
    """A UUIDv7 of that millisecond."""
    value = bytearray(new_id().bytes)
    value[:6] = int(moment.timestamp() * 1000).to_bytes(6)
    return UUID(bytes=bytes(value))


async def _move_back(instance: Instance, password: str) -> None:
    """As the superuser, whom no policy and no trigger stops."""
    host = f"{instance.status()['runtime_dir']}/pg"
    connection = await asyncpg.connect(host=host, user="postgres", password=password, database="chappe")
    try:
        async with connection.transaction():
            await connection.execute(_MOVE_BACK)
    finally:
        await connection.close()
