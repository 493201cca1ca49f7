"""`python -m chappe_local.vies_stand_in PORT`: answers as VIES's REST interface does, about numbers that nobody has.

The Commission's test service knows a few numbers (`100` is valid, `200` is not, `201` and up are its errors). Tenants'
numbers have a shape, so here their last three digits count: DE123456100 is confirmed, DE123456200 is not, DE123456301
finds Germany's register away. Whatever ends otherwise is confirmed.
"""

import asyncio
import sys
from datetime import UTC, datetime
from hashlib import sha256
from typing import Any

import uvicorn
from litestar import Litestar, Response, get, post
from litestar.params import JSONBody
from msgspec import Struct

from chappe_kernel.process import prepare_process

_HOST = "127.0.0.1"
_VALID, _INVALID = "100", "200"
ERRORS = {
    "201": "INVALID_INPUT",
    "202": "INVALID_REQUESTER_INFO",
    "300": "SERVICE_UNAVAILABLE",
    "301": "MS_UNAVAILABLE",
    "302": "TIMEOUT",
    "400": "VAT_BLOCKED",
    "401": "IP_BLOCKED",
    "500": "GLOBAL_MAX_CONCURRENT_REQ",
    "501": "GLOBAL_MAX_CONCURRENT_REQ_TIME",
    "600": "MS_MAX_CONCURRENT_REQ",
    "601": "MS_MAX_CONCURRENT_REQ_TIME",
}


class Question(Struct, rename="camel"):
    country_code: str
    vat_number: str
    requester_member_state_code: str | None = None
    requester_number: str | None = None


def make_app() -> Litestar:
    return Litestar([check_status, check_vat_number, check_test_service], openapi_config=None, logging_config=None)


@get("/check-status")
async def check_status() -> dict[str, Any]:
    return {"vow": {"available": True}, "countries": []}


@post("/check-vat-number", status_code=200)
async def check_vat_number(data: JSONBody[Question]) -> Response[dict[str, Any]]:
    return _answer(data, data.vat_number[-3:])


@post("/check-vat-test-service", status_code=200)
async def check_test_service(data: JSONBody[Question]) -> Response[dict[str, Any]]:
    known = data.vat_number in {_VALID, _INVALID, *ERRORS}
    return _answer(data, data.vat_number if known else "300")


def _answer(question: Question, code: str) -> Response[dict[str, Any]]:
    if code in ERRORS:
        return Response({"actionSucceed": False, "errorWrappers": [{"error": ERRORS[code]}]}, status_code=500)
    is_valid = code != _INVALID
    asked = f"{question.country_code}{question.vat_number}"
    requester = f"{question.requester_member_state_code or ''}{question.requester_number or ''}"
    proof = f"STANDIN{sha256(f'{asked} {requester}'.encode()).hexdigest()[:9].upper()}" if requester else ""
    return Response(
        {
            "countryCode": question.country_code,
            "vatNumber": question.vat_number,
            "requestDate": datetime.now(UTC).isoformat(),
            "valid": is_valid,
            "requestIdentifier": proof,
            "name": "A company of the stand-in's" if is_valid else "---",
            "address": "1 Test Street\n10000 Nowhere" if is_valid else "---",
        }
    )


async def run(port: int) -> None:
    config = uvicorn.Config(
        make_app(), host=_HOST, port=port, log_config=None, access_log=False, server_header=False, ws="none"
    )
    await uvicorn.Server(config).serve()


if __name__ == "__main__":
    prepare_process("vies")
    asyncio.run(run(int(sys.argv[1])))
