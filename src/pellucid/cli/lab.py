"""`pellucid lab`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from cyclopts import App, Parameter

from pellucid.cli.train import Settings

app = App(
    name="lab",
    help="Run the labs: one concept each, computed, drawn and proved.",
    help_format="plaintext",
    default_parameter=Parameter(negative=()),
)


@app.default
def lab(
    name: str | None = None,
    /,
    *words: Annotated[str, Parameter(allow_leading_hyphen=True)],
    options: bool = False,
    all: bool = False,
    check: bool = False,
    quiz: bool = False,
    answers: Path | None = None,
    exercise: bool = False,
    notebook: bool = False,
    out: Path | None = None,
    svg: bool = False,
    json: bool = False,
    settings: Settings = None,
) -> int:
    """Run a lab: text with its numbers, tables, a picture, claims; without a name, list them.

    The exit code is 1 if a claim does not hold.

    Parameters
    ----------
    name
        Of the lab; see the list.
    words
        Options of the lab itself: --lr 0.01 --start 0,1.
    options
        List the options of the lab, with their ranges.
    all
        Run all labs.
    check
        Print nothing but the verdicts on the claims.
    quiz
        Ask before it shows, then reveal by computing; answers are kept in the cache folder.
    answers
        A file with an answer in each line, for --quiz without a person.
    exercise
        Write a file with a function to complete; `pellucid lab check FILE` tests it.
    notebook
        Write the lab as a notebook.
    out
        Write picture (PNG) and numbers (JSON) into this folder; with --all, one page for all.
    svg
        Write the picture as SVG too.
    json
        Print one JSON object on standard output.
    """
    from pellucid.cli import lab_learning, lab_page

    given = [*words, *_back(settings)]
    if all:
        _nothing_else(name, given)
        return lab_page.run_all(check, out, svg, json)
    if name is None:
        _nothing_else(name, given)
        return lab_page.list_labs(json)
    if notebook:
        return lab_learning.write_notebook(name, given, out, json)
    if quiz or exercise:
        _nothing_more(given)
        act = lab_learning.write_exercise
        return lab_learning.quiz(name, answers, out, json) if quiz else act(name, out, json)
    if options:
        return lab_page.list_options(name, json)
    return lab_page.run_one(name, given, check, out, svg, json)


@app.command(name="check")
def check_exercise(file: Path, /, *, json: bool = False) -> int:
    """Test the function in the file of an exercise; the smallest case that fails, and a hint.

    The file runs as your own program: this is no sandbox. Check only files that you wrote or read.

    Parameters
    ----------
    file
        Written by `pellucid lab NAME --exercise` and completed by you.
    json
        Print one JSON object on standard output.
    """
    from pellucid.cli.lab_learning import check

    return check(file, json)


def _back(settings: dict[str, object] | None) -> list[str]:
    """Return as words what a recipe would call its settings: a lab may have such options too."""
    return [f"--{key}={_text(value)}" for key, value in (settings or {}).items()]


def _text(value: object) -> str:
    return ",".join(map(str, value)) if isinstance(value, list) else str(value)


def _nothing_more(words: list[str]) -> None:
    from pellucid.errors import UserError

    if words:
        raise UserError(f'Quiz and exercise take no options of the lab. Got "{words[0]}".')


def _nothing_else(name: str | None, words: list[str]) -> None:
    from pellucid.errors import UserError

    left = [*([name] if name else []), *words]
    if left:
        raise UserError(
            f'"{left[0]}" belongs to one lab, and none or all were asked for. '
            "Write `pellucid lab NAME`, `pellucid lab --all` or `pellucid lab`."
        )
