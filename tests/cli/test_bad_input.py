"""Bad input: one clear message, exit code 2, no traceback, nothing left behind."""

from __future__ import annotations

import io
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image

from pellucid.cli.main import run
from pellucid.cli.settings import take_settings

Capture = pytest.CaptureFixture[str]


def refused(capsys: Capture, words: list[str], *texts: str, code: int = 2) -> str:
    """Run `words`, which must fail with `code`, `texts` in its message, and no run folder."""
    assert run(words) == code
    out, err = capsys.readouterr()
    assert out == ""
    assert "Traceback" not in err
    for text in texts:
        assert text in err
    assert not Path("runs").exists()
    return err


def picture(path: Path, shade: int = 0) -> None:
    """Write a small PNG file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (16, 16), (shade, 90, 160)).save(path)


@pytest.fixture
def photos() -> Path:
    """Two classes of six images."""
    for number in range(12):
        picture(Path("photos", ("cat", "dog")[number % 2], f"{number:02}.png"), 20 * number)
    return Path("photos")


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of one finished run of three steps, with a checkpoint after each."""
    runs = tmp_path_factory.mktemp("finished") / "all"
    words = ["train", "--length", "3 steps", "--quiet", "--out", str(runs)]
    assert run([*words, "--record.checkpoint", "1 step", "--record.snapshots", "0"]) == 0
    return next(path for path in runs.iterdir() if not path.is_symlink())


@pytest.fixture
def finished(trained: Path) -> Path:
    """A copy of it, to be damaged."""
    return Path(shutil.copytree(trained, "a run"))


@pytest.fixture
def unfinished(finished: Path) -> Path:
    """A run that was killed before its summary was written."""
    finished.joinpath("summary.json").unlink()
    return finished


def flip(path: Path) -> None:
    """Change one bit in the middle of a file."""
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


@pytest.mark.parametrize(
    ("words", "texts"),
    [
        ("nope", ('no data "nope"', "Known names: cifar10", "image folder", "path,label")),
        ("mnits", ('"mnits"', 'did you mean "mnist"?')),
        ("photos.csv", ('no data "photos.csv"', "CSV file")),
        ("--recipe nope", ("notes, best, fast, good", 'Got "nope"', "FILE.toml")),
        ("--recipe nope.toml", ("There is no recipe file nope.toml",)),
        ("--recipe .", ("recipe",)),
        ("--optimizr.lr 1", ('no setting "optimizr"', 'did you mean "optimizer"?')),
        ("--optimizer.lrr 1", ('no setting "optimizer.lrr"', 'did you mean "lr"?', "betas")),
        ("--augment.crop.pad 1", ('no setting "augment.crop.pad"', "padding")),
        ("--optimizer.name sgdd", ("must be one of sgd", "adamw", 'did you mean "sgd"?')),
        ("--model.name resnt", ("model.name must be one of resnet", 'Got "resnt"')),
        ("--data.name folder", ('"data.path" is missing',)),
        ("--data.name nope", ('no data "nope"', "mnist")),
        ("--schedule.name lineal", ("schedule.name must be one of", 'Got "lineal"')),
        ("--device foo", ("engine.device must be one of auto, cpu", 'Got "foo"')),
        ("--precision fp8", ("engine.precision must be one of fp32", 'Got "fp8"')),
        ("--precision fp16 --device cpu", ("engine.precision fp16 needs a CUDA GPU",)),
        ("--bogus", ("Unknown option", "--bogus")),
        ("mnist digits", ("digits",)),
    ],
)
def test_unknown_names(capsys: Capture, words: str, texts: tuple[str, ...]) -> None:
    refused(capsys, ["train", *words.split()], *texts)


