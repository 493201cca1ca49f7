"""The Commission's VIES over its REST interface: is a VAT number in force, and the proof of having asked.

`POST {url}/check-vat-number` with `countryCode`, `vatNumber` and the requester's own two; the answer repeats the number
and has `valid`, `requestIdentifier` (the consultation number), `name` and `address`. Errors come with any status, as
`errorWrappers` or `userError`: a register that is away says nothing of a number. So only an answer that is whole and of
the number asked for is one; everything else is an outage.
"""

import asyncio
from typing import Any, Protocol

import httpx
import msgspec
from msgspec import Struct

from chappe_kernel.errors import Unavailable

# Registers take seconds.
_TIMEOUT_S = 20.0
_MAX_BYTES = 64 * 1024
_MAX_NAME, _MAX_ADDRESS, _MAX_CONSULTATION, _MAX_ERROR = 1000, 2000, 100, 60
_PREFIX = 2
# What a register writes that does not tell names and addresses.
_WITHHELD = frozenset(("", "---"))
# A tuple: what a stranger sends may not be hashable.
_CONCLUSIVE = ("VALID", "INVALID")


class ViesAnswer(Struct, frozen=True):
    """`consultation_number` is given to a requester with a number of its own; some registers tell no name."""

    valid: bool
    consultation_number: str | None = None
    name: str | None = None
    address: str | None = None


class NoAnswer(Unavailable):
    """Nothing was learned about the number. The code is VIES's (`MS_UNAVAILABLE`), or ours."""


class Ask(Protocol):
    """Whoever can be asked. Raises `NoAnswer`."""

    async def __call__(self, vat_number: str, requester: str | None) -> ViesAnswer: ...


class Vies:
    """The interface at `url`. It follows no redirect, and uses no proxy that the environment names."""

    def __init__(self, url: str, *, timeout_s: float = _TIMEOUT_S) -> None:
        self._url = f"{url.rstrip('/')}/check-vat-number"
        self._timeout_s = timeout_s
        self._client = httpx.AsyncClient(timeout=timeout_s, follow_redirects=False, trust_env=False)

    async def close(self) -> None:
        await self._client.aclose()

    async def __call__(self, vat_number: str, requester: str | None) -> ViesAnswer:
        """Numbers with their prefix. Raises `NoAnswer`."""
        body = {"countryCode": vat_number[:_PREFIX], "vatNumber": vat_number[_PREFIX:]}
        if requester is not None:
            body |= {"requesterMemberStateCode": requester[:_PREFIX], "requesterNumber": requester[_PREFIX:]}
        try:
            async with asyncio.timeout(self._timeout_s):
                status, answered = await self._post(body)
        except (httpx.HTTPError, TimeoutError, OSError) as error:
            raise NoAnswer("VIES cannot be reached", code=type(error).__name__) from error
        return read_answer(vat_number, status, answered)

    async def _post(self, body: dict[str, str]) -> tuple[int, bytes]:
        async with self._client.stream("POST", self._url, json=body) as response:
            answered = bytearray()
            async for piece in response.aiter_bytes():
                answered += piece
                if len(answered) > _MAX_BYTES:
                    raise NoAnswer("VIES answers more than it should", code="too_long")
            return response.status_code, bytes(answered)


def read_answer(vat_number: str, status: int, answered: bytes) -> ViesAnswer:
    """Pure. Raises `NoAnswer` for whatever is not certainly an answer about this number."""
    try:
        said = msgspec.json.decode(answered)
    except msgspec.DecodeError:
        said = None
    if not isinstance(said, dict):
        raise NoAnswer("VIES answers what is no answer", code=f"http_{status}")
    error = _error_in(said)
    if error is not None:
        raise NoAnswer("VIES could not check the number", code=error)
    of = f"{said.get('countryCode')}{said.get('vatNumber')}"
    if status != httpx.codes.OK or type(said.get("valid")) is not bool or of != vat_number:
        raise NoAnswer("VIES answers something else", code=f"http_{status}")
    return ViesAnswer(
        valid=said["valid"],
        consultation_number=_text(said.get("requestIdentifier"), _MAX_CONSULTATION),
        name=_text(said.get("name"), _MAX_NAME),
        address=_text(said.get("address"), _MAX_ADDRESS),
    )


def _error_in(said: dict[str, Any]) -> str | None:
    wrappers = said.get("errorWrappers")
    if isinstance(wrappers, list) and wrappers and isinstance(wrappers[0], dict):
        return str(wrappers[0].get("error"))[:_MAX_ERROR]
    if said.get("actionSucceed") is False:
        return "unnamed"
    error = said.get("userError")
    return None if error is None or error in _CONCLUSIVE else str(error)[:_MAX_ERROR]


def _text(value: object, at_most: int) -> str | None:
    if not isinstance(value, str) or value.strip() in _WITHHELD:
        return None
    return value.replace("\0", "").strip()[:at_most] or None
