"""docs/openapi.yaml is valid and agrees with the code: every route and method, every member, every limit."""

from __future__ import annotations

import ast
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast, get_args

import falcon.asgi
import msgspec
import pytest
from falcon.inspect import inspect_routes
from openapi_spec_validator import OpenAPIV31SpecValidator
from sqlalchemy import create_engine

from ca.certificates.accept import MAX_CSR_BYTES
from ca.certificates.ocsp import MAX_REQUEST_BYTES as MAX_OCSP_BYTES
from ca.front import agents_api, certificates_api, est_api
from ca.front.app import build_app
from ca.items import ReasonCode
from ca.status import app as status_app
from certmgr import api as manager_api
from certmgr.agents import Agents
from certmgr.lifecycle import AgentState
from certmgr.processes import LinuxProcesses
from credsvc.front import app as credentials_app
from credsvc.front import batch, listing, requests, stages
from credsvc.front.parts import FrontParts as CredentialsParts
from credsvc.store.tables import LEDGER
from ostiary.edge import problems
from ostiary.front import http
from ostiary.front.ledger_api import add_ledger_routes
from ostiary.front.offload import Offload
from ostiary.front.worker import Limits
from tests.support.ca_authority import AuthorityForTests
from tests.support.ca_front import FrontForTests
from tests.support.manager_records import FakeClock, authority
from tests.support.openapi import SERVICES, document, operation, operations, resolve
from tests.support.repository import ROOT

App = falcon.asgi.App[Any, Any]


class Anything:
    """Stands for parts that building an application only passes on."""

    def __getattr__(self, name: str) -> Any:
        return Anything()


def ca_app(directory: Path) -> App:
    return build_app(FrontForTests(directory).parts)


def status_application(directory: Path) -> App:
    ca = AuthorityForTests()
    return status_app.build_app(
        status_app.StatusParts(
            lists=cast("Any", Anything()),
            ask=cast("Any", Anything()),
            last_revocation=cast("Any", Anything()),
            issuing=ca.issuing,
            root=ca.root,
            root_crl_der=ca.root_crl(),
            buckets=cast("Any", Anything()),
            clock=FakeClock(),
            metrics=cast("Any", Anything()),
        )
    )


def credentials_application(directory: Path) -> App:
    class Parts(Anything):
        def mount_ledger(self, app: App, admit: Any) -> None:
            engine = create_engine("sqlite://")
            offload = cast("Any", Anything())
            add_ledger_routes(app, "/v1/ledger", engine=engine, tables=LEDGER, admit=admit, offload=offload)

    return credentials_app.build_app(cast("CredentialsParts", Parts()))


def manager_application(directory: Path) -> App:
    return manager_api.build_api(
        cast("Agents", Anything()),
        view=LinuxProcesses(),
        root=authority().root,
        clock=FakeClock(),
        status=dict,
        offload=Offload(threads=1),
    )


APPS: dict[str, Callable[[Path], App]] = {
    "ca": ca_app,
    "status": status_application,
    "credentials": credentials_application,
    "manager": manager_application,
}


def routes_of(app: App) -> set[tuple[str, str]]:
    """(method, path template) of all that was added; falcon's own OPTIONS and 405 answers are internal."""
    return {
        (method.method, route.path.replace(":path}", "}"))
        for route in inspect_routes(app)
        for method in route.methods
        if not method.internal
    }


def described(service: str) -> set[tuple[str, str]]:
    return {(each.method, each.path) for each in operations() if service in each.services}


def difference(app: App, service: str) -> tuple[set[tuple[str, str]], set[tuple[str, str]]]:
    """What only the code has, and what only the document has."""
    routes, documented = routes_of(app), described(service)
    return routes - documented, documented - routes


def test_the_document_is_valid() -> None:
    OpenAPIV31SpecValidator(document()).validate()


@pytest.mark.parametrize("service", SERVICES)
def test_each_route_is_described_and_nothing_else(service: str, tmp_path: Path) -> None:
    assert difference(APPS[service](tmp_path), service) == (set(), set())


