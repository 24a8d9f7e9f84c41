"""An agent's key and its certification request: new each time, and naming the agent."""

from __future__ import annotations

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, load_pem_private_key

from certmgr.keys import generate
from ostiary.certificate import spki_der
from tests.support.certificates import IDENTITY
from tests.support.manager_records import NAMES


def test_a_request_names_the_agent_and_asks_for_nothing_else() -> None:
    """A mix-up of requests shows at the authority at once."""
    made = generate(NAMES)
    request = x509.load_der_x509_csr(made.csr_der)
    assert request.is_signature_valid
    assert request.public_bytes(Encoding.DER) == made.csr_der
    assert request.subject.rfc4514_string().startswith(f"UID={IDENTITY.agent},OU={IDENTITY.node}")
    (extension,) = request.extensions
    assert isinstance(extension.value, x509.SubjectAlternativeName)
    assert extension.value.get_values_for_type(x509.DNSName) == [NAMES.host] == [IDENTITY.host]


def test_each_generation_has_a_p256_key_of_its_own() -> None:
    first, second = generate(NAMES), generate(NAMES)
    assert first.spki_der != second.spki_der
    key = load_pem_private_key(first.private_key_pem.reveal(), None)
    assert isinstance(key, ec.EllipticCurvePrivateKey)
    assert isinstance(key.curve, ec.SECP256R1)
    assert spki_der(key.public_key()) == first.spki_der


def test_a_private_key_is_never_shown() -> None:
    made = generate(NAMES)
    assert made.private_key_pem.reveal().decode().splitlines()[1] not in repr(made)
