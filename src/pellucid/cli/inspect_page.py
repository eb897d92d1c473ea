"""What `pellucid inspect` does and shows."""

from __future__ import annotations

import os
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pellucid.cli.tables import print_table
from pellucid.errors import BadData
from pellucid.finish import record_opening
from pellucid.runs.listing import find
from pellucid.viewdata import ViewData
from pellucid.views.catalogue import VIEWS, find_view
from pellucid.views.options import Options
from pellucid.views.page import look, look_at_all, write, write_page
from pellucid.views.subject import Subject, of_run

RED, PLAIN = "\x1b[31;1m", "\x1b[0m"
ROWS = 40
"""Rows of a table that are printed, at most; the JSON file holds all."""


@dataclass(frozen=True)
class Wanted:
    """What was asked for.

    Args:
        run: as it was given.
        options: of the views.
        step: of the weights; None means the best.
        device: where to compute.
        out: the folder for files; None means RUN/inspect.
        show: print for people.
    """

    run: str
    options: Options
    step: int | None
    device: str
    out: Path | None
    show: bool


def list_views(*, show: bool) -> dict[str, Any]:
    """Print the views, each with the options that it takes."""
    rows = [(view.name, " ".join(view.takes) or "-", view.text) for view in VIEWS]
    if show:
        print_table(("view", "takes", "shows"), rows)
    return {"views": [{"name": v.name, "takes": list(v.takes), "text": v.text} for v in VIEWS]}


def inspect_one(wanted: Wanted, name: str) -> dict[str, Any]:
    """Take one view, write and print it; return everything for JSON."""
    view = find_view(name)
    wanted.options.only(view.name, view.takes)
    subject = _subject(wanted, f"inspect {name}", many=view.many)
    data = look(subject, view, wanted.options)
    files = write(view, data, _folder(wanted, subject))
    if wanted.show:
        print_view(data)
        for file in files:
            print(f"wrote {file}")
    return {**data.plain(), "files": [str(file) for file in files]}


def inspect_all(wanted: Wanted) -> dict[str, Any]:
    """Take all views and write one page of them; return what came out, for JSON."""
    subject = _subject(wanted, "inspect --all", many=True)
    folder = _folder(wanted, subject)
    looks = []
    for taken in look_at_all(subject, wanted.options, folder):
        looks.append(taken)
        if wanted.show:
            print(taken.view.name)
            if taken.data is None:
                print(f"  not for this model: {taken.why}")
            else:
                _print_proofs(taken.data, "  ")
            sys.stdout.flush()
    name = subject.run.name if subject.run else type(subject.model).__name__
    page = write_page(looks, f"Looking inside {name}, after step {subject.step}", folder)
    if wanted.show:
        print(f"wrote {page}")
    return {
        "ok": all(taken.data is None or taken.data.ok for taken in looks),
        "page": str(page),
        "views": {
            taken.view.name: {"why": taken.why} if taken.data is None else taken.data.plain()
            for taken in looks
        },
    }


def print_view(data: ViewData) -> None:
    """Print title, table, notes and proof lines of a view."""
    print(data.title)
    if data.rows:
        print_table(data.head, data.rows[:ROWS])
    if len(data.rows) > ROWS:
        print(f"... and {len(data.rows) - ROWS:,} rows more in the JSON file")
    for note in data.notes:
        print(f"note: {note}")
    _print_proofs(data, "")


def _print_proofs(data: ViewData, before: str) -> None:
    colours = sys.stdout.isatty() and not os.environ.get("NO_COLOR")
    for proof in data.proofs:
        line = proof.line if proof.ok or not colours else f"{RED}{proof.line}{PLAIN}"
        print(before + line)


def _subject(wanted: Wanted, why: str, *, many: bool) -> Subject:
    run = find(wanted.run)
    subject = of_run(run, step=wanted.step, device=wanted.device)
    if wanted.options.on == "test":
        size = len(subject.parts().test)
        if not size:
            raise BadData(f"{run.path} has no test part.")
        seen = min(size, wanted.options.count or size) if many else 1
        record_opening(run, subject.step or 0, seen, why)
    return subject


def _folder(wanted: Wanted, subject: Subject) -> Path:
    assert subject.run is not None
    return wanted.out or subject.run.path / "inspect"
