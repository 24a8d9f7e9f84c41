"""A formula's tree compiled to closures over an `Environment`, so that what an evaluation costs is the
cryptography and not the tree.

Rules:
- A binding used once is compiled in place; one used more often gets a slot, and is computed once in an
  evaluation.
- Where the key of a MAC is itself derived from a confidential field, it is looked up in the `Memo` under the
  public values that it depends on; nothing inside such a key is kept apart from it.
- Values are bytes, except counts (int) and the answer of `equal` (bool).

Leaves to others: whether names and kinds are right (`kinds.py` ran before), what may be released
(`approve.py`). Standards: HMAC RFC 2104, PBKDF2 RFC 8018 section 5.2, base64 and base64url (unpadded) RFC
4648, percent-encoding RFC 3986 section 2.1.
"""

from __future__ import annotations

import hashlib
import hmac
import json
from base64 import b64encode, urlsafe_b64encode
from collections import Counter
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import quote

from credsvc.formula.notation import (
    Bind,
    Binding,
    Call,
    Column,
    Concatenation,
    Confidential,
    Expression,
    Hole,
    Number,
    Output,
    OutputKind,
    Shareable,
    State,
    Text,
    walk,
)
from credsvc.formula.types import TIME_FORMATS, ListHole, TimeHole
from ostiary.errors import BadInput

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from credsvc.formula.manifest import Formula, Manifest
    from credsvc.formula.types import Filled, Row

# SigV4 derives one key for each day, region and service: an agent of a component uses a handful at a time.
MEMO_ENTRIES: Final = 32


class Memo:
    """Derived keys of one sealed credential, at most `MEMO_ENTRIES`; the oldest is dropped first.

    The keyholder owns it, and drops it with the credential. It can be neither printed nor pickled. It has no
    lock: the keyholder evaluates on one thread.
    """

    __slots__ = ("_keys",)

    def __init__(self) -> None:
        self._keys: dict[tuple[object, ...], bytes] = {}

    def get(self, inputs: tuple[object, ...]) -> bytes | None:
        return self._keys.get(inputs)

    def put(self, inputs: tuple[object, ...], key: bytes) -> None:
        # A dict keeps the order of insertion (Python's language reference, since 3.7).
        while len(self._keys) >= MEMO_ENTRIES:
            del self._keys[next(iter(self._keys))]
        self._keys[inputs] = key

    def __len__(self) -> int:
        return len(self._keys)

    def __repr__(self) -> str:
        return f"Memo({len(self._keys)} entries)"

    def __reduce__(self) -> str:
        raise TypeError("a Memo holds secrets and can't be pickled")


class Environment:
    """What one evaluation reads, and its slots for bindings. Holds secrets; lives for one call."""

    __slots__ = ("confidential", "holes", "memo", "row", "shareable", "slots", "state")

    def __init__(
        self,
        *,
        holes: Mapping[str, Filled],
        shareable: Mapping[str, bytes],
        confidential: Mapping[str, bytes],
        state: Mapping[str, bytes],
        memo: Memo | None,
        slots: int,
    ) -> None:
        # Any: `kinds.py` has settled which names are octets, counts and lists.
        self.holes: Mapping[str, Any] = holes
        self.shareable = shareable
        self.confidential = confidential
        self.state = state
        self.memo = memo
        # The row that the join at work stands at; joins do not nest.
        self.row: Row = ()
        self.slots: list[bytes | None] = [None] * slots


@dataclass(frozen=True, slots=True, kw_only=True)
class CompiledOutput:
    """One way out; `optional` names the public field whose absence leaves the output out."""

    kind: OutputKind
    sink: str
    compute: Callable[[Environment], Any]
    optional: str | None
    is_secret: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Program:
    """A compiled formula, and how many slots its bindings take."""

    outputs: tuple[CompiledOutput, ...]
    slots: int


@dataclass(frozen=True, slots=True, kw_only=True)
class CompiledBinding:
    """One named value, for explanations."""

    name: str
    compute: Callable[[Environment], Any]
    is_secret: bool


# By manifest (its digest) and formula: more than all formulas of all modules that a service has active.
@lru_cache(maxsize=256)
def compile_formula(manifest: Manifest, name: str) -> Program:
    """Compile a formula; BadInput for what the notation has and this service has not yet (`sign`, `send`,
    `disclose`).
    """
    formula = manifest.formula(name, operation=None)
    compiler = _Compiler(manifest, formula)
    return Program(outputs=tuple(compiler.outputs()), slots=len(compiler.slots))


