"""`pellucid inspect`: files, proof lines, exit codes, and mistakes as one message."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path

import pytest
import torch

from pellucid import good, steps, train
from pellucid.cli.main import run as command
from pellucid.inspection import logits as logits_module
from pellucid.recipe import RecordSpec
from pellucid.runs.folder import OPENINGS, Run
from pellucid.views.catalogue import VIEWS
from pellucid.views.options import Options
from pellucid.views.page import look_at_all, write_page
from pellucid.views.subject import Subject


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Run:
    recipe = good("digits").with_(length=steps(6), record=RecordSpec(snapshots=2), batch_size=32)
    return train(recipe, tmp_path_factory.mktemp("runs"))


def test_a_view_writes_a_picture_and_its_numbers_and_prints_its_proof(
    trained: Run, capsys: pytest.CaptureFixture[str]
) -> None:
    assert command(["inspect", str(trained.path), "logits", "--index", "2"]) == 0
    page = capsys.readouterr().out
    proof = r"sum of contributions at fc2 - logit = [\d.e-]+, tolerance 1e-4: ok"
    assert re.search(proof, page)
    assert (trained.path / "inspect/logits.png").read_bytes().startswith(b"\x89PNG")
    content = json.loads((trained.path / "inspect/logits.json").read_text())
    assert content["ok"] is True
    assert content["provenance"]["step"] == 6
    assert len(content["numbers"]["features"]) == 64
    assert "conv" not in page.split("wrote")[1] or page.endswith("json\n")


def test_json_is_one_object(trained: Run, capsys: pytest.CaptureFixture[str]) -> None:
    assert command(["inspect", str(trained.path), "shapes", "--json"]) == 0
    content = json.loads(capsys.readouterr().out)
    assert content["view"] == "shapes"
    assert [Path(file).name for file in content["files"]] == ["shapes.png", "shapes.json"]


def test_without_a_view_they_are_listed(trained: Run, capsys: pytest.CaptureFixture[str]) -> None:
    assert command(["inspect", str(trained.path)]) == 0
    page = capsys.readouterr().out
    assert all(view.name in page for view in VIEWS)
    assert command(["inspect", str(trained.path), "--json"]) == 0
    listed = json.loads(capsys.readouterr().out)["views"]
    assert [view["name"] for view in listed] == [view.name for view in VIEWS]


def test_a_failed_identity_is_shown_and_ends_with_1(
    trained: Run, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    plain = logits_module._affine
    monkeypatch.setattr(logits_module, "_affine", lambda op: (plain(op)[0], 1 + plain(op)[1]))
    assert command(["inspect", str(trained.path), "logits"]) == 1
    assert "DOES NOT HOLD" in capsys.readouterr().out
    content = json.loads((trained.path / "inspect/logits.json").read_text())
    assert content["ok"] is False


@pytest.mark.slow
def test_all_views_make_one_page_that_needs_nothing_else(
    trained: Run, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["inspect", str(trained.path), "--all", "--count", "100", "--out", str(tmp_path)]
    code = command(words)
    printed = capsys.readouterr().out
    assert code == 0, printed
    page = (tmp_path / "index.html").read_text(encoding="utf-8")
    assert page.count("data:image/png;base64,") == len(VIEWS)
    _stands_alone(page)
    for view in VIEWS:
        assert f'id="{view.name}"' in page
        assert (tmp_path / f"{view.name}.json").is_file()


def test_a_page_holds_its_pictures_and_says_what_a_model_cannot_have(tmp_path: Path) -> None:
    subject = Subject.of(torch.nn.Flatten(), shape=(1, 3, 3), classes=("a",) * 9)
    looks = list(look_at_all(subject, Options(index=1), tmp_path))
    page = write_page(looks, "Looking <inside>", tmp_path).read_text(encoding="utf-8")
    assert page.count("data:image/png;base64,") == 1  # shapes
    assert page.count("Not for this model") == len(VIEWS) - 1
    assert "Looking &lt;inside&gt;" in page
    _stands_alone(page)


def _stands_alone(page: str) -> None:
    assert page.count("<section") == len(VIEWS)
    assert not re.search(r'(src|href)="(?!data:|#)', page)
    assert "http" not in page


def test_looking_at_test_images_is_written_down(trained: Run) -> None:
    before = len(trained.rows(OPENINGS))
    assert command(["inspect", str(trained.path), "logits", "--on", "test", "--index", "3"]) == 0
    rows = trained.rows(OPENINGS)
    assert len(rows) == before + 1
    assert rows[-1]["why"] == "inspect logits"
    assert command(["inspect", str(trained.path), "logits", "--on", "validation"]) == 0
    assert len(trained.rows(OPENINGS)) == before + 1


def test_nothing_but_the_folder_of_pictures_changes(trained: Run) -> None:
    def content() -> dict[str, bytes]:
        return {
            str(file): file.read_bytes()
            for file in sorted(trained.path.rglob("*"))
            if file.is_file() and "inspect" not in file.parts[-2:]
        }

    shutil.rmtree(trained.path / "inspect", ignore_errors=True)
    before = content()
    assert command(["inspect", str(trained.path), "filters"]) == 0
    assert {n: c for n, c in content().items() if "/inspect/" not in n} == before


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["filtres"], 'did you mean "filters"?'),
        (["shapes", "--layer", "conv1"], "takes no --layer. It takes: --size"),
        (["microscope", "--layer", "conv7"], "There are: conv1, conv2"),
        (["microscope", "--unit", "99"], "0 to 31"),
        (["microscope", "--place", "3"], "two whole numbers: 3,4"),
        (["shapes", "--size", "big"], "two whole numbers: 3x4"),
        (["logits", "--index", "100000"], "0 to 499"),
        (["logits", "--image", "none.png"], "No such file"),
        (["logits", "--step", "5"], "It kept: 0, 3, 6"),
        (["logits", "--all"], "either a view or --all"),
    ],
)
def test_a_mistake_is_one_message(
    trained: Run, words: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert command(["inspect", str(trained.path), *words]) == 2
    captured = capsys.readouterr()
    assert message in captured.err
    assert captured.err.startswith("error: ")
    assert "Traceback" not in captured.err