@pytest.mark.parametrize("service", SERVICES)
def test_a_route_or_method_too_many_is_seen(service: str, tmp_path: Path) -> None:
    class Extra:
        async def on_get(self, req: falcon.asgi.Request, resp: falcon.asgi.Response) -> None: ...
        async def on_delete(self, req: falcon.asgi.Request, resp: falcon.asgi.Response) -> None: ...

    app = APPS[service](tmp_path)
    app.add_route("/v1/extra", Extra())
    assert difference(app, service)[0] == {("GET", "/v1/extra"), ("DELETE", "/v1/extra")}


@pytest.mark.parametrize("service", SERVICES)
def test_a_route_that_is_gone_is_seen(service: str) -> None:
    assert difference(http.create_app(audience="network"), service)[1] == described(service) != set()


def test_the_servers_of_a_path_are_those_of_its_tags() -> None:
    for each in operations():
        assert each.services == each.served, each.path


def test_operations_have_names_of_their_own() -> None:
    names = [each.value["operationId"] for each in operations()]
    assert len(names) == len(set(names)) > 20


# --- bodies ---

REQUESTS: dict[str, type[msgspec.Struct]] = {
    "SpawnRequest": agents_api.AgentRequest,
    "RevocationRequest": certificates_api.Revocation,
    "UseRequest": requests.RawRequest,
    "BatchRequest": requests.RawBatch,
    "NewAgentRequest": manager_api._Request,
    "ClaimRequest": manager_api._Claim,
    "UpcallRequest": manager_api._Upcall,
}
ANSWERS: dict[str, type[msgspec.Struct]] = {
    "Problem": problems.Problem,
    "Released": stages.Released,
    "Explained": stages.Explained,
    "BatchFailure": http.Failure,
    "CredentialSummary": listing.CredentialSummary,
}
# What says more than a type can: our document has it, msgspec's schema doesn't.
_SAYS_MORE = {"title", "description", "examples", "pattern", "format", "contentEncoding"} | {
    "minLength",
    "maxLength",
    "minimum",
    "maximum",
    "minItems",
    "maxItems",
}


def bare(schema: dict[str, Any]) -> dict[str, Any]:
    """A schema's types and members only, in one spelling."""
    schema = {key: value for key, value in resolve(schema).items() if key not in _SAYS_MORE}
    if "anyOf" in schema:
        schema["type"] = [each["type"] for each in schema.pop("anyOf")]
    for key in ("required", "enum"):
        if key in schema:
            schema[key] = sorted(schema[key])
    if "properties" in schema:
        schema["properties"] = {name: bare(each) for name, each in schema["properties"].items()}
    for key in ("items", "additionalProperties"):
        if isinstance(schema.get(key), dict):
            schema[key] = bare(schema[key])
    return schema


def of_struct(struct: type[msgspec.Struct]) -> dict[str, Any]:
    described = msgspec.json.schema_components([struct], ref_template="#/components/schemas/{name}")[1]
    return bare(described[struct.__name__])


def in_document(name: str) -> dict[str, Any]:
    return bare(document()["components"]["schemas"][name])


@pytest.mark.parametrize("name", REQUESTS)
def test_a_request_has_the_members_that_the_code_takes_and_no_others(name: str) -> None:
    assert in_document(name) == of_struct(REQUESTS[name])
    assert in_document(name)["additionalProperties"] is False


@pytest.mark.parametrize("name", ANSWERS)
def test_an_answer_has_the_members_that_the_code_gives(name: str) -> None:
    assert in_document(name) | {"additionalProperties": None} == of_struct(ANSWERS[name]) | {
        "additionalProperties": None
    }


@pytest.mark.parametrize(
    "changed",
    [
        msgspec.defstruct("R", [("reason", ReasonCode), ("more", str)], forbid_unknown_fields=True),
        msgspec.defstruct("R", [("reason", ReasonCode, "unspecified")], forbid_unknown_fields=True),
        msgspec.defstruct("R", [("reason", str)], forbid_unknown_fields=True),
        msgspec.defstruct("R", [("reason", ReasonCode)]),
        msgspec.defstruct("R", [], forbid_unknown_fields=True),
    ],
    ids=["member too many", "not required", "other type", "open", "member too few"],
)
def test_each_difference_of_a_body_is_seen(changed: type[msgspec.Struct]) -> None:
    assert in_document("RevocationRequest") != of_struct(changed)


