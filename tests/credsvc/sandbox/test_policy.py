"""The narrowed language: what compiles and runs, what is refused, one respect at a time. (In process: these
are harmless.)
"""

from __future__ import annotations

from typing import Any

import pytest

from credsvc.sandbox.frames import MAX_SOURCE_BYTES
from credsvc.sandbox.policy import build_globals, compile_module
from credsvc.sandbox.refusal import Reason, RefusedSource


def run(body: str, **arguments: Any) -> Any:
    """Compile `def f(x): body` and call it."""
    lines = "\n".join(f"    {line}" for line in body.splitlines())
    space = build_globals({})
    exec(compile_module(f"def f(x=None):\n{lines}\n"), space)  # noqa: S102 - our own test code
    function: Any = space["f"]
    return function(**arguments)


WORKS = {
    "methods of text": ('return ",".join([each.strip().upper() for each in x.split(";")])', "a; b", "A,B"),
    "dict walk": ("return sorted([k + v for k, v in x.items()])", {"b": "1", "a": "2"}, ["a2", "b1"]),
    "item writes": ("x['n'] = 1\ndel x['m']\nreturn x", {"m": 0}, {"n": 1}),
    "slices": ("return x[1:3] + x[-1]", "abcde", "bce"),
    "in place": ("n = 1\nn += 2\nn *= 3\nn -= 1\nn |= 16\nn %= 7\nreturn n", None, 3),
    "try": ("try:\n    return int(x)\nexcept ValueError:\n    return -1\nfinally:\n    x = 0", "q", -1),
    "raise": ("try:\n    raise KeyError('k')\nexcept (KeyError, TypeError) as e:\n    return 'k'", None, "k"),
    "nested unpacking": ("(a, (b, c)), d = x\nreturn a + b + c + d", [[1, [2, 3]], 4], 10),
    "unpacking in loops": ("return [a * b for (a, b) in zip(x, reversed(x))]", [1, 2, 3], [3, 4, 3]),
    "generators": ("return sum((n for n in range(x))) + len(list(range(3)))", 4, 9),
    "lambda and key": ("return sorted(x, key=lambda each: -each)", [1, 2], [2, 1]),
    "ternary and bool": ("return 'y' if x and not isinstance(x, (int, str)) else 'n'", [1], "y"),
    "while": ("n = 0\nwhile True:\n    n += 1\n    if n > x:\n        break\nreturn n", 3, 4),
    "f-string": ("return f'{x}-{x}'", 7, "7-7"),
    "set": ("return len({1, 2} | set(x))", [2, 3], 3),
    "conversions": ("return [str(5), int('12', 16), bool(''), tuple(x), dict([('a', 1)]), hex(255)]", "ab",
                    ["5", 18, False, ("a", "b"), {"a": 1}, "0xff"]),
    "bytes": ("return x.encode().hex()", "é", "c3a9"),
    "walrus": ("if (n := len(x)) > 1:\n    return n", "abc", 3),
}  # fmt: skip


@pytest.mark.parametrize(("body", "argument", "expected"), WORKS.values(), ids=WORKS)
def test_works(body: str, argument: Any, expected: Any) -> None:
    assert run(body, x=argument) == expected


RAISES = {
    "attribute of a function": ("return f.x", AttributeError),
    "format": ("return '{}'.format(x)", AttributeError),
    "format in a variable": ("g = '{}'\nreturn g.format_map(x)", AttributeError),
    "method of a type": ("return str.mro()", AttributeError),
    "generator's parts": ("return (n for n in [1]).send(1)", AttributeError),
    "percent formatting": ("return '%r' % f", TypeError),
    "percent in place": ("s = '%r'\ns %= f\nreturn s", TypeError),
    "function in an f-string": ("return f'{f}'", TypeError),
    "str of a function": ("return str(f)", TypeError),
    "str of an exception": ("try:\n    int('q')\nexcept ValueError as e:\n    return str(e)", TypeError),
    "repeat too long": ("return 'ab' * 1000000", ValueError),
    "repeat from the left": ("return 1000000 * 'ab'", ValueError),
    "list too long": ("return [1] * 10000000", ValueError),
    "product too large": ("n = 3\nfor i in range(99):\n    n = n * n\nreturn n", ValueError),
    "power too large": ("return 10 ** 10000", ValueError),
    "negative power": ("return 10 ** -1", ValueError),
    "shift too far": ("return 1 << 100000", ValueError),
    "shift in place": ("n = 1\nn <<= 100000\nreturn n", ValueError),
    "items of a function": ("return f[0]", TypeError),
    "items of a set": ("return {1}[0]", TypeError),
    "write into text": ("x = 'a'\nx[0] = 'b'", TypeError),
    "iterate an integer": ("return [n for n in 5]", TypeError),
    "matrix product in place": ("n = 1\nn /= 2", TypeError),
    "length of a function": ("return len(f)", TypeError),
    "isinstance of a function": ("return isinstance(x, f)", TypeError),
    "open": ("return open('/etc/passwd')", NameError),
    "getattr": ("return getattr(x, 'y')", NameError),
    "type": ("return type(x)", NameError),
    "object": ("return object", NameError),
    "repr": ("return repr(f)", NameError),
    "id": ("return id(f)", NameError),
    "hash": ("return hash('')", NameError),
    "globals": ("return globals()", NameError),
    "vars": ("return vars()", NameError),
    "BaseException": ("raise BaseException", NameError),
}


