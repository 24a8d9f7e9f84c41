"""The guards that a module's code is compiled against, and its builtins.

Rules:
- Access is allowed by *exact type*: `type(value)` in a table, the method named in it. A subclass or any other
  object has no attributes, items or iteration. RestrictedPython's own `safer_getattr` works the other way
  round, by a list of what is dangerous, and was broken by what the list lacked (CVE-2023-37271,
  CVE-2024-47532, release 7.2). The table is also faster: the SigV4 module takes 1.7 times as long as in plain
  Python, with the package's own guards 2.2 times.
- Every refusal is an exception with a constant text; no guard returns a value in place of an error.
- Arithmetic that can explode (`* % ** <<`) is bounded; text formatting by `%` and `format` does not exist.
- Types are not handed out: `str`, `int`... are functions here, so there is no class to walk.

What stays unbounded here (concatenation, loops, recursion) ends at the worker's memory limit or the host's
deadline.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Iterable
from types import GeneratorType
from typing import Any, Final

__all__ = ["BUILTINS", "GUARDS"]

# A megabyte of text or a million items: far above any request, and a thirtieth of the worker's memory.
MAX_REPEATED: Final = 1 << 20
# Wider than any number that a provider's protocol knows; 4096-bit arithmetic takes microseconds.
MAX_BITS: Final = 4096

# Not here: `str.format` and `format_map`, which walk attributes named in a text (CVE-2023-41039), and
# `str.maketrans`/`translate`, which take any object. `encode` and `decode` reach only codecs that the zygote
# has loaded: a locked worker cannot import another.
_METHODS: Final[dict[type, frozenset[str]]] = {
    str: frozenset({
        "capitalize", "casefold", "count", "encode", "endswith", "find", "index", "isalnum", "isalpha",
        "isascii", "isdecimal", "isdigit", "islower", "isspace", "isupper", "join", "lower", "lstrip",
        "partition", "removeprefix", "removesuffix", "replace", "rfind", "rindex", "rpartition", "rsplit",
        "rstrip", "split", "splitlines", "startswith", "strip", "title", "upper",
    }),
    bytes: frozenset({
        "count", "decode", "endswith", "find", "hex", "join", "replace", "split", "startswith", "strip",
    }),
    dict: frozenset({
        "clear", "copy", "get", "items", "keys", "pop", "popitem", "setdefault", "update", "values",
    }),
    list: frozenset({
        "append", "clear", "copy", "count", "extend", "index", "insert", "pop", "remove", "reverse", "sort",
    }),
    tuple: frozenset({"count", "index"}),
    set: frozenset({
        "add", "clear", "copy", "difference", "discard", "intersection", "isdisjoint", "issubset",
        "issuperset", "remove", "symmetric_difference", "union", "update",
    }),
}  # fmt: skip
# `type(value) in _SUBSCRIPTED` and its like below: isinstance() would let in subclasses, whose methods run.
_SUBSCRIPTED: Final = frozenset({str, bytes, dict, list, tuple})
_WRITTEN: Final = frozenset({dict, list})
_ITERATED: Final = frozenset({
    str, bytes, dict, list, tuple, set, range, GeneratorType, enumerate, zip,
    type({}.keys()), type({}.values()), type({}.items()), type(reversed([])),
})  # fmt: skip
_REPEATED: Final = frozenset({str, bytes, list, tuple})
_SHOWN: Final = frozenset({str, int, bool, type(None)})
_NO_METHODS: Final[frozenset[str]] = frozenset()


def _getattr(value: Any, name: str) -> Any:
    # Raises instead of giving None as `safer_getattr` does: a module must not go on with an attribute that is
    # not there. The text is constant, and the exception has no `obj`, which leaked the object
    # (CVE-2024-47532).
    if name in _METHODS.get(type(value), _NO_METHODS):
        return getattr(value, name)
    raise AttributeError("no such attribute")


def _getitem(value: Any, key: Any) -> Any:
    if type(value) in _SUBSCRIPTED:
        return value[key]
    raise TypeError("no items")


def _getiter(value: Any) -> Any:
    if type(value) in _ITERATED:
        return value
    raise TypeError("not iterable")


def _write(value: Any) -> Any:
    if type(value) in _WRITTEN:
        return value
    raise TypeError("not writable")


def _multiply(left: Any, right: Any) -> Any:
    # Sequences repeat from either side: `"x" * n` and `n * "x"`.
    for body, count in ((left, right), (right, left)):
        if type(body) in _REPEATED:
            if type(count) is not int or len(body) * count > MAX_REPEATED:
                raise ValueError("too large")
            return body * count
    _check_numbers(left, right)
    if left.bit_length() + right.bit_length() > MAX_BITS:
        raise ValueError("too large")
    return left * right


def _remainder(left: Any, right: Any) -> Any:
    # Numbers only: `"%r" % value` would format, and show addresses and the hash seed.
    _check_numbers(left, right)
    return left % right


def _power(base: Any, exponent: Any) -> Any:
    _check_numbers(base, exponent)
    # Before the work is done: the result has at most this many bits. A negative exponent would give a float.
    if not 0 <= exponent <= MAX_BITS or base.bit_length() * exponent > MAX_BITS:
        raise ValueError("too large")
    return base**exponent


def _shift(value: Any, count: Any) -> Any:
    _check_numbers(value, count)
    if value.bit_length() + count > MAX_BITS:
        raise ValueError("too large")
    return value << count


def _check_numbers(*values: Any) -> None:
    for value in values:
        if type(value) is not int and type(value) is not bool:
            raise TypeError("wanted integers")


_IN_PLACE: Final[dict[str, Callable[[Any, Any], Any]]] = {
    "+=": operator.iadd, "-=": operator.isub, "|=": operator.ior, "&=": operator.iand, "^=": operator.ixor,
    "//=": operator.ifloordiv, ">>=": operator.irshift, "*=": _multiply, "%=": _remainder, "**=": _power,
    "<<=": _shift,
}  # fmt: skip


def _inplacevar(name: str, left: Any, right: Any) -> Any:
    change = _IN_PLACE.get(name)
    if change is None:
        raise TypeError("not allowed in place")
    return change(left, right)


def _text(value: Any) -> str:
    # str() of anything else tells an address (`<function f at 0x7f...>`), which helps to break out.
    if type(value) in _SHOWN:
        return str(value)
    raise TypeError("wanted text, an integer, a truth value or None")


def _str(value: Any = "") -> str:
    return _text(value)


def _int(value: Any = 0, base: int | None = None) -> int:
    if base is None and type(value) in {str, int, bool}:
        return int(value)
    if base is not None and type(value) is str and type(base) is int:
        return int(value, base)
    raise TypeError("wanted text or an integer")


def _bool(value: Any = False) -> bool:  # noqa: FBT002 - the builtin's own form
    return bool(value)


# The functions below iterate in C, past the guard `_getiter_` that the transformer puts into the module's own
# loops; RestrictedPython 9.0 took `sorted`, `tuple` and `zip` out of its builtins for that. So each asks the
# guard itself.


def _list(value: Any = ()) -> list[Any]:
    return list(_getiter(value))


def _tuple(value: Any = ()) -> tuple[Any, ...]:
    return tuple(_getiter(value))


def _set(value: Any = ()) -> set[Any]:
    return set(_getiter(value))


def _dict(value: Any = (), **members: Any) -> dict[Any, Any]:
    return dict(_getiter(value), **members)


def _sorted(value: Any, *, key: Any = None, reverse: bool = False) -> list[Any]:
    return sorted(_getiter(value), key=key, reverse=reverse)


def _reversed(value: Any) -> Any:
    if type(value) not in {str, list, tuple, range}:
        raise TypeError("not a sequence")
    return list(reversed(value))


def _enumerate(value: Any, start: int = 0) -> Any:
    return enumerate(_getiter(value), start)


def _zip(*values: Any) -> Any:
    return zip(*[_getiter(value) for value in values], strict=False)


def _sum(value: Any, start: Any = 0) -> Any:
    return sum(_getiter(value), start)


def _any(value: Any) -> bool:
    return any(_getiter(value))


def _all(value: Any) -> bool:
    return all(_getiter(value))


def _min(*values: Any, **options: Any) -> Any:
    return min(*_operands(values), **options)


def _max(*values: Any, **options: Any) -> Any:
    return max(*_operands(values), **options)


def _operands(values: tuple[Any, ...]) -> tuple[Any, ...]:
    return (_getiter(values[0]),) if len(values) == 1 else values


def _len(value: Any) -> int:
    if type(value) in _ITERATED:
        return len(value)
    raise TypeError("no length")


# A module names the function that stands for a type; real types have `mro()`, which hands out `object`.
_TYPES: Final[dict[Any, type]] = {
    _str: str, _int: int, _bool: bool, _list: list, _tuple: tuple, _set: set, _dict: dict,
}  # fmt: skip


def _isinstance(value: Any, kind: Any) -> bool:
    kinds: Iterable[Any] = kind if type(kind) is tuple else (kind,)
    found = [_TYPES.get(each) for each in kinds]
    if None in found:
        raise TypeError("wanted a plain type")
    return type(value) in found


GUARDS: Final[dict[str, Any]] = {
    "_getattr_": _getattr, "_getitem_": _getitem, "_getiter_": _getiter, "_write_": _write,
    "_inplacevar_": _inplacevar, "_multiply_": _multiply, "_remainder_": _remainder, "_power_": _power,
    "_shift_": _shift, "_text_": _text,
}  # fmt: skip

# Not here, on purpose: id hash repr (addresses, the hash seed), getattr setattr delattr callable type object,
# BaseException SystemExit MemoryError (would catch what is not the module's), __build_class__, bytes,
# complex, slice.
BUILTINS: Final[dict[str, Any]] = {
    "True": True, "False": False, "None": None,
    "abs": abs, "chr": chr, "divmod": divmod, "hex": hex, "ord": ord, "range": range,
    "all": _all, "any": _any, "bool": _bool, "dict": _dict, "enumerate": _enumerate, "int": _int,
    "isinstance": _isinstance, "len": _len, "list": _list, "max": _max, "min": _min, "reversed": _reversed,
    "set": _set, "sorted": _sorted, "str": _str, "sum": _sum, "tuple": _tuple, "zip": _zip,
    "ArithmeticError": ArithmeticError, "AssertionError": AssertionError, "AttributeError": AttributeError,
    "Exception": Exception, "IndexError": IndexError, "KeyError": KeyError, "LookupError": LookupError,
    "NotImplementedError": NotImplementedError, "OverflowError": OverflowError, "RuntimeError": RuntimeError,
    "TypeError": TypeError, "UnicodeError": UnicodeError, "ValueError": ValueError,
    "ZeroDivisionError": ZeroDivisionError,
}  # fmt: skip
