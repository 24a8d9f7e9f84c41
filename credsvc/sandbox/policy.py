"""The language of credential modules: RestrictedPython, narrowed. The only file that imports
RestrictedPython.

Rules:
- No imports at all; what a module may call are the guarded builtins and the injected functions.
- One source file of functions: no classes, generators, decorators, global, with, starred, attribute or list
  targets.
- Budgets come first: length before parsing, nodes and depth before the transformer sees the tree.
- Runs only inside a locked worker: the parser itself is attack surface (CPython issue 150001: 289 bytes of
  source abort the interpreter).

`RefusedSource` carries a reason from a closed set and a line, never text of the module. RestrictedPython 9.0
is pinned exactly: this class knows its internals, and the corpus is run again on each bump.
"""

# ruff: noqa: N802, N815 - visitors are named after the classes of ast

from __future__ import annotations

import ast
import types
import unicodedata
from collections.abc import Callable, Mapping
from typing import Any, Final

from RestrictedPython.Guards import guarded_iter_unpack_sequence, guarded_unpack_sequence
from RestrictedPython.transformer import RestrictingNodeTransformer

from credsvc.sandbox.frames import MAX_SOURCE_BYTES
from credsvc.sandbox.guards import BUILTINS, GUARDS
from credsvc.sandbox.refusal import Reason, RefusedSource

__all__ = ["build_globals", "compile_module"]

# The largest shipped module (aws-sigv4) has 570 nodes. The transformer and the compiler recurse: at 40 levels
# neither comes near the end of a worker's stack.
MAX_NODES: Final = 8000
MAX_DEPTH: Final = 40
_FILE_NAME: Final = "<credential module>"
_OPERATORS: Final = {
    ast.Mult: "_multiply_",
    ast.Mod: "_remainder_",
    ast.Pow: "_power_",
    ast.LShift: "_shift_",
}
_PRINTING: Final = frozenset({"print", "printed"})


def compile_module(source: str) -> types.CodeType:
    """Compile a module's source to code whose every access goes through the guards; raises
    `RefusedSource`.
    """
    # Each check bounds what the next one works on.
    _check_text(source)
    tree = _parse(source)
    _check_budget(tree)
    narrowed = _Narrowed()
    narrowed.visit(tree)
    if narrowed.refused_line is not None:
        raise RefusedSource(Reason.NOT_ALLOWED, narrowed.refused_line)
    try:
        # dont_inherit: the `from __future__ import annotations` above would otherwise hold for the module
        # too.
        return compile(tree, _FILE_NAME, "exec", dont_inherit=True)
    except (SyntaxError, ValueError, RecursionError, MemoryError) as exc:
        raise RefusedSource(Reason.SYNTAX, _line_of(exc)) from exc


def build_globals(injected: Mapping[str, Callable[..., object]]) -> dict[str, object]:
    """Return the globals that one request starts from; copy them for each request, builtins included."""
    return {
        # Guards last: an injected function must not take the place of one.
        **injected,
        **GUARDS,
        "_unpack_sequence_": guarded_unpack_sequence,
        "_iter_unpack_sequence_": guarded_iter_unpack_sequence,
        "__builtins__": dict(BUILTINS),
        "__name__": "credential_module",
    }


def _check_text(source: str) -> None:
    try:
        size = len(source.encode("utf-8"))
    except UnicodeEncodeError as exc:
        raise RefusedSource(Reason.NOT_TEXT) from exc
    if size > MAX_SOURCE_BYTES:
        raise RefusedSource(Reason.TOO_LARGE)
    for number, line in enumerate(source.split("\n"), start=1):
        if any(_is_misleading(character) for character in line):
            raise RefusedSource(Reason.NOT_TEXT, number)


def _is_misleading(character: str) -> bool:
    """Control, bidirectional and other format characters show a reviewer another program than runs
    (CVE-2021-42574).
    """
    return character not in "\t\r" and unicodedata.category(character) in {"Cc", "Cf", "Zl", "Zp"}


def _parse(source: str) -> ast.Module:
    try:
        return ast.parse(source, _FILE_NAME, "exec")
    except (SyntaxError, ValueError, RecursionError, MemoryError) as exc:
        raise RefusedSource(Reason.SYNTAX, _line_of(exc)) from exc


def _line_of(exc: BaseException) -> int:
    line = getattr(exc, "lineno", None)
    return line if type(line) is int and line > 0 else 0


def _check_budget(tree: ast.Module) -> None:
    """Count nodes and depth without recursion: what follows recurses and must not run out of stack."""
    nodes = 0
    level: list[ast.AST] = [tree]
    for _ in range(MAX_DEPTH):
        nodes += len(level)
        if nodes > MAX_NODES:
            break
        level = [child for node in level for child in ast.iter_child_nodes(node)]
        if not level:
            return
    raise RefusedSource(Reason.TOO_COMPLEX)


