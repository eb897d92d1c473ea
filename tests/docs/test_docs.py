"""The docs are true: their commands and programs run, their links lead somewhere."""

from __future__ import annotations

import inspect
import re
import shlex
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from pellucid import fit
from pellucid.cli.main import run

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]
README = (ROOT / "README.md").read_text(encoding="utf-8")


def blocks(page: Path, language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", page.read_text(encoding="utf-8"), re.DOTALL)


def test_the_readme_begins_with_the_two_commands() -> None:
    lines = [line for line in README.splitlines() if line.startswith("    pip install")]
    commands = [line.split("  #")[0].strip() for line in lines]
    assert commands[0] == "pip install . && pellucid train"
    assert commands[1] == "pip install '.[test]' && pytest"


def test_the_readme_names_the_loop_and_its_size() -> None:
    lines = len(inspect.getsource(fit).splitlines())
    named = re.search(r"one function\s+of (\d+) lines", README)
    assert named is not None
    assert int(named.group(1)) == lines


def readme_commands() -> list[str]:
    lines = "".join(blocks(ROOT / "README.md", "sh")).splitlines()
    return [line.split("#")[0].strip() for line in lines if line.startswith("pellucid")]


def test_the_readme_shows_commands() -> None:
    assert len(readme_commands()) >= 10


def test_every_command_of_the_readme_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """In order, in one folder with a few files of the names they use; trainings are cut short."""
    monkeypatch.chdir(tmp_path)
    _few_images(tmp_path)
    for command in readme_commands():
        words = shlex.split(command)[1:]
        if words[0] in ("train", "compare", "kfold", "sweep"):
            if {"mnist", "cifar10"} & set(words):
                words += ["--dry-run"] if _has_sets() else ["--help"]
            elif "--dry-run" not in words:
                if "--epochs" in words:  # or it would overrule the length
                    at = words.index("--epochs")
                    del words[at : at + 2]
                words += ["--length", "2 steps", "--batch-size", "4"]
                words = ["2" if before == "--trials" else word
                         for before, word in zip(["", *words], words, strict=False)]  # fmt: skip
        assert run(words) == 0, f"{command}\n{capsys.readouterr().err}"
        capsys.readouterr()


def _has_sets() -> bool:
    import os

    return bool(os.environ.get("PELLUCID_DATA"))


def _few_images(folder: Path) -> None:
    from PIL import Image

    from pellucid.data.digits import Digits

    data = Digits().load().train
    rows = []
    for digit in (1, 7):
        for place in (folder / "photos" / str(digit), folder / "folder"):
            place.mkdir(parents=True, exist_ok=True)
        for i in (data.labels == digit).nonzero().flatten()[:10].tolist():
            Image.fromarray(data.images[i, 0].numpy()).save(folder / f"photos/{digit}/{i}.jpg")
            Image.fromarray(data.images[i, 0].numpy()).save(folder / f"folder/{i}.jpg")
            rows.append(f"photos/{digit}/{i}.jpg,{digit}\n")
    Image.fromarray(data.images[0, 0].numpy()).save(folder / "photo.jpg")
    (folder / "list.csv").write_text("path,label\n" + "".join(rows))


PROGRAMS = [
    pytest.param(code, id=f"{page.name}-{number}")
    for page in PAGES
    for number, code in enumerate(blocks(page, "python"))
]


@pytest.mark.parametrize("code", PROGRAMS)
def test_every_program_of_the_docs_runs(code: str, tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", code],
        cwd=tmp_path, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_link_leads_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\(([^)#]+)", page.read_text(encoding="utf-8")):
        if not target.startswith("http"):
            assert (page.parent / target).exists(), target


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_file_of_settings_is_toml(page: Path) -> None:
    for text in blocks(page, "toml"):
        tomllib.loads(text)


def test_the_version_is_in_the_changelog_and_the_notice_in_the_licence() -> None:
    version = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"][
        "version"
    ]
    assert f"## {version}" in (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    assert "Apache License" in (ROOT / "LICENSE").read_text(encoding="utf-8")
    assert "ShareAlike 3.0" in (ROOT / "NOTICE").read_text(encoding="utf-8")
    assert "ShareAlike 3.0" in (ROOT / "src/pellucid/data/embedded/LICENSE.md").read_text()


def test_every_setting_is_in_the_page_of_recipes() -> None:
    from pellucid.catalogue import SCALARS, SECTIONS, names, spec

    page = (ROOT / "docs/recipes.md").read_text(encoding="utf-8")
    for scalar in SCALARS:
        assert f"`{scalar}`" in page
    for section in SECTIONS:
        assert f"`{section}`" in page
        for name in names(section):
            assert name in page
            if section != "schedule":
                for field in getattr(spec(section, name), "__struct_fields__", ()):
                    assert f"`{field}`" in page, f"{section}.{field}"


def test_modules_are_short() -> None:
    long = {
        path.name: lines
        for path in (ROOT / "src").rglob("*.py")
        if (lines := len(path.read_text(encoding="utf-8").splitlines())) > 400
    }
    assert long == {}


def test_the_embedded_digits_are_those_that_the_script_builds(sets: Path) -> None:
    """Built again from the official files: the same bytes."""
    script = ROOT / "scripts/build_digits.py"
    embedded = ROOT / "src/pellucid/data/embedded"
    before = {path.name: path.read_bytes() for path in embedded.glob("*.gz")}
    import gzip

    code = script.read_text(encoding="utf-8").replace(
        'TARGET = Path(__file__).resolve().parent.parent / "src/pellucid/data/embedded"',
        "TARGET = Path.cwd()",
    )
    subprocess.run([sys.executable, "-c", code, str(sets / "mnist")], check=True)
    assert len(before) == 4
    for name, content in before.items():
        assert gzip.decompress(Path(name).read_bytes()) == gzip.decompress(content)