def test_no_json_body_is_forgotten() -> None:
    read = set()
    for path in [
        path for top in ("ca", "certmgr", "credsvc", "ostiary") for path in (ROOT / top).rglob("*.py")
    ]:
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "read_json":
                read.add(ast.unparse(node.args[1]))
    assert read == {struct.__name__ for struct in REQUESTS.values()}


def test_every_json_request_is_one_of_them() -> None:
    named = set()
    for each in operations():
        content = (each.body or {}).get("content", {})
        if "application/json" in content:
            named.add(content["application/json"]["schema"]["$ref"].rpartition("/")[2])
    assert named == set(REQUESTS)


# --- limits and errors ---

LIMITS = {
    "application/json": {http.DEFAULT_BODY_BYTES, requests.MAX_REQUEST_BYTES, requests.MAX_BATCH_BYTES},
    "application/pkcs10": {est_api._BODY_BYTES},
    "application/ocsp-request": {MAX_OCSP_BYTES},
}


def test_each_body_has_the_limit_that_the_code_has() -> None:
    for each in operations():
        if each.body is not None:
            (content_type,) = each.body["content"]
            assert each.body["x-max-body-bytes"] in LIMITS[content_type], each.path
            assert {"408", "413", "415"} <= set(each.responses), each.path
    limits = {
        "": requests.MAX_REQUEST_BYTES,
        "/explain": requests.MAX_REQUEST_BYTES,
        "/batch": requests.MAX_BATCH_BYTES,
    }
    for use, limit in limits.items():
        body = operation(
            "credentials", "POST", f"/v1/credentials/{{name}}/operations/{{operation}}{use}"
        ).body
        assert body is not None
        assert body["x-max-body-bytes"] == limit


def test_numbers_in_its_prose_are_the_codes() -> None:
    prose = " ".join(document()["info"]["description"].split())
    limits = Limits()
    assert f"Request line {limits.request_line_bytes:,} bytes" in prose
    assert f"{limits.header_fields} header fields of {limits.header_field_bytes:,} bytes" in prose
    assert f"{limits.max_head_bytes >> 10} KiB together" in prose
    assert limits.head_s == 5
    csr = document()["components"]["requestBodies"]["CSR"]["description"]
    assert f"{MAX_CSR_BYTES:,} bytes at most" in " ".join(csr.split())
    many = document()["components"]["schemas"]["BatchRequest"]["properties"]["requests"]
    assert many["maxItems"] == requests.MAX_BATCH
    said = operation("credentials", "POST", "/v1/credentials/{name}/operations/{operation}/batch").value
    assert f"more than {batch.MAX_ANSWER_BYTES:,} bytes" in said["description"]
    wait = operation("ca", "GET", "/v1/revocations").value["parameters"][1]["schema"]
    assert wait["maximum"] == certificates_api.MAX_WAIT_S


def test_every_error_is_a_problem_document() -> None:
    for each in operations():
        for status, response in each.responses.items():
            if status == "default" or status >= "400":
                schema = response["content"]["application/problem+json"]["schema"]
                assert schema == {"$ref": "#/components/schemas/Problem"}, (each.path, status)


def test_who_must_wait_is_told_how_long() -> None:
    for each in operations():
        for status in {"429", "503"} & set(each.responses):
            assert "Retry-After" in each.responses[status]["headers"], (each.path, status)


def test_who_asks_is_said_for_each_operation() -> None:
    for each in operations():
        assert isinstance(each.value.get("security"), list), each.path
        assert ("x-peer" in each.value) == (each.services == ("manager",)), each.path


def test_closed_sets_are_the_codes() -> None:
    schemas = document()["components"]["schemas"]
    assert set(schemas["AgentState"]["enum"]) == {state.value for state in AgentState}
    assert set(schemas["ReasonCode"]["enum"]) == set(get_args(ReasonCode))
