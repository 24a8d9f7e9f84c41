"""Tokens: an operator makes one, an agent spends it once, and two keys that come for one make it void.

    open --redeem--> spent      open --void, again, contest--> void      spent --contest while pending--> void

Rules:
- A token buys one certificate, in the turn that spends it, and never more than it names.
- The same key within ten minutes gets the same certificate. Another key is refused. While the certificate is
  pending both are void, since nobody can tell which of the two is the node's; later it is an alarm, once per
  token.
- Pure, but for the rows that it is given and changes.
- An unknown id and a wrong secret look the same from outside.
"""

from __future__ import annotations

import hmac
from dataclasses import replace
from typing import Final

from ca.certificates.addresses import is_same_host
from ca.items import MintToken, Redeem, VoidCertificate, VoidToken
from ca.recorder.decide_revocations import void
from ca.recorder.decision import DONE, SIGN, Decision, Terms, denied
from ca.recorder.issuing import again, check_issuable, first_certificate, is_retry, issue
from ca.recorder.rules import forbidden
from ca.store.rows import Rows, TokenRow, joined, names
from ostiary.subsystems import CERTIFICATE_AUTHORITY
from ostiary.timestamp import EpochSeconds
from ostiary.work.item import Item
from ostiary.work.reports import Alarm

PROOF_WINDOW_S: Final = 600
"""How long a bootstrap certificate may wait for its proof. Without an address the agent's own word counts
after that time, and for as long again.
"""
# An operator's plan for a new machine, not a password: a forgotten token ends by itself.
MAX_TOKEN_S: Final = 30 * 24 * 3600


def redeem(rows: Rows, item: Redeem, terms: Terms) -> Decision:
    """Spend a token on a certificate.

    1. The token is known, and the secret is its own.
    2. If it is spent, this is a lost answer or a contest.
    3. It is open, in time, and used from its address.
    4. The certificate is within what it buys.
    5. The certificate can be issued.
    6. The certificate is there, and the token is spent on it: both or neither.
    """
    # 1. The front has compared the secret (ca/front/est_api.py), against a row that may have changed since.
    token = rows.tokens.get(item.token_id)
    if token is None or not hmac.compare_digest(token.digest, item.token_digest):
        raise forbidden("token-unknown", "this CA does not know the token")
    # 2.
    if token.status == "spent":
        return _spent(rows, token, item, terms)
    # 3.
    if token.status == "void":
        raise forbidden("token-void", f"token {token.token_id} is void; ask the operator for a new one")
    if terms.now_s >= token.expires_at:
        raise forbidden(
            "token-expired", f"token {token.token_id} has expired; ask the operator for a new one"
        )
    if not is_same_host(token.address, item.address):
        raise forbidden(
            "token-other-address", f"token {token.token_id} is bound to another address than '{item.address}'"
        )
    # 4. and 5.
    _check_bought(token, item, terms)
    check_issuable(rows, item.certificate, now_s=terms.now_s, max_lifetime_s=token.lifetime_s)
    # 6.
    row = first_certificate(item.certificate, now_s=terms.now_s, lifetime_s=token.lifetime_s)
    row = replace(row, token_id=token.token_id, address=token.address, granted=token.capabilities)
    if token.bootstrap:
        waits_s = 2 * PROOF_WINDOW_S if token.address is None else PROOF_WINDOW_S
        deadline = EpochSeconds(terms.now_s + waits_s)
        row = replace(
            row, status="pending", bootstrap=True, deadline=deadline, activated_at=None, activated_by=None
        )
    issue(rows, row)
    rows.replace_token(replace(token, status="spent", spent_at=terms.now_s, spent_serial=row.serial))
    return SIGN


def _check_bought(token: TokenRow, item: Redeem, terms: Terms) -> None:
    """The certificate is within what the token buys; a bootstrap certificate carries no capability."""
    prepared = item.certificate
    for field, rule in (
        ("subsystem", "token-other-subsystem"),
        ("node", "token-other-node"),
        ("agent", "token-other-agent"),
    ):
        bought, asked = getattr(token, field), getattr(prepared, field)
        if bought != asked:
            raise forbidden(
                rule, f"token {token.token_id} is for {field} '{bought}', not '{asked}'", field=field
            )
    if token.spki_digest is not None and token.spki_digest != prepared.spki_digest:
        raise forbidden("token-other-key", f"token {token.token_id} is bound to another key")
    # Policy may have shrunk since the token was made; what it grants now counts.
    buys = frozenset() if token.bootstrap else names(token.capabilities) & terms.grant(token.subsystem)
    if not set(prepared.capabilities) <= buys:
        raise forbidden(
            "token-capabilities", f"token {token.token_id} buys {sorted(buys)}", field="capabilities"
        )
    if not set(prepared.endpoints) <= names(token.endpoints):
        raise forbidden(
            "token-endpoints", f"token {token.token_id} buys '{token.endpoints}'", field="endpoints"
        )


