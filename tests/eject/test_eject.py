"""Scripts that run without pellucid and end with the run's weights, bit for bit."""

from __future__ import annotations

import ast
import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.numpy
from torch import nn

from pellucid import Recipe, resume, steps, train
from pellucid.augment.pipeline import AugmentSpec
from pellucid.catalogue import names, spec
from pellucid.cli.main import run as command_line
from pellucid.data.digits import Digits
from pellucid.data.known import Cifar10
from pellucid.eject import CannotEject, check, eject
from pellucid.eject.collect import Collector
from pellucid.eject.facts import PARTS, SETTINGS, check_parts, facts
from pellucid.eject.sources import data_text
from pellucid.engine import EngineSpec
from pellucid.errors import BadRun, DataChanged, RecipeMismatch
from pellucid.models.mlp import MLPSpec
from pellucid.optim.specs import SGD
from pellucid.recipe import EMASpec
from pellucid.runs.folder import Run
from tests.conftest import FewDigits
from tests.eject.recipes import RECIPES, plain, small_sets

PYTHON = "arrays of a source from Python"
TABLE = "muon, early stop, on a table"
SMALL = "adagrad, exponential, one sampling of all maps, weights by hand"

DRIVER = """
import contextlib, io, json, os, runpy, sys

printed = {}
for folder in json.load(sys.stdin):
    os.chdir(folder)
    sys.argv = ["train.py"]
    with contextlib.redirect_stdout(io.StringIO()) as text:
        runpy.run_path("train.py", run_name="__main__")
    printed[folder] = text.getvalue()
assert "pellucid" not in sys.modules
print(json.dumps(printed))
"""
"""Runs scripts one after the other in one fresh process: loading PyTorch takes longer than they."""


@dataclass(frozen=True)
class Ejected:
    """A run, its script, and what the script left in its folder."""

    run: Run
    recipe: Recipe
    script: str
    folder: Path

    def weights(self) -> dict[str, np.ndarray]:
        with np.load(self.folder / "weights.npz", allow_pickle=False) as found:
            return dict(found)


def run_alone(folders: list[Path], poison: Path) -> dict[str, str]:
    """Run `train.py` in each of `folders` where `import pellucid` fails; return what is printed."""
    poison.mkdir(exist_ok=True)
    (poison / "pellucid.py").write_text("raise ImportError('a script must not import this')")
    environment = {**os.environ, "PYTHONPATH": str(poison)}
    failed = subprocess.run(
        [sys.executable, "-c", "import pellucid"], env=environment, capture_output=True, check=False
    )
    assert b"must not import this" in failed.stderr
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", DRIVER], env=environment, check=False,
        input=json.dumps([str(f) for f in folders]), capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""  # no note: the images and the version are those of the run
    printed: dict[str, str] = json.loads(done.stdout)
    return printed


CHANGED = {
    "SEED = 7": "SEED = 8",
    "LR = 0.02": "LR = 0.0201",
    "degrees = 15.0": "degrees = 15.1",
    "GAMMA = 0.7": "GAMMA = 0.71",
    "WEIGHT_DECAY = 0.001": "WEIGHT_DECAY = 0.002",
    "LABEL_SMOOTHING = 0.05": "LABEL_SMOOTHING = 0.06",
    "0.5, 1.0, 1.0, 3.0": "0.5, 1.0, 1.0, 3.1",
    "BATCH_SIZE = 32": "BATCH_SIZE = 31",
    "VALIDATION = 0.1": "VALIDATION = 0.11",
}
"""Changes to the script of SMALL; each of them has to show in the weights."""


