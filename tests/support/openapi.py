"""docs/openapi.yaml for tests: the document, its operations, and a check of values against its schemas."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from typing import Any

import yaml
from jsonschema import Draft202012Validator
from referencing import Registry, Resource
from referencing.jsonschema import DRAFT202012

from tests.support.repository import ROOT

PATH = ROOT / "docs" / "openapi.yaml"
METHODS = ("get", "put", "post", "delete", "options", "head", "patch", "trace")
SERVICES = ("ca", "status", "credentials", "manager")
_URI = "urn:openapi"


@cache
def document() -> dict[str, Any]:
    loaded: dict[str, Any] = yaml.safe_load(PATH.read_text("utf-8"))
    return loaded


@dataclass(frozen=True, slots=True, kw_only=True)
class Operation:
    """One method of one path; `path` as the service sees it, without the socket that a manager's
    begins with.
    """

    path: str
    method: str
    services: tuple[str, ...]
    served: tuple[str, ...]
    value: dict[str, Any]

    @property
    def responses(self) -> dict[str, Any]:
        return {status: resolve(response) for status, response in self.value["responses"].items()}

    @property
    def body(self) -> dict[str, Any] | None:
        return resolve(self.value["requestBody"]) if "requestBody" in self.value else None


def resolve(value: dict[str, Any]) -> dict[str, Any]:
    """Follow a reference within the document; nested references stay."""
    while "$ref" in value:
        found: Any = document()
        for step in value["$ref"].removeprefix("#/").split("/"):
            found = found[step]
        value = found
    return value


def operations() -> Iterator[Operation]:
    servers = document()["servers"]
    for path, item in document()["paths"].items():
        served = tuple(SERVICES[servers.index(server)] for server in item["servers"])
        for method in METHODS:
            if method in item:
                yield Operation(
                    path=path.removeprefix("/{socket}"),
                    method=method.upper(),
                    services=tuple(item[method]["tags"]),
                    served=served,
                    value=item[method],
                )


def operation(service: str, method: str, path: str) -> Operation:
    """Return the operation of a service for a method and path template."""
    (found,) = (
        each
        for each in operations()
        if service in each.services and (each.method, each.path) == (method, path)
    )
    return found


def check_value(schema: dict[str, Any], value: object) -> None:
    """Check a JSON value against a schema of the document; jsonschema.ValidationError says what is wrong."""
    resource: Resource[Any] = Resource.from_contents(document(), default_specification=DRAFT202012)
    registry: Registry[Any] = Registry().with_resource(_URI, resource)
    Draft202012Validator(_absolute(schema), registry=registry).validate(value)


def _absolute(schema: dict[str, Any]) -> dict[str, Any]:
    """Return the schema with references that name the document."""

    def changed(value: Any) -> Any:
        if isinstance(value, dict):
            return {key: _reference(key, changed(item)) for key, item in value.items()}
        return [changed(item) for item in value] if isinstance(value, list) else value

    made: dict[str, Any] = changed(schema)
    return made


def _reference(key: str, value: Any) -> Any:
    return _URI + value if key == "$ref" and isinstance(value, str) else value
