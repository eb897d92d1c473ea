"""Looking and writing down: a picture and its numbers, or one page of all views."""

from __future__ import annotations

import base64
import html
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from pellucid.errors import UserError
from pellucid.figures.render import png
from pellucid.runs.disk import replace_file
from pellucid.viewdata import ViewData
from pellucid.views.catalogue import VIEWS, View
from pellucid.views.options import Options
from pellucid.views.subject import Subject


@dataclass(frozen=True)
class Look:
    """A view that was taken, or the reason why it could not be.

    Args:
        view: which.
        data: what it found, or None.
        why: the reason; empty if it was taken.
        files: what was written.
    """

    view: View
    data: ViewData | None
    why: str = ""
    files: tuple[Path, ...] = ()


def look(subject: Subject, view: View, options: Options) -> ViewData:
    """Return what `view` finds.

    Raises:
        BadOption: if it does not take one of the options.
        DoesNotApply: if it cannot be had of this model.
    """
    options.only(view.name, view.takes)
    return view.compute(subject, options)


def write(view: View, data: ViewData, folder: Path) -> tuple[Path, ...]:
    """Write the picture, beside it its numbers as JSON, and further pages; return the files."""
    folder.mkdir(parents=True, exist_ok=True)
    picture, numbers = folder / f"{view.name}.png", folder / f"{view.name}.json"
    replace_file(numbers, (json.dumps(data.plain(), allow_nan=False) + "\n").encode())
    replace_file(picture, png(view.draw(data), dpi=110))
    return picture, numbers, *view.pages(data, folder)


def look_at_all(subject: Subject, options: Options, folder: Path) -> Iterator[Look]:
    """Yield all views, each when it is written; those that cannot be had with the reason.

    Of `options` each view gets those that it takes.
    """
    for view in VIEWS:
        try:
            data = view.compute(subject, options.taking(view.takes))
        except UserError as error:
            yield Look(view, None, str(error))
            continue
        yield Look(view, data, files=write(view, data, folder))


def write_page(looks: Sequence[Look], title: str, folder: Path) -> Path:
    """Write one HTML page of `looks`; it holds its pictures and needs nothing else."""
    parts = [_section(taken) for taken in looks]
    links = " ".join(f'<a href="#{t.view.name}">{t.view.name}</a>' for t in looks)
    body = f"<h1>{html.escape(title)}</h1><nav>{links}</nav>{''.join(parts)}"
    page = (
        '<!doctype html><html lang="en"><meta charset="utf-8">'
        f"<title>{html.escape(title)}</title><style>{STYLE}</style><main>{body}</main></html>\n"
    )
    file = folder / "index.html"
    folder.mkdir(parents=True, exist_ok=True)
    replace_file(file, page.encode())
    return file


STYLE = (
    "body{font:16px/1.5 system-ui,sans-serif;margin:0;color:#222;background:#fff}"
    "main{max-width:72rem;margin:0 auto;padding:1rem}img{max-width:100%;height:auto}"
    "nav a{margin-right:.8em}.ok{color:#00614a}.bad{color:#c00000;font-weight:bold}"
    ".why{color:#666}table{border-collapse:collapse;font-size:13px}"
    "td,th{padding:.15em .6em;text-align:left;border-bottom:1px solid #ddd}"
)


def _section(taken: Look) -> str:
    name = taken.view.name
    head = f'<section id="{name}"><h2>{name}</h2><p>{html.escape(taken.view.text)}</p>'
    data = taken.data
    if data is None:
        return f'{head}<p class="why">Not for this model: {html.escape(taken.why)}</p></section>'
    proofs = "".join(
        f'<p class="{"ok" if proof.ok else "bad"}">{html.escape(proof.line)}</p>'
        for proof in data.proofs
    )
    notes = "".join(f"<p>{html.escape(note)}</p>" for note in data.notes)
    address = base64.b64encode(taken.files[0].read_bytes()).decode()
    image = f'<img alt="{html.escape(data.title)}" src="data:image/png;base64,{address}">'
    return f"{head}{proofs}{image}{notes}{_table(data)}</section>"


def _table(data: ViewData) -> str:
    if not data.rows:
        return ""
    head = "".join(f"<th>{html.escape(cell)}</th>" for cell in data.head)
    rows = "".join(
        f"<tr>{''.join(f'<td>{html.escape(cell)}</td>' for cell in row)}</tr>" for row in data.rows
    )
    return f"<details><summary>numbers</summary><table><tr>{head}</tr>{rows}</table></details>"