class _Narrowed(RestrictingNodeTransformer):
    """RestrictedPython's transformer, with less allowed and arithmetic that can explode put behind guards."""

    def __init__(self) -> None:
        super().__init__()
        self.refused_line: int | None = None

    def error(self, node: ast.AST, info: str) -> None:
        """Remember the first refused line; the text, which quotes the module, goes nowhere."""
        del info
        if self.refused_line is None:
            self.refused_line = getattr(node, "lineno", 0)

    def warn(self, node: ast.AST, info: str) -> None:
        """Forget it: a warning would quote the module."""

    def _refuse(self, node: ast.AST) -> ast.AST:
        self.error(node, "")
        return node

    # Classes have metaclasses and special methods that no guard sees. A generator's frame leads to the frames
    # of its callers (CVE-2023-37271). The last two are Python 3.14's template strings.
    visit_ClassDef = _refuse
    visit_Yield = _refuse
    visit_YieldFrom = _refuse
    visit_Global = _refuse
    visit_With = _refuse
    visit_Import = _refuse
    visit_ImportFrom = _refuse
    visit_Starred = _refuse
    visit_TemplateStr = _refuse
    visit_Interpolation = _refuse

    def check_name(
        self,
        node: Any,
        name: str | None,
        allow_magic_methods: bool = False,  # noqa: FBT001, FBT002 - the package's signature
    ) -> None:
        """Refuse what the package refuses, its printing names, and magic and non-ASCII names without
        exception.
        """
        del allow_magic_methods
        super().check_name(node, name)
        # Non-ASCII identifiers are normalised (NFKC, PEP 3131): two spellings would be one name to Python and
        # two to a reviewer. Arguments pass here too: one named like a guard would shadow it (CVE-2026-55830).
        if name is not None and (name in _PRINTING or not name.isascii()):
            self.error(node, "")

    def visit_Name(self, node: ast.Name) -> Any:
        """Check the name before the package turns `print` into something else."""
        if node.id in _PRINTING:
            self.error(node, "")
        return super().visit_Name(node)

    def visit_FunctionDef(self, node: ast.FunctionDef) -> Any:
        """Refuse decorators: they run at load and rename what a reviewer reads."""
        if node.decorator_list or getattr(node, "type_params", None):
            self.error(node, "")
        return super().visit_FunctionDef(node)

    def visit_List(self, node: ast.List) -> Any:
        """Refuse lists as targets: unpacking into them passes no guard."""
        if not isinstance(node.ctx, ast.Load):
            self.error(node, "")
        return super().visit_List(node)

    def visit_Dict(self, node: ast.Dict) -> Any:
        """Refuse `{**x}`: it iterates without a guard."""
        if None in node.keys:
            self.error(node, "")
        return super().visit_Dict(node)

    def visit_Call(self, node: ast.Call) -> Any:
        """Refuse `f(**x)`; `f(*x)` is refused as Starred."""
        if any(keyword.arg is None for keyword in node.keywords):
            self.error(node, "")
        return super().visit_Call(node)

    def visit_Attribute(self, node: ast.Attribute) -> Any:
        """Refuse stores to attributes: no value of a module has any."""
        if not isinstance(node.ctx, ast.Load):
            self.error(node, "")
        return super().visit_Attribute(node)

    def visit_ExceptHandler(self, node: ast.ExceptHandler) -> Any:
        """Refuse the bare except, which would catch what is no exception of the module."""
        if node.type is None:
            self.error(node, "")
        return super().visit_ExceptHandler(node)

    def visit_BinOp(self, node: ast.BinOp) -> Any:
        """Send `* % ** <<` through guards that bound their results; refuse `@`."""
        if isinstance(node.op, ast.MatMult):
            self.error(node, "")
        guard = _OPERATORS.get(type(node.op))
        node = self.node_contents_visit(node)
        if guard is None:
            return node
        return _call(node, guard, [node.left, node.right])

    def visit_FormattedValue(self, node: ast.FormattedValue) -> Any:
        """Let f-strings hold plain values only: no conversion, no format specification."""
        if node.conversion != -1 or node.format_spec is not None:
            self.error(node, "")
        node = self.node_contents_visit(node)
        node.value = _call(node, "_text_", [node.value])
        return node


def _call(origin: ast.expr, guard: str, arguments: list[ast.expr]) -> ast.Call:
    call = ast.Call(func=ast.Name(guard, ast.Load()), args=arguments, keywords=[])
    return ast.fix_missing_locations(ast.copy_location(call, origin))
