"""What a recorder answers, and the error that an edge raises for it."""

from __future__ import annotations

from ostiary.errors import BadInput, Forbidden, InternalFault
from ostiary.work.answer import (
    Recorded,
    Refused,
    decode_recorded,
    decode_refused,
    encode_answer,
    refusal_error,
)

DENIED = Refused(by="recorder", rule="token-spent", reason="the token was spent", index=7)


def test_an_answer_comes_back() -> None:
    recorded = Recorded(index=7, output=b"signature", substitute=b"tbs")
    assert decode_recorded(encode_answer(recorded)) == recorded
    assert decode_refused(encode_answer(DENIED)) == DENIED


def test_what_was_not_recorded_has_no_index() -> None:
    assert Refused(by="parser", rule="bad-item", reason="why").index is None


def test_bad_bytes_are_the_callers_to_mend() -> None:
    error = refusal_error(Refused(by="parser", rule="bad-item", reason="no item"))
    assert isinstance(error, BadInput)
    assert error.message == "no item"


def test_a_denial_names_its_rule() -> None:
    error = refusal_error(DENIED)
    assert isinstance(error, Forbidden)
    assert (error.rule, error.message) == ("token-spent", "the token was spent")


def test_a_secret_of_the_wrong_shape_is_the_callers_though_the_keyholder_says_so() -> None:
    error = refusal_error(Refused(by="keyholder", rule="bad-input", reason="not 32 bytes", index=3))
    assert isinstance(error, BadInput)
    assert error.message == "not 32 bytes"


def test_any_other_refusal_by_the_keyholder_is_our_fault_and_keeps_its_reason_inside() -> None:
    error = refusal_error(Refused(by="keyholder", rule="guard-issuer", reason="internal words", index=3))
    assert isinstance(error, InternalFault)
    assert "entry 3" in error.message
    assert "internal words" not in error.message
