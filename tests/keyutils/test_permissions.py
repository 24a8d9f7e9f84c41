"""The masks of keys, as numbers that the kernel was seen to take."""

from __future__ import annotations

import pytest

from keyutils.permissions import AGENT_KEY, ALL, OWNER_KEY, READ, SETATTR, WRITE, mask


def test_masks_are_the_kernels_numbers() -> None:
    """0x3f010000 is what add_key(2) gives by itself (security/keys/key.c)."""
    assert AGENT_KEY == 0x0B290000
    assert OWNER_KEY == 0x3F010000
    assert mask(possessor=0x01, user=0x02, group=0x04, other=0x08) == 0x01020408


def test_an_agents_possessor_reads_and_its_owner_can_only_end_it() -> None:
    possessor, owner = AGENT_KEY >> 24, AGENT_KEY >> 16 & ALL
    assert possessor & READ
    assert not possessor & (WRITE | SETATTR)
    assert owner & SETATTR
    assert not owner & (READ | WRITE)
    assert not AGENT_KEY & 0xFFFF


@pytest.mark.parametrize("bits", [-1, 0x40])
@pytest.mark.parametrize("field", ["possessor", "user", "group", "other"])
def test_bits_beyond_six_are_refused(field: str, bits: int) -> None:
    with pytest.raises(ValueError, match="outside"):
        mask(**{"possessor": 0, "user": 0} | {field: bits})