@pytest.mark.parametrize(
    ("words", "texts"),
    [
        ("--optimizer.lr abc", ("optimizer.lr must be a number", 'Got "abc"')),
        ("--optimizer.lr 0", ("optimizer.lr must be a number > 0", 'Got "0"')),
        ("--optimizer.lr -1", ("optimizer.lr must be a number > 0", 'Got "-1"')),
        ("--optimizer.lr nan", ("optimizer.lr must be a number > 0", 'Got "nan"')),
        ("--max-grad-norm 0", ("max_grad_norm must be a number > 0",)),
        ("--max-grad-norm nan", ("max_grad_norm must be a number > 0", 'Got "nan"')),
        ("--batch-size 0", ("batch_size must be a whole number >= 1", 'Got "0"')),
        ("--batch-size 1.5", ("batch_size must be a whole number", 'Got "1.5"')),
        ("--accumulate 0", ("accumulate must be a whole number >= 1",)),
        ("--seed -1", ("seed must be a whole number >= 0", 'Got "-1"')),
        ("--seed x", ("seed must be a whole number", '"x"')),
        ("--epochs 0", ("--epochs must be a number above 0", "0")),
        ("--epochs -1", ("--epochs must be", "-1")),
        ("--epochs x", ("--epochs", '"x"')),
        ("--length 3", ("number and a unit", "steps, epochs", 'got "3"')),
        ("--length -3_steps", ("number and a unit",)),
        ("--length 0steps", ("at least one step",)),
        ("--evaluate often", ("number and a unit", 'got "often"')),
        ("--data.validation 1.5", ("data.validation must be a number < 1.0", 'Got "1.5"')),
        ("--data.validation -0.1", ("data.validation must be a number >= 0", 'Got "-0.1"')),
        ("--data.validation abc", ("data.validation must be a number", 'Got "abc"')),
        ("--augment.crop.padding -1", ("augment.crop.padding", ">= 1", 'Got "-1"')),
        ("--model.name resnet --model.depth 21", ("6 n + 2", "20", "got 21")),
        ("--schedule.name plateau --data.validation 0", ("no validation", "--data.validation")),
    ],
)
def test_values_out_of_range(capsys: Capture, words: str, texts: tuple[str, ...]) -> None:
    refused(capsys, ["train", *words.split()], *texts)


def test_a_setting_where_none_is_taken(capsys: Capture) -> None:
    refused(capsys, ["evaluate", "latest", "--optimizer.lr", "1"], "takes no settings")


@pytest.mark.parametrize(
    ("content", "texts"),
    [
        ("x = [", ("is not a TOML file",)),
        ("\udcff", ("is not a TOML file",)),
        ("foo = 1", ('There is no setting "foo"', "mine.toml", "batch_size")),
        ("format = 9", ("mine.toml has format 9", "reads format 1")),
        ("[optimizer]\nlr = true", ("optimizer.lr must be a number",)),
        ("[optimizer]\nname = 'sgdd'", ("optimizer.name must be one of", 'did you mean "sgd"?')),
        ("[data]\nname = 'mnits'", ('"mnits"', 'did you mean "mnist"?')),
    ],
)
def test_recipe_files(capsys: Capture, content: str, texts: tuple[str, ...]) -> None:
    Path("mine.toml").write_bytes(content.encode(errors="surrogateescape"))
    refused(capsys, ["train", "--recipe", "mine.toml"], *texts)


def test_a_recipe_file_may_be_partial(capsys: Capture) -> None:
    Path("mine.toml").write_text("[optimizer]\nlr = 0.02\n")
    assert run(["recipes", "show", "mine.toml"]) == 0
    out = capsys.readouterr().out
    assert "lr = 0.02" in out
    assert 'length = "10 epochs"' in out


def test_an_empty_folder(capsys: Capture) -> None:
    Path("photos").mkdir()
    refused(capsys, ["train", "photos"], "no class folders", "photos", "train/<class>/*")


def test_one_class(capsys: Capture) -> None:
    picture(Path("photos/cat/1.png"))
    refused(capsys, ["train", "photos"], "at least two classes", '"cat" with 1 image')


def test_an_empty_class(capsys: Capture, photos: Path) -> None:
    photos.joinpath("emu").mkdir()
    refused(capsys, ["train", "photos"], 'The class "emu"', "is empty", "Add images")


def test_a_class_of_one_image(capsys: Capture, photos: Path) -> None:
    picture(photos / "emu/1.png")
    refused(capsys, ["train", "photos"], 'The class "emu"', "at least two")


def test_a_class_that_is_in_one_part_only(capsys: Capture, photos: Path) -> None:
    shutil.copytree(photos, "parts/train")
    shutil.copytree(photos, "parts/test")
    picture(Path("parts/test/emu/1.png"))
    refused(capsys, ["train", "parts"], 'The class "emu"', "0 in train, 1 in test")


