"""The command line: a closed set of commands, help at once, one message per mistake."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from cyclopts import App

from pellucid.cli.main import HELP, build, render_help, run

FROZEN = {
    "train": ["--data", "--recipe", "--out", "--epochs", "--seed", "--device", "--precision",
              "--compile", "--deterministic", "--tune-speed", "--json", "--quiet", "--dry-run"],
    "resume": ["--run", "--json", "--quiet"],
    "preflight": ["--data", "--recipe", "--lr-range", "--out", "--epochs", "--seed", "--device",
                  "--precision", "--json", "--quiet"],
    "bench": ["--data", "--recipe", "--steps", "--no-settings", "--try-compile", "--device",
              "--precision", "--json", "--quiet"],
    "evaluate": ["--run", "--on", "--views", "--device", "--json"],
    "report": ["--run", "--markdown", "--pdf", "--device", "--json"],
    "compare-runs": ["--runs", "--on", "--out", "--json"],
    "compare": ["--data", "--vary", "--preset", "--recipe", "--seeds", "--test", "--tune-lr",
                "--jobs", "--out", "--epochs", "--seed", "--device", "--precision", "--json",
                "--quiet"],
    "kfold": ["--data", "--folds", "--group-column", "--no-refit", "--jobs", "--recipe", "--out",
              "--epochs", "--seed", "--device", "--precision", "--json", "--quiet"],
    "sweep": ["--data", "--param", "--trials", "--recipe", "--out", "--epochs", "--seed",
              "--device", "--precision", "--json", "--quiet"],
    "predict": ["--run", "--paths", "--device", "--csv", "--json"],
    "inspect": ["--run", "--view", "--all", "--image", "--drawing", "--index", "--on", "--layer",
                "--unit", "--place", "--target", "--against", "--count", "--size", "--step",
                "--device", "--out", "--json"],
    "eject": ["--run", "--out", "--arrays", "--check", "--json"],
    "runs list": ["--out", "--json"],
    "runs show": ["--run", "--json"],
    "runs rm": ["--run", "--yes"],
    "recipes list": ["--json"],
    "recipes show": ["--recipe", "--data", "--json"],
    "recipes plot": ["--recipe", "--data", "--out", "--images", "--json"],
    "models list": ["--json"],
    "data list": ["--json"],
    "data show": ["--data", "--json"],
    "data check": ["--data", "--strict", "--out", "--json"],
    "data preview": ["--data", "--recipe", "--rows", "--draws", "--seed", "--out", "--json"],
    "lab": ["--name", "--words", "--options", "--all", "--check", "--quiz", "--answers",
            "--exercise", "--notebook", "--out", "--svg", "--json"],
    "lab check": ["--file", "--json"],
    "learn": ["--step", "--json"],
    "show loop": ["--data", "--recipe"],
}  # fmt: skip
"""All commands and options. Settings are not among them: they are the fields of a recipe."""


def commands(app: App, prefix: str = "") -> dict[str, list[str]]:
    found = {}
    for name in app:
        if name.startswith("-"):
            continue
        sub = app[name]
        below = commands(sub, f"{prefix}{name} ")
        found.update(below)
        if not below or sub.default_command is not None:
            arguments = sub.assemble_argument_collection(parse_docstring=False)
            options = [a.names[0] if a.names else f"--{a.field_info.name}" for a in arguments]
            found[f"{prefix}{name}"] = [option for option in options if option != "--settings"]
    return found


def test_the_command_line_is_frozen() -> None:
    assert {k: sorted(_dashed(v)) for k, v in commands(build()).items()} == {
        k: sorted(v) for k, v in FROZEN.items()
    }


def _dashed(names: list[str]) -> list[str]:
    return [f"--{name.lstrip('-').lower().replace('_', '-')}" for name in names]


def test_the_help_page_is_what_it_was_rendered_from() -> None:
    assert HELP.read_text(encoding="utf-8") == render_help()
    assert all(len(line) <= 80 for line in render_help().splitlines())


@pytest.mark.parametrize("word", ["--help", "-h", "--version"])
def test_help_loads_nothing_heavy(word: str) -> None:
    done = subprocess.run(
        [sys.executable, "-X", "importtime", "-m", "pellucid", word],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    loaded = {line.rsplit("|", 1)[-1].strip().split(".")[0] for line in done.stderr.splitlines()}
    assert loaded.isdisjoint({"torch", "numpy", "matplotlib", "PIL", "cyclopts", "rich"})
    assert done.stdout


@pytest.mark.parametrize("command", FROZEN)
def test_every_command_explains_itself(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run([*command.split(), "--help"]) == 0
    page = capsys.readouterr().out
    assert page.startswith("Usage: pellucid")
    for option in FROZEN[command]:
        assert option.strip("-").replace("-", "").lower() in page.replace("-", "").lower()


def test_help_of_a_command_loads_no_torch() -> None:
    code = "import sys; from pellucid.cli.main import run; run(['train', '--help']); " \
           "sys.exit('torch' in sys.modules)"  # fmt: skip
    assert (
        subprocess.run([sys.executable, "-c", code], capture_output=True, check=False).returncode
        == 0
    )


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["tain"], 'Did you mean "train"?'),
        (["train", "--sed", "1"], "--sed"),
        (["train", "--epochs", "many"], "many"),
        (["runs", "list", "--a.b", "1"], "runs takes no settings such as --a.b"),
    ],
)
def test_a_mistake_is_one_message(
    words: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(words) == 2
    captured = capsys.readouterr()
    assert message in captured.err.replace("\n", " ")
    assert "Traceback" not in captured.err
    assert captured.out == ""


@pytest.mark.parametrize(
    "words",
    [["recipes", "list"], ["models", "list"], ["data", "list"], ["data", "show", "digits"],
     ["recipes", "show", "notes", "mnist"], ["runs", "list"]],
)  # fmt: skip
def test_lists_for_people_and_for_machines(
    words: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(words) == 0
    page = capsys.readouterr().out
    assert page.strip()
    assert run([*words, "--json"]) == 0
    assert isinstance(json.loads(capsys.readouterr().out), dict)


def test_lists_fit_a_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    for words in (["recipes", "list"], ["models", "list"], ["data", "list"]):
        run(words)
        wide = [line for line in capsys.readouterr().out.splitlines() if len(line) > 80]
        assert wide == []


def test_the_public_names() -> None:
    """Each of them, asked for first and alone in a fresh process, is what it says."""
    import pellucid
    from pellucid import public

    assert pellucid.__all__ == sorted(pellucid.__all__)
    assert {name for name in vars(public) if not name.startswith("_")} == set(pellucid.__all__)
    code = (
        "import pellucid, pellucid.public as p; "
        "assert all(getattr(pellucid, n) is getattr(p, n) for n in pellucid.__all__); "
        "from pellucid import train; assert callable(train)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
    with pytest.raises(AttributeError, match="no attribute 'trane'"):
        pellucid.trane  # noqa: B018


def test_public_names_are_documented() -> None:
    import pellucid

    page = (Path(__file__).parents[2] / "docs/reference.md").read_text(encoding="utf-8")
    for name in pellucid.__all__:
        assert f"`{name}" in page, f"{name} is not in docs/reference.md"
        assert getattr(pellucid, name).__doc__