@pytest.fixture(scope="module")
def sets(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return small_sets(tmp_path_factory.mktemp("sets"))


@pytest.fixture(scope="module")
def printed() -> dict[str, str]:
    """What the scripts printed, by folder."""
    return {}


@pytest.fixture(scope="module")
def ejected(
    sets: Path, tmp_path_factory: pytest.TempPathFactory, printed: dict[str, str]
) -> Iterator[dict[str, Ejected]]:
    """Train each recipe, eject it, and run all scripts in one process without pellucid."""
    root = tmp_path_factory.mktemp("ejected")
    found = {}
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PELLUCID_CACHE", str(root / "cache"))
        for number, (name, make) in enumerate(RECIPES.items()):
            recipe = make(sets)
            run = train(recipe, root / "runs")
            folder = root / str(number)
            folder.mkdir()
            given = (recipe,) if name == PYTHON else ()
            script = eject(run.path, *given, arrays=folder / "data.npz" if name == PYTHON else None)
            (folder / "train.py").write_text(script, encoding="utf-8")
            found[name] = Ejected(run, recipe, script, folder)
        _others(found, root)
        for number, (old, new) in enumerate(CHANGED.items()):
            script = found[SMALL].script
            assert script.count(old) == 1, old
            (root / f"changed{number}").mkdir()
            changed = script.replace(old, new).replace("!= DATA_DIGEST", "== 0")
            (root / f"changed{number}/train.py").write_text(changed, encoding="utf-8")
        folders = [path.parent for path in root.glob("*/train.py")]
        printed.update(run_alone(folders, root / "poison"))
        yield found


def _others(found: dict[str, Ejected], root: Path) -> None:
    """Two more scripts: one that reads arrays where it need not, one of a run that was stopped."""
    arrays, stopped = root / "arrays", root / "stopped"
    arrays.mkdir()
    stopped.mkdir()
    script = eject(found[TABLE].run.path, arrays=arrays / "data.npz")
    (arrays / "train.py").write_text(script, encoding="utf-8")
    recipe = plain(Digits()).with_(model=MLPSpec(hidden=(8,)), optimizer=SGD(), length=steps(3))
    run = train(recipe, root / "runs", stop=lambda _: True)
    script = eject(run.path)
    (stopped / "train.py").write_text(script, encoding="utf-8")
    found["stopped"] = Ejected(run, recipe, script, stopped)


def same_as_the_run(one: Ejected) -> None:
    last = one.run.checkpoints.path(one.run.checkpoints.steps()[-1])
    expected = safetensors.numpy.load_file(last / "model.safetensors")
    if (last / "ema.safetensors").exists():
        averages = safetensors.numpy.load_file(last / "ema.safetensors")
        expected |= {f"ema/{n}": tensor for n, tensor in averages.items() if n != "updates"}
    found = one.weights()
    assert found.keys() == expected.keys()
    for key, tensor in expected.items():
        assert (found[key].dtype, found[key].shape) == (tensor.dtype, tensor.shape), key
        assert found[key].tobytes() == tensor.tobytes(), key


@pytest.mark.parametrize("name", RECIPES)
def test_the_weights_are_the_same_bit_for_bit(name: str, ejected: dict[str, Ejected]) -> None:
    same_as_the_run(ejected[name])


@pytest.mark.parametrize("name", RECIPES)
def test_it_judges_as_the_run_did(
    name: str, ejected: dict[str, Ejected], printed: dict[str, str]
) -> None:
    one = ejected[name]
    summary = one.run.summary()
    assert summary is not None
    text = printed[str(one.folder)]
    assert "bit for bit those of the run" in text
    assert f": {summary['test']['correct']:,} of {summary['test']['n']:,} (" in text
    if summary["validation"]:
        assert f"test at step {summary['best']['step']}:" in text
        judged = [
            (row["step"], f"{row['validation']['accuracy']:.2%}, {row['validation']['loss']:.4f}")
            for row in one.run.rows("metrics.jsonl")
            if row["kind"] == "evaluation"
        ]
        shown = re.findall(r"step (\d+): validation (\S+), loss (\S+)", text)
        assert [(int(step), f"{share}, {loss}") for step, share, loss in shown] == judged


@pytest.mark.parametrize("name", RECIPES)
def test_it_reads_like_a_program(name: str, ejected: dict[str, Ejected]) -> None:
    """No unused or undefined name, imports in order, no long line, not a word of pellucid."""
    script = ejected[name].script
    rules = "F,E,W,I,UP,B,PIE,C4,D1"
    options = ["--isolated", "--no-cache", "--line-length", "100", "--select", rules]
    done = subprocess.run(
        [sys.executable, "-m", "ruff", "check", *options, "--ignore", "D103,D105,D107", "-"],
        input=script, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout
    heading = ast.get_docstring(ast.parse(script), clean=False)
    assert heading is not None
    assert "pellucid" not in script.split(f'"""{heading}"""')[1].replace("/pellucid/", "/")
    assert "msgspec" not in script
    assert len(script.splitlines()) < 600


def test_what_is_off_is_not_there(ejected: dict[str, Ejected]) -> None:
    script = ejected["adam, constant, all off, no validation, half an epoch"].script
    body = script.partition('"""\n')[2]
    for word in (
        *("EMA", "clip", "plateau", "stop", "pieces", "augment(", "schedule", "learning_rate"),
        *("warm", "stratified", "best", "WEIGHT_DECAY", "autocast", "PIL", "param_groups"),
    ):
        assert word not in body, word
    assert len(script.splitlines()) < 270


def test_the_recipes_cover_every_part(sets: Path) -> None:
    """Each optimizer, schedule, model, init, sampling, loss and augmentation, and each switch."""
    recipes = [make(sets) for make in RECIPES.values()]
    for section, kinds in PARTS.items():
        used = {type(getattr(recipe, section)) for recipe in recipes}
        assert used == set(kinds), section
    on = {name for r in recipes for name in r.augment.operations()}  # type: ignore[attr-defined]
    assert on == set(AugmentSpec.__struct_fields__)
    weights = {str(r.loss.class_weights)[:1] for r in recipes}  # type: ignore[union-attr]
    assert weights == {"n", "b", "("}
    assert {type(r.data).__name__ for r in recipes} == {
        "Digits", "Mnist", "FashionMnist", "Folder", "Csv", "FewDigits"
    }  # fmt: skip
    for switch in (
        lambda r: r.loss.label_smoothing, lambda r: r.ema.decay, lambda r: r.stop.patience,
        lambda r: r.accumulate > 1, lambda r: r.max_grad_norm < 100, lambda r: r.optimizer.l1,
        lambda r: r.max_grad_value < 100, lambda r: r.engine.precision == "bf16",
        lambda r: r.optimizer.weight_decay, lambda r: getattr(r.schedule, "warmup", 0),
    ):  # fmt: skip
        assert {bool(switch(recipe)) for recipe in recipes} == {True, False}


def test_the_rules_that_watch_did_something(ejected: dict[str, Ejected]) -> None:
    """Else nothing would be shown about them."""
    summary = ejected[TABLE].run.summary()
    assert summary is not None
    assert summary["stopped_early"]
    assert summary["best"]["step"] < summary["steps"]
    plateau = ejected["muon, plateau, average of normalised layers, parts of its own"]
    rates = {
        round(row["lr"], 9) for row in plateau.run.rows("metrics.jsonl") if row["kind"] == "step"
    }
    last, _ = plateau.run.checkpoints.latest()
    assert last is not None
    assert last.facts["plateau"]["cuts"] > 0
    assert rates


@pytest.mark.parametrize("number", range(len(CHANGED)), ids=list(CHANGED))
def test_another_setting_gives_other_weights(
    number: int, ejected: dict[str, Ejected], printed: dict[str, str]
) -> None:
    one = ejected[SMALL]
    folder = one.folder.parent / f"changed{number}"
    with np.load(folder / "weights.npz") as other:
        same = [key for key, tensor in one.weights().items() if np.array_equal(tensor, other[key])]
    assert same == []
    assert "NOT those of the run" in printed[str(folder)]


def test_the_command(
    ejected: dict[str, Ejected], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    one = ejected[SMALL]
    assert command_line(["eject", str(one.run.path)]) == 0
    assert capsys.readouterr().out == one.script
    out = tmp_path / "train.py"
    words = ["eject", str(one.run.path), "--out", str(out), "--check", "--json"]
    assert command_line(words) == 0
    captured = capsys.readouterr()
    result = json.loads(captured.out)
    assert out.read_text(encoding="utf-8") == one.script
    assert result["check"] == {"same": True, "tensors": 4, "different": []}
    assert "bit for bit (4 tensors)" in captured.err


def test_a_check_that_fails(
    ejected: dict[str, Ejected], sets: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The data change under the run: the script says so, and the check ends with 1."""
    table = sets / "table/plain.csv"
    text = table.read_text(encoding="utf-8")
    try:
        table.write_text("\n".join(text.splitlines()[:-2]) + "\n", encoding="utf-8")
        assert command_line(["eject", str(ejected[TABLE].run.path), "--check", "--json"]) == 1
    finally:
        table.write_text(text, encoding="utf-8")
    captured = capsys.readouterr()
    assert json.loads(captured.out)["check"]["different"] != []
    assert "check failed: 8 of 8 tensors differ" in captured.err


def test_arrays_for_any_source(ejected: dict[str, Ejected]) -> None:
    """What a script would read by itself can be written for it as well."""
    one = ejected[TABLE]
    folder = one.folder.parent / "arrays"
    same_as_the_run(replace(one, folder=folder))
    with np.load(folder / "data.npz") as found:
        assert sorted(found.files) == sorted(
            f"{part}_{what}"
            for part in ("train", "validation", "test")
            for what in ("images", "labels")
        )


def test_arrays_are_those_of_the_run(ejected: dict[str, Ejected], tmp_path: Path) -> None:
    one = ejected[PYTHON]
    with pytest.raises(CannotEject, match=r"data FewDigits: a script can read .* arrays="):
        eject(one.run.path, one.recipe)
    more = one.recipe.with_(data=FewDigits(per_class=(6,) * 10))
    with pytest.raises(DataChanged, match="has changed since the run was started"):
        eject(one.run.path, more, arrays=tmp_path / "data.npz")
    assert not (tmp_path / "data.npz").exists()
    with pytest.raises(RecipeMismatch, match=r"seed: 0 -> 1"):
        eject(one.run.path, one.recipe.with_(seed=1), arrays=tmp_path / "data.npz")


def test_data_from_python_on_the_command_line(
    ejected: dict[str, Ejected], capsys: pytest.CaptureFixture[str]
) -> None:
    assert command_line(["eject", str(ejected[PYTHON].run.path), "--arrays", "data.npz"]) == 2
    message = capsys.readouterr().err
    assert "data of this run were given from Python (tests.conftest.FewDigits)" in message
    assert 'eject(run, recipe, arrays="data.npz")' in message


def test_data_that_only_arrays_can_bring(ejected: dict[str, Ejected]) -> None:
    known = facts(ejected[SMALL].run)
    other = replace(known, recipe=known.recipe.with_(data=Cifar10()))
    with pytest.raises(CannotEject, match=r"data cifar10: .* pellucid eject RUN --arrays data.npz"):
        data_text(other, None, Collector())


class Mine:
    """A part of one's own."""

    def build(self, shape: tuple[int, int, int], classes: int) -> nn.Module:
        return MLPSpec(hidden=(4,)).build(shape, classes)


def test_a_part_from_python_is_refused_by_name(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = train(plain(Digits()).with_(model=Mine(), length=steps(1)), tmp_path)
    assert command_line(["eject", str(run.path)]) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.startswith("error: model was given from Python (")
    assert "Mine): its source is yours" in captured.err


def test_each_part_is_written_or_refused() -> None:
    recipe = plain(Digits())
    with pytest.raises(CannotEject, match="model Mine cannot be written as a script: its numbers"):
        check_parts(recipe.with_(model=Mine()))
    for section in PARTS:
        for name in names(section):
            kind: Any = spec(section, name)
            if kind not in PARTS[section]:
                required = {"lr": 0.1} if section == "optimizer" else {}
                with pytest.raises(CannotEject, match=f"{section} {name} cannot be written"):
                    check_parts(recipe.with_(**{section: kind(**required)}))
    for kind, known in SETTINGS.items():
        fields = getattr(kind, "__struct_fields__", None) or kind.__dataclass_fields__
        assert set(known) <= set(fields), f"{kind.__name__} lost a setting"


def test_a_setting_that_is_newer_than_eject_is_refused_where_it_is_set(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(SETTINGS, EMASpec, ("decay",))  # as before there was a growth
    check_parts(plain(Digits()).with_(ema=EMASpec(decay=0.5)))
    with pytest.raises(CannotEject, match=r"EMASpec.growth is a setting that a script cannot"):
        check_parts(plain(Digits()).with_(ema=EMASpec(decay=0.5, growth=3.0)))


def test_a_setting_that_a_script_cannot_follow(ejected: dict[str, Ejected]) -> None:
    with pytest.raises(CannotEject, match=r"engine.compile cannot be written as a script"):
        check_parts(plain(Digits()).with_(engine=EngineSpec(compile=True)))
    check_parts(plain(Digits()).with_(engine=EngineSpec(compile=False), ema=EMASpec(decay=0.5)))
    run = ejected[SMALL].run
    copy = run.path.parent / "elsewhere"
    shutil.copytree(run.path, copy)
    environment = run.read_json("environment.json")
    assert environment is not None
    Run(copy).write_json("environment.json", {**environment, "processes": 2})
    with pytest.raises(CannotEject, match="trained by 2 processes"):
        eject(copy)
    Run(copy).write_json(
        "environment.json", {**environment, "resumed": [{**environment, "threads": 64}]}
    )
    assert "equal bits are not to be expected" in eject(copy).replace("\n", " ")


def test_a_run_that_is_not_finished(
    ejected: dict[str, Ejected], printed: dict[str, str], tmp_path: Path
) -> None:
    """Its script is the whole run, wherever that stood."""
    one = ejected["stopped"]
    assert one.run.checkpoints.steps() == [1]
    assert "It ended   not yet" in one.script
    assert "WEIGHTS_DIGEST" not in one.script
    assert "weights of the last step: SHA-256 " in printed[str(one.folder)]
    copy = tmp_path / "run"
    shutil.copytree(one.run.path, copy)
    with pytest.raises(CannotEject, match="not finished.*pellucid resume"):
        check(copy, one.script)
    same_as_the_run(replace(one, run=resume(copy)))
    shutil.rmtree(copy / "checkpoints")
    with pytest.raises(BadRun, match="no good checkpoint"):
        eject(copy)


def test_a_table_that_is_gone(ejected: dict[str, Ejected], sets: Path, tmp_path: Path) -> None:
    table = sets / "table/plain.csv"
    table.rename(tmp_path / "away.csv")
    try:
        with pytest.raises(CannotEject, match="is not there any more"):
            eject(ejected[TABLE].run.path)
    finally:
        (tmp_path / "away.csv").rename(table)