def test_images_without_a_class_folder(capsys: Capture) -> None:
    picture(Path("photos/1.png"))
    refused(capsys, ["train", "photos"], "no class folders")


def spoil(photos: Path) -> None:
    """Truncate one image, empty another, put text in the place of a third."""
    first = photos / "cat/00.png"
    first.write_bytes(first.read_bytes()[:-30])
    photos.joinpath("cat/02.png").write_bytes(b"")
    photos.joinpath("dog/01.png").write_text("no image")


def test_unreadable_images_are_named(capsys: Capture, photos: Path) -> None:
    spoil(photos)
    texts = ("3 of 12 files", "cat/00.png: ", "cat/02.png: the file is empty", "dog/01.png: not an")
    refused(capsys, ["train", "photos"], *texts, "--data.skip-unreadable")


def test_unreadable_images_are_skipped_when_told(capsys: Capture, photos: Path) -> None:
    spoil(photos)
    assert run(["train", "photos", "--dry-run", "--data.skip-unreadable"]) == 0
    assert "3 " in capsys.readouterr().out.partition("# note: ")[2]


@pytest.mark.parametrize(
    ("content", "texts"),
    [
        ("", ("line 1", 'one column "path"', "Got nothing", "path,label,split")),
        ("path,class\n", ("line 1", 'one column "label"', "Got path, class")),
        ("path,label,label\n", ('one column "label"', "path, label, label")),
        ("path,label\n", ("no images",)),
        ("path,label\nphotos/cat/00.png,\n", ("line 2", "the label is empty")),
        ("path,label\n,cat\n", ("line 2", "the path is empty")),
        ("path,label\na.png,cat,3\n", ("line 2", "3 cells under 2 columns", "quotes")),
        ("path,label,split\na.png,cat,trian\n", ("line 2", 'did you mean "train"?')),
        ('path,label\n"a.png,cat\n', ("line 2",)),
        ("path,label\na.png,caf\udce9\n", ("not UTF-8", "Save it as UTF-8")),
        (
            "path,label\nphotos/cat/00.png,cat\nlost.png,dog\n",
            ("1 of 2 images", "line 3: lost.png", "--data.images-root"),
        ),
        (
            "path,label\nphotos/cat/00.png,cat\nphotos/cat/00.png,dog\n",
            ("is cat (train) in line 2", "dog (train) in line 3"),
        ),
        (
            "path,label,split\nphotos/cat/00.png,cat,test\nphotos/dog/01.png,dog,test\n",
            ("missing in a part", "1 in test"),
        ),
    ],
)
def test_tables(capsys: Capture, photos: Path, content: str, texts: tuple[str, ...]) -> None:
    Path("list.csv").write_bytes(content.encode(errors="surrogateescape"))
    refused(capsys, ["train", "list.csv"], "list.csv", *texts)


