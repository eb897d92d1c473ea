"""`pellucid data preview`: the picture shows what training sees, and says what was drawn."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from pellucid import good, notes
from pellucid.augment.erasing import Erase
from pellucid.augment.geometry import Crop, Flip, Rotate
from pellucid.augment.mixing import CutMix, MixUp
from pellucid.augment.pipeline import AugmentSpec
from pellucid.cli.main import run
from pellucid.cli.preview import demo, spread
from pellucid.data.digits import Digits
from pellucid.figures.augmentation import augmentation
from pellucid.recipe import Recipe
from pellucid.sinks.console import Console
from pellucid.values import ImageSet
from tests.augment.samples import everything

Capture = pytest.CaptureFixture[str]


def shown(recipe: Recipe, rows: int = 6, draws: int = 2) -> tuple[list[list[Any]], Any, Any]:
    """Return the pixels of each axis of the picture, its figure and the facts."""
    figure, facts = demo(recipe, rows, draws, Console(None))
    images = [np.asarray(axis.get_images()[0].get_array()) for axis in figure.axes]
    table = [images[i : i + rows] for i in range(0, len(images), rows)]
    return table, figure, facts


def test_the_picture_shows_the_images_and_their_draws() -> None:
    table, _, _ = shown(notes("digits").with_(augment=AugmentSpec(flip=Flip(p=1))))
    assert len(table) == 3
    for original, *draws in zip(*table, strict=True):
        for draw in draws:
            assert np.array_equal(draw, original[:, ::-1])


def test_each_draw_is_another_and_its_words_say_it() -> None:
    spec = AugmentSpec(crop=Crop(padding=2))
    table, figure, facts = shown(good("digits").with_(augment=spec, seed=4), draws=3)
    texts = [axis.get_xlabel().replace("\u00a0", " ") for axis in figure.axes[6:]]
    for step in range(3):
        for i in range(6):
            top, left = facts["images"][i]["draws"][step]["crop"]
            right, down = 2 - left, 2 - top
            words = facts["images"][i]["draws"][step]["words"]
            assert words == (f"crop {right:+d},{down:+d}" if right or down else "unchanged")
            assert texts[6 * step + i] == words
            padded = np.pad(table[0][i], 2)[top : top + 28, left : left + 28]
            assert np.array_equal(table[1 + step][i], padded)
    assert len({str(image["draws"][step]) for image in facts["images"] for step in range(3)}) > 6


def test_what_was_drawn_is_what_training_draws() -> None:
    recipe = good("digits").with_(augment=everything(1), seed=2)
    _, _, facts = shown(recipe, rows=5, draws=3)
    assert isinstance(recipe.augment, AugmentSpec)
    for step in range(3):
        drawn = recipe.augment.draws(2, step, 5, (1, 28, 28))
        for i, image in enumerate(facts["images"]):
            for name, draw in drawn.items():
                assert image["draws"][step][name] == draw[i].tolist()


def test_a_mixture_says_of_what() -> None:
    spec = AugmentSpec(mixup=MixUp(alpha=1), cutmix=CutMix(p=0))
    _, _, facts = shown(good("digits").with_(augment=spec))
    for i, image in enumerate(facts["images"]):
        other = facts["images"][i ^ 1]["label"]
        for draw in image["draws"]:
            assert draw["words"].startswith(f"mixup {draw['mixup']:.2f}, label ")
            assert f"{draw['mixup']:.0%} {image['label']}" in draw["words"]
            assert f"{1 - draw['mixup']:.0%} {other}" in draw["words"]


def test_the_command_writes_a_png_and_prints_its_path(capsys: Capture) -> None:
    words = ["data", "preview", "--augment.rotate.degrees", "30", "--rows", "3", "--draws", "2"]
    assert run(words) == 0
    out = capsys.readouterr().out
    assert out == "data_augmentation_demo.png\n"
    with Image.open("data_augmentation_demo.png") as picture:
        assert picture.format == "PNG"
        pixels = np.asarray(picture.convert("L"))
    assert 500 < pixels.shape[1] < pixels.shape[0]
    edges = (pixels[0], pixels[-1], pixels[:, 0], pixels[:, -1])
    assert all(edge.min() == 255 for edge in edges)  # nothing is cut off
    assert {path.name for path in Path().iterdir()} == {"data_augmentation_demo.png"}


def test_the_settings_are_those_of_training(capsys: Capture) -> None:
    words = ["data", "preview", "digits", "--augment.flip", "on", "--augment.crop", "off", "--json"]
    words += ["--augment.rotate.degrees", "30", "--seed", "3", "--draws", "1", "--out", "a/b.png"]
    assert run(words) == 0
    facts = json.loads(capsys.readouterr().out)
    assert Path(facts["path"]) == Path("a/b.png")
    assert Path("a/b.png").is_file()
    assert (facts["data"], facts["seed"]) == ("digits", 3)
    assert facts["augment"] == {"flip": {"p": 0.5, "alternate": False}, "rotate": {"degrees": 30.0}}
    assert len(facts["images"]) == 6
    assert [image["label"] for image in facts["images"]] == list("012345")
    assert all(set(image["draws"][0]) == {"words", "flip", "rotate"} for image in facts["images"])
    spec = AugmentSpec(flip=Flip(), rotate=Rotate(degrees=30))
    drawn = spec.draws(3, 0, 6, (1, 28, 28))["rotate"].tolist()
    assert [image["draws"][0]["rotate"] for image in facts["images"]] == drawn


def test_a_folder_gets_the_usual_name(capsys: Capture) -> None:
    Path("pictures").mkdir()
    assert run(["data", "preview", "--rows", "1", "--draws", "1", "--out", "pictures"]) == 0
    assert Path(capsys.readouterr().out.strip()) == Path("pictures/data_augmentation_demo.png")


@pytest.mark.parametrize(
    ("words", "texts"),
    [
        ("--recipe notes", ("no augmentation", "--augment.flip on", "cutmix")),
        ("--augment.crop off", ("no augmentation",)),
        ("--rows 0", ("--rows must be a whole number from 1 to 16. Got 0",)),
        ("--draws 17", ("--draws must be a whole number from 1 to 16. Got 17",)),
        ("--rows many", ("many",)),
        ("--augment.hue on", ("augment.hue changes colours", "grey", "--augment.hue off")),
        ("--augment.rotate.degrees 200", ("augment.rotate.degrees", "<= 180", 'Got "200"')),
        ("--augment.rotat on", ('no setting "augment.rotat"', 'did you mean "rotate"?')),
        ("nope", ('no data "nope"',)),
    ],
)
def test_mistakes_are_one_message(words: str, texts: tuple[str, ...], capsys: Capture) -> None:
    assert run(["data", "preview", *words.split()]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert "Traceback" not in err
    for text in texts:
        assert text in err
    assert list(Path().iterdir()) == []


ON = [word for name in AugmentSpec.__struct_fields__ for word in (f"--augment.{name}", "on")]


def colours(path: str) -> int:
    with Image.open(path) as picture:
        return len(np.unique(np.asarray(picture.convert("RGB")).reshape(-1, 3), axis=0))


def test_colour_images_from_a_folder(photos: Tensor, capsys: Capture) -> None:
    for number, image in enumerate(photos[:24]):
        path = Path("photos", ("china", "flower")[number % 2], f"{number:02}.png")
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(image.permute(1, 2, 0).numpy()).save(path)
    assert run(["data", "preview", "photos", *ON, "--rows", "4", "--draws", "1", "--json"]) == 0
    facts = json.loads(capsys.readouterr().out)
    assert [image["label"] for image in facts["images"]] == ["china", "flower"] * 2
    assert list(facts["augment"]) == list(AugmentSpec.__struct_fields__)
    assert colours(facts["path"]) > 1000


@pytest.mark.slow
def test_colour_images_from_the_big_sets(sets: Path, capsys: Capture) -> None:
    words = ["data", "preview", "cifar10", "--data.root", str(sets), "--rows", "10", "--draws", "1"]
    assert run([*words, *ON, "--json"]) == 0
    facts = json.loads(capsys.readouterr().out)
    assert len({image["label"] for image in facts["images"]}) == 10
    assert colours(facts["path"]) > 3000


def test_what_was_erased_is_the_mean_in_the_picture() -> None:
    table, _, facts = shown(good("digits").with_(augment=AugmentSpec(erase=Erase(p=1))), draws=1)
    for i, image in enumerate(facts["images"]):
        top, left, bottom, right = image["draws"][0]["erase"]
        values = set(table[1][i][top:bottom, left:right].flatten().tolist())
        assert len(values) == 1
        assert 25 < values.pop() < 45  # the mean of digits is 33 of 255


def test_one_image_of_each_class_comes_first() -> None:
    train = Digits().load().train
    assert train.label(spread(train, 12)).tolist() == [*range(10), 0, 1]
    few = ImageSet.of(torch.zeros(3, 1, 4, 4).byte(), torch.tensor([1, 1, 0]), ("a", "b"), "few")
    assert spread(few, 6).tolist() == [2, 0, 1]


def test_texts_are_cut_between_their_parts(photos: Tensor) -> None:
    text = "flip, crop +3,-2, rot -12.3, bright 1.02, contrast 0.93, hue -0.053, erase 18x11"
    figure = augmentation(
        photos[:1], [photos[1:2]], ["a rather long name of a class"], [[text]], "t"
    )
    lines = figure.axes[1].get_xlabel().split("\n")
    assert all(len(line) <= 32 for line in lines)
    assert " ".join(lines).replace("\u00a0", " ") == text
    assert all(line.endswith(",") for line in lines[:-1])
    assert figure.axes[1].get_images()[0].get_interpolation() == "nearest"


def test_grey_values_are_shown_as_they_are(digits: Tensor) -> None:
    """A dim image stays dim: 0 is black and 255 white, whatever it holds."""
    dim = digits[:1] // 4 + 20
    figure = augmentation(dim, [dim], ["a"], [["x"]], "t")
    assert [axis.get_images()[0].get_clim() for axis in figure.axes] == [(0, 255)] * 2
