"""The provider of the demonstration: moto, AWS's independent double, in a process of its own with signatures
enforced.

moto checks each signature with botocore's own code and the secret that it made itself. It lets the first few
calls through unsigned (`INITIAL_NO_AUTH_ACTION_COUNT`), in which the account is set up.
"""

from __future__ import annotations

import json
import sys
import urllib.request
from typing import Final, NamedTuple

SETUP_CALLS: Final = 3
REGION: Final = "us-east-1"


class CloudAccount(NamedTuple):
    """What the provider gives its customer."""

    access_key_id: str
    secret_key: str


def provider_argv(port: int) -> list[str]:
    """The server's command."""
    return [sys.executable, "-c", _PROGRAM, str(port)]


# The variable is set inside, so that the demonstration's own environment stays as it is.
_PROGRAM: Final = (
    f"import os, sys; os.environ['INITIAL_NO_AUTH_ACTION_COUNT'] = '{SETUP_CALLS}';"
    "from moto.server import main; main(['-H', '127.0.0.1', '-p', sys.argv[1]])"
)


def is_up(port: int) -> bool:
    """Whether the server answers."""
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/moto-api/", timeout=1):
            return True
    except OSError:
        return False


def open_account(port: int) -> CloudAccount:
    """Make a user with an access key that may do everything; the last calls that need no signature."""
    import boto3

    iam = boto3.client(
        "iam",
        endpoint_url=f"http://127.0.0.1:{port}",
        region_name=REGION,
        aws_access_key_id="AKIANOTYETKNOWN",
        aws_secret_access_key="not-yet-known",  # noqa: S106 - any: these calls are not checked
    )
    iam.create_user(UserName="billing")
    key = iam.create_access_key(UserName="billing")["AccessKey"]
    everything = {"Version": "2012-10-17", "Statement": [{"Effect": "Allow", "Action": "*", "Resource": "*"}]}
    iam.put_user_policy(UserName="billing", PolicyName="all", PolicyDocument=json.dumps(everything))
    return CloudAccount(key["AccessKeyId"], key["SecretAccessKey"])
