"""Wrapping a key under a passphrase: what is asked of the caller, and for whom the file says it is."""

from __future__ import annotations

import pytest

from ostiary.edge.passphrase_wrapping import wrap, wrapped_for
from ostiary.errors import BadInput


def test_short_passphrase_is_refused_without_naming_it() -> None:
    with pytest.raises(BadInput, match="has 5 characters") as caught:
        wrap(bytes(32), "short", application="shop.example", service="ca", random=bytes(28))
    assert "short" not in str(caught.value)


@pytest.mark.parametrize(("key", "random"), [(bytes(31), bytes(28)), (bytes(32), bytes(27))])
def test_a_key_or_random_bytes_of_another_size_are_a_bug_of_ours(key: bytes, random: bytes) -> None:
    with pytest.raises(AssertionError):
        wrap(key, "correct horse battery", application="shop.example", service="ca", random=random)


def test_a_wrapped_key_says_whose_it_is_before_it_is_opened() -> None:
    content = wrap(
        bytes(32), "correct horse battery", application="shop.example", service="ca", random=bytes(28)
    )
    assert wrapped_for(content) == "shop.example"
    with pytest.raises(BadInput, match="not a wrapped key"):
        wrapped_for(content[:-10])
