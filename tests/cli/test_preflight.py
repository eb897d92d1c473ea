"""`pellucid preflight` and `pellucid recipes plot`."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from pellucid import Engine, good, notes
from pellucid.assemble import assemble
from pellucid.cli.main import run
from pellucid.cli.preflight import recipe_in_place_of_data
from pellucid.cli.recipe_plot import planned
from pellucid.cli.resolve import Options, resolve
from pellucid.data.digits import Digits
from pellucid.figures.schedule import schedule_figure

Capture = pytest.CaptureFixture[str]
SMALL = ["--model.name", "mlp", "--model.hidden", "20,20"]
LOW = ["--optimizer.name", "sgd", "--optimizer.lr", "1e-7"]


def asked(capsys: Capture, *words: str, code: int = 0) -> dict[str, Any]:
    assert run([*words, "--json"]) == code
    found: dict[str, Any] = json.loads(capsys.readouterr().out)
    return found


def test_a_sound_recipe(capsys: Capture) -> None:
    assert run(["preflight", *SMALL]) == 0
    out, err = capsys.readouterr()
    lines = out.splitlines()
    assert lines[0].split() == ["ok", "labels", "all", "of", "6,000", "inside"]
    assert lines[1].strip() == "expected: whole numbers from 0 to 9"
    assert "17 checks: 17 ok, 0 warning, 0 failed" in out
    assert "to do:" not in out
    assert "MiB at most, so far" in out
    assert max(map(len, lines)) <= 80
    assert "device: cpu" in err
    assert list(Path().iterdir()) == []


def test_a_check_that_failed_ends_with_1(capsys: Capture) -> None:
    assert run(["preflight", *SMALL, *LOW, "--quiet"]) == 1
    out, err = capsys.readouterr()
    assert err == ""
    assert "failed   shuffled labels" in out
    assert "warning  one batch by heart" in out
    assert "to do: 60 steps with right labels taught nothing" in " ".join(out.split())
    assert "1 warning, 1 failed" in out


def test_for_machines(capsys: Capture) -> None:
    facts = asked(capsys, "preflight", *SMALL, *LOW, "--quiet", "--out", "a/b", code=1)
    assert facts["verdict"] == "failed"
    assert facts["files"] == ["a/b/preflight.json"]
    check = next(c for c in facts["checks"] if c["name"] == "shuffled labels")
    assert set(check) == {"name", "verdict", "measured", "expected", "advice"}
    kept = json.loads(Path("a/b/preflight.json").read_text(encoding="utf-8"))
    assert kept["checks"] == facts["checks"]


def test_a_recipe_in_the_place_of_data(capsys: Capture) -> None:
    text = '[model]\nname = "mlp"\nhidden = [9]\n[data]\nname = "digits"\n'
    Path("mine.toml").write_text(text, encoding="utf-8")
    facts = asked(capsys, "preflight", "mine.toml", "--quiet")
    numbers = "7,165 in 4 tensors"  # 784 x 9 + 9 + 9 x 10 + 10
    assert numbers in [check["measured"] for check in facts["checks"]]


def test_which_word_is_a_recipe() -> None:
    assert recipe_in_place_of_data("notes", "good") == (None, "notes")
    assert recipe_in_place_of_data("mnist", "notes") == ("mnist", "notes")
    assert recipe_in_place_of_data(None, "notes") == (None, "notes")
    assert recipe_in_place_of_data("a.toml", "b.toml") == ("a.toml", "b.toml")
    Path("notes").mkdir()  # a folder of images
    assert recipe_in_place_of_data("notes", "good") == ("notes", "good")


def test_the_range_test(capsys: Capture) -> None:
    words = ["preflight", *SMALL, *LOW, "--lr-range", "--quiet"]
    assert run(words) == 1
    out = capsys.readouterr().out
    picture = Path("preflight/lr_range.png")
    assert f"wrote {picture}" in out
    with Image.open(picture) as image:
        assert image.size == (960, 600)
    facts = json.loads(Path("preflight/preflight.json").read_text(encoding="utf-8"))
    found = facts["lr_range"]
    assert f"--optimizer.lr {found['proposal']:g}" in out
    assert f"largest before it swings  {found['edge']:.2g}" in out
    assert f"steepest descent          {found['steepest']:.2g}" in out
    assert found["configured"] == 1e-7
    assert 0.001 < found["proposal"] < 1
    assert len(found["rates"]) == len(found["losses"]) == len(found["smoothed"])


@pytest.mark.parametrize(
    ("words", "text"),
    [
        (["preflight", "nope"], 'There is no data "nope"'),
        (["preflight", "nope.toml"], "There is no recipe file nope.toml"),
        (["preflight", "--optimizer.lr", "-1"], "optimizer.lr must be a number"),
        (["preflight", "--epochs", "0"], "--epochs"),
        (["recipes", "plot", "good", "nope"], 'There is no data "nope"'),
        (["recipes", "plot", "good", "--out", "x.pdf"], "FILE.png"),
        (["recipes", "plot", "good", "--images", "0"], "--images must be at least 1"),
        (["recipes", "plot", "--length", "0 steps"], "length must be at least one step"),
        (
            ["recipes", "plot", "--schedule.name", "step", "--schedule.epochs", "99"],
            "after epoch 99",
        ),
    ],
)
def test_mistakes(capsys: Capture, words: list[str], text: str) -> None:
    assert run(words) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert text in err
    assert list(Path().iterdir()) == []


def test_a_schedule_is_drawn_as_the_run_will_have_it(capsys: Capture) -> None:
    for name, recipe in (("good", good("digits")), ("notes", notes("digits"))):
        facts = asked(capsys, "recipes", "plot", name, "digits", "--out", "a.png")
        task = assemble(recipe, Engine.start(recipe.engine)).task
        assert (facts["steps"], facts["steps_per_epoch"]) == (
            task.plan.steps,
            task.plan.steps_per_epoch,
        )
        assert facts["points"] == [[s, task.schedule(s)] for s in range(task.plan.steps)]
        with Image.open("a.png") as image:
            assert image.size == (1080, 720)


def test_sizes_are_known_without_the_images(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PELLUCID_OFFLINE", "1")
    monkeypatch.delenv("PELLUCID_DATA", raising=False)
    for data, per_epoch in (
        ("mnist", 422), ("fashion-mnist", 422), ("cifar10", 352), ("cifar100", 352)
    ):  # fmt: skip
        assert planned(good(data), None)["steps_per_epoch"] == per_epoch
    fifth = resolve("mnist", Options(settings={"data": {"validation": "0.2"}}))
    assert planned(fifth, None)["steps_per_epoch"] == 375
    assert planned(good("mnist"), 1000)["steps_per_epoch"] == 8


def test_a_folder_is_counted(capsys: Capture) -> None:
    data = Digits().load().train
    for number in range(40):
        place = Path("photos", str(number % 2))
        place.mkdir(parents=True, exist_ok=True)
        Image.fromarray(data.images[number, 0].numpy()).save(place / f"{number}.png")
    facts = asked(capsys, "recipes", "plot", "good", "photos", "--batch-size", "4")
    recipe_steps = facts["steps_per_epoch"]
    assert run(["train", "photos", "--batch-size", "4", "--dry-run", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["plan"]["steps_per_epoch"] == recipe_steps


def test_what_a_plateau_will_do_is_not_drawn(capsys: Capture) -> None:
    words = ["recipes", "plot", "good", "--schedule.name", "plateau"]
    assert run(words) == 0
    out = capsys.readouterr().out
    assert "note: cut when validation stops getting better" in out
    assert "wrote schedule.png" in out
    assert {lr for _, lr in asked(capsys, *words)["points"]} == {0.003}


def test_a_long_run_is_thinned_out_but_not_its_end(capsys: Capture) -> None:
    facts = asked(capsys, "recipes", "plot", "good", "mnist", "--length", "100 epochs")
    steps = [step for step, _ in facts["points"]]
    assert len(steps) <= 4001
    assert (steps[0], steps[-1]) == (0, facts["steps"] - 1)


def test_the_picture_of_a_schedule() -> None:
    points = [(step, 0.1 * min(1.0, (step + 1) / 10) * 0.5 ** (step // 50)) for step in range(100)]
    figure = schedule_figure(points, 100, 20, "a title", "a note")
    linear, log = figure.axes[:2]
    assert (linear.get_yscale(), log.get_yscale()) == ("linear", "log")
    (line,) = linear.get_lines()
    assert [float(x) for x in line.get_xdata()] == [step / 20 for step in range(100)]
    assert [float(y) for y in line.get_ydata()] == [lr for _, lr in points]
    assert math.isclose(linear.get_xlim()[1], 5.0)
    labels = [text.get_text() for text in linear.get_legend().get_texts()]
    assert labels == ["rises for 9 steps (0.45 epochs)", "at most 0.1"]
    assert figure.get_suptitle() == "a title\na note"