def _spent(rows: Rows, token: TokenRow, item: Redeem, terms: Terms) -> Decision:
    """Decide on a token that was spent: a lost answer, a contest, or an alarm."""
    bought = None if token.spent_serial is None else rows.certificates.get(token.spent_serial)
    if bought is None:
        raise AssertionError("a spent token without its certificate")
    key = item.certificate.spki_digest
    if bought.status != "revoked" and is_retry(bought, key, terms.now_s):
        return again(bought, terms.now_s)
    if bought.spki_digest == key:
        raise forbidden("token-spent", f"token {token.token_id} was spent; renew certificate {bought.serial}")
    if bought.status == "pending":
        # The certificate carries no capability yet, so little is lost, and a thief who was first gains
        # nothing.
        rows.replace_token(replace(token, status="void", contested=True))
        voided = VoidCertificate(serial=bought.serial, because="contested", reason="keyCompromise")
        return denied(
            "token-contested",
            f"a second key came for token {token.token_id} while its certificate is pending: both are void; "
            f"make a new one: ostiary ca bootstrap --node {token.node} --again",
            void(rows, bought, voided, terms.now_s),
            _alarm(token),
        )
    # Proven meanwhile, so the certificate stays. One alarm per token: whoever found it could fill the ledger.
    alarm: tuple[Item, ...] = () if token.contested else (_alarm(token),)
    if alarm:
        rows.replace_token(replace(token, contested=True))
    return denied("token-spent", f"token {token.token_id} was spent by another key", *alarm)


def _alarm(token: TokenRow) -> Alarm:
    return Alarm(
        what="token-contested",
        detail=f"a second key came for token {token.token_id} of {token.subsystem} on {token.node}",
    )


def mint_token(rows: Rows, item: MintToken, terms: Terms) -> Decision:
    """Make a token; with `again`, make the sub-system's certificates and open tokens on that node void."""
    _check_mintable(rows, item, terms)
    also: tuple[Item, ...] = ()
    if item.again:
        also = tuple(
            void(
                rows,
                row,
                VoidCertificate(serial=row.serial, because="again", reason="superseded"),
                terms.now_s,
            )
            for row in rows.of_node(item.node, item.subsystem)
        )
        for token in list(rows.tokens.values()):
            if (token.node, token.subsystem, token.status) == (item.node, item.subsystem, "open"):
                rows.replace_token(replace(token, status="void"))
    rows.add_token(
        TokenRow(
            token_id=item.token_id,
            digest=item.token_digest,
            subsystem=item.subsystem,
            node=item.node,
            agent=item.agent,
            capabilities=joined(item.capabilities),
            endpoints=joined(item.endpoints),
            lifetime_s=item.lifetime_s,
            expires_at=EpochSeconds(item.expires_at),
            # Entries are compared byte by byte, so an item keeps "" and b"" for what is not said.
            address=item.address or None,
            spki_digest=item.spki_digest or None,
            bootstrap=item.bootstrap,
            created_at=terms.now_s,
            created_by=item.operator.name,
            status="open",
            spent_at=None,
            spent_serial=None,
            contested=False,
        )
    )
    return replace(DONE, also=also)


def _check_mintable(rows: Rows, item: MintToken, terms: Terms) -> None:
    """Check what an operator asks for; raises Forbidden.

    1. The id is not taken, and the sub-system is not the CA's own.
    2. Token and certificate live no longer than they may.
    3. Policy grants the capabilities.
    4. The node is not enrolled, unless it is to begin again.
    """
    # 1.
    if item.token_id in rows.tokens:
        raise forbidden("token-taken", f"token {item.token_id} exists already")
    if item.subsystem == CERTIFICATE_AUTHORITY:
        raise forbidden("reserved-subsystem", f"'{item.subsystem}' is the CA's own name", field="subsystem")
    # 2.
    if not terms.now_s < item.expires_at <= terms.now_s + MAX_TOKEN_S:
        raise forbidden("token-times", f"a token may live at most {MAX_TOKEN_S} s", field="ttl")
    if not 0 < item.lifetime_s <= terms.max_node_lifetime_s:
        raise forbidden(
            "token-times", f"a certificate may live at most {terms.max_node_lifetime_s} s", field="lifetime"
        )
    # 3. Now, for the operator's sake; what counts is policy when the token is redeemed.
    beyond = set(item.capabilities) - terms.grant(item.subsystem)
    if beyond:
        raise forbidden(
            "grant",
            f"policy does not grant {', '.join(sorted(beyond))} to '{item.subsystem}'; "
            "add it under [grants] in the CA's config.toml and restart the CA",
            field="capabilities",
        )
    # 4.
    if item.bootstrap and not item.again and rows.of_node(item.node, item.subsystem):
        raise forbidden(
            "node-enrolled",
            f"'{item.node}' has a live {item.subsystem}; --again makes its certificates void and begins anew",
            field="node",
        )


def void_token(rows: Rows, item: VoidToken, terms: Terms) -> Decision:  # noqa: ARG001 - a decision
    """Make an open token worthless."""
    token = rows.tokens.get(item.token_id)
    if token is None:
        raise forbidden("token-unknown", f"no token {item.token_id[:16]!r}")
    if token.status != "open":
        raise forbidden("token-not-open", f"token {token.token_id} is {token.status} already")
    rows.replace_token(replace(token, status="void"))
    return DONE
