"""Why a source is refused: a word of a closed set, which cannot carry a module's text."""

from __future__ import annotations

import re

from credsvc.sandbox.refusal import Reason, RefusedSource


def test_words_are_plain_and_differ() -> None:
    assert all(re.fullmatch(r"[a-z]+(-[a-z]+)*", reason.value) for reason in Reason)
    assert len({reason.value for reason in Reason}) == len(Reason)


def test_a_refusal_says_its_word_and_line_and_nothing_else() -> None:
    refused = RefusedSource(Reason.SYNTAX, 7)
    assert (str(refused), refused.reason, refused.line) == ("syntax", Reason.SYNTAX, 7)


def test_without_a_line_it_is_zero() -> None:
    assert RefusedSource(Reason.TOO_LARGE).line == 0
