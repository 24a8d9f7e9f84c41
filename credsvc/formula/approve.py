"""What the machine refuses in a manifest before a person approves it: nothing that a module can do reveals a
secret.

The plan, rule by rule, over expressions with their bindings in place and holes as free as their types allow:

 1. unsupported: everything can be evaluated. `sign`, `send`, `disclose` and `#state` cannot, yet.
 2. unused: every confidential field is used. An optional public field is released alone, or not at all.
 3. one-way: above every secret that is released or verified stands a one-way function, and the nearest one
    fits the secret's type: an `hmac_key` is the key of an hmac with nothing but literals beside it, a
    `digest_input` stands in a digest, a `kdf_password` is pbkdf2's password. No join stands around a secret,
    no xor between; a `bearer` is never released.
 4. iterations: pbkdf2 has a floor and a ceiling of iterations, and a fixed length of 16 to 64 octets.
 5. line-end: a header or query value that is released has no line end.

The remaining rules reason about secrets that are used as rules 1 to 5 want them:

 6. inner-value: no released value can equal a secret-bearing value inside any formula (SigV4's day key,
    SCRAM's ClientKey). The sides of an xor are such values: whoever knows one learns the other.
 7. message-start: the message of a released MAC begins with a literal or a narrowly typed hole.
 8. distinct: no value that one operation releases can equal one of another operation: a MAC is good for one
    purpose.
 9. separable: what is signed can be read back into its holes in one way.
10. free-tail: nothing but literals and typed holes follows a secret in a released digest.
11. context: what policy decides on is part of what is signed.

One-way functions are taken as such (no collisions, no preimages; MD5 and SHA-1 included: a provider that
still wants them gets what it asks for). The rules compare messages symbolically, as Dolev and Yao do ("On the
Security of Public Key Protocols", IEEE Transactions on Information Theory 29(2), 1983): a value is known to
whoever can build it from what is released.

Not checked: that the formula is what the provider wants (the vectors), the module's code (the sandbox).
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

# RFC 7677 section 4: a server should announce at least 4096 iterations.
MIN_ITERATIONS: Final = 4096
# About half a second of one core with SHA-256: the longest that one use may hold the keyholder's only thread.
MAX_ITERATIONS: Final = 1_000_000
# 128 bits, below which a derived key could be guessed (NIST SP 800-132 section 5 wants 112 at least).
MIN_OCTETS: Final = 16
# One block of SHA-512, the longest digest here: every further block runs all iterations once more (RFC 8018
# section 5.2), which the ceiling on iterations does not count.
MAX_OCTETS: Final = 64

Severity = Literal["refused", "note"]
_Path = tuple[tuple[Expression, int], ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """One thing that a check found: by which rule, where, and whether it refuses. `formula` is None where the
    whole manifest is meant, `line` where no single line is.
    """

    rule: str
    formula: str | None
    line: int | None
    message: str
    severity: Severity

    @property
    def place(self) -> str:
        """Where it was found, in words."""
        if self.formula is None:
            return "the manifest"
        line = "" if self.line is None else f", line {self.line}"
        return f"formula '{self.formula}'{line}"


def find_refusals(manifest: Manifest) -> tuple[Finding, ...]:
    """All refusals of the plan above, in its order. A manifest that has one is never approved."""
    lines = [line for formula in manifest.formulas.values() for line in ways_out(manifest, formula)]
    findings = [
        *_unsupported(lines),  # 1
        *_unused(manifest, lines),  # 2
        *_one_way(manifest, lines),  # 3
        *_iterations(lines),  # 4
        *_line_ends(lines),  # 5
    ]
    if not findings:
        released = [value for line in lines for value in revealed(line)]
        findings = [
            *_inner_values(released, [value for line in lines for value in inner_values(line)]),  # 6
            *_message_starts(released),  # 7
            *_distinct(released),  # 8
            *_separable(released),  # 9
            *_free_tails(released),  # 10
            *_context(manifest, released),  # 11
        ]
    return tuple(findings)


def finding_at(rule: str, line: WayOut | Value, message: str, *, severity: Severity) -> Finding:
    number = line.output.line if isinstance(line, WayOut) else line.line
    return Finding(rule=rule, formula=line.formula.name, line=number, message=message, severity=severity)


def _refusal(rule: str, line: WayOut | Value, message: str) -> Finding:
    return finding_at(rule, line, message, severity="refused")


# 1. The notation has more than this service can do, so that a manifest need not change its form when the
# parts that carry it out exist (docs/adr/0003-formula-notation.md).
def _unsupported(lines: list[WayOut]) -> Iterator[Finding]:
    for line in lines:
        if line.output.kind in {"send", "disclose"}:
            yield _refusal("unsupported", line, f"{line.output.kind} is not yet supported")
        for node in walk(line.expression):
            if isinstance(node, State):
                yield _refusal("unsupported", line, f"#{node.name}: conversations are not yet supported")
            if isinstance(node, Call) and node.function == "sign":
                yield _refusal("unsupported", line, "sign is not yet supported")


# 2. A field that no formula uses would be asked of operators and kept for nothing. And what a MAC says must
# not depend on whether a public field is there: two messages that differ in it alone could run together.
def _unused(manifest: Manifest, lines: list[WayOut]) -> Iterator[Finding]:
    used = {name for line in lines for name in secrets_in(line.expression)}
    for name in manifest.confidential:
        if name not in used:
            message = f"the confidential field {name!r} is used by no formula"
            yield Finding(rule="unused", formula=None, line=None, message=message, severity="refused")
    for line in lines:
        for node in walk(line.expression):
            if (
                isinstance(node, Shareable)
                and manifest.shareable[node.name].optional
                and node is not line.expression
            ):
                yield _refusal("unused", line, f"@{node.name} is optional: it can only be released alone")


# 3. Each type has the one use that its function was analysed for: a key for hmac (RFC 2104 section 3), a
# password for pbkdf2 (RFC 8018), text for a digest. A hole beside a key would let the caller choose keys, and
# related keys are outside of what hmac promises.
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
    # The argument's number tells an hmac's key from its message.
    for index, child in enumerate(children(expression)):
        yield from _paths(child, (*above, (expression, index)))


def _misuse(declared: ConfidentialField, path: _Path) -> str:
    if declared.type is FieldType.BEARER:
        return "is a bearer: it can only be sent to the provider, never released"
    # A join would repeat the secret as often as the caller gives rows.
    if any(isinstance(node, Call) and node.function == "join" for node, _ in path):
        return "stands in the template of a join"
    # From the secret outwards: only the nearest one-way function counts, whatever is done with its value.
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
    # A digest's input is a message, and rule 10 looks at what follows the secret there.
    if kind is not FieldType.DIGEST_INPUT and any(
        isinstance(node, Hole) for node in walk(nearest.arguments[0])
    ):
        return f"shares {where} with a hole: only literals may stand beside it"
    return ""


# 4. Few iterations let whoever sees the result try passwords; many let whoever fills the hole stop the
# keyholder.
def _iterations(lines: list[WayOut]) -> Iterator[Finding]:
    for line in lines:
        for node in walk(line.expression):
            if not isinstance(node, Call) or node.function != "pbkdf2":
                continue
            lo, hi = _bounds(node.arguments[2], line.formula)
            if lo < MIN_ITERATIONS or hi > MAX_ITERATIONS:
                yield _refusal(
                    "iterations", line, f"pbkdf2 takes {MIN_ITERATIONS} to {MAX_ITERATIONS} iterations"
                )
            lo, hi = _bounds(node.arguments[3], line.formula)
            if lo != hi or not MIN_OCTETS <= lo <= MAX_OCTETS:
                yield _refusal(
                    "iterations", line, f"pbkdf2 takes a fixed length of {MIN_OCTETS} to {MAX_OCTETS} octets"
                )


def _bounds(count: Expression, formula: Formula) -> tuple[int, int]:
    if isinstance(count, Number):
        return count.value, count.value
    kind = formula.holes[count.name] if isinstance(count, Hole) else None
    if not isinstance(kind, IntHole):
        raise AssertionError("a count that is none passed the check of kinds")
    return kind.range


# 5. A line end in a header's value begins another header (CWE-113).
def _line_ends(lines: list[WayOut]) -> Iterator[Finding]:
    for line in lines:
        # Sinks of the module's own names are not put into a request by anybody but the caller.
        is_field = line.output.sink.startswith(("header.", "query"))
        if is_field and any(atom.alphabet & LINE_ENDS for atom in line.shapes.atoms(line.expression)):
            yield _refusal("line-end", line, f"{line.output.sink} could contain a line end")


# 6. What a one-way value protects is what is built on it: SigV4's day key signs a whole day, SCRAM's
# ClientKey logs in (RFC 5802 section 9). Releasing it in any formula of the manifest undoes every other one.
def _inner_values(released: list[Value], inner: list[Value]) -> Iterator[Finding]:
    seen: set[tuple[str, int, str]] = set()
    for value in released:
        for other in inner:
            pair = (value.formula.name, value.line, other.formula.name)
            if pair not in seen and share_secret(value, other) and may_equal(value.atoms, other.atoms):
                seen.add(pair)
                place = f"formula {other.formula.name!r} at {other.expression.at}"
                message = f"the value released here can equal an inner value of {place}"
                yield _refusal("inner-value", value, message)


# 7. A MAC over a text that the caller chooses from its first character on is good for every protocol in which
# the key ever stands; a fixed beginning says which one is meant.
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
    """Whether the beginning of a message says something about its purpose."""
    match start.source:
        case "literal" | "constant":
            return True
        case "blank":
            return start.is_typed or (start.pattern is not None and not start.is_free)
        case "rows":
            return not start.is_free
        case "value":
            inner = start.arguments[0] if start.arguments else ()
            # hex, base64 and the like pass on what they are given, so their argument is what begins.
            is_encoded = isinstance(start.expression, Call) and start.expression.function in ENCODINGS
            return not is_encoded or bool(inner and _is_narrow(inner[0]))


# 8. Policy decides by operation: if `presign` could give what `sign` gives, permitting one would permit the
# other. Alternatives within one operation may agree.
def _distinct(released: list[Value]) -> Iterator[Finding]:
    for index, value in enumerate(released):
        for other in released[:index]:
            same_operation = value.formula.operation == other.formula.operation
            if not same_operation and share_secret(value, other) and may_equal(value.atoms, other.atoms):
                message = (
                    "the value released here can equal that of "
                    f"formula {other.formula.name!r} of another operation"
                )
                yield _refusal("distinct", value, message)


# 9. Policy decides on holes and the provider reads the message. Where 'ab' 'c' and 'a' 'bc' sign the same
# text, what was allowed and what is done are two things (AWS's signature version 1 did: Percival, "AWS
# signature version 1 is insecure", 2008).
def _separable(released: list[Value]) -> Iterator[Finding]:
    for value in released:
        for message in _messages(value.atoms):
            unbounded = find_unbounded(message)
            if unbounded is not None:
                at = unbounded.expression.at
                yield _refusal("separable", value, f"nothing marks where the value at {at} ends")


def _messages(atoms: tuple[Atom, ...]) -> Iterator[tuple[Atom, ...]]:
    """Every row of pieces inside the value, its own included."""
    yield atoms
    for atom in atoms:
        for inner in atom.arguments:
            yield from _messages(inner)


# 10. MD5, SHA-1 and SHA-2 can be continued: from H(secret text) anybody computes H(secret text padding more)
# (Merkle-Damgard; Duong and Rizzo, "Flickr's API Signature Forgery Vulnerability", 2009). An end of known
# width leaves no room for `more`.
def _free_tails(released: list[Value]) -> Iterator[Finding]:
    for value in released:
        call = value.expression
        if isinstance(call, Call) and call.function in DIGESTS:
            atoms = value.atoms[0].arguments[0]
            behind = [index for index, atom in enumerate(atoms) if isinstance(atom.expression, Confidential)]
            # A digest over an inner digest has no secret of its own level: rule 6 keeps the inner one in.
            tail = atoms[behind[-1] + 1 :] if behind else ()
            if any(not (atom.is_typed or atom.is_settled) for atom in tail):
                yield _refusal(
                    "free-tail",
                    value,
                    "a free hole follows the secret in a digest, which can then be extended",
                )


# 11. A hole that no signature covers could be told to policy as one thing and sent as another.
def _context(manifest: Manifest, released: list[Value]) -> Iterator[Finding]:
    for formula in manifest.formulas.values():
        values = [value for value in released if value.formula is formula]
        signed = {node.name for value in values for node in walk(value.expression) if isinstance(node, Hole)}
        for source in formula.context:
            if source.hole is not None and values and source.hole not in signed:
                message = f"policy would decide on ${source.hole}, which is not part of what is signed"
                yield Finding(
                    rule="context", formula=formula.name, line=None, message=message, severity="refused"
                )
