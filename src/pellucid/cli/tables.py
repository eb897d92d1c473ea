"""Tables on standard output, in columns that fit their content."""

from __future__ import annotations

import shutil
import textwrap
from collections.abc import Sequence


def print_table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Print `rows` under `head`; what is too long for the terminal goes on below in its column."""
    lines = [list(head), *[list(row) for row in rows]]
    widths = [max(len(line[i]) for line in lines) for i in range(len(head) - 1)]
    before = sum(widths) + 2 * len(widths)
    room = max(20, shutil.get_terminal_size((80, 24)).columns - before)
    for line in lines:
        cells = "".join(cell.ljust(width + 2) for cell, width in zip(line, widths, strict=False))
        first, *more = textwrap.wrap(line[-1], room) or [""]
        print((cells + first).rstrip())
        for text in more:
            print(" " * before + text)
