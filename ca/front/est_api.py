"""EST over HTTPS (RFC 7030): cacerts, csrattrs, simpleenroll by token, simplereenroll by certificate. Formats
are ca/certificates/est.py's.
"""

from __future__ import annotations

import hmac
import ipaddress
from typing import Final

import falcon
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

# base64 in lines takes 1.37 times the DER.
_BODY_BYTES: Final = MAX_CSR_BYTES * 3 // 2
_A_DAY: Final = "public, max-age=86400"


class CACerts:
    """The certificates above a leaf; anybody may have them."""

    def __init__(self, parts: FrontParts) -> None:
        self._parts = parts
        self._body = certs_only([parts.issuing, parts.root])

    def on_get(self, req: falcon.Request, resp: falcon.Response) -> None:
        self._parts.doorkeeper.check_source_pace(req)
        resp.content_type = CERTS_ONLY_TYPE
        resp.set_header("Cache-Control", _A_DAY)
        resp.data = self._body


class CSRAttributes:
    """What a request should look like."""

    def __init__(self, parts: FrontParts) -> None:
        self._parts = parts
        self._body = csr_attributes()

    def on_get(self, req: falcon.Request, resp: falcon.Response) -> None:
        self._parts.doorkeeper.check_source_pace(req)
        resp.content_type = CSRATTRS_TYPE
        resp.set_header("Cache-Control", _A_DAY)
        resp.data = self._body


class SimpleEnroll:
    """A token and a request for a certificate."""

    def __init__(self, parts: FrontParts) -> None:
        self._parts = parts

    def on_post(self, req: falcon.Request, resp: falcon.Response) -> None:
        """1. The source may ask.  2. The token is one of ours.  3. The request is sound.  4. Spend, record,
        sign.
        """
        parts = self._parts
        source = parts.doorkeeper.check_stranger_pace(req)
        token, row = self._token(req, source)
        accepted = parts.enroller.accept(read_body(req, content_type=CSR_TYPE, limit_bytes=_BODY_BYTES))
        wanted = wanted_by_token(parts.profile.application, row, grant=parts.grant(row.subsystem))
        address = _spelled(source)
        try:
            der = parts.enroller.enroll(
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

    def _token(self, req: falcon.Request, source: str) -> tuple[Token, TokenRow]:
        """The token of the request and its row; an unknown id and a wrong secret look the same from
        outside.
        """
        try:
            token = parse_authorization(req.auth)
        except Unauthenticated:
            self._parts.doorkeeper.count_stranger(source, "authorization")
            raise
        row = self._parts.reader.token(token.id)
        if row is None or not hmac.compare_digest(row.digest, token.digest):
            self._parts.doorkeeper.count_stranger(source, "token-unknown")
            raise Unauthenticated("authorization: the token is not known here", field="authorization")
        return token, row


class SimpleReenroll:
    """A certificate and a request with another key for the next generation."""

    def __init__(self, parts: FrontParts) -> None:
        self._parts = parts

    def on_post(self, req: falcon.Request, resp: falcon.Response) -> None:
        parts = self._parts
        caller = parts.doorkeeper.identify(req, act="renew", standings=RENEWERS)
        accepted = parts.enroller.accept(read_body(req, content_type=CSR_TYPE, limit_bytes=_BODY_BYTES))
        grant = parts.grant(caller.row.subsystem)
        der = parts.enroller.enroll(
            wanted_by_renewal(parts.profile.application, caller.row, grant=grant),
            accepted,
            lambda prepared: Renew(serial=caller.serial, certificate=prepared),
        )
        _answer(resp, der)


def _answer(resp: falcon.Response, certificate_der: bytes) -> None:
    resp.content_type = CERTS_ONLY_TYPE
    resp.data = certs_only([x509.load_der_x509_certificate(certificate_der)])


def _spelled(source: str) -> str:
    """A peer's address in the one spelling of ca/certificates/addresses.py."""
    address = ipaddress.ip_address(source)
    if isinstance(address, ipaddress.IPv6Address) and address.ipv4_mapped is not None:
        address = address.ipv4_mapped
    return str(address)