def test_no_network_and_no_data(capsys: Capture, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PELLUCID_OFFLINE", "1")
    monkeypatch.delenv("PELLUCID_DATA", raising=False)
    refused(capsys, ["train", "mnist"], "PELLUCID_OFFLINE", "PELLUCID_DATA", "--data.root")


def test_the_folder_of_runs_is_a_file(capsys: Capture) -> None:
    Path("taken").write_text("")
    refused(capsys, ["train", "--out", "taken"], "cannot be made", "taken")


@pytest.mark.parametrize("words", ["resume nope", "evaluate nope", "predict nope x", "runs show n"])
def test_no_such_run(capsys: Capture, words: str) -> None:
    Path("x").write_text("")
    refused(capsys, words.split(), 'There is no run "n', "pellucid runs list", "latest")


@pytest.mark.parametrize("words", ["resume latest", "evaluate latest", "runs rm latest"])
def test_no_run_yet(capsys: Capture, words: str) -> None:
    refused(capsys, words.split(), "There is no run in runs yet", "pellucid train")


def test_a_folder_that_is_no_run(capsys: Capture) -> None:
    Path("other").mkdir()
    refused(capsys, ["resume", "other"], "other is not a run", "recipe.toml")


def test_rm_asks_first(capsys: Capture, finished: Path) -> None:
    assert run(["runs", "rm", str(finished)]) == 2
    assert "--yes" in capsys.readouterr().out
    assert finished.is_dir()


def test_predict_needs_images(capsys: Capture, finished: Path) -> None:
    Path("empty").mkdir()
    Path("text.png").write_text("no image")
    refused(capsys, ["predict", str(finished)], "Name at least one image")
    refused(capsys, ["predict", str(finished), "lost.png"], "no file or folder lost.png")
    refused(capsys, ["predict", str(finished), "empty"], "empty holds no image", "*.png")
    refused(capsys, ["predict", str(finished), "text.png"], "1 file is no image", "text.png: not")


def test_evaluate_on_data_that_does_not_fit(capsys: Capture, finished: Path, photos: Path) -> None:
    refused(capsys, ["evaluate", str(finished), "--on", "mnits"], 'no data "mnits"')
    refused(
        capsys, ["evaluate", str(finished), "--on", "photos"],
        "does not know the classes cat, dog", "It knows 0, 1",
    )  # fmt: skip


def test_a_recipe_that_was_edited_is_shown(capsys: Capture, unfinished: Path) -> None:
    file = unfinished / "recipe.toml"
    before = file.read_text()
    file.write_text(before.replace("lr = 0.003", "lr = 0.01"))
    texts = ("optimizer.lr: 0.003 -> 0.01", "Undo the change in recipe.toml")
    refused(capsys, ["resume", str(unfinished)], *texts)
    file.write_text("x = [")
    refused(capsys, ["resume", str(unfinished)], "recipe.toml is not a TOML file")


def test_rows_that_were_lost(capsys: Capture, unfinished: Path) -> None:
    metrics = unfinished / "metrics.jsonl"
    metrics.write_bytes(metrics.read_bytes()[:5])
    refused(capsys, ["resume", str(unfinished)], "is shorter (5 bytes)", "Restore the file")
    assert metrics.stat().st_size == 5


def test_a_missing_and_a_damaged_environment(capsys: Capture, unfinished: Path) -> None:
    file = unfinished / "environment.json"
    file.write_text("{")
    refused(capsys, ["resume", str(unfinished)], "environment.json is damaged")
    file.unlink()
    refused(capsys, ["resume", str(unfinished)], "environment.json is missing")


def test_data_that_changed(capsys: Capture, unfinished: Path) -> None:
    file = unfinished / "environment.json"
    text = file.read_text()
    digest = text.partition('"data_digest": "')[2][:16]
    file.write_text(text.replace(digest, "0123456789abcdef"))
    texts = ("has changed since", "0123456789abcdef", digest, "Restore it")
    refused(capsys, ["resume", str(unfinished)], *texts)
    refused(capsys, ["evaluate", str(unfinished)], "has changed since")


@pytest.mark.parametrize(
    "name", ["model.safetensors", "optimizer.safetensors", "state.json", "manifest.json"]
)
def test_a_flipped_bit_falls_back_and_says_so(capsys: Capture, finished: Path, name: str) -> None:
    newest = sorted(finished.joinpath("checkpoints").iterdir())[-1]
    flip(newest / name)
    assert run(["evaluate", str(finished)]) == 0
    out, err = capsys.readouterr()
    assert "warning: " in err
    assert f"{newest.name}/{name} is damaged" in err.replace("\\", "/")
    assert "checkpoint: after step 2" in out


def test_no_good_checkpoint_at_all(capsys: Capture, finished: Path) -> None:
    for file in finished.glob("checkpoints/*/manifest.json"):
        flip(file)
    err = refused(capsys, ["evaluate", str(finished)], "holds no good checkpoint")
    assert err.count("is damaged") == 2
    Path("x.png").write_bytes(b"")
    refused(capsys, ["predict", str(finished), "x.png"], "holds no good checkpoint")


def test_a_loss_that_is_no_number_stops_the_run(capsys: Capture) -> None:
    words = "train --optimizer.name sgd --optimizer.lr 1e6 --record.checkpoint 1step --quiet"
    assert run(words.split()) == 1
    out, err = capsys.readouterr()
    assert out == ""
    assert "Traceback" not in err
    for text in ("gave loss", "not a finite number", "Its batch: 128 images", "too high"):
        assert text in err
    assert list(Path("runs").glob("2*/checkpoints/step-00000001"))


def test_no_validation_part_is_no_mistake(capsys: Capture) -> None:
    words = ["train", "--length", "2 steps", "--data.validation", "0", "--quiet"]
    assert run(words) == 0
    out = capsys.readouterr().out
    assert "after step 2" in out
    assert "validation accuracy" not in out


def test_names_of_classes_are_only_text(capsys: Capture) -> None:
    for name in ("a b", "naïve 猫", "=cmd|'x'!A1", 'qu"o, te', "x" * 200):
        if sys.platform != "win32" or name.isalnum():
            for number in range(3):
                picture(Path("odd", name, f"{number}.png"), 70 * number)
    picture(Path("odd/b/1.png"))
    picture(Path("odd/b/2.png"))
    assert run(["data", "show", "odd"]) == 0
    out = capsys.readouterr().out
    assert "x" * 200 in out


def test_a_negative_number_is_a_value_of_a_setting() -> None:
    assert take_settings(["--optimizer.lr", "-1"]) == ({"optimizer": {"lr": "-1"}}, [])


@pytest.mark.parametrize(
    ("words", "text"),
    [
        ("--seed 1.7", "whole number"),
        ("--epochs 2.5.1", "--epochs must be a number above 0"),
        ("--optimizer.lr inf", "optimizer.lr must be a number"),
        ("--optimizer.lr", "needs a value"),
    ],
)
def test_more_values(capsys: Capture, words: str, text: str) -> None:
    refused(capsys, ["train", *words.split()], text)


def test_an_empty_name_is_not_the_current_folder(capsys: Capture) -> None:
    refused(capsys, ["train", "", "--dry-run"], "no data")


def test_files_whose_data_is_wrong(capsys: Capture) -> None:
    Path("m.toml").write_text("data = 3\n")
    refused(capsys, ["train", "--recipe", "m.toml"], "data is a table")
    Path("m.toml").write_text("[data]\nname = 'folder'\n")
    refused(capsys, ["train", "--recipe", "m.toml"], '"data.path" is missing')


def test_environment_without_facts(capsys: Capture, unfinished: Path) -> None:
    (unfinished / "environment.json").write_text("{}")
    refused(capsys, ["resume", str(unfinished)], "environment.json")


def test_a_garbage_row(capsys: Capture, finished: Path) -> None:
    with (finished / "metrics.jsonl").open("a") as file:
        file.write("garbage\n")
    refused(capsys, ["runs", "show", str(finished)], "metrics.jsonl, line")


@pytest.mark.parametrize("text", ["{", "{}"])
def test_one_bad_run_does_not_hide_the_others(capsys: Capture, finished: Path, text: str) -> None:
    (finished / "summary.json").write_text(text)
    assert run(["runs", "list", "--out", str(finished.parent)]) == 0
    assert "damaged" in capsys.readouterr().out


def test_resume_without_a_good_checkpoint_touches_nothing(
    capsys: Capture, unfinished: Path
) -> None:
    for file in unfinished.glob("checkpoints/*/model.safetensors"):
        flip(file)
    before = (unfinished / "metrics.jsonl").read_bytes()
    refused(capsys, ["resume", str(unfinished)], "checkpoint")
    assert (unfinished / "metrics.jsonl").read_bytes() == before


def test_predict_says_that_it_falls_back(capsys: Capture, finished: Path) -> None:
    flip(sorted((finished / "checkpoints").iterdir())[-1] / "model.safetensors")
    picture(Path("a.png"))
    assert run(["predict", str(finished), "a.png"]) == 0
    assert "is damaged" in capsys.readouterr().err


def test_a_folder_named_like_an_image(finished: Path) -> None:
    picture(Path("g/a.png"))
    Path("g/b.png").mkdir()
    assert run(["predict", str(finished), "g"]) == 0


def test_a_closed_stderr_does_not_end_training(monkeypatch: pytest.MonkeyPatch) -> None:
    class Closed(io.StringIO):
        def write(self, text: str) -> int:
            raise BrokenPipeError

    monkeypatch.setattr(sys, "stderr", Closed())
    assert run(["train", "--length", "2 steps"]) == 0
    assert list(Path("runs").glob("2*/summary.json"))


def test_help_into_a_closed_pipe_is_silent() -> None:
    done = subprocess.run(
        f"{sys.executable} -m pellucid --help | true",
        shell=True, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.stderr == ""
