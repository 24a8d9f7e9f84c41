"""The text of a proof: the specification's layout, and one wrong thing at a time."""

from __future__ import annotations

from base64 import b64encode

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from ostiary.errors import BadInput
from ostiary.ledger.checkpoint import Checkpoint, KeyType, sign, verifier_key
from ostiary.ledger.errors import NotProven
from ostiary.ledger.memory import MemoryLog
from ostiary.ledger.proof import build_inclusion_proof
from ostiary.ledger.tlog_proof import TlogProof, encode_proof, open_proof, parse_proof

ORIGIN = "shop.example/credentials"
SECRET = Ed25519PrivateKey.from_private_bytes(b"l" * 32)
KEY = verifier_key(ORIGIN, SECRET, KeyType.LOG)
LOG = MemoryLog(b"entry %d" % number for number in range(5))
CHECKPOINT = Checkpoint.of(ORIGIN, LOG.frontier)
NOTE = sign(CHECKPOINT, ORIGIN, SECRET)
PROOF = TlogProof(index=3, path=build_inclusion_proof(LOG, index=3, size=5), note=NOTE)
TEXT = encode_proof(PROOF)


def test_the_layout() -> None:
    hashes = "".join(f"{b64encode(node).decode()}\n" for node in PROOF.path)
    assert len(PROOF.path) == 3
    assert TEXT.decode() == f"c2sp.org/tlog-proof@v1\nindex 3\n{hashes}\n{NOTE.decode()}"


def test_the_layout_with_extra_data() -> None:
    with_extra = TlogProof(index=3, path=PROOF.path, note=NOTE, extra=b"more")
    assert encode_proof(with_extra).startswith(b"c2sp.org/tlog-proof@v1\nextra bW9yZQ==\nindex 3\n")
    assert parse_proof(encode_proof(with_extra)) == with_extra


def test_a_proof_in_a_tree_of_one() -> None:
    log = MemoryLog([b"only"])
    note = sign(Checkpoint.of(ORIGIN, log.frontier), ORIGIN, SECRET)
    text = encode_proof(TlogProof(index=0, path=(), note=note))
    assert text.startswith(b"c2sp.org/tlog-proof@v1\nindex 0\n\nshop.example/credentials\n1\n")
    assert open_proof(text, entry=b"only", keys=[KEY]) == (Checkpoint.of(ORIGIN, log.frontier), 0)


def test_it_opens_with_the_entry_and_the_key() -> None:
    assert parse_proof(TEXT) == PROOF
    assert open_proof(TEXT, entry=b"entry 3", keys=[KEY]) == (CHECKPOINT, 3)


def test_it_does_not_open_with_another_entry() -> None:
    with pytest.raises(NotProven, match="another root"):
        open_proof(TEXT, entry=b"entry 4", keys=[KEY])


def test_it_does_not_open_at_another_index() -> None:
    with pytest.raises(NotProven):
        open_proof(TEXT.replace(b"index 3", b"index 2"), entry=b"entry 3", keys=[KEY])


def test_it_does_not_open_without_the_log_s_key() -> None:
    with pytest.raises(NotProven, match="no signature"):
        open_proof(TEXT, entry=b"entry 3", keys=[])


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"wrong-header\nindex 0\n\ncheckpoint\n",
        b"c2sp.org/tlog-proof@v1\nextra !!notbase64!!\nindex 0\n\ncheckpoint\n",
        b"c2sp.org/tlog-proof@v1\n\n\ncheckpoint\n",
        b"c2sp.org/tlog-proof@v1\nindex notanumber\n\ncheckpoint\n",
        b"c2sp.org/tlog-proof@v1\nindex -5\n\ncheckpoint\n",
        b"c2sp.org/tlog-proof@v1\nindex 00\n\ncheckpoint\n",
        b"c2sp.org/tlog-proof@v1\nindex 0\n!!notbase64!!\n\ncheckpoint\n",
        b"c2sp.org/tlog-proof@v1\nindex 0\n" + b64encode(bytes(64)) + b"\n\ncheckpoint\n",
        b"c2sp.org/tlog-proof@v1\nindex 0\nextra bW9yZQ==\n\ncheckpoint\n",
        b"c2sp.org/tlog-proof@v1\r\nindex 0\r\n\r\ncheckpoint\n",
        b"c2sp.org/tlog-proof@v1\nindex 0\xff\n\ncheckpoint\n",
        b"c2sp.org/tlog-proof@v1\nindex 0\n",
        b"c2sp.org/tlog-proof@v1\nindex 0\n" + (b64encode(bytes(32)) + b"\n") * 200 + b"\ncheckpoint\n",
        TEXT.replace(b"tlog-proof@v1", b"tlog-proof@v2"),
    ],
)
def test_text_that_is_no_proof(data: bytes) -> None:
    with pytest.raises(BadInput):
        parse_proof(data)
