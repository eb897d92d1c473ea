"""One short real run for all views."""

from __future__ import annotations

from pathlib import Path

import pytest

from pellucid import good, steps, train
from pellucid.plan import Duration
from pellucid.recipe import RecordSpec
from pellucid.runs.folder import Run
from pellucid.views.subject import Subject, of_run


@pytest.fixture(scope="session")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """40 steps on digits: enough for most of them to be right."""
    recipe = good("digits").with_(
        length=steps(40), evaluate=Duration.parse("20 steps"), record=RecordSpec(snapshots=4)
    )
    return train(recipe, tmp_path_factory.mktemp("runs"))


@pytest.fixture
def subject(run: Run) -> Subject:
    return of_run(run, device="cpu")


@pytest.fixture
def drawing(tmp_path: Path) -> Path:
    """A 1, drawn large with dark ink on white."""
    from PIL import Image, ImageDraw

    canvas = Image.new("L", (280, 280), 255)
    ImageDraw.Draw(canvas).line([(160, 40), (120, 240)], fill=0, width=24)
    file = tmp_path / "one.png"
    canvas.save(file)
    return file
