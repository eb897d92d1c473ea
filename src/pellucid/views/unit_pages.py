"""A page for each unit of the view `patches`, at an address that stays.

The page of unit 7 of conv2 is `patches/conv2/7.html` in the folder of the views: it depends on the
names only, so that it can be linked and found again. It needs nothing else.
"""

from __future__ import annotations

import base64
import html
import io
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from urllib.parse import quote

from PIL import Image
from torch import Tensor

from pellucid.runs.disk import replace_file
from pellucid.viewdata import ViewData, short

STYLE = (
    "body{font:16px/1.5 system-ui,sans-serif;margin:0;color:#222;background:#fff}"
    "main{max-width:64rem;margin:0 auto;padding:1rem}.ok{color:#00614a}.bad{color:#c00000;"
    "font-weight:bold}.quiet{color:#666;font-size:13px}figure{display:inline-block;margin:.4em;"
    "vertical-align:top;width:7.5rem;font-size:13px;overflow-wrap:anywhere}"
    "figure img{width:6.5rem;image-rendering:pixelated;border:1px solid #ccc}"
    "nav a{margin-right:1em}th,td{text-align:left;padding:.1em .8em .1em 0}"
    "meter{width:14rem}"
)


def address(layer: str, unit: int) -> str:
    """Return where the page of a unit lies, relative to the folder of the views.

    >>> address("conv2", 7), address("blocks.0.conv#2", 0)
    ('patches/conv2/7.html', 'patches/blocks.0.conv%232/0.html')
    """
    return f"patches/{quote(layer, safe='')}/{unit}.html"


def unit_pages(data: ViewData) -> dict[str, str]:
    """Return the pages of all units in `data`, by address, and one that lists them.

    There is no list where one unit was asked for: it would hide the others.

    Args:
        data: of the view `patches`.
    """
    layer, units = data.numbers["layer"], data.numbers["units"]
    pages = {
        address(layer, one["unit"]): _page(data, one, _neighbours(units, at))
        for at, one in enumerate(units)
    }
    if data.numbers["whole"] is None:
        rows = "".join(
            f'<li><a href="{one["unit"]}.html">unit {one["unit"]}</a>: {_says(one)}</li>'
            for one in units
        )
        folder = address(layer, 0).rpartition("/")[0]
        pages[f"{folder}/index.html"] = _html(f"{layer}: its units", f"<ol start=0>{rows}</ol>")
    return pages


def write_unit_pages(data: ViewData, folder: Path) -> tuple[Path, ...]:
    """Write the pages below `folder`; return the one to begin with."""
    files = []
    for name, text in unit_pages(data).items():
        file = folder / name
        file.parent.mkdir(parents=True, exist_ok=True)
        replace_file(file, text.encode())
        files.append(file)
    return tuple(files[-1:])


def _neighbours(units: list[Any], at: int) -> str:
    links = [("all units", "index.html")] if len(units) > 1 else []
    for name, other in (("previous", at - 1), ("next", at + 1)):
        if 0 <= other < len(units):
            links.append((name, f"{units[other]['unit']}.html"))
    return "<nav>" + "".join(f'<a href="{to}">{name}</a>' for name, to in links) + "</nav>"


def _page(data: ViewData, one: Mapping[str, Any], links: str) -> str:
    layer = data.numbers["layer"]
    proofs = "".join(
        f'<p class="{"ok" if proof.ok else "bad"}">{html.escape(proof.line)}</p>'
        for proof in data.proofs
    )
    figures = "".join(_figure(patch) for patch in one["patches"])
    notes = "".join(f"<p>{html.escape(note)}</p>" for note in data.notes)
    origin = ", ".join(f"{k} {v}" for k, v in data.provenance.items() if v is not None)
    body = (
        f"{links}<p>{html.escape(_says(one))} A place of it sees "
        f"{html.escape(data.numbers['sees'])}.</p>{figures}{_classes(one)}{proofs}{notes}"
        f'<p class="quiet">{html.escape(origin)}</p>'
    )
    return _html(f"{layer}, unit {one['unit']}", body)


def _says(one: Mapping[str, Any]) -> str:
    if not one["values"]:
        return "Never above 0 on these images."
    return f"The strongest value is {short(one['values'][0])}."


def _figure(patch: Mapping[str, Any]) -> str:
    place = ", ".join(map(str, patch["place"]))
    lines = (short(patch["value"]), f"class {patch['class']}", patch["image"], f"place ({place})")
    text = "<br>".join(html.escape(line) for line in lines)
    image = f'<img alt="patch of {html.escape(patch["image"])}" src="{_png(patch["pixels"])}">'
    return f"<figure>{image}<figcaption>{text}</figcaption></figure>"


def _classes(one: Mapping[str, Any]) -> str:
    if not one["classes"]:
        return ""
    rows = "".join(
        f"<tr><td>{html.escape(name)}</td><td>"
        f'<meter max="{one["counted"]}" value="{count}"></meter></td><td>{count}</td></tr>'
        for name, count in one["classes"].items()
    )
    return (
        f"<p>Classes of the {one['counted']} images that excite it most:</p><table>{rows}</table>"
    )


def _png(pixels: Tensor) -> str:
    array = pixels.permute(1, 2, 0).contiguous().cpu().numpy()
    out = io.BytesIO()
    Image.fromarray(array[:, :, 0] if array.shape[2] == 1 else array).save(out, format="PNG")
    return "data:image/png;base64," + base64.b64encode(out.getvalue()).decode()


def _html(title: str, body: str) -> str:
    title = html.escape(title)
    return (
        f'<!doctype html><html lang="en"><meta charset="utf-8"><title>{title}</title>'
        f"<style>{STYLE}</style><main><h1>{title}</h1>{body}</main></html>\n"
    )
