"""Taking the source of the parts that a recipe uses, with all that they use, out of the package.

A part is named by its module and its name there. Its source is edited in place, so that comments
and line breaks stay: docstrings become their first sentence, a recipe's settings become constants,
imports move to the top, and annotations that name what is not in the script go.
"""

from __future__ import annotations

import ast
import builtins
import re
import textwrap
from collections.abc import Collection

import msgspec

from pellucid.eject.source import (
    Edits,
    Import,
    Names,
    Source,
    drop_methods,
    global_names,
    head_of,
    imported,
    is_plain,
    is_users_error,
    method_of,
    settings,
    shorten,
    sources,
)

MARKS = re.compile(r"  # (?:fmt: skip|type: ignore\S*|noqa\S*)[^\n]*")
"""Comments for our own tools."""


class Collector:
    """Parts of the package, each once, in an order in which they run.

    Attributes:
        pieces: the text of each part, by name.
        imports: what they import from outside, by name.
        methods: of a class, those that are wanted, if not all; what they call comes with them.
    """

    def __init__(self) -> None:
        self.pieces: dict[str, str] = {}
        self.imports: dict[str, Import] = {}
        self.methods: dict[str, tuple[str, ...]] = {}
        self._origin: dict[str, str] = {}
        self._claimed: set[str] = set()
        self._taken = 0

    def add(self, module: str, name: str) -> None:
        """Add the top-level `name` of `module`, and before it what it uses.

        Args:
            module: its full name.
            name: a function, a class or a constant.
        """
        source = sources(module)
        if name in source.imports:
            self._import(source.imports[name])
        elif self._claim(name, module):
            statement = source.statements[name]
            edits = Edits(source)
            if isinstance(statement, ast.ClassDef) and name in self.methods:
                drop_methods(source, statement, self.methods[name], edits)
            self._finish(name, source, statement, edits)

    def value(self, spec: msgspec.Struct, keep: Collection[str]) -> None:
        """Add the class of `spec`, a value in a recipe, with its fields as they are set.

        Args:
            spec: its class has no base of ours.
            keep: the methods that are wanted; those that they call come with them.
        """
        kind = type(spec)
        source = sources(kind.__module__)
        statement = source.statements[kind.__name__]
        assert isinstance(statement, ast.ClassDef)
        if not self._claim(kind.__name__, kind.__module__):
            return
        edits = Edits(source)
        edits.put(head_of(source, statement), f"class {kind.__name__}:")
        for node in statement.body:
            if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
                field = node.target.id
                edits.put(source.span(node), f"{field} = {getattr(spec, field)!r}")
        drop_methods(source, statement, keep, edits)
        self._finish(kind.__name__, source, statement, edits)

    def function(
        self,
        spec: msgspec.Struct,
        method: str,
        name: str,
        constants: Names,
        calls: Names | None = None,
        without: Collection[str] = (),
    ) -> None:
        """Add a method of a recipe's value as a function called `name`.

        Args:
            spec: the value.
            method: which of its own methods.
            name: of the function.
            constants: for each of the value's fields what stands for it in the script.
            calls: for other methods that it calls, an expression with {0}, {1} for the arguments.
            without: names of functions of which calls that stand alone are left out.
        """
        source, node = method_of(spec, method)
        edits = Edits(source)
        start, _ = source.span(node)
        head = f"def {node.name}(self, "
        assert source.part(node).startswith(head), f"{method} is not written as expected"
        edits.put((start, start + len(head)), f"def {name}(")
        for call in ast.walk(node):
            if isinstance(call, ast.Expr) and isinstance(call.value, ast.Call):
                called = call.value.func
                if isinstance(called, ast.Name) and called.id in without:
                    edits.put(source.lines(call), "")
        settings(source, node, constants, calls or {}, edits)
        text = textwrap.dedent(" " * node.col_offset + self._edited(source, node, edits))
        self._claim(name, f"{type(spec).__module__}:{method}")
        self._uses(source, text)
        self.pieces[name] = text

    def expression(self, spec: msgspec.Struct, method: str, constants: Names, given: Names) -> str:
        """Return the last line of a method of a recipe's value as an expression of the script.

        Args:
            spec: the value.
            method: which of its own methods; it ends with `return X` or with `X`.
            constants: for each of the value's fields what stands for it.
            given: likewise for the method's arguments.
        """
        source, node = method_of(spec, method)
        last = node.body[-1]
        assert isinstance(last, ast.Return | ast.Expr)
        value = last.value
        assert value is not None
        edits = Edits(source)
        settings(source, value, constants, {}, edits)
        for name in ast.walk(value):
            if isinstance(name, ast.Name) and name.id in given:
                edits.put(source.span(name), given[name.id])
        text = edits.applied(source.span(value))
        self._uses(source, f"({text})")
        text = re.sub(r"\s*\n\s*", " ", text).replace("( ", "(").replace(" )", ")")
        return re.sub(r",\)$", ")", text)  # of a call that stood on lines of its own

    def taken(self) -> str:
        """Return the text of the parts that were added since this was last asked for."""
        new = list(self.pieces.values())[self._taken :]
        self._taken = len(self.pieces)
        return "\n\n\n".join(new)

    def _claim(self, name: str, origin: str) -> bool:
        """Return whether `name` is new; two different parts of one name would be a bug here."""
        known = self._origin.setdefault(name, origin)
        assert known == origin, f"{known} and {origin} both have {name}"
        new = name not in self._claimed
        self._claimed.add(name)
        return new

    def _finish(self, name: str, source: Source, statement: ast.stmt, edits: Edits) -> None:
        text = self._edited(source, statement, edits)
        self._uses(source, text)
        if note := source.notes.get(statement):
            text = f"{textwrap.fill(note, 98, initial_indent='# ', subsequent_indent='# ')}\n{text}"
        if text not in self.pieces.values():  # one statement may bind several names
            self.pieces[name] = text

    def _edited(self, source: Source, statement: ast.stmt, edits: Edits) -> str:
        for node in ast.walk(statement):
            if isinstance(node, ast.FunctionDef | ast.ClassDef):
                shorten(source, node, edits)
            if isinstance(node, ast.Import | ast.ImportFrom):
                for found in imported(node):
                    self._import(found)
                start, end = source.lines(node)
                blank = source.text[end : end + 2] == b"\n\n"
                edits.put((start, end + blank), "")
            if isinstance(node, ast.Name) and is_users_error(source, node.id):
                edits.put(source.span(node), "ValueError")
            self._annotations(source, node, edits)
        text = edits.applied(source.span(statement))
        return MARKS.sub("", text)

    def _annotations(self, source: Source, node: ast.AST, edits: Edits) -> None:
        """Take away the annotations of `node` that name what is not in the script."""
        if isinstance(node, ast.FunctionDef):
            arguments = node.args
            for argument in (*arguments.posonlyargs, *arguments.args, *arguments.kwonlyargs):
                if argument.annotation and not self._known(source, argument.annotation):
                    edits.put(source.span(argument), argument.arg)
            if node.returns and not self._known(source, node.returns):
                start, end = source.span(node.returns)
                arrow = source.text.rfind(b" ->", 0, start)
                edits.put((arrow, end), "")
        elif isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
            if node.value is None:
                if not self._known(source, node.annotation):
                    edits.put(source.lines(node), "")
            elif not self._known(source, node.annotation):
                start, end = source.span(node.target)[1], source.span(node.annotation)[1]
                edits.put((start, end), "")

    def _known(self, source: Source, annotation: ast.expr) -> bool:
        """Return whether all names in `annotation` can be had; then have them."""
        names = [node.id for node in ast.walk(annotation) if isinstance(node, ast.Name)]
        if not all(is_plain(source, name) or name in self.pieces for name in names):
            return False
        for name in names:
            if name not in self.pieces and not hasattr(builtins, name):
                self._follow(source, name)
        return True

    def _follow(self, source: Source, name: str) -> None:
        if name in source.imports:
            self._import(source.imports[name])
        else:
            self.add(source.module, name)

    def _import(self, found: Import) -> None:
        if found.stays:
            self.imports[found.bound] = found
        else:
            assert found.bound == found.name, f"{found} is renamed"
            self.add(found.module, found.name)

    def _uses(self, source: Source, text: str) -> None:
        """Add what `text`, made of a statement of `source`, uses of its module."""
        for name in global_names(text):
            if name in source.imports or name in source.statements:
                self._follow(source, name)
