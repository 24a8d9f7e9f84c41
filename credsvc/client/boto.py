"""boto3 and botocore that sign by the credentials service: the process never holds the secret key.

    session = boto3.Session(botocore_session=remote_session(client, "billing-aws"), region_name="eu-north-1")
    session.client("s3").list_buckets()

How: botocore asks its signer for `signature(string_to_sign, request)`, the only step that needs a secret.
Ours sends the request itself (method, URL, the headers to be signed, the payload's digest), so that policy
decides on what is signed, and takes the released header.

Not here: presigned URLs and POST policies (operation `presign`), SigV2, SigV4a, S3 Express; for these
botocore raises UnknownSignatureVersionError. botocore is not a dependency: only programs that have it import
this file.
"""

from __future__ import annotations

from typing import Any, Final
from urllib.parse import urlsplit, urlunsplit

import botocore.session
from botocore.auth import AUTH_TYPE_MAPS, S3SigV4Auth, SigV4Auth
from botocore.credentials import CredentialProvider, Credentials

from credsvc.client import SigningClient
from ostiary.errors import Misconfigured

_OURS: Final = "ostiary-"
_S3_NAMES: Final = frozenset({"s3", "s3-outposts", "s3-object-lambda"})
_WITHOUT_SECRET: Final = frozenset({"none", "bearer"})
_NO_SECRET: Final = "the-secret-is-in-the-credentials-service"  # noqa: S105 - botocore wants some text


class RemoteCredentials(Credentials):  # type: ignore[misc] # botocore has no types
    """An access key whose secret is elsewhere; also its own frozen form."""

    def __init__(self, client: SigningClient, credential: str, access_key: str, token: str | None) -> None:
        super().__init__(access_key, _NO_SECRET, token, method="ostiary")
        self.client = client
        self.credential = credential

    def get_frozen_credentials(self) -> RemoteCredentials:
        """Botocore hands this to the signer."""
        return self


class _RemoteSignature:
    """Mixed into botocore's signers: where they would use the secret, they ask."""

    credentials: RemoteCredentials
    _region_name: str
    _service_name: str

    def signature(self, _string_to_sign: str, request: Any) -> str:
        signer: Any = self
        # What botocore itself would sign. `set`, since iteration gives a repeated name each time.
        headers = signer.headers_to_sign(request)
        pairs = [[name.lower(), value] for name in set(headers) for value in headers.get_all(name)]
        signed = self.credentials.client.use(
            self.credentials.credential,
            "sign",
            {
                "method": request.method.upper(),
                "url": urlunsplit(
                    urlsplit(request.url)._replace(query=signer.canonical_query_string(request))
                ),
                "headers": pairs,
                "payload_sha256": request.headers.get("X-Amz-Content-SHA256") or signer.payload(request),
                "region": self._region_name,
                "service": self._service_name,
            },
        )
        return signed.release["header.authorization"]

    def _inject_signature_to_request(self, request: Any, signature: str) -> Any:
        """Take the released header whole: it names the headers that were signed, which are fewer than ours,
        since proxies change some.
        """
        request.headers["Authorization"] = signature
        return request


class RemoteSigV4Auth(_RemoteSignature, SigV4Auth):  # type: ignore[misc] # botocore has no types
    """SigV4 for all services but S3."""


class RemoteS3SigV4Auth(_RemoteSignature, S3SigV4Auth):  # type: ignore[misc] # botocore has no types
    """SigV4 as S3 has it."""


# botocore finds signers in this table by name; ours have names of their own, so no other session is touched.
AUTH_TYPE_MAPS.update({"ostiary-v4": RemoteSigV4Auth, "ostiary-s3v4": RemoteS3SigV4Auth})


class _Provider(CredentialProvider):  # type: ignore[misc] # botocore has no types
    METHOD = "ostiary"
    CANONICAL_NAME = "ostiary"

    def __init__(self, credentials: RemoteCredentials) -> None:
        super().__init__()
        self._credentials = credentials

    def load(self) -> RemoteCredentials:
        return self._credentials


def remote_session(client: SigningClient, credential: str) -> Any:
    """A botocore session whose requests are signed with that credential; Misconfigured where the agent may
    not use it.
    """
    found = next((each for each in client.credentials() if each["name"] == credential), None)
    if found is None or found["module"] != "aws-sigv4":
        raise Misconfigured(f"no AWS credential '{credential}' that this agent may use")
    shareable = found["shareable"]
    credentials = RemoteCredentials(
        client, credential, shareable["access_key_id"], shareable.get("session_token")
    )
    session = botocore.session.get_session()
    # Before the first of botocore's own providers: the environment's keys must not win.
    session.get_component("credential_provider").insert_before("env", _Provider(credentials))
    session.get_component("event_emitter").register_first("choose-signer", _choose_signer)
    return session


def _choose_signer(signature_version: object = None, signing_name: str = "", **_more: Any) -> str | None:
    """Choose our signer for whatever needs the secret, even one that does not exist: botocore then refuses,
    and never signs with the placeholder.
    """
    if not isinstance(signature_version, str) or signature_version in _WITHOUT_SECRET:
        return None
    if signature_version.startswith(_OURS):
        return signature_version
    # Being asked first, we do what botocore's own handler would (handlers.set_operation_specific_signer).
    is_s3 = signing_name in _S3_NAMES and not signature_version.startswith("s3")
    return f"{_OURS}{'s3' if is_s3 else ''}{signature_version}"
