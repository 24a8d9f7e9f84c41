"""The verbs over credentials: what is checked before it is recorded, and what is shown of what was."""

from __future__ import annotations

from typing import Any

import pytest

from credsvc.items import DeleteCredential, DisableCredential, PutCredential
from ostiary.errors import BadInput, Forbidden, NotFound
from tests.support.credential_decisions import OPERATOR
from tests.support.credential_operator import OperatorVerbs

PUT: dict[str, Any] = {
    "name": "grid",
    "module": "gogrid",
    "owner": "component",
    "shareable": {"api_key": "foo"},
    "ceiling": {},
    "labels": ("billing",),
    "envelopes": {"shared_secret": b"sealed by the client"},
}


@pytest.fixture
def ready(operator: OperatorVerbs) -> OperatorVerbs:
    """With the module `gogrid` active."""
    operator.activate("gogrid")
    operator.items.clear()
    return operator


def test_a_put_is_an_act_of_this_operator_with_the_active_manifest(operator: OperatorVerbs) -> None:
    digests = operator.activate("gogrid")
    answer = operator.call("credential.put", **PUT)
    item = operator.items[-1]
    assert isinstance(item, PutCredential)
    assert (answer["name"], answer["version"], answer["entry"]) == ("grid", 1, len(operator.items) - 1)
    assert (item.operator, item.manifest_digest) == (OPERATOR, digests["manifest_digest"])
    assert item.envelopes == PUT["envelopes"]


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"name": "Grid"}, "credential"),
        ({"module": "none"}, "module"),
        ({"envelopes": {}}, "secret"),
        ({"envelopes": {"shared_secret": b"x", "other": b"y"}}, "secret"),
        ({"shareable": {}}, "api_key"),
        ({"shareable": {"api_key": "not/an/api/key"}}, "api_key"),
        ({"ceiling": {"region": ("eu-*",)}}, "ceiling"),
    ],
    ids=["name", "module", "secret-missing", "secret-unknown", "field-missing", "field-bad", "ceiling"],
)
def test_a_bad_put_is_refused_before_it_is_recorded(
    ready: OperatorVerbs, change: dict[str, Any], field: str
) -> None:
    with pytest.raises(BadInput) as refused:
        ready.call("credential.put", **{**PUT, **change})
    assert field in (refused.value.field or "") or field in refused.value.message
    assert not ready.items


def test_each_put_is_the_next_version_also_after_a_deletion(ready: OperatorVerbs) -> None:
    versions = [ready.call("credential.put", **PUT)["version"] for _ in range(2)]
    ready.call("credential.delete", name="grid")
    # The deletion took version 3.
    assert [*versions, ready.call("credential.put", **PUT)["version"]] == [1, 2, 4]


def test_what_is_shown_is_in_clear(ready: OperatorVerbs) -> None:
    ready.call("credential.put", **PUT)
    (row,) = ready.call("credential.list")
    assert row == ready.call("credential.show", name="grid")
    assert row == {
        "name": "grid",
        "version": 1,
        "module": "gogrid",
        "owner": "component",
        "labels": ["billing"],
        "shareable": {"api_key": "foo"},
        "ceiling": {},
        "disabled": False,
    }


def test_a_list_is_in_order_of_names(ready: OperatorVerbs) -> None:
    for name in ("b", "a", "c"):
        ready.call("credential.put", **{**PUT, "name": name})
    assert [row["name"] for row in ready.call("credential.list")] == ["a", "b", "c"]


def test_a_disabled_credential_is_shown_as_such(ready: OperatorVerbs) -> None:
    ready.call("credential.put", **PUT)
    ready.call("credential.disable", name="grid")
    assert isinstance(ready.items[-1], DisableCredential)
    assert ready.call("credential.show", name="grid")["disabled"] is True


def test_a_deleted_credential_is_not_shown(ready: OperatorVerbs) -> None:
    ready.call("credential.put", **PUT)
    ready.call("credential.delete", name="grid")
    assert isinstance(ready.items[-1], DeleteCredential)
    assert ready.call("credential.list") == []
    with pytest.raises(NotFound):
        ready.call("credential.show", name="grid")


@pytest.mark.parametrize("verb", ["credential.disable", "credential.delete"])
def test_what_is_not_there_is_the_recorders_to_deny(ready: OperatorVerbs, verb: str) -> None:
    with pytest.raises(Forbidden) as refused:
        ready.call(verb, name="grid")
    assert refused.value.rule == "credential-unknown"
