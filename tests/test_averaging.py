"""The mean over several views: against the same views made by hand."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from pellucid import good, load, steps, train
from pellucid.averaging import Averaged
from pellucid.cli.main import run as command
from pellucid.errors import BadRecipe
from pellucid.report.opened import splits_of

EACH = {"one": 1, "flip": 2, "shift": 5, "flip-shift": 10}


class Kept(nn.Module):
    """Keeps what it is given."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: list[torch.Tensor] = []

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        self.seen.append(images)
        return images.flatten(1)


@pytest.mark.parametrize("views", EACH)
def test_the_views_are_those_that_numpy_makes(views: str) -> None:
    kept = Kept()
    x = torch.randn(3, 2, 5, 7, generator=torch.Generator().manual_seed(0))
    mean = Averaged(kept, views)(x)
    padded = np.pad(x.numpy(), ((0, 0), (0, 0), (1, 1), (1, 1)), mode="edge")
    moves = [(1, 1), (1, 0), (1, 2), (0, 1), (2, 1)] if "shift" in views else [(1, 1)]
    wanted = {padded[:, :, top : top + 5, left : left + 7].tobytes() for top, left in moves}
    if "flip" in views:
        mirror = padded[..., ::-1]
        wanted |= {mirror[:, :, t : t + 5, left : left + 7].tobytes() for t, left in moves}
    assert {seen.numpy().tobytes() for seen in kept.seen} == wanted
    assert len(kept.seen) == EACH[views]
    assert torch.allclose(mean, torch.stack([s.flatten(1) for s in kept.seen]).mean(0))


def test_views_that_there_are_not_are_refused() -> None:
    with pytest.raises(BadRecipe, match=r"one, flip, shift, flip-shift\. Got \"shifts\""):
        Averaged(nn.Flatten(), "shifts")


def test_evaluate_keeps_them_apart(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = train(good("digits").with_(length=steps(20)), tmp_path)
    before = (run.path / "evaluation/validation.json").read_bytes()
    assert command(["evaluate", str(run.path), "--views", "shift", "--json"]) == 0
    result = json.loads(capsys.readouterr().out)
    assert (result["part"], result["views"]) == ("validation-shift", "shift")
    assert (run.path / "evaluation/validation.json").read_bytes() == before
    model = load(run.path)
    rows = np.genfromtxt(
        run.path / "predictions/validation-shift.csv", delimiter=",", names=True, dtype=None,
        encoding="utf-8",
    )  # fmt: skip
    data = splits_of(run).validation
    pixels = model._prepare(data.images[data.rows])
    with torch.inference_mode():
        logits = Averaged(model.network, "shift")(pixels)
    assert [str(label) for label in rows["prediction"]] == [
        model.classes[i] for i in logits.argmax(1)
    ]
    assert result["temperature"]["fitted_on"] == "validation-shift"
