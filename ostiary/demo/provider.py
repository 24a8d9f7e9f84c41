"""The demonstration's provider: moto, an independent AWS simulator, in a process of its own.

It enforces signatures: it checks each one with botocore's own code against a secret that it generated itself.
Only the first few calls, which set up the account, are exempt (`INITIAL_NO_AUTH_ACTION_COUNT`).
"""

from __future__ import annotations

import json
import sys
import urllib.request
from typing import Final, NamedTuple

# The calls that `open_account` makes; the next one must be signed.
SETUP_CALLS: Final = 3
REGION: Final = "us-east-1"


class CloudAccount(NamedTuple):
    """The access key that the provider gives its customer."""

    access_key_id: str
    secret_key: str


def provider_argv(port: int) -> list[str]:
    """Return the argument list that starts the provider."""
    return [sys.executable, "-c", _PROGRAM, str(port)]


# moto reads the variable at import, so the program sets it first; the demonstration's environment, which its
# other processes inherit, stays unchanged.
_PROGRAM: Final = (
    f"import os, sys; os.environ['INITIAL_NO_AUTH_ACTION_COUNT'] = '{SETUP_CALLS}';"
    "from moto.server import main; main(['-H', '127.0.0.1', '-p', sys.argv[1]])"
)


def is_up(port: int) -> bool:
    """Return whether the provider answers."""
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/moto-api/", timeout=1):
            return True
    except OSError:
        return False


def open_account(port: int) -> CloudAccount:
    """Make a user who may do everything, and an access key; these calls need no signature."""
    import boto3

    iam = boto3.client(
        "iam",
        endpoint_url=f"http://127.0.0.1:{port}",
        region_name=REGION,
        aws_access_key_id="AKIANOTYETKNOWN",
        aws_secret_access_key="not-yet-known",  # noqa: S106 - any will do: these calls are not checked
    )
    iam.create_user(UserName="billing")
    key = iam.create_access_key(UserName="billing")["AccessKey"]
    everything = {"Version": "2012-10-17", "Statement": [{"Effect": "Allow", "Action": "*", "Resource": "*"}]}
    iam.put_user_policy(UserName="billing", PolicyName="all", PolicyDocument=json.dumps(everything))
    return CloudAccount(key["AccessKeyId"], key["SecretAccessKey"])
