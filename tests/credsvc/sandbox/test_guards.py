"""The guards alone: exact types only, constant texts, and arithmetic that cannot explode."""

from __future__ import annotations

from collections import UserDict
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from credsvc.sandbox.guards import BUILTINS, GUARDS, MAX_BITS, MAX_REPEATED


class Text(str):
    """A subclass whose methods a module could have written."""

    __slots__ = ()


class Host:
    """An object of the host with a public attribute."""

    name = "host"


@pytest.mark.parametrize(
    ("value", "name"),
    [
        ("a", "format"),
        ("a", "format_map"),
        ("a", "translate"),
        ("a", "__class__"),
        (Text("a"), "upper"),
        (Host(), "name"),
        (Host, "name"),
        (str, "mro"),
        (1, "real"),
        (ValueError("a"), "args"),
        ({}.items(), "mapping"),
        ((n for n in [1]), "gi_frame"),
    ],
)
def test_an_attribute_is_a_named_method_of_an_exact_type_or_none(value: Any, name: str) -> None:
    with pytest.raises(AttributeError, match="no such attribute") as refused:
        GUARDS["_getattr_"](value, name)
    # CPython fills these in for its own AttributeErrors, and `obj` is the object (CVE-2024-47532).
    assert (refused.value.obj, refused.value.name) == (None, None)


def test_a_named_method_is_given() -> None:
    assert GUARDS["_getattr_"]("a", "upper")() == "A"
    assert GUARDS["_getattr_"]({"a": 1}, "get")("a") == 1


@pytest.mark.parametrize("guard", ["_getitem_", "_write_", "_getiter_"])
@pytest.mark.parametrize("value", [UserDict({"a": 1}), Text("a"), Host(), object(), 5])
def test_other_objects_have_no_items_and_no_iteration(guard: str, value: Any) -> None:
    arguments = (value, "a") if guard == "_getitem_" else (value,)
    with pytest.raises(TypeError):
        GUARDS[guard](*arguments)


def test_what_cannot_change_is_not_written() -> None:
    for value in ("a", (1,), b"a", {1}):
        with pytest.raises(TypeError):
            GUARDS["_write_"](value)


@pytest.mark.parametrize("body", ["x" * 1024, b"x" * 1024, [0] * 1024, (0,) * 1024], ids=type)
def test_repetition_is_bounded_from_either_side(body: Any) -> None:
    multiply = GUARDS["_multiply_"]
    assert len(multiply(body, MAX_REPEATED // 1024)) == MAX_REPEATED
    for left, right in ((body, MAX_REPEATED // 1024 + 1), (MAX_REPEATED // 1024 + 1, body)):
        with pytest.raises(ValueError, match="too large"):
            multiply(left, right)


@given(st.integers(-(2**600), 2**600), st.integers(-(2**600), 2**600))
def test_numbers_come_out_as_pythons(left: int, right: int) -> None:
    assert GUARDS["_multiply_"](left, right) == left * right
    if right:
        assert GUARDS["_remainder_"](left, right) == left % right


@given(st.integers(-(2**64), 2**64), st.integers(-5, 10_000))
def test_a_power_is_pythons_or_refused_and_never_too_wide(base: int, exponent: int) -> None:
    if not 0 <= exponent <= MAX_BITS or base.bit_length() * exponent > MAX_BITS:
        with pytest.raises(ValueError, match="too large"):
            GUARDS["_power_"](base, exponent)
        return
    result = GUARDS["_power_"](base, exponent)
    assert result == base**exponent
    assert result.bit_length() <= MAX_BITS


@given(st.integers(-(2**64), 2**64), st.integers(0, 10_000))
def test_a_shift_is_bounded(value: int, count: int) -> None:
    try:
        result = GUARDS["_shift_"](value, count)
    except ValueError:
        assert value.bit_length() + count > MAX_BITS
        return
    assert result.bit_length() <= MAX_BITS


@pytest.mark.parametrize(
    ("guard", "arguments"),
    [
        ("_remainder_", ("%r", 1)),
        ("_remainder_", (b"%r", 1)),
        ("_power_", (2.0, 2)),
        ("_shift_", (1, 2.0)),
        ("_multiply_", (1.5, 2)),
    ],
)
def test_arithmetic_is_of_integers(guard: str, arguments: tuple[Any, Any]) -> None:
    """`%` on text would format, and show addresses and the hash seed."""
    with pytest.raises(TypeError, match="wanted integers"):
        GUARDS[guard](*arguments)


@pytest.mark.parametrize("value", [Host(), Host, len, [1], {"a": 1}, 1.5, Text("a")])
def test_no_text_is_made_of_what_has_an_address(value: Any) -> None:
    for make in (GUARDS["_text_"], BUILTINS["str"]):
        with pytest.raises(TypeError):
            make(value)


def test_in_place_operators_are_the_listed_ones() -> None:
    assert GUARDS["_inplacevar_"]("+=", 1, 2) == 3
    with pytest.raises(TypeError):
        GUARDS["_inplacevar_"]("@=", 1, 2)
    with pytest.raises(ValueError, match="too large"):
        GUARDS["_inplacevar_"]("**=", 2, MAX_BITS + 1)


def test_types_are_functions_that_isinstance_knows() -> None:
    isinstance_ = BUILTINS["isinstance"]
    assert isinstance_("a", BUILTINS["str"])
    assert isinstance_([1], (BUILTINS["dict"], BUILTINS["list"]))
    assert not isinstance_(Text("a"), BUILTINS["str"])
    for kind in (str, object, type, BUILTINS["len"]):
        with pytest.raises(TypeError):
            isinstance_("a", kind)


@pytest.mark.parametrize(
    "name", ["list", "tuple", "set", "dict", "sorted", "enumerate", "zip", "sum", "any", "all", "min", "max"]
)
def test_whatever_iterates_in_c_asks_the_guard(name: str) -> None:
    class Endless:
        def __iter__(self) -> Any:
            raise AssertionError("the host's object was iterated")

    with pytest.raises(TypeError):
        BUILTINS[name](Endless())
