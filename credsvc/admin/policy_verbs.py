"""The operators' verbs over policies: `policy.set .show .validate`.

A policy set is validated against the schema of the active modules before it is recorded.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec
from sqlalchemy import Engine

from credsvc.admin.active import active_manifests, active_policy
from credsvc.items import SetPolicy
from credsvc.policy.cedar import PolicySet
from credsvc.policy.schema import build_schema
from ostiary.admin.server import Verb, arguments_of
from ostiary.recorder.client import RecorderClient
from ostiary.work.item import Operator

Json = dict[str, Any]


class _Policy(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    policy: str


def policy_verbs(recorder: RecorderClient, engine: Engine) -> Mapping[str, Verb]:
    """The verbs by name; `engine` cannot write."""
    verbs = _PolicyVerbs(recorder, engine)
    return {
        "policy.set": verbs.set_policy,
        "policy.show": verbs.show_policy,
        "policy.validate": verbs.validate_policy,
    }


class _PolicyVerbs:
    def __init__(self, recorder: RecorderClient, engine: Engine) -> None:
        self._recorder = recorder
        self._engine = engine

    def set_policy(self, operator: Operator, arguments: Json) -> Json:
        policies = self._parse(arguments)
        item = SetPolicy(operator=operator, policy_digest=policies.digest, policy=policies.text)
        entry = self._recorder.submit(item).index
        return {"policy": policies.digest, "rules": list(policies.rules), "entry": entry}

    def validate_policy(self, _operator: Operator, arguments: Json) -> Json:
        policies = self._parse(arguments)
        return {"policy": policies.digest, "rules": list(policies.rules)}

    def show_policy(self, _operator: Operator, _arguments: Json) -> Json:
        schema = build_schema(active_manifests(self._engine).values())
        return {
            "policy": active_policy(self._engine),
            "schema": schema.text,
            "guessable": sorted(schema.guessable),
        }

    def _parse(self, arguments: Json) -> PolicySet:
        text = arguments_of(arguments, _Policy).policy
        return PolicySet(text, build_schema(active_manifests(self._engine).values()))
