"""The source of a module as text that can be edited, and what can be told of it."""

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
        if not (isinstance(node, ast.Call) and _of_self(node.func)):
            continue
        called = node.func
        if isinstance(called, ast.Attribute) and called.attr in calls:
            given = [edits.applied(source.span(argument)) for argument in node.args]
            edits.put(source.span(node), calls[called.attr].format(*given))


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


def is_users_error(source: Source, name: str) -> bool:
    """Return whether `name` is one of our errors that tells a user what to change."""
    found = source.imports.get(name)
    if found is None or found.module != errors.__name__:
        return False
    return issubclass(getattr(errors, name), errors.PellucidError)


def is_plain(source: Source, name: str) -> bool:
    """Return whether `name` can stand in an annotation of the script: a type from outside."""
    if found := source.imports.get(name):
        if found.stays:
            return found.module != "msgspec"
        return is_plain(sources(found.module), found.name)
    statement = source.statements.get(name)
    if isinstance(statement, ast.Assign):
        names = [node.id for node in ast.walk(statement.value) if isinstance(node, ast.Name)]
        return all(is_plain(source, name) for name in names)
    return statement is None and hasattr(builtins, name)


def _line(node: ast.AST) -> int:
    at: Any = node
    line: int = at.lineno
    return line
