"""Rows in memory: what a batch changes, and who belongs to whom, without what has ended."""

from __future__ import annotations

from dataclasses import fields, replace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy import Table

from ca.store import rows as row_types
from ca.store.rows import CertificateRow, Rows, joined, names
from ca.store.tables import REVOCATIONS, SHARDS, TOKENS
from ostiary.timestamp import EpochSeconds
from tests.support.ca_decisions import NOW_S, RecorderInMemory

NAMES = st.frozensets(st.from_regex(r"[a-z:]{1,8}", fullmatch=True), max_size=6)


def certificate(serial: str, **changed: object) -> CertificateRow:
    row = replace(RecorderInMemory().enrolled(), serial=serial, lineage=serial)
    return replace(row, **changed)  # type: ignore[arg-type]


def loaded(*found: CertificateRow) -> Rows:
    made = Rows(now_s=NOW_S)
    for row in found:
        made.load_certificate(row)
    return made


@given(held=NAMES)
def test_names_are_read_as_they_were_joined(held: frozenset[str]) -> None:
    assert names(joined(held)) == held


@pytest.mark.parametrize(
    ("type_", "table", "without"),
    [
        (row_types.TokenRow, TOKENS, set()),
        (row_types.RevocationRow, REVOCATIONS, {"n"}),
        (row_types.ShardRow, SHARDS, set()),
    ],
)
def test_a_row_has_its_tables_columns_and_none_where_a_column_may_be_null(
    type_: type, table: Table, without: set[str]
) -> None:
    columns = {column.name: column.nullable for column in table.c if column.name not in without}
    may_be_none = {each.name: "None" in str(each.type) for each in fields(type_)}
    assert may_be_none == columns


@pytest.mark.parametrize(
    ("status", "late_s", "live"),
    [
        ("active", 0, True),
        ("pending", 0, True),
        ("superseded", 0, False),
        ("revoked", 0, False),
        ("active", 1, False),
    ],
)
def test_a_certificate_is_live_until_its_last_second(status: str, late_s: int, live: bool) -> None:
    row = certificate("1f", status=status)
    assert row.is_live(EpochSeconds(row.not_after + late_s)) is live


def test_relatives_are_those_that_are_neither_revoked_nor_expired() -> None:
    parent = certificate("10")
    kept = [
        certificate("11", parent_lineage="10"),
        certificate("12", parent_lineage="10", status="superseded"),
    ]
    ended = [
        certificate("13", parent_lineage="10", status="revoked"),
        certificate("14", parent_lineage="10", not_after=EpochSeconds(NOW_S - 1)),
    ]
    rows = loaded(parent, *kept, *ended)
    assert rows.children_of("10") == kept
    assert rows.of_lineage("11") == kept[:1]
    assert rows.children_of("11") == []


def test_certificates_without_a_parent_are_nobodys_children() -> None:
    rows = loaded(certificate("10"), certificate("11"))
    assert not rows._by_parent


def test_a_node_has_its_sub_systems() -> None:
    here, there = certificate("10", node="n1.example"), certificate("11", node="n2.example")
    rows = loaded(here, there)
    assert rows.of_node("n1.example", here.subsystem) == [here]
    assert rows.of_node("n1.example", "component") == []


def test_what_a_batch_makes_and_changes_is_noted_once() -> None:
    rows = loaded(certificate("10"))
    rows.replace_certificate(replace(rows.certificates["10"], status="superseded"))
    rows.add_certificate(certificate("11"))
    rows.replace_certificate(replace(rows.certificates["11"], status="pending"))
    assert (rows.new_certificates, rows.changed_certificates) == ({"11"}, {"10", "11"})
    assert [row.status for row in rows.of_lineage("11")] == ["pending"]
