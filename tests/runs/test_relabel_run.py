"""Corrected labels in a run: in recipe, digest, notes and summary; the same after a resume."""

from __future__ import annotations

import csv
import io
import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from pellucid import good, resume, steps, train
from pellucid.catalogue import from_tree, read_toml
from pellucid.cli.main import main
from pellucid.cli.resolve import Options, resolve
from pellucid.data.digits import Digits
from pellucid.data.split import split
from pellucid.eject.facts import CannotEject
from pellucid.eject.write import eject
from pellucid.errors import DataChanged, DataNotFound
from pellucid.finish import result_text
from pellucid.recipe import Recipe, RecordSpec
from pellucid.sinks.console import Console


def short(data: Digits) -> Recipe:
    return good("digits").with_(
        data=data, length=steps(4), evaluate=steps(2), record=RecordSpec(every=2, snapshots=0)
    )


@pytest.fixture
def table(tmp_path: Path) -> Path:
    """Two training images with other labels, one left out, one as it was."""
    before = split(Digits().load(), 0.1, 0, 0).train
    rows, labels = before.rows.tolist(), before.targets.tolist()
    lines = [f"{rows[i]},{labels[i]},{(labels[i] + 1) % 10}" for i in (0, 5)]
    lines += [f"{rows[6]},{labels[6]},?", f"{rows[7]},{labels[7]},"]
    path = tmp_path / "fix.csv"
    path.write_text("id,label,relabel\n" + "\n".join(lines) + "\n")
    return path


def test_it_is_in_recipe_digest_notes_and_summary(table: Path, tmp_path: Path) -> None:
    said = io.StringIO()
    run = train(short(Digits(relabel=str(table))), tmp_path, name="fixed", console=Console(said))
    plain = train(short(Digits()), tmp_path, name="plain")
    recipe = from_tree(read_toml(run.path / "recipe.toml"))
    assert recipe == short(Digits(relabel=str(table)))
    assert "relabel" not in (plain.path / "recipe.toml").read_text()
    facts = [(r.read_json("environment.json") or {})["data"] for r in (run, plain)]
    assert facts[0]["data_digest"] != facts[1]["data_digest"]
    assert facts[0]["relabelled"]["changed"] == [2, 0]
    assert facts[1]["relabelled"] is None
    summary = json.loads((run.path / "summary.json").read_text())
    assert summary["relabelled"] == facts[0]["relabelled"]
    assert summary["relabelled"]["left_out"] == [1, 0]
    assert (plain.summary() or {})["relabelled"] is None
    assert f"note: labels corrected by {table}: 2 of training, 0 of val" in said.getvalue()
    assert f"labels: 2 corrected, 1 images left out, by {table}" in result_text(summary)
    with (run.path / "split.csv").open(newline="") as file:
        used = {row["id"]: row["label"] for row in csv.DictReader(file) if row["part"] == "train"}
    with table.open(newline="") as file:
        first, second, gone, kept = list(csv.DictReader(file))
    assert [used[line["id"]] for line in (first, second)] == [first["relabel"], second["relabel"]]
    assert gone["id"] not in used
    assert used[kept["id"]] == kept["label"]


def stopped(table: Path, folder: Path, name: str) -> Path:
    run = train(
        short(Digits(relabel=str(table))), folder, name=name, stop=lambda step: step.index == 2
    )
    assert run.summary() is None
    return run.path


def test_a_resume_is_the_same_run(table: Path, tmp_path: Path) -> None:
    whole = train(short(Digits(relabel=str(table))), tmp_path, name="whole")
    parted = resume(stopped(table, tmp_path, "parted"))
    weights = [
        sorted(run.path.glob("checkpoints/*/model.safetensors"))[-1].read_bytes()
        for run in (whole, parted)
    ]
    assert weights[0] == weights[1]
    summaries = [run.summary() or {} for run in (whole, parted)]
    assert summaries[0]["relabelled"] == summaries[1]["relabelled"]


def test_a_resume_checks_the_table(table: Path, tmp_path: Path) -> None:
    path, content = stopped(table, tmp_path, "run"), table.read_bytes()
    table.write_bytes(content + b"\n")  # which corrects the same labels
    with pytest.raises(DataChanged, match=r"fix.csv \(--data.relabel\) has changed since"):
        resume(path)
    table.unlink()
    with pytest.raises(DataNotFound, match="fix.csv does not exist"):
        resume(path)
    table.write_bytes(content)
    assert resume(path).summary()


def test_the_command_line_finds_it_from_anywhere(
    table: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copy(table, "here.csv")
    recipe = resolve("digits", Options(settings={"data": {"relabel": "here.csv"}}))
    assert recipe.data == Digits(relabel=str(Path("here.csv").resolve()))
    words = ["train", "digits", "--data.relabel", "here.csvv", "--epochs", "0.01", "--quiet"]
    with pytest.raises(SystemExit, match="2"):
        main(words)
    assert "here.csvv does not exist (--data.relabel)" in capsys.readouterr().err


def test_a_script_has_no_table_but_arrays_hold_its_labels(table: Path, tmp_path: Path) -> None:
    run = train(short(Digits(relabel=str(table))), tmp_path, name="fixed")
    with pytest.raises(CannotEject, match=r"data.relabel: .*fix.csv.*--arrays data.npz"):
        eject(run.path)
    assert "data.npz" in eject(run.path, arrays=tmp_path / "data.npz")
    expected = split(Digits(relabel=str(table)).load(), 0.1, 0, 0)
    with np.load(tmp_path / "data.npz") as arrays:
        for name, part in (("train", expected.train), ("validation", expected.validation)):
            assert arrays[f"{name}_labels"].tolist() == part.targets.tolist()
            assert arrays[f"{name}_images"].shape == (len(part), *part.shape)
    plain = split(Digits().load(), 0.1, 0, 0).train
    assert len(expected.train) == len(plain) - 1
