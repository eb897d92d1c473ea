"""What `pellucid lab` prints and writes."""

from __future__ import annotations

import json as json_text
import textwrap
import time
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pellucid.cli.tables import print_table
from pellucid.labs.catalogue import LABS, LESSONS, Entry, find
from pellucid.runs.disk import replace_file

if TYPE_CHECKING:
    from pellucid.labs.result import LabResult


def list_labs(json: bool) -> int:
    """Print the labs in the order of the lessons."""
    rows = [
        {"name": e.name, "lesson": e.lesson, "title": e.title, "needs": list(e.needs)}
        for e in LABS.values()
    ]
    if json:
        print(json_text.dumps({"labs": rows, "lessons": LESSONS}))
        return 0
    wide = max(map(len, LABS))
    for number, lesson in LESSONS.items():
        here = [e for e in LABS.values() if e.lesson == number]
        if here:
            print(f"{number}. {lesson}")
        for e in here:
            after = f" (after {', '.join(e.needs)})" if e.needs else ""
            lines = textwrap.wrap(e.title + after, 75 - wide)
            print(f"   {e.name:<{wide}}  " + ("\n" + " " * (wide + 5)).join(lines))
    print("\nRun one: pellucid lab NAME. What it can vary: pellucid lab NAME --options")
    return 0


def list_options(name: str, json: bool) -> int:
    """Print the options of a lab."""
    from pellucid.labs.options import options

    found = options(find(name).load().run)
    rows = [
        {"option": o.flag, "default": o.default, "allowed": o.allowed, "help": o.help}
        for o in found.values()
    ]
    if json:
        print(json_text.dumps({"name": name, "options": rows}))
        return 0
    table = [(o.flag, _plain(o.default), f"{o.help}: {o.allowed}") for o in found.values()]
    print_table(("option", "default", "what it is"), table)
    return 0


def _plain(value: Any) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    return ",".join(map(str, value)) if isinstance(value, tuple) else str(value)


def run_one(
    name: str, words: list[str], check: bool, out: Path | None, svg: bool, json: bool
) -> int:
    """Run one lab; return 1 if a claim does not hold."""
    from pellucid.labs import page
    from pellucid.labs.options import from_words, read

    entry = find(name)
    run = entry.load().run
    given = read(run, from_words(words))
    result = run(**given)
    facts = {"name": name, "title": entry.title, "options": given, **page.json_of(result)}
    if out is not None:
        facts["files"] = _write(out, name, facts, result, svg)
    if json:
        print(json_text.dumps(facts))
    elif check:
        print("\n".join(page.verdict(claim) for claim in result.claims))
    else:
        print(f"{entry.title}\n{'=' * len(entry.title)}\n\n{page.plain(result)}")
        print("".join(f"\n{file}" for file in facts.get("files", ())))
    return 1 if result.failed else 0


def _write(out: Path, name: str, facts: dict[str, Any], result: LabResult, svg: bool) -> list[str]:
    from pellucid.labs.page import picture

    out.mkdir(parents=True, exist_ok=True)
    figure = result.figure
    files = {out / f"{name}.png": picture(figure)}
    if svg:
        files[out / f"{name}.svg"] = picture(figure, "svg")
    files[out / f"{name}.json"] = (json_text.dumps(facts, indent=1) + "\n").encode()
    for path, content in files.items():
        replace_file(path, content)
    return [str(path) for path in files]


def run_all(check: bool, out: Path | None, svg: bool, json: bool) -> int:
    """Run every lab as it is; return 1 if a claim of any does not hold."""
    from pellucid.labs.page import Section, html, json_of

    sections, labs = [], []
    for entry in LABS.values():
        begun = time.perf_counter()
        result = entry.load().run()
        seconds = time.perf_counter() - begun
        facts = {"name": entry.name, "title": entry.title, **json_of(result)}
        labs.append(facts)
        if out is not None:
            _write(out, entry.name, facts, result, svg)
            sections.append(
                Section(entry.name, entry.title, result, (out / f"{entry.name}.png").read_bytes())
            )
        if not json:
            _print_one_of_all(entry, result, seconds, check)
    if out is not None:
        replace_file(out / "labs.html", html(sections).encode())
    count, failed = _count(labs)
    if json:
        print(json_text.dumps({"labs": labs, "claims": count, "failed": failed}))
    else:
        print(f"{len(labs)} labs, {count} claims, {failed} failed")
        print(f"{out / 'labs.html'}\n" if out else "", end="")
    return 1 if failed else 0


def _print_one_of_all(entry: Entry, result: LabResult, seconds: float, check: bool) -> None:
    """Print a line and the claims that failed, or with `check` off the whole page."""
    from pellucid.labs.page import plain, verdict

    word = "FAILED" if result.failed else "holds "
    print(f"{word}  {entry.name:<24} {len(result.claims):>3} claims  {seconds:6.1f} s", flush=True)
    if check:
        print("".join(f"{verdict(claim)}\n" for claim in result.failed), end="")
    else:
        print(f"\n{plain(result)}\n")


def _count(labs: Iterable[dict[str, Any]]) -> tuple[int, int]:
    claims = [claim for lab in labs for claim in lab["claims"]]
    return len(claims), sum(not claim["holds"] for claim in claims)
