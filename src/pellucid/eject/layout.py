"""How a script looks: its heading, its imports, its constants."""

from __future__ import annotations

import ast
import json
import math
import shlex
import sys
import textwrap
from collections.abc import Iterable
from importlib.metadata import version
from pathlib import Path
from typing import Any

from pellucid.eject.facts import Facts
from pellucid.eject.source import Import

WIDTH = 100

FRAME = (
    *(("csv", ""), ("gzip", ""), ("hashlib", ""), ("os", ""), ("struct", ""), ("sys", "")),
    *(("unicodedata", ""), ("pathlib", "Path"), ("typing", "NamedTuple"), ("PIL", "Image")),
    *(("numpy.typing", "NDArray"), ("torch", ""), ("torch", "Tensor"), ("torch", "nn")),
    ("collections.abc", "Callable"),
)
"""What the frame itself may use from outside, beside `np` and `F`."""


def heading(facts: Facts, what: str, pillow: bool) -> str:
    """Return the docstring of a script.

    Args:
        facts: of the run.
        what: what the script reads, for a person.
        pillow: whether it needs Pillow.
    """
    recipe, then = facts.recipe, facts.environment
    data: Any = recipe.data
    tag = getattr(getattr(type(data), "__struct_config__", None), "tag", "data")
    name = Path(data.path).name if hasattr(data, "path") else tag
    packages = then["packages"]
    lines = [
        f"Train {type(recipe.model).__name__.removesuffix('Spec')} on {name}: one run of pellucid "
        "as a script of its own.",
        "",
        "    python train.py [DATA] [WEIGHTS.npz]",
        "",
        *_wrapped(
            f"DATA is {what}; WEIGHTS.npz takes the weights after the last step, by name. Needs "
            f"PyTorch{', NumPy and Pillow' if pillow else ' and NumPy'}."
        ),
        "",
        f"The run    {facts.run.name}",
        *_wrapped(f"Made by    {_command(then)}", 11),
        f"With       pellucid {packages['pellucid']}, torch {packages['torch']}, numpy "
        f"{packages['numpy']}, Python {then['python']}",
        *_wrapped(
            f"On         {then['processor']}, {then['capability']}, {then['device']}, "
            f"{facts.precision}",
            11,
        ),
        *_result(facts),
    ]
    if packages["pellucid"] != version("pellucid"):
        lines += _wrapped(
            f"Written by pellucid {version('pellucid')}, which need not round as "
            f"{packages['pellucid']} did.", 11,
        )  # fmt: skip
    text = "\n".join(lines).replace("\\", "\\\\").replace('"""', "'''")
    return f'"""{text}\n"""'


def _result(facts: Facts) -> list[str]:
    summary = facts.summary
    if summary is None:
        return ["It ended   not yet, when this was written: there is nothing to compare with."]
    test = summary["test"]
    score = f"; {test['correct']:,} of {test['n']:,} test images right" if test else ""
    promise = (
        "On the same data, versions, kind of processor and number of threads, this script ends "
        "with the same weights bit for bit, and says whether it did."
    )
    if facts.moved:
        promise = (
            "The run was resumed where other versions, another processor or number of threads "
            "computed: equal bits are not to be expected."
        )
    best = summary["best"]["step"]
    ended = f"It ended   after step {summary['steps']:,}; best after step {best:,}{score}."
    return [ended, "", *_wrapped(promise)]


def _command(then: Any) -> str:
    words = then.get("command") or [""]
    if Path(words[0]).name in ("pellucid", "__main__.py"):
        return shlex.join(["pellucid", *words[1:]])
    return "a program in Python"


def _wrapped(text: str, indent: int = 0) -> list[str]:
    return textwrap.wrap(
        text, WIDTH - 2, subsequent_indent=" " * indent,
        break_long_words=False, break_on_hyphens=False,
    )  # fmt: skip


def constant(name: str, value: object, comment: str = "") -> str:
    """Return the line, or the lines, that bind a constant.

    >>> constant("BETAS", (0.9, 0.999), "optimizer.betas")
    'BETAS = (0.9, 0.999)  # optimizer.betas'
    """
    line = f"{name} = {literal(value)}"
    if len(line) > WIDTH and isinstance(value, tuple | dict):
        shown = literal(value)
        inner = textwrap.fill(
            shown[1:-1].rstrip(","), WIDTH - 1, initial_indent="    ", subsequent_indent="    ",
            break_long_words=False, break_on_hyphens=False,
        )  # fmt: skip
        line = f"{name} = {shown[0]}\n{inner},\n{shown[-1]}"
        return f"# {comment}\n{line}" if comment else line
    beside = f"{line}  # {comment}"
    if not comment or len(beside) <= WIDTH:
        return beside if comment else line
    return f"# {comment}\n{line}"


def literal(value: object) -> str:
    """Return `value` as it is written in a program.

    >>> literal(("a", 0.5, math.inf))
    '("a", 0.5, math.inf)'
    """
    if isinstance(value, str):
        return json.dumps(value, ensure_ascii=False)
    if isinstance(value, tuple):
        return f"({', '.join(map(literal, value))}{',' * (len(value) == 1)})"
    if isinstance(value, dict):
        return f"{{{', '.join(f'{literal(k)}: {literal(v)}' for k, v in value.items())}}}"
    if isinstance(value, Path):
        return f"Path({literal(str(value))})"
    return "math.inf" if value == math.inf else repr(value)


def imports(body: str, parts: Iterable[Import]) -> str:
    """Return the import statements for the names that `body` uses."""
    known = {name or module: Import(name or module, module, name) for module, name in FRAME}
    known["np"] = Import("np", "numpy", "")
    known["F"] = Import("F", "torch.nn.functional", "")
    known |= {found.bound: found for found in parts}
    used = {node.id for node in ast.walk(ast.parse(body)) if isinstance(node, ast.Name)}
    wanted = [found for name, found in known.items() if name in used]
    ours = [found for found in wanted if found.module.split(".")[0] in sys.stdlib_module_names]
    theirs = [found for found in wanted if found not in ours]
    texts = ("from __future__ import annotations", _lines(ours), _lines(theirs))
    return "\n\n".join(text for text in texts if text)


def _lines(wanted: list[Import]) -> str:
    plain = sorted(
        f"import {found.module}" + (f" as {found.bound}" if found.bound != found.module else "")
        for found in wanted
        if not found.name
    )
    names: dict[str, list[str]] = {}
    for found in wanted:
        if found.name:
            names.setdefault(found.module, []).append(found.name)
    order = sorted(names, key=str.lower)
    named = [f"from {module} import {', '.join(sorted(names[module]))}" for module in order]
    return "\n".join([*plain, *named])