@lru_cache(maxsize=256)
def compile_bindings(manifest: Manifest, name: str) -> tuple[CompiledBinding, ...]:
    """Compile a formula's bindings, in order; they run in an Environment of its program."""
    return tuple(_Compiler(manifest, manifest.formula(name, operation=None)).bindings())


class _Compiler:
    def __init__(self, manifest: Manifest, formula: Formula) -> None:
        self._manifest = manifest
        self._formula = formula
        self._bound = {bind.name: bind.expression for bind in formula.statements if isinstance(bind, Bind)}
        uses = Counter(
            node.name
            for line in formula.statements
            for node in walk(line.expression)
            if isinstance(node, Binding)
        )
        self.slots = {
            name: index for index, name in enumerate(name for name in self._bound if uses[name] > 1)
        }
        self._slot_closures: dict[str, Callable[[Environment], Any]] = {}
        self._memo_count = 0
        # Of the join that is being compiled; joins do not nest (`kinds.py`, check 2).
        self._columns: list[str] = []

    def outputs(self) -> Iterator[CompiledOutput]:
        for line in self._formula.statements:
            if not isinstance(line, Output):
                continue
            # Approval refuses these as well; a vector may meet them before any approval.
            if line.kind in {"send", "disclose"}:
                raise BadInput(f"line {line.line}: {line.kind} is not yet supported")
            # `kinds.py` and rule 2 of `approve.py` keep optional fields out of everything but a release
            # alone.
            whole = line.expression.name if isinstance(line.expression, Shareable) else None
            optional = whole if whole is not None and self._manifest.shareable[whole].optional else None
            compute = self._compile(line.expression, memo=True)
            yield CompiledOutput(
                kind=line.kind,
                sink=line.sink,
                compute=compute,
                optional=optional,
                is_secret=self._secret(line.expression),
            )

    def bindings(self) -> Iterator[CompiledBinding]:
        for name, expression in self._bound.items():
            yield CompiledBinding(
                name=name, compute=self._compile(expression, memo=False), is_secret=self._secret(expression)
            )

    def _leaves(self, expression: Expression) -> Iterator[Expression]:
        for node in walk(expression):
            if isinstance(node, Binding):
                yield from self._leaves(self._bound[node.name])
            else:
                yield node

    def _secret(self, expression: Expression) -> bool:
        return any(isinstance(node, Confidential | State) for node in self._leaves(expression))

    def _compile(self, expression: Expression, *, memo: bool) -> Callable[[Environment], Any]:
        match expression:
            case Text(text=text):
                return _constant(text.encode())
            case Number(value=value):
                return _constant(value)
            case Hole():
                return self._hole(expression)
            case Binding(name=name):
                return self._binding(name, memo=memo)
            case Concatenation(terms=terms):
                return _concatenation([self._compile(term, memo=memo) for term in terms])
            case Call():
                return self._call(expression, memo=memo)
            case Column(name=name):
                index = self._columns.index(name)
                return lambda env: env.row[index]
            case _:
                return _field(expression)

    def _hole(self, hole: Hole) -> Callable[[Environment], Any]:
        name = hole.name
        if isinstance(self._formula.holes[name], TimeHole):
            render = TIME_FORMATS[hole.format or ""]
            return lambda env: render(env.holes[name])
        if hole.format == "text":
            return lambda env: b"%d" % env.holes[name]
        return lambda env: env.holes[name]

    def _binding(self, name: str, *, memo: bool) -> Callable[[Environment], Any]:
        slot = self.slots.get(name)
        if slot is None:
            return self._compile(self._bound[name], memo=memo)
        if name not in self._slot_closures:
            self._slot_closures[name] = _slotted(slot, self._compile(self._bound[name], memo=True))
        return self._slot_closures[name]

    def _call(self, call: Call, *, memo: bool) -> Callable[[Environment], Any]:
        if call.function == "join":
            return self._join(call)
        if call.function == "sign":
            raise BadInput("sign is not yet supported")
        if call.function == "hmac" and memo and self._is_derived(call.arguments[0]):
            key = self._memoised(call.arguments[0])
            return _hmac(call.algorithm or "", key, self._compile(call.arguments[1], memo=True))
        return _apply(call, [self._compile(argument, memo=memo) for argument in call.arguments])

    # A MAC's key that is a call over a secret, as SigV4's signing key; the bare secret is nothing to
    # remember.
    def _is_derived(self, key: Expression) -> bool:
        while isinstance(key, Binding):
            key = self._bound[key.name]
        return isinstance(key, Call) and self._secret(key)

    def _memoised(self, key: Expression) -> Callable[[Environment], bytes]:
        compute = self._compile(key, memo=False)
        # Each once, in order. Confidential fields are left out: a memo belongs to one version of a
        # credential, whose secrets do not change.
        leaves = dict.fromkeys(
            node for node in self._leaves(key) if isinstance(node, Hole | Shareable | State)
        )
        inputs = tuple(self._compile(leaf, memo=False) for leaf in leaves)
        # Two keys of one formula may depend on the same values: the count tells them apart.
        place = (self._manifest.digest, self._formula.name, self._memo_count)
        self._memo_count += 1

        def lookup(env: Environment) -> bytes:
            if env.memo is None:
                return bytes(compute(env))
            found_at = (place, *[read(env) for read in inputs])
            value = env.memo.get(found_at)
            if value is None:
                value = compute(env)
                env.memo.put(found_at, value)
            return value

        return lookup

    def _join(self, call: Call) -> Callable[[Environment], bytes]:
        separator, source, template = call.arguments
        if not isinstance(separator, Text) or not isinstance(source, Hole):
            raise AssertionError("a join without a literal separator or a list passed the check of kinds")
        rows = self._formula.holes[source.name]
        if not isinstance(rows, ListHole):
            raise AssertionError("a join over no list passed the check of kinds")
        self._columns = list(rows.columns)
        inner = self._compile(template, memo=False)
        glue, name = separator.text.encode(), source.name

        def joined(env: Environment) -> bytes:
            parts: list[bytes] = []
            for row in env.holes[name]:
                env.row = row
                parts.append(inner(env))
            return glue.join(parts)

        return joined


