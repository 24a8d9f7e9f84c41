"""What the machine checks of a manifest before a person approves it: nothing that a module can do reveals a
secret.

The plan, `rule` by `rule`; all of it over expanded expressions, with holes as free as their types allow:
 1 unsupported   only what can be evaluated: no `sign`, `send`, `disclose`, no `#state` yet
 2 unused        every confidential field is used; an optional public field is released alone or not at all
 3 one-way       in a release or verify, a secret has a one-way function above it, and the nearest one fits its type:
                 a hmac_key is the key of an hmac with nothing but literals beside it, a digest_input stands
                 in a digest, a kdf_password is pbkdf2's password; no join around, no xor between; a bearer is
                 never released
 4 inner-value   no released value can equal a secret-bearing value inside any formula (SigV4's day key, SCRAM's ClientKey);
                 the sides of an xor are such values: one that is public or released would give the other away
 5 message-start a released MAC's message begins with a literal or a narrowly typed hole
 6 distinct      no released value of one operation can equal one of another operation (a MAC is good for one purpose)
 7 separable     what is signed can be read back into its holes in one way
 8 free-tail     nothing but literals and typed holes follows a secret in a released digest (length extension)
 9 iterations    pbkdf2 has a floor and a ceiling of iterations, 16 to 64 octets
10 line-end      a header or query value that is released has no line end
11 context       what policy decides on is part of what is signed

One-way functions are taken as such (no collisions, no preimages; MD5 and SHA-1 included: a provider that
still wants them gets what it asks for). Not checked: that the formula is what the provider wants (the
vectors), the module's code (the sandbox).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Literal

from credsvc.formula.compare import find_unbounded, may_equal
from credsvc.formula.notation import (
    Call,
    Confidential,
    Expression,
    Hole,
    Number,
    Shareable,
    State,
    children,
    walk,
)
from credsvc.formula.pattern import LINE_ENDS
from credsvc.formula.secrecy import Value, WayOut, inner_values, revealed, secrets_in, share_secret, ways_out
from credsvc.formula.shape import DIGESTS, ENCODINGS, ONE_WAY, Atom
from credsvc.formula.types import FieldType, IntHole

if TYPE_CHECKING:
    from collections.abc import Iterator

    from credsvc.formula.manifest import ConfidentialField, Formula, Manifest

MIN_ITERATIONS: Final = 4096  # RFC 7677 §4
MAX_ITERATIONS: Final = 1_000_000  # about half a second of one core
MIN_OCTETS: Final = 16
MAX_OCTETS: Final = 64

Severity = Literal["refused", "note"]
_Path = tuple[tuple[Expression, int], ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """One thing a check found: which rule, in which formula ("" for the manifest) and line, and whether it
    refuses.
    """

    rule: str
    formula: str
    line: int
    message: str
    severity: Severity


def find_refusals(manifest: Manifest) -> tuple[Finding, ...]:
    """All refusals of the plan above, in its order. A manifest that has one is never approved."""
    lines = [line for formula in manifest.formulas.values() for line in ways_out(manifest, formula)]
    findings = [
        *_unsupported(lines),
        *_unused(manifest, lines),
        *_one_way(manifest, lines),
        *_iterations(lines),
        *_line_ends(lines),
    ]
    if not findings:
        # The rest reasons about secrets that are used as they should be.
        released = [value for line in lines for value in revealed(line)]
        findings = [
            *_inner_values(released, [value for line in lines for value in inner_values(line)]),
            *_message_starts(released),
            *_distinct(released),
            *_separable(released),
            *_free_tails(released),
            *_context(manifest, released),
        ]
    return tuple(findings)


def finding_at(rule: str, line: WayOut | Value, message: str, *, severity: Severity) -> Finding:
    number = line.output.line if isinstance(line, WayOut) else line.line
    return Finding(rule=rule, formula=line.formula.name, line=number, message=message, severity=severity)


def _refusal(rule: str, line: WayOut | Value, message: str) -> Finding:
    return finding_at(rule, line, message, severity="refused")


def _unsupported(lines: list[WayOut]) -> Iterator[Finding]:
    for line in lines:
        if line.output.kind in {"send", "disclose"}:
            yield _refusal("unsupported", line, f"{line.output.kind} is not yet supported")
        for node in walk(line.expression):
            if isinstance(node, State):
                yield _refusal("unsupported", line, f"#{node.name}: conversations are not yet supported")
            if isinstance(node, Call) and node.function == "sign":
                yield _refusal("unsupported", line, "sign is not yet supported")


def _unused(manifest: Manifest, lines: list[WayOut]) -> Iterator[Finding]:
    used = {name for line in lines for name in secrets_in(line.expression)}
    for name in manifest.confidential:
        if name not in used:
            message = f"the confidential field {name!r} is used by no formula"
            yield Finding(rule="unused", formula="", line=0, message=message, severity="refused")
    for line in lines:
        for node in walk(line.expression):
            if (
                isinstance(node, Shareable)
                and manifest.shareable[node.name].optional
                and node is not line.expression
            ):
                yield _refusal("unused", line, f"@{node.name} is optional: it can only be released alone")


def _one_way(manifest: Manifest, lines: list[WayOut]) -> Iterator[Finding]:
    for line in lines:
        for name, path in _paths(line.expression, ()):
            problem = _misuse(manifest.confidential[name], path)
            if problem:
                yield _refusal("one-way", line, f"!{name} {problem}")
        for node in walk(line.expression):
            if isinstance(node, Call) and node.function == "xor" and not all(map(_is_whole, node.arguments)):
                yield _refusal(
                    "one-way", line, "a secret side of an xor must be the value of a one-way function"
                )


def _is_whole(side: Expression) -> bool:
    return not secrets_in(side) or (isinstance(side, Call) and side.function in ONE_WAY)


def _paths(expression: Expression, above: _Path) -> Iterator[tuple[str, _Path]]:
    """Each confidential field with what stands above it, nearest last, and in which argument."""
    if isinstance(expression, Confidential):
        yield expression.name, above
    for index, child in enumerate(children(expression)):
        yield from _paths(child, (*above, (expression, index)))


def _misuse(declared: ConfidentialField, path: _Path) -> str:
    if declared.type is FieldType.BEARER:
        return "is a bearer: it is sent to the provider, never released"
    if any(isinstance(node, Call) and node.function == "join" for node, _ in path):
        return "stands in the template of a join"
    for node, index in reversed(path):
        if not isinstance(node, Call):
            continue
        if node.function in ONE_WAY:
            return _misfit(declared.type, node, index)
    return "leaves without a one-way function above it"


def _misfit(kind: FieldType, nearest: Call, index: int) -> str:
    where = f"{nearest.function}'s argument {index + 1}"
    fits = {
        FieldType.HMAC_KEY: nearest.function == "hmac" and index == 0,
        FieldType.DIGEST_INPUT: nearest.function in DIGESTS,
        FieldType.KDF_PASSWORD: nearest.function == "pbkdf2" and index == 0,
        FieldType.SIGN_KEY: nearest.function == "sign" and index == 0,
        FieldType.BEARER: False,
    }[kind]
    if not fits:
        return f"is a {kind.value} and stands in {where}"
    if kind is not FieldType.DIGEST_INPUT and any(
        isinstance(node, Hole) for node in walk(nearest.arguments[0])
    ):
        return f"shares {where} with a hole: only literals may stand beside it"
    return ""


def _iterations(lines: list[WayOut]) -> Iterator[Finding]:
    for line in lines:
        for node in walk(line.expression):
            if not isinstance(node, Call) or node.function != "pbkdf2":
                continue
            lo, hi = _bounds(node.arguments[2], line.formula)
            if lo < MIN_ITERATIONS or hi > MAX_ITERATIONS:
                yield _refusal(
                    "iterations", line, f"pbkdf2 wants {MIN_ITERATIONS} to {MAX_ITERATIONS} iterations"
                )
            lo, hi = _bounds(node.arguments[3], line.formula)
            if lo != hi or not MIN_OCTETS <= lo <= MAX_OCTETS:
                yield _refusal(
                    "iterations", line, f"pbkdf2 wants a fixed length of {MIN_OCTETS} to {MAX_OCTETS} octets"
                )


def _bounds(count: Expression, formula: Formula) -> tuple[int, int]:
    if isinstance(count, Number):
        return count.value, count.value
    kind = formula.holes[count.name] if isinstance(count, Hole) else None
    if not isinstance(kind, IntHole):
        raise AssertionError("a count that is none passed the check of kinds")
    return kind.range


def _line_ends(lines: list[WayOut]) -> Iterator[Finding]:
    for line in lines:
        is_field = line.output.sink.startswith(("header.", "query"))
        if is_field and any(atom.alphabet & LINE_ENDS for atom in line.shapes.atoms(line.expression)):
            yield _refusal("line-end", line, f"{line.output.sink} could contain a line end")


def _inner_values(released: list[Value], inner: list[Value]) -> Iterator[Finding]:
    seen: set[tuple[str, int, str]] = set()
    for value in released:
        for other in inner:
            pair = (value.formula.name, value.line, other.formula.name)
            if pair not in seen and share_secret(value, other) and may_equal(value.atoms, other.atoms):
                seen.add(pair)
                place = f"formula {other.formula.name!r} at {other.expression.at}"
                message = f"what leaves here can equal an inner value of {place}"
                yield _refusal("inner-value", value, message)


def _message_starts(released: list[Value]) -> Iterator[Finding]:
    for value in released:
        if isinstance(value.expression, Call) and value.expression.function == "hmac":
            message = value.atoms[0].arguments[1]
            if not message or not _is_narrow(message[0]):
                yield _refusal(
                    "message-start",
                    value,
                    "a released MAC's message must begin with a literal or a narrow hole",
                )


def _is_narrow(start: Atom) -> bool:
    """Whether what a message begins with says something about what the message is for."""
    match start.source:
        case "literal" | "constant":
            return True
        case "blank":
            return start.is_typed or (start.pattern is not None and not start.is_free)
        case "rows":
            return not start.is_free
        case "value":
            inner = start.arguments[0] if start.arguments else ()
            is_encoded = isinstance(start.expression, Call) and start.expression.function in ENCODINGS
            return not is_encoded or bool(inner and _is_narrow(inner[0]))


def _distinct(released: list[Value]) -> Iterator[Finding]:
    for index, value in enumerate(released):
        for other in released[:index]:
            same_operation = value.formula.operation == other.formula.operation
            if not same_operation and share_secret(value, other) and may_equal(value.atoms, other.atoms):
                message = (
                    f"it can release the same value as formula {other.formula.name!r} of another operation"
                )
                yield _refusal("distinct", value, message)


def _separable(released: list[Value]) -> Iterator[Finding]:
    for value in released:
        for message in _messages(value.atoms):
            unbounded = find_unbounded(message)
            if unbounded is not None:
                at = unbounded.expression.at
                yield _refusal("separable", value, f"what stands at {at} can run into what follows it")


def _messages(atoms: tuple[Atom, ...]) -> Iterator[tuple[Atom, ...]]:
    """Every sequence of pieces inside the value, its own included."""
    yield atoms
    for atom in atoms:
        for inner in atom.arguments:
            yield from _messages(inner)


def _free_tails(released: list[Value]) -> Iterator[Finding]:
    for value in released:
        call = value.expression
        if isinstance(call, Call) and call.function in DIGESTS:
            atoms = value.atoms[0].arguments[0]
            behind = [index for index, atom in enumerate(atoms) if isinstance(atom.expression, Confidential)]
            tail = atoms[behind[-1] + 1 :] if behind else ()
            if any(not (atom.is_typed or atom.is_settled) for atom in tail):
                yield _refusal(
                    "free-tail", value, "a free hole follows the secret in a digest: it can be extended"
                )


def _context(manifest: Manifest, released: list[Value]) -> Iterator[Finding]:
    for formula in manifest.formulas.values():
        values = [value for value in released if value.formula is formula]
        signed = {node.name for value in values for node in walk(value.expression) if isinstance(node, Hole)}
        for source in formula.context:
            if source.hole is not None and values and source.hole not in signed:
                message = f"policy would decide on ${source.hole}, which is not part of what is signed"
                yield Finding(
                    rule="context", formula=formula.name, line=0, message=message, severity="refused"
                )