@pytest.mark.parametrize(("body", "error"), RAISES.values(), ids=RAISES)
def test_raises(body: str, error: type[Exception]) -> None:
    with pytest.raises(error):
        run(body)


NOT_ALLOWED = {
    "import": "import os",
    "from": "from os import path",
    "class": "class A:\n    pass",
    "yield": "def f():\n    yield 1",
    "yield from": "def f():\n    yield from x",
    "global": "def f():\n    global g\n    g = 1",
    "nonlocal": "def f():\n    a = 1\n    def g():\n        nonlocal a\n        a = 2",
    "with": "with x:\n    pass",
    "async": "async def f():\n    pass",
    "decorator": "def d(f):\n    return f\n@d\ndef g():\n    pass",
    "starred call": "f(*x)",
    "double starred call": "f(**x)",
    "starred list": "a = [*x]",
    "dict unpacking": "a = {**x}",
    "list target": "[a, b] = x",
    "attribute store": "x.a = 1",
    "attribute delete": "del x.a",
    "item in place": "x['a'] += 1",
    "bare except": "try:\n    pass\nexcept:\n    pass",
    "except star": "try:\n    pass\nexcept* ValueError:\n    pass",
    "f-string conversion": "a = f'{x!r}'",
    "f-string specification": "a = f'{x:>9}'",
    "matrix product": "a = x @ y",
    "match": "match x:\n    case 1:\n        pass",
    "annotation": "a: int = 1",
    "dunder": "a = x.__class__",
    "underscore name": "_a = 1",
    "underscore argument": "def f(_a):\n    pass",
    "underscore keyword only": "def f(*, _getattr_=1):\n    pass",
    "guard as loop variable": "for _getiter_ in x:\n    pass",
    "guard as exception name": "try:\n    pass\nexcept ValueError as _write_:\n    pass",
    "magic function": "def f():\n    def __init__(a):\n        pass",
    "print": "print(1)",
    "print as a name": "a = print",
    "name that is not ASCII": "größe = 1",
    "attribute folded to underscores": "a = x._\uff3fclass\uff3f\uff3f",
    "eval": "eval('1')",
    "frame attribute": "a = x.f_back",
}


@pytest.mark.parametrize("source", NOT_ALLOWED.values(), ids=NOT_ALLOWED)
def test_not_allowed(source: str) -> None:
    with pytest.raises(RefusedSource) as caught:
        compile_module(source)
    assert caught.value.reason is Reason.NOT_ALLOWED
    assert 1 <= caught.value.line <= source.count("\n") + 1


@pytest.mark.parametrize(
    ("source", "reason", "line"),
    [
        ("a = 1\nb = (", Reason.SYNTAX, 2),
        ("a = 'x\u202ey'", Reason.NOT_TEXT, 1),
        ("a = 1\n# zero\u200bwidth", Reason.NOT_TEXT, 2),
        ("a = 1\x00", Reason.NOT_TEXT, 1),
        ("a = '\x1b[2K'", Reason.NOT_TEXT, 1),
        ("a = '\ud800'", Reason.NOT_TEXT, 0),
        ("#" * (MAX_SOURCE_BYTES + 1), Reason.TOO_LARGE, 0),
        ("a = [" + "1," * 9000 + "]", Reason.TOO_COMPLEX, 0),
        ("a = " + "-" * 60 + "1", Reason.TOO_COMPLEX, 0),
        ("return 1", Reason.SYNTAX, 1),
    ],
    ids=lambda each: str(each)[:20].encode("unicode_escape").decode(),
)
def test_refused_before_the_transformer(source: str, reason: Reason, line: int) -> None:
    with pytest.raises(RefusedSource) as caught:
        compile_module(source)
    assert (caught.value.reason, caught.value.line) == (reason, line)


def test_every_builtin_and_guard_is_named_on_purpose() -> None:
    """A new version of RestrictedPython must not add anything by itself."""
    space: Any = build_globals({})
    assert {name for name in space if name.startswith("_")} == {
        "__builtins__", "__name__", "_getattr_", "_getitem_", "_getiter_", "_inplacevar_",
        "_iter_unpack_sequence_", "_multiply_", "_power_", "_remainder_", "_shift_", "_text_",
        "_unpack_sequence_", "_write_",
    }  # fmt: skip
    forbidden = {
        "open",
        "eval",
        "exec",
        "compile",
        "getattr",
        "setattr",
        "type",
        "object",
        "id",
        "hash",
        "repr",
        "bytes",
    }
    assert not forbidden & space["__builtins__"].keys()
    types = {value for value in space["__builtins__"].values() if isinstance(value, type)}
    assert all(each is range or issubclass(each, Exception) for each in types)
