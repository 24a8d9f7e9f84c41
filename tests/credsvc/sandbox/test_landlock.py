"""The rule set for each Landlock ABI: all that the kernel can handle, nothing allowed."""

from __future__ import annotations

import struct

import pytest

from credsvc.sandbox.landlock import build_ruleset


@pytest.mark.parametrize(
    ("abi", "fields"),
    [
        (1, (0x1FFF,)),
        (2, (0x3FFF,)),
        (3, (0x7FFF,)),
        (4, (0x7FFF, 0b11)),
        (5, (0xFFFF, 0b11)),
        (6, (0xFFFF, 0b11, 0b11)),
        (7, (0xFFFF, 0b11, 0b11)),
    ],
)
def test_each_abi_gets_all_its_bits(abi: int, fields: tuple[int, ...]) -> None:
    assert build_ruleset(abi) == struct.pack(f"{len(fields)}Q", *fields)
