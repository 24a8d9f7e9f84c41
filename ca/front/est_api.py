"""EST over HTTPS (RFC 7030): cacerts, csrattrs, simpleenroll by token, simplereenroll by certificate.

ca/certificates/est.py has the formats, docs/adr/0012 what of EST is left out.
"""

from __future__ import annotations

import hmac
import ipaddress
from typing import Final

import falcon.asgi
from cryptography import x509

from ca.certificates.accept import MAX_CSR_BYTES
from ca.certificates.est import (
    CERTS_ONLY_TYPE,
    CSR_TYPE,
    CSRATTRS_TYPE,
    certs_only,
    csr_attributes,
    parse_authorization,
)
from ca.front.enrollment import wanted_by_renewal, wanted_by_token
from ca.front.parts import FrontParts
from ca.front.peer import RENEWERS
from ca.items import Redeem, Renew
from ca.store.rows import TokenRow
from ostiary.errors import Forbidden, Unauthenticated
from ostiary.front.http import read_body
from ostiary.token import Token

# base64 in lines of 64 or 76 characters takes up to 1.37 times the DER.
_BODY_BYTES: Final = MAX_CSR_BYTES * 3 // 2
# These answers change only with the issuing CA.
_CACHED_FOR_A_DAY: Final = "public, max-age=86400"


class CACerts:
    """The certificates above a leaf, for anybody."""

    def __init__(self, parts: FrontParts) -> None:
        self._body = certs_only([parts.issuing, parts.root])

    async def on_get(self, _req: falcon.asgi.Request, resp: falcon.asgi.Response) -> None:
        resp.content_type = CERTS_ONLY_TYPE
        resp.set_header("Cache-Control", _CACHED_FOR_A_DAY)
        resp.data = self._body


class CSRAttributes:
    """Advice on the form of requests, for anybody."""

    def __init__(self) -> None:
        self._body = csr_attributes()

    async def on_get(self, _req: falcon.asgi.Request, resp: falcon.asgi.Response) -> None:
        resp.content_type = CSRATTRS_TYPE
        resp.set_header("Cache-Control", _CACHED_FOR_A_DAY)
        resp.data = self._body


class SimpleEnroll:
    """A token and a request for a certificate."""

    def __init__(self, parts: FrontParts) -> None:
        self._parts = parts

    async def on_post(self, req: falcon.asgi.Request, resp: falcon.asgi.Response) -> None:
        """Enroll by token.

        1. The source was not refused too often.
        2. The token is known, and the secret is its own.
        3. The request proves a sound key.
        4. Plan the certificate, have the token spent and the certificate recorded and signed.
        """
        parts = self._parts
        # 1.
        source = parts.doorkeeper.check_stranger_pace()
        # 2. Before the body is read: a stranger gets no parser to play with.
        token, row = await self._token(req, source)
        # 3.
        body = await read_body(req, content_type=CSR_TYPE, limit_bytes=_BODY_BYTES)
        accepted = parts.enroller.accept(body)
        # 4.
        wanted = wanted_by_token(parts.profile.application, row, grant=parts.grant(row.subsystem))
        address = _spelled(source)
        try:
            der = await parts.enroller.enroll(
                wanted,
                accepted,
                lambda prepared: Redeem(
                    token_id=token.id, token_digest=token.digest, address=address, certificate=prepared
                ),
            )
        except Forbidden:
            parts.doorkeeper.count_refused_token(source)
            raise
        _answer(resp, der)

    async def _token(self, req: falcon.asgi.Request, source: str) -> tuple[Token, TokenRow]:
        """The token of the request and its row. An unknown id and a wrong secret get the same answer, so that
        ids can't be found by trying.
        """
        try:
            token = parse_authorization(req.auth)
        except Unauthenticated:
            self._parts.doorkeeper.count_stranger(source, "authorization")
            raise
        row = await self._parts.reads.token(token.id)
        if row is None or not hmac.compare_digest(row.digest, token.digest):
            self._parts.doorkeeper.count_stranger(source, "token-unknown")
            raise Unauthenticated("authorization: this CA does not know the token", field="authorization")
        return token, row


class SimpleReenroll:
    """A certificate and a request with another key for the next generation."""

    def __init__(self, parts: FrontParts) -> None:
        self._parts = parts

    async def on_post(self, req: falcon.asgi.Request, resp: falcon.asgi.Response) -> None:
        parts = self._parts
        # A superseded certificate gets as far as the recorder: there a clone is found (decide_renewals).
        caller = await parts.doorkeeper.identify(act="renew", standings=RENEWERS)
        body = await read_body(req, content_type=CSR_TYPE, limit_bytes=_BODY_BYTES)
        accepted = parts.enroller.accept(body)
        grant = parts.grant(caller.row.subsystem)
        der = await parts.enroller.enroll(
            wanted_by_renewal(parts.profile.application, caller.row, grant=grant),
            accepted,
            lambda prepared: Renew(serial=caller.serial, certificate=prepared),
        )
        _answer(resp, der)


def _answer(resp: falcon.asgi.Response, certificate_der: bytes) -> None:
    # RFC 7030 section 4.2.3: only the certificate that was asked for; cacerts has the chain.
    resp.content_type = CERTS_ONLY_TYPE
    resp.data = certs_only([x509.load_der_x509_certificate(certificate_der)])


def _spelled(source: str) -> str:
    """A peer's address in the one spelling of ca/certificates/addresses.py."""
    address = ipaddress.ip_address(source)
    if isinstance(address, ipaddress.IPv6Address) and address.ipv4_mapped is not None:
        address = address.ipv4_mapped
    return str(address)
