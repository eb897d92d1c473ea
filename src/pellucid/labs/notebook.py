"""A lab as a notebook: its text, and cells that run it, show it and check it."""

from __future__ import annotations

import inspect
import json
from typing import Any

from pellucid.labs.catalogue import Entry
from pellucid.labs.options import options
from pellucid.labs.page import blocks, is_formula


def notebook(entry: Entry, given: dict[str, Any]) -> str:
    """Return the file of a notebook, format 4.5, that runs a lab with the options `given`.

    Its cells need pellucid and nothing else; a picture is shown because it is a cell's last value.
    """
    module = entry.load()
    short = module.__name__.rpartition(".")[2]
    call = ", ".join(f"{name}={value!r}" for name, value in given.items())
    result = module.run(**given)
    text = "\n\n".join(_markdown(block) for block in blocks(result.text))
    table = "\n".join(
        f"| `{o.name}` | {o.help} | {o.allowed} |" for o in options(module.run).values()
    )
    cells = [
        _cell("markdown", f"# {entry.title}\n\n{inspect.getdoc(module)}\n\n{text}"),
        _cell("code", f"from pellucid.labs import {short}\n\nresult = {short}.run({call})"),
        _cell("code", "result.figure"),
        _cell("code", "print(result)"),
        _cell(
            "markdown", f"## Vary it\n\n| option | what it is | allowed |\n|---|---|---|\n{table}"
        ),
        _cell("code", "assert not result.failed, result.failed  # all claims hold"),
    ]
    for number, cell in enumerate(cells):
        cell["id"] = f"cell-{number}"
    facts = {
        "cells": cells,
        "metadata": {
            "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
            "language_info": {"name": "python"},
        },
        "nbformat": 4,
        "nbformat_minor": 5,
    }
    return json.dumps(facts, indent=1, ensure_ascii=False) + "\n"


def _markdown(block: str) -> str:
    return block if is_formula(block) else " ".join(block.split())


def _cell(kind: str, source: str) -> dict[str, Any]:
    cell: dict[str, Any] = {
        "cell_type": kind,
        "metadata": {},
        "source": source.splitlines(keepends=True),
    }
    return cell | ({"execution_count": None, "outputs": []} if kind == "code" else {})
