"""Organisations and their people, on a running control plane: everything through its own pages and API."""

import secrets
from dataclasses import dataclass, replace
from typing import Any
from urllib.parse import parse_qs, urlsplit
from uuid import UUID

import httpx
from sqlalchemy.ext.asyncio import AsyncEngine

from chappe_control.settings import ControlSettings
from chappe_kernel.ids import MEMBER, TENANT, encode_id
from chappe_store.session import Database
from chappe_tenants.members.service import Role
from tests import letters
from tests.pages.browser import PASSWORD, Visitor
from tests.portal.reading import Element, read_page


@dataclass(frozen=True)
class Person:
    """Somebody's browser, signed in to one organisation; who they are there, as the database and as the API have it."""

    visitor: Visitor
    email: str
    tenant_id: UUID
    member_id: UUID

    @property
    def id(self) -> str:
        return encode_id(MEMBER, self.member_id)

    @property
    def organisation(self) -> str:
        return encode_id(TENANT, self.tenant_id)

    async def api(self, method: str, path: str, body: Any = None, **headers: str) -> httpx.Response:
        """As a script on one of our pages calls it."""
        sent = {"origin": self.visitor.portal_url, "sec-fetch-site": "same-origin", "accept": "application/json"}
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        return await self.visitor.request(method, f"/api/v1{path}", headers=sent | named, json=body)

    async def read(self, path: str, status: int = 200) -> Element:
        answer = await self.visitor.get(path)
        assert answer.status_code == status, (path, answer.status_code, answer.text[:500])
        return read_page(answer.text)

    async def invite(self, email: str, role: Role = Role.DEVELOPER) -> str:
        """The secret of the link in the letter."""
        known = len(letters.letters_to(email))
        answer = await self.api("POST", "/invitations", {"email": email, "role": role})
        assert answer.status_code == 201, answer.text
        assert answer.json()["link"] is None, "it is in the letter"
        return await secret_sent_to(email, after=known)

    async def change(self, other: "Person", role: Role) -> httpx.Response:
        """With the tag of what is there now."""
        seen = await self.api("GET", f"/members/{other.id}")
        assert seen.status_code == 200, seen.text
        return await self.api("PATCH", f"/members/{other.id}", {"role": role}, if_match=seen.headers["etag"])


@dataclass(frozen=True)
class PeopleWorld:
    http: httpx.AsyncClient
    settings: ControlSettings
    database: Database
    engine: AsyncEngine

    def browser(self, language: str = "en") -> Visitor:
        return Visitor(self.http, self.settings.portal_url, language=language)

    async def owner(self, organisation: str = "") -> Person:
        """Of an organisation of their own, just signed up."""
        visitor, email = self.browser(), new_address()
        await visitor.sign_up(organisation or f"Test {email}", email)
        return await self.person(visitor, email)

    async def person(self, visitor: Visitor, email: str) -> Person:
        """Who they are in the organisation that they signed in to last."""
        newest = "ORDER BY last_signed_in_at DESC NULLS LAST, id DESC LIMIT 1"
        query = f"SELECT tenant_id, id FROM member WHERE email = $1 {newest}"
        ((tenant_id, member_id),) = await self.sql(query, email)
        return Person(visitor, email, UUID(str(tenant_id)), UUID(str(member_id)))

    async def colleague(self, owner: Person, role: Role = Role.DEVELOPER) -> Person:
        """Invited by the owner, with a new account."""
        email = new_address()
        return await self.join(await owner.invite(email, role), email)

    async def join(self, secret: str, email: str, visitor: Visitor | None = None) -> Person:
        visitor = visitor or self.browser()
        answer = await visitor.post("/join", link=secret, password=PASSWORD)
        assert (answer.status_code, answer.headers.get("location")) == (303, "/overview"), answer.text
        return await self.person(visitor, email)

    async def switch(self, person: Person, to: Person) -> Person:
        """The same browser, in the other's organisation."""
        answer = await person.visitor.post("/organisations/switch", organisation=to.organisation)
        assert answer.status_code == 303, answer.text
        return await self.person(person.visitor, person.email)

    async def sql(self, statement: str, *values: Any) -> list[Any]:
        """As the superuser."""
        async with self.engine.connect() as connection:
            result = await connection.exec_driver_sql(statement, values or None)
            return [tuple(row) for row in result.all()] if result.returns_rows else []

    async def count(self, table: str) -> int:
        return int((await self.sql(f"SELECT count(*) FROM {table}"))[0][0])


def new_address() -> str:
    return f"mia-{secrets.token_hex(6)}@example.eu"


async def secret_sent_to(email: str, *, after: int = 0) -> str:
    """Of the link in the next letter, when `after` of them are known already."""
    return secret_in(letters.link_in(await letters.letter_to(email, after=after)))


def secret_in(link: str) -> str:
    """Of an invitation's link."""
    return parse_qs(urlsplit(link).query)["link"][0]


def copy_of(person: Person) -> Person:
    """Another browser with the same cookies."""
    twin = Visitor(person.visitor._http, person.visitor.portal_url)
    twin.cookies = dict(person.visitor.cookies)
    return replace(person, visitor=twin)
