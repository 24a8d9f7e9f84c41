"""A credential at rest: what may be known of it in clear, its secrets sealed, each bound to the other.

Rules:
- The description (who owns it, what it may be used for, its public fields) is the associated data of the
  sealed secrets: whoever changes a ceiling, an owner or a public field in the store makes the blob worthless.
- The recorder stores and forwards the whole as opaque bytes; only the keyholder seals and opens.

Layout: msgpack map of `description` (a map with the members of `Description`) and `sealed`, which is
    magic "ost1" | nonce 12 bytes | AES-256-GCM ciphertext and tag      (ostiary.keyholder.seal)
of the msgpack map of field name to secret.
"""

from __future__ import annotations

import msgspec

from ostiary.errors import Forbidden, Misconfigured
from ostiary.keyholder.seal import Sealer
from ostiary.ledger.canonical import JSON, canonical

CREDENTIAL_PURPOSE = "credential"


class Description(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What a sealed credential says of itself; `field_types` gives each confidential field the type of its
    one use.
    """

    application: str
    credential: str
    version: int
    module: str
    owner: str
    ceiling: dict[str, tuple[str, ...]]
    shareable: dict[str, str]
    field_types: dict[str, str]

    def associated_data(self) -> bytes:
        """Canonical JSON."""
        # Canonical, not the msgpack that lies beside the secrets: two encodings of one description must be
        # the same associated data (RFC 8785). It has no tuples.
        ceiling: JSON = {name: list(patterns) for name, patterns in self.ceiling.items()}
        return canonical({**msgspec.structs.asdict(self), "ceiling": ceiling})


class SealedCredential(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Description and sealed secrets (msgpack map of field name to bytes)."""

    description: Description
    sealed: bytes


_encoder = msgspec.msgpack.Encoder()
_decoder = msgspec.msgpack.Decoder(SealedCredential)
_secrets = msgspec.msgpack.Decoder(dict[str, bytes])


def seal_credential(
    description: Description, secrets: dict[str, bytes], sealer: Sealer, *, nonce: bytes
) -> bytes:
    """Build the blob that the recorder stores; `nonce` is 12 fresh random bytes."""
    sealed = sealer.seal(_encoder.encode(secrets), associated_data=description.associated_data(), nonce=nonce)
    return _encoder.encode(SealedCredential(description=description, sealed=sealed))


def open_credential(blob: bytes, sealer: Sealer) -> tuple[Description, dict[str, bytes]]:
    """Open a blob; Forbidden where it was changed, or is none."""
    try:
        credential = _decoder.decode(blob)
        associated_data = credential.description.associated_data()
        secrets = _secrets.decode(sealer.open(credential.sealed, associated_data=associated_data))
    # Misconfigured says "this does not open under our key"; here the store is what is wrong, not the set-up.
    except (msgspec.MsgspecError, Misconfigured) as exc:
        raise Forbidden("the sealed credential does not open", rule="credential-sealed") from exc
    return credential.description, secrets
