"""Taking the source of the parts that a recipe uses, with all that they use, out of the package.

A part is named by its module and its name there. Its source is edited in place, so that comments
and line breaks stay: docstrings become their first sentence, a recipe's settings become constants,
imports move to the top, and annotations that name what is not in the script go.
"""

from __future__ import annotations

import ast
import builtins
import dis
import functools
import inspect
import re
import sys
import textwrap
from collections.abc import Collection, Iterator, Mapping
from types import CodeType, ModuleType
from typing import Any, NamedTuple

import msgspec

from pellucid import errors

PACKAGE = "pellucid"
MARKS = re.compile(r"  # (?:fmt: skip|type: ignore\S*|noqa\S*)[^\n]*")
"""Comments for our own tools."""

GLOBAL_LOADS = ("LOAD_GLOBAL", "LOAD_NAME", "LOAD_FROM_DICT_OR_GLOBALS")

Names = Mapping[str, str]


class Import(NamedTuple):
    """One imported name: `from module import name as bound`; without a name the module itself."""

    bound: str
    module: str
    name: str

    @property
    def stays(self) -> bool:
        """Whether it is from outside the package."""
        return self.module.partition(".")[0] != PACKAGE


class Source:
    """The text of a module and its top-level statements by the names that they bind."""

    def __init__(self, module: ModuleType) -> None:
        self.module = module.__name__
        self.text = inspect.getsource(module).encode()  # columns of `ast` count bytes
        self.starts = [0]
        for line in self.text.splitlines(keepends=True):
            self.starts.append(self.starts[-1] + len(line))
        self.imports: dict[str, Import] = {}
        self.statements: dict[str, ast.stmt] = {}
        self.notes: dict[ast.stmt, str] = {}
        body = ast.parse(self.text).body
        for statement, after in zip(body, [*body[1:], None], strict=True):
            self._take(statement)
            if isinstance(statement, ast.Assign) and isinstance(after, ast.Expr):
                self.notes[statement] = sentence(str(ast.literal_eval(after.value)))

    def _take(self, statement: ast.stmt) -> None:
        if isinstance(statement, ast.Import | ast.ImportFrom):
            self.imports |= {found.bound: found for found in imported(statement)}
        elif isinstance(statement, ast.FunctionDef | ast.ClassDef):
            self.statements[statement.name] = statement
        elif isinstance(statement, ast.Assign):
            for name in (node for t in statement.targets for node in ast.walk(t)):
                if isinstance(name, ast.Name):
                    self.statements[name.id] = statement
        elif isinstance(statement, ast.If):  # `if TYPE_CHECKING`
            for below in statement.body:
                self._take(below)

    def span(self, node: ast.AST) -> tuple[int, int]:
        """Return where `node` begins and ends in the text, decorators included."""
        first: Any = min([node, *getattr(node, "decorator_list", ())], key=_line)
        before = 1 if first is not node else 0  # the @
        at: Any = node
        end = self.starts[at.end_lineno - 1] + at.end_col_offset
        return self.starts[first.lineno - 1] + first.col_offset - before, end

    def lines(self, node: ast.AST) -> tuple[int, int]:
        """Return the span of the whole lines of `node`, with the line break before them."""
        start, end = self.span(node)
        newline = self.text.find(b"\n", end)
        return self.text.rfind(b"\n", 0, start), len(self.text) if newline < 0 else newline

    def part(self, node: ast.AST) -> str:
        """Return the text of `node` as it stands."""
        start, end = self.span(node)
        return self.text[start:end].decode()


class Edits:
    """Replacements in the text of one statement."""

    def __init__(self, source: Source) -> None:
        self.source = source
        self._found: list[tuple[int, int, str]] = []

    def put(self, span: tuple[int, int], text: str) -> None:
        """Replace `span` by `text`; what lies in a span that goes as a whole is forgotten."""
        if not any(start <= span[0] and span[1] <= end for start, end, _ in self._found):
            self._found = [f for f in self._found if not (span[0] <= f[0] and f[1] <= span[1])]
            self._found.append((*span, text))

    def applied(self, span: tuple[int, int]) -> str:
        """Return the text of `span` after all edits in it."""
        start, end = span
        text, at = b"", start
        for first, last, new in sorted(self._found):
            if start <= first and last <= end:
                text += self.source.text[at:first] + new.encode()
                at = last
        return (text + self.source.text[at:end]).decode()


class Collector:
    """Parts of the package, each once, in an order in which they run.

    Attributes:
        pieces: the text of each part, by name.
        imports: what they import from outside, by name.
    """

    def __init__(self) -> None:
        self.pieces: dict[str, str] = {}
        self.imports: dict[str, Import] = {}
        self._origin: dict[str, str] = {}
        self._claimed: set[str] = set()
        self._taken = 0

    def add(self, module: str, name: str, keep: Collection[str] | None = None) -> None:
        """Add the top-level `name` of `module`, and before it what it uses.

        Args:
            module: its full name.
            name: a function, a class or a constant.
            keep: for a class, the methods that are wanted; those that they call come with them.
        """
        source = sources(module)
        if name in source.imports:
            self._import(source.imports[name])
        elif self._claim(name, module):
            statement = source.statements[name]
            edits = Edits(source)
            if isinstance(statement, ast.ClassDef) and keep is not None:
                drop_methods(source, statement, keep, edits)
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
        return re.sub(r"\s*\n\s*", " ", text).replace("( ", "(").replace(" )", ")")

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
            if isinstance(node, ast.Name) and _users_error(source, node.id):
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
        if not all(_plain(source, name) or name in self.pieces for name in names):
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


