"""Identifiers in the store: half of their text where they are printed as they should be, and exact always."""

from __future__ import annotations

import uuid

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from sqlalchemy import Column, MetaData, Table, insert, select

from ca.store.columns import (
    AgentUUID,
    SerialNumber,
    pack_serial,
    pack_uuid,
    unpack_serial,
    unpack_uuid,
)
from ostiary.certificate import serial_hex
from ostiary.store.database import open_for_writing
from ostiary.store.statement import Statement


@given(st.integers(1, 2**160 - 1))
def test_a_serial_number_is_its_octets(number: int) -> None:
    text = serial_hex(number)
    assert pack_serial(text) == bytes.fromhex(text)
    assert unpack_serial(pack_serial(text)) == text


@given(st.uuids())
def test_a_uuid_is_its_sixteen_octets(value: uuid.UUID) -> None:
    assert pack_uuid(str(value)) == value.bytes
    assert unpack_uuid(value.bytes) == str(value)


ANY = st.text(max_size=50) | st.text("0123456789abcdefABCDEF- ", max_size=50)


@given(ANY)
@example("")
@example("0")
@example("00ff")
@example("AB")
@example("ab cd")
@example("ff" * 21)
@example("00" * 20)
@example("5B1F1A3E-7A0C-4C1D-9B55-0C3B9F3F2A10")
@example("5b1f1a3e7a0c4c1d9b550c3b9f3f2a10")
@example("5b1f-1a3e7a0c-4c1d-9b55-0c3b9f3f2a10")
def test_any_text_comes_back_as_it_was(text: str) -> None:
    assert unpack_serial(pack_serial(text)) == text
    assert unpack_uuid(pack_uuid(text)) == text


@pytest.mark.parametrize("pack", [pack_serial, pack_uuid])
def test_two_texts_are_never_the_same_octets(pack: object) -> None:
    texts = ["ab", "AB", "ab ", " ab", "0ab", "00ab", "\xab", "a-b", "ff" * 16, "-".join(["ff"] * 16), ""]
    assert len({pack(text) for text in texts}) == len(texts)  # type: ignore[operator]


def test_statements_convert_them_too() -> None:
    table = Table("t", MetaData(), Column("serial", SerialNumber), Column("agent", AgentUUID))
    row = {"serial": "1f", "agent": "5b1f1a3e-7a0c-4c1d-9b55-0c3b9f3f2a10"}
    empty = {"serial": None, "agent": None}
    engine = open_for_writing("sqlite://")
    with engine.begin() as tx:
        table.create(tx)
        Statement(insert(table)).run_each(tx, [row, empty])
        assert Statement(select(table)).fetch(tx, {}) == [row, empty]
        assert [dict(each) for each in tx.execute(select(table)).mappings()] == [row, empty]
        found = tx.execute(select(table).where(table.c.serial.in_(["1f", "1F"]))).mappings()
        assert [dict(each) for each in found] == [row]
    engine.dispose()
