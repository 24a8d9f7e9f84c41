"""Builds manifests for tests: correct by default, one thing changed at a time."""

from __future__ import annotations

from credsvc.formula.manifest import Manifest
from credsvc.formula.manifest_toml import parse_manifest

KEY = """
[confidential.key]
summary = "a key"
type = "hmac_key"
strength = "generated"
alphabet = "[A-Za-z0-9]"
length = [32, 64]
"""
SECRET = KEY.replace(".key]", ".secret]").replace("hmac_key", "digest_input")
PASSWORD = """
[confidential.password]
summary = "a password"
type = "kdf_password"
strength = "password"
alphabet = "[ -~]"
length = [1, 64]
"""
BEARER = KEY.replace(".key]", ".token]").replace("hmac_key", "bearer")

HEAD = """
name = "example"
version = "1.0.0"
summary = "an example"

[shareable.id]
summary = "a name"
pattern = "[a-z0-9]{1,20}"

[shareable.extra]
summary = "a name that may be missing"
pattern = "[a-z0-9]{1,20}"
optional = true
"""

# Every hole that a formula below may use.
HOLES = {
    "t": '{ type = "time", skew_s = 60 }',
    "word": '{ type = "regex", pattern = "[a-z]{1,20}" }',
    "other": '{ type = "regex", pattern = "[a-z]{1,20}" }',
    "free": '{ type = "regex", pattern = "[ -~]*" }',
    "lines": '{ type = "regex", pattern = "[\\\\n -~]*" }',
    "hash": '{ type = "regex", pattern = "[0-9a-f]{64}" }',
    "octets": '{ type = "bytes", length = [1, 64] }',
    "block": '{ type = "bytes", length = [32, 32] }',
    "count": '{ type = "int", range = [4096, 100000] }',
    "low": '{ type = "int", range = [1, 100000] }',
    "rows": (
        '{ type = "list", columns = { name = "[a-z]+", value = "[ -~]*" }, '
        'sorted = true, unique = true, max = 8, must = ["host"] }'
    ),
    "query": (
        '{ type = "list", columns = { name = "[a-z]+", value = "[a-z]*" }, max = 8, without = ["signature"] }'
    ),
}


def operation(name: str, *formulas: str, context: str = "[]") -> str:
    """An operation whose formulas are called <name>, <name>_2, ...; holes are declared as they are used."""
    parts = [f'[operations.{name}]\nsummary = "x"\ncontext = {context}\n']
    for index, formula in enumerate(formulas):
        own = name if index == 0 else f"{name}_{index + 1}"
        parts.append(f"[operations.{name}.formulas.{own}]\nsummary = \"x\"\nformula = '''\n{formula}\n'''\n")
        used = [hole for hole in HOLES if f"${hole}" in formula]
        parts.append("".join(f"holes.{hole} = {HOLES[hole]}\n" for hole in used))
    return "".join(parts)


def build(*operations: str, fields: str = KEY) -> Manifest:
    """A manifest of these operations over these confidential fields."""
    return parse_manifest(build_text(*operations, fields=fields).encode())


def build_text(*operations: str, fields: str = KEY) -> str:
    return HEAD + fields + "".join(operations)
