"""The OpenAPI document is valid, and real answers are what it says."""

from typing import Any

from jsonschema import Draft202012Validator  # type: ignore[import-untyped]  # its stubs are not locked
from referencing import Registry, Resource

from tests.control.world import World

DOCUMENT = "https://chappe.test/openapi.json"


async def test_real_answers_conform(world: World) -> None:
    document = (await world.http.get("/schema/openapi.json")).json()
    key = await world.make_key(world.alice, regions=["fr-par"])
    await world.paris.use(key["secret"], await world.paris.lease(world.alice.id), 2)
    calls: list[tuple[str, str, str, Any]] = [
        ("GET", "/balance", "/balance", None),
        ("GET", "/usage/events", "/usage/events?limit=1", None),
        ("GET", "/usage/events", "/usage/events?limit=0", None),
        ("GET", "/usage/summary", "/usage/summary", None),
        ("GET", "/projects", "/projects", None),
        ("POST", "/projects", "/projects", {"name": "one", "regions": ["FR"]}),
        ("POST", "/projects", "/projects", {"name": "one"}),
        ("GET", "/keys", "/keys", None),
        ("POST", "/keys", "/keys", {"name": "one", "requests_per_minute": 5}),
        ("POST", "/keys", "/keys", {"nam": "one"}),
        ("DELETE", "/keys/{key_id}", f"/keys/{key['id']}", None),
        ("DELETE", "/keys/{key_id}", "/keys/none", None),
        ("GET", "/audit", "/audit", None),
        ("GET", "/listings", "/listings", None),
        ("GET", "/regions", "/regions", None),
        ("GET", "/prices", "/prices", None),
        ("GET", "/contract-terms", "/contract-terms", None),
    ]
    statuses = set()
    for method, path, url, body in calls:
        answer = await world.api(method, url, json=body)
        statuses.add(answer.status_code)
        operation = document["paths"][f"/api/v1{path}"][method.lower()]
        described = operation["responses"][str(answer.status_code)]
        if answer.status_code == 204:
            assert answer.content == b""
            continue
        media_type = answer.headers["content-type"]
        _validator(document, described["content"][media_type]["schema"]).validate(answer.json())
    assert statuses == {200, 201, 204, 400, 404, 409}


def test_document_is_consistent(openapi: dict[str, Any]) -> None:
    assert openapi["openapi"].startswith("3.1")
    for schema in openapi["components"]["schemas"].values():
        Draft202012Validator.check_schema(schema)
    operations = [operation for path in openapi["paths"].values() for operation in path.values()]
    tenants: Any = [{"managementKey": []}, {"portalSession": []}]
    operators: Any = [{"operatorToken": []}, {"consoleSession": []}]
    names = [operation["operationId"] for operation in operations]
    assert len(names) == len(set(names))
    schemes = openapi["components"]["securitySchemes"]
    assert {name: (scheme["type"], scheme.get("scheme") or scheme["in"]) for name, scheme in schemes.items()} == {
        "managementKey": ("http", "bearer"),
        "portalSession": ("apiKey", "cookie"),
        "operatorToken": ("http", "bearer"),
        "consoleSession": ("apiKey", "cookie"),
    }
    for path, methods in openapi["paths"].items():
        for operation in methods.values():
            callers = operators if path.startswith(("/api/v1/operator/", "/tmf-api/")) else tenants
            assert operation["security"] == ([{}] if path == "/api/v1/leaked-keys" else callers)
    for operation in operations:
        assert operation["summary"] and operation["description"]
        assert {"429", "503"} <= operation["responses"].keys()
        assert operation["security"] == [{}] or {"401", "403"} <= operation["responses"].keys()
        for parameter in operation.get("parameters", ()):
            assert parameter["description"]
    for reference in _references(openapi):
        target: Any = openapi
        for part in reference.removeprefix("#/").split("/"):
            target = target[part]


def test_every_operation_has_examples_that_fit(openapi: dict[str, Any]) -> None:
    """Of each parameter, body and answer. Whoever adds a field whose example does not fit adds a value to
    `openapi/examples.py`."""
    for path, methods in openapi["paths"].items():
        for operation in methods.values():
            where = operation["operationId"]
            shown = [(parameter["schema"], parameter["example"]) for parameter in operation.get("parameters", ())]
            for part in (operation.get("requestBody", {}), *operation["responses"].values()):
                shown += [(media["schema"], media["example"]) for media in part.get("content", {}).values()]
            assert len(shown) > 3, (path, where)
            for schema, example in shown:
                errors = [error.message for error in _validator(openapi, schema).iter_errors(example)]
                assert errors == [], (where, schema, example)


def test_every_problem_is_shown_with_its_own_status(openapi: dict[str, Any]) -> None:
    for methods in openapi["paths"].values():
        for operation in methods.values():
            for status, response in operation["responses"].items():
                if int(status) >= 400:
                    example = response["content"]["application/problem+json"]["example"]
                    assert example["status"] == int(status) and example["code"] and example["detail"]


def test_bodies_take_no_field_that_they_do_not_name(openapi: dict[str, Any]) -> None:
    """As the server does: a mistyped field is refused, and a generator of clients should know."""
    for methods in openapi["paths"].values():
        for operation in methods.values():
            for media in operation.get("requestBody", {}).get("content", {}).values():
                name = media["schema"]["$ref"].rpartition("/")[2]
                assert openapi["components"]["schemas"][name]["additionalProperties"] is False, name


def test_every_post_takes_an_idempotency_key_and_every_update_a_tag(openapi: dict[str, Any]) -> None:
    for path, methods in openapi["paths"].items():
        for method, operation in methods.items():
            headers = {found["name"] for found in operation.get("parameters", ()) if found["in"] == "header"}
            # Whoever reports a leak is nobody whose calls could be told apart; a key ends once by itself.
            if method == "post" and path != "/api/v1/leaked-keys":
                assert "Idempotency-Key" in headers, path
                assert {"400", "409"} <= operation["responses"].keys(), path
            if method in {"patch", "put"}:
                assert "If-Match" in headers, path
                assert {"400", "404", "412", "428"} <= operation["responses"].keys(), path


def test_internal_api_is_not_in_the_public_document(openapi: dict[str, Any]) -> None:
    assert all(path.startswith(("/api/v1/", "/tmf-api/")) for path in openapi["paths"])


def _validator(document: dict[str, Any], schema: dict[str, Any]) -> Draft202012Validator:
    registry: Registry[Any] = Registry().with_resource(DOCUMENT, Resource.opaque(document))
    return Draft202012Validator(
        _absolute(schema), registry=registry, format_checker=Draft202012Validator.FORMAT_CHECKER
    )


def _absolute(node: Any) -> Any:
    """With references to the document by its address."""
    if isinstance(node, dict):
        return {key: f"{DOCUMENT}{value}" if key == "$ref" else _absolute(value) for key, value in node.items()}
    return [_absolute(value) for value in node] if isinstance(node, list) else node


def _references(node: Any) -> list[str]:
    if isinstance(node, dict):
        own = [node["$ref"]] if isinstance(node.get("$ref"), str) else []
        return own + [found for value in node.values() for found in _references(value)]
    if isinstance(node, list):
        return [found for value in node for found in _references(value)]
    return []