def _constant(value: bytes | int) -> Callable[[Environment], bytes | int]:
    return lambda _: value


# Each closure below is the whole cost of its node in an evaluation, so none looks at the tree again.
def _field(expression: Expression) -> Callable[[Environment], bytes]:
    match expression:
        case Shareable(name=name):
            return lambda env: env.shareable[name]
        case Confidential(name=name):
            return lambda env: env.confidential[name]
        case State(name=name):
            return lambda env: env.state[name]
        case _:
            raise AssertionError("a term that is no field")


def _slotted(slot: int, compute: Callable[[Environment], bytes]) -> Callable[[Environment], bytes]:
    def read(env: Environment) -> bytes:
        value = env.slots[slot]
        if value is None:
            value = env.slots[slot] = compute(env)
        return value

    return read


def _concatenation(parts: list[Callable[[Environment], Any]]) -> Callable[[Environment], bytes]:
    return lambda env: b"".join([part(env) for part in parts])


def _hmac(
    algorithm: str, key: Callable[[Environment], Any], message: Callable[[Environment], Any]
) -> Callable[[Environment], bytes]:
    # One call into OpenSSL: no object of `hmac` holds the key between calls.
    digest = hmac.digest
    return lambda env: digest(key(env), message(env), algorithm)


def _apply(call: Call, arguments: list[Callable[[Environment], Any]]) -> Callable[[Environment], Any]:
    algorithm = call.algorithm or ""
    if call.function == "hmac":
        return _hmac(algorithm, *arguments)
    if call.function == "pbkdf2":
        password, salt, iterations, octets = arguments
        return lambda env: hashlib.pbkdf2_hmac(
            algorithm, password(env), salt(env), iterations(env), octets(env)
        )
    if call.function in _BINARY:
        two = _BINARY[call.function]
        left, right = arguments
        return lambda env: two(left(env), right(env))
    one = _UNARY[call.function]
    (argument,) = arguments
    return lambda env: one(argument(env))


def _xor(left: bytes, right: bytes) -> bytes:
    if len(left) != len(right):
        raise BadInput("xor: the two sides differ in length")
    return bytes([a ^ b for a, b in zip(left, right, strict=True)])


_BINARY: Final[dict[str, Callable[[bytes, bytes], bytes | bool]]] = {
    "xor": _xor,
    # In a time that does not depend on where the two differ.
    "equal": hmac.compare_digest,
}
_UNARY: Final[dict[str, Callable[[bytes], bytes]]] = {
    "hex": lambda value: value.hex().encode(),
    "b64": b64encode,
    "b64url": lambda value: urlsafe_b64encode(value).rstrip(b"="),
    "pct": lambda value: quote(value, safe="").encode(),
    "json": lambda value: json.dumps(value.decode(), ensure_ascii=False).encode(),
    # Providers want MD5 and SHA-1; a FIPS build of OpenSSL would refuse them for security's use.
    "md5": lambda value: hashlib.md5(value, usedforsecurity=False).digest(),
    "sha1": lambda value: hashlib.sha1(value, usedforsecurity=False).digest(),
    "sha256": lambda value: hashlib.sha256(value).digest(),
    "sha512": lambda value: hashlib.sha512(value).digest(),
}