@functools.cache
def sources(module: str) -> Source:
    """Return the source of a module of ours that is loaded."""
    return Source(sys.modules[module])


def imported(node: ast.Import | ast.ImportFrom) -> Iterator[Import]:
    """Yield what an import statement binds."""
    for alias in node.names:
        if isinstance(node, ast.ImportFrom):
            yield Import(alias.asname or alias.name, node.module or "", alias.name)
        else:
            yield Import(alias.asname or alias.name, alias.name, "")


def method_of(spec: msgspec.Struct, method: str) -> tuple[Source, ast.FunctionDef]:
    """Return the definition of the method of `spec` that a call would run."""
    owner = next(kind for kind in type(spec).__mro__ if method in vars(kind))
    source = sources(owner.__module__)
    body = source.statements[owner.__name__]
    assert isinstance(body, ast.ClassDef)
    found = [n for n in body.body if isinstance(n, ast.FunctionDef) and n.name == method]
    return source, found[0]


def drop_methods(
    source: Source, statement: ast.ClassDef, keep: Collection[str], edits: Edits
) -> None:
    """Take away the methods that are not in `keep`, nor called by one that is."""
    methods = {node.name: node for node in statement.body if isinstance(node, ast.FunctionDef)}
    waiting, wanted = [name for name in keep if name in methods], set[str]()
    while waiting:
        name = waiting.pop()
        wanted.add(name)
        called = {n.attr for n in ast.walk(methods[name]) if isinstance(n, ast.Attribute)}
        waiting += [other for other in called & methods.keys() if other not in wanted]
    for name, node in methods.items():
        if name not in wanted:
            start, end = source.lines(node)
            while source.text[:start].endswith(b"\n"):
                start -= 1
            edits.put((start, end), "")


def settings(source: Source, root: ast.AST, constants: Names, calls: Names, edits: Edits) -> None:
    """Put constants for `self.field`, and expressions for `self.method(...)`, below `root`."""
    for node in ast.walk(root):
        if _of_self(node) and isinstance(node, ast.Attribute) and node.attr in constants:
            edits.put(source.span(node), constants[node.attr])
    for node in ast.walk(root):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
            if _of_self(node.func) and node.func.attr in calls:
                given = [edits.applied(source.span(argument)) for argument in node.args]
                edits.put(source.span(node), calls[node.func.attr].format(*given))


def shorten(source: Source, node: ast.FunctionDef | ast.ClassDef, edits: Edits) -> None:
    """Leave of the docstring its first sentence."""
    text = ast.get_docstring(node)
    if text is None:
        return
    first = sentence(text)
    doc = node.body[0]
    indent = " " * doc.col_offset
    lines = textwrap.wrap(f'"""{first}"""', 100 - len(indent))
    joined = f"\n{indent}".join(lines) + (f'\n{indent}"""' if len(lines) > 1 else "")
    edits.put(source.span(doc), joined.replace(f'"""\n{indent}"""', f'\n{indent}"""'))


def sentence(text: str) -> str:
    """Return the first sentence of a docstring, in one line.

    >>> sentence("Adam (Kingma\\n    and Ba, 2015). More on it.")
    'Adam (Kingma and Ba, 2015).'
    """
    words = " ".join(text.partition("\n\n")[0].split())
    end = re.search(r"(?<!\bal)[.](?= [A-Z0-9`]|$)", words)
    return words[: end.end()] if end else words


def global_names(text: str) -> list[str]:
    """Return the names that `text` takes from its module or from Python, in order.

    >>> global_names("def f(x):\\n    y = g(x)\\n    return len(y)")
    ['g', 'len']
    """
    flag = annotations.compiler_flag
    names: list[str] = []
    waiting = [compile(text, "<part>", "exec", flags=flag, dont_inherit=True)]
    while waiting:
        code = waiting.pop(0)
        for step in dis.get_instructions(code):
            if step.opname in GLOBAL_LOADS and step.argval not in names:
                names.append(step.argval)
        waiting += [const for const in code.co_consts if isinstance(const, CodeType)]
    return names


def head_of(source: Source, statement: ast.ClassDef) -> tuple[int, int]:
    """Return the span from `class` to the colon before the body, with a comment behind it."""
    start, _ = source.span(statement)
    first, _ = source.span(statement.body[0])
    return start, source.text.rfind(b"\n", 0, first)


def _of_self(node: ast.AST) -> bool:
    return (
        isinstance(node, ast.Attribute)
        and isinstance(node.value, ast.Name)
        and node.value.id == "self"
    )


def _users_error(source: Source, name: str) -> bool:
    """Return whether `name` is one of our errors that tells a user what to change."""
    found = source.imports.get(name)
    if found is None or found.module != errors.__name__:
        return False
    return issubclass(getattr(errors, name), errors.PellucidError)


def _plain(source: Source, name: str) -> bool:
    """Return whether `name` can stand in an annotation of the script: a type from outside."""
    if found := source.imports.get(name):
        if found.stays:
            return found.module != "msgspec"
        return _plain(sources(found.module), found.name)
    statement = source.statements.get(name)
    if isinstance(statement, ast.Assign):
        names = [node.id for node in ast.walk(statement.value) if isinstance(node, ast.Name)]
        return all(_plain(source, name) for name in names)
    return statement is None and hasattr(builtins, name)


def _line(node: ast.AST) -> int:
    at: Any = node
    line: int = at.lineno
    return line
