"""The small working module that `ostiary module new` writes: an HMAC over time and path, with a vector that
passes.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import re
from pathlib import Path
from typing import Final

from ostiary.edge.durable_files import PUBLIC_FILE, write_atomic
from ostiary.errors import BadInput, Conflict

_NAME: Final = re.compile(r"[a-z][a-z0-9-]{0,62}")
# A key and a time that nobody can take for real ones.
_KEY: Final = "0123456789abcdef0123456789abcdef"
_NOW: Final = 1_800_000_000
_PATH: Final = "/v1/orders"

_MANIFEST: Final = """\
name = "{name}"
version = "0.1.0"
summary = "Signs the time and the path of a request"
hosts = ["api.provider.example"]
sources = ["https://provider.example/docs/authentication"]

[shareable.key_id]
summary = "Names the key to the provider"
pattern = "[A-Za-z0-9-]{{1,64}}"

[confidential.secret_key]
summary = "The key that the provider made"
type = "hmac_key"
strength = "generated"
alphabet = "[0-9a-f]"
length = [32, 128]

[operations.sign]
summary = "Headers of a request made now"
context = ["method", "path"]

[operations.sign.formulas.headers]
summary = "HMAC-SHA256 over method, path and time"
formula = '''
sig = hex(hmac(sha256, !secret_key, 'PROVIDER-V1\\n' $method '\\n' $path '\\n' $t.epoch))
release header.x-key = @key_id
release header.x-time = $t.epoch
release header.x-signature = sig
'''

[operations.sign.formulas.headers.holes]
t = {{ type = "time", skew_s = 300 }}
method = {{ type = "regex", pattern = "[A-Z]{{3,16}}" }}
path = {{ type = "regex", pattern = "/[A-Za-z0-9._~%/-]*" }}
"""

_SOURCE: Final = '''\
"""Turns a request into the holes of its formula; it sees no secret."""


def sign(request, credential, clock):
    parts = parse_url(request["url"])
    return {
        "formula": "headers",
        "holes": {"t": clock["epoch"], "method": request["method"], "path": parts["path"]},
    }
'''


def write_scaffold(folder: Path) -> list[Path]:
    """Write the files; BadInput where the folder's name can't be a module's, Conflict where it exists."""
    name = folder.absolute().name
    if not _NAME.fullmatch(name):
        raise BadInput(f"'{name}' is not a module's name; wanted lower-case letters, digits and hyphens")
    if folder.exists():
        raise Conflict(f"'{folder}' exists: nothing was written")
    (folder / "vectors").mkdir(parents=True)
    files = {
        folder / "manifest.toml": _MANIFEST.format(name=name),
        folder / "module.py": _SOURCE,
        folder / "vectors" / "own.json": _vectors(),
    }
    for path, text in files.items():
        write_atomic(path, text.encode(), mode=PUBLIC_FILE)
    return list(files)


def _vectors() -> str:
    """One case, computed here and not by the formula engine; authors replace it by the provider's own."""
    # With Python's hmac alone: a vector that the engine under test had made would prove nothing.
    message = f"PROVIDER-V1\nGET\n{_PATH}\n{_NOW}".encode()
    signature = hmac.new(_KEY.encode(), message, hashlib.sha256).hexdigest()
    case = {
        "title": "a GET",
        "operation": "sign",
        "now": _NOW,
        "request": {"method": "GET", "url": f"https://api.provider.example{_PATH}"},
        "expect": {"outputs": {"header.x-signature": signature, "header.x-time": str(_NOW)}},
    }
    document = {
        "origin": "our own: replace it by what the provider publishes",
        "license": "CC0-1.0",
        "generator": "ostiary module new",
        "check": "Python's hmac",
        "shareable": {"key_id": "example"},
        "confidential": {"secret_key": _KEY},
        "cases": [case],
    }
    return json.dumps(document, indent=2) + "\n"
