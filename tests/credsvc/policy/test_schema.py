"""The schema from manifests: one action for each operation, contexts typed, order without meaning."""

from __future__ import annotations

import cedarpy
import pytest

from credsvc.policy.schema import GUARDS, action_name, build_schema, policy_context
from ostiary.errors import BadInput
from tests.support.credentials_front import active_module
from tests.support.manifests import build, operation

AWS, GOGRID = (active_module(name).manifest for name in ("aws-sigv4", "gogrid"))
FORMULA = (
    "m = 'a' $t.epoch '|' $word '|' hex($octets) '|' $count.text '|'"
    " join('&', $rows, .name '=' hex(.value))\n"
    "release x = hex(hmac(sha256, !key, m))"
)
CONTEXT = build(operation("op", FORMULA, context='["word", "count", "octets", "t", "rows[host]", "formula"]'))


def test_a_context_has_the_types_of_its_holes() -> None:
    assert policy_context(CONTEXT, "op") == (
        ("word", "String"),
        ("count", "Long"),
        ("octets", "String"),
        ("t", "Long"),
        ("host", "String"),
        ("formula", "String"),
    )


def test_an_operation_that_is_not_there_is_named() -> None:
    with pytest.raises(BadInput, match="no operation 'nope'") as refused:
        policy_context(CONTEXT, "nope")
    assert refused.value.field == "operation"


def test_each_operation_is_an_action_and_cedar_takes_the_schema() -> None:
    schema = build_schema([AWS, GOGRID, CONTEXT])
    cedarpy.Schema.from_str(schema.text)
    for name in ("aws-sigv4/sign", "aws-sigv4/presign", "aws-sigv4/sign_chunk", "gogrid/sign", "example/op"):
        assert f'action "{name}" in [use]' in schema.text


def test_the_guards_fit_every_schema() -> None:
    for manifests in ([], [AWS], [AWS, GOGRID]):
        result = cedarpy.validate_policies(GUARDS, build_schema(manifests).text)
        assert result.validation_passed, result.errors


def test_the_order_of_modules_does_not_count() -> None:
    assert build_schema([AWS, GOGRID]) == build_schema([GOGRID, AWS])


def test_only_what_lets_passwords_be_tried_must_be_named() -> None:
    assert build_schema([AWS, GOGRID]).guessable == {action_name("gogrid", "sign")}
