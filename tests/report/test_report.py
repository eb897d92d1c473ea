"""The report of real runs: complete, closed, and every number in it recomputed from the table."""

from __future__ import annotations

import csv
import html
import json
import math
import re
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from sklearn import metrics as oracle

from pellucid import Console, Run, epochs, good, load, train
from pellucid.augment.pipeline import AugmentSpec
from pellucid.cli.main import run as command
from pellucid.data.digits import Digits
from pellucid.errors import BadRun
from pellucid.metrics.mistakes import mistakes
from pellucid.models.mlp import MLPSpec
from pellucid.optim.schedules import Constant
from pellucid.plan import steps
from pellucid.recipe import Recipe
from pellucid.report.gallery import Search, exhibits, features
from pellucid.report.report import write_report
from pellucid.runs.predictions import read_predictions
from pellucid.values import ImageSet, Loaded, Progress, no_progress

PARTS = {"validation": 500, "test": 1000}


def small(**changes: Any) -> Recipe:
    return good("digits").with_(
        model=MLPSpec(hidden=(32,)), augment=AugmentSpec(), schedule=Constant(), length=epochs(1)
    ).with_(**changes)  # fmt: skip


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """A run that makes mistakes, with its report and figures."""
    finished = train(small(), tmp_path_factory.mktemp("runs"))
    write_report(finished.path, pdf=True)
    return finished


@pytest.fixture(scope="module")
def page(run: Run) -> str:
    return (run.path / "report.html").read_text(encoding="utf-8")


def block(page: str) -> dict[str, Any]:
    found = re.search(r'<script type="application/json" id="numbers">(.*?)</script>', page, re.S)
    assert found
    content: dict[str, Any] = json.loads(found.group(1))
    return content


def table(run: Run, part: str) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Labels, predictions and probabilities as any program would read them."""
    with (run.path / "predictions" / f"{part}.csv").open(encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    names = [name.removeprefix("logit:") for name in rows[0] if name.startswith("logit:")]
    logits = np.array([[row[f"logit:{name}"] for name in names] for row in rows], dtype=np.float32)
    logits = logits.astype(np.float64)
    shares = np.exp(logits - logits.max(1, keepdims=True))
    y = np.array([names.index(row["label"]) for row in rows])
    said = np.array([names.index(row["prediction"]) for row in rows])
    return y, said, shares / shares.sum(1, keepdims=True)


def close(value: Any) -> Any:
    return pytest.approx(value, abs=1e-9)


@pytest.mark.parametrize("part", PARTS)
@pytest.mark.parametrize("place", ["report", "evaluation", "summary"])
def test_every_number_is_recomputed_from_the_table(
    run: Run, page: str, part: str, place: str
) -> None:
    """By another program: csv, NumPy and scikit-learn."""
    y, said, p = table(run, part)
    right, sure = y == said, p.max(1)
    if place == "summary":
        facts = (run.summary() or {})[part]
        assert facts["accuracy"] == close(right.mean())
        assert facts["balanced_accuracy"] == close(oracle.balanced_accuracy_score(y, said))
        assert facts["loss"] == close(oracle.log_loss(y, p))
        assert facts["brier"] == close(((p - np.eye(10)[y]) ** 2).sum(1).mean())
        assert facts["ece"] == close(ece(sure, right, np.linspace(0, 1, 16)))
    else:
        facts = (
            block(page)["parts"][part]
            if place == "report"
            else json.loads((run.path / f"evaluation/{part}.json").read_text())
        )
        assert facts["accuracy"]["value"] == close(right.mean())
        assert facts["balanced_accuracy"]["value"] == close(oracle.balanced_accuracy_score(y, said))
        assert facts["loss"]["value"] == close(oracle.log_loss(y, p))
        half = 1.959964 * np.std(-np.log(p[np.arange(len(y)), y]), ddof=1) / math.sqrt(len(y))
        assert facts["loss"]["interval"][1] - facts["loss"]["value"] == pytest.approx(half)
        assert facts["confusion"] == oracle.confusion_matrix(y, said).tolist()
        check_rest(facts, y, right, sure, p)
    assert (facts["n"], facts["correct"]) == (PARTS[part], int(right.sum()))
    for top in facts["top"]:
        assert top["accuracy"] == close(oracle.top_k_accuracy_score(y, p, k=top["k"]))
    assert [top["k"] for top in facts["top"]] == [1, 3, 5]
    scores = oracle.precision_recall_fscore_support(y, said, zero_division=np.nan)
    for i, row in enumerate(facts["per_class"]):
        for key, column in zip(("precision", "recall", "f1", "support"), scores, strict=True):
            expected = float(column[i])
            assert row[key] == (None if math.isnan(expected) else close(expected))
    for row in facts["averages"]:
        expected = oracle.precision_recall_fscore_support(
            y, said, average=row["name"], zero_division=np.nan
        )
        assert [row["precision"], row["recall"], row["f1"]] == [close(v) for v in expected[:3]]
    matrix = oracle.confusion_matrix(y, said)
    pairs = sorted(
        ((int(n), str(i), str(j)) for (i, j), n in np.ndenumerate(matrix) if i != j and n),
        key=lambda pair: -pair[0],
    )
    assert [pair["n"] for pair in facts["pairs"]] == [n for n, _, _ in pairs[:10]]
    for pair in facts["pairs"]:
        assert (pair["n"], pair["true"], pair["predicted"]) in pairs
        assert (
            pair["share"]
            == pair["n"] / pair["support"]
            == pair["n"] / matrix[int(pair["true"])].sum()
        )


def ece(sure: np.ndarray, right: np.ndarray, edges: np.ndarray) -> float:
    place = np.searchsorted(edges[1:-1], sure, side="left")
    return sum(
        (place == b).sum() / len(sure) * abs(sure[place == b].mean() - right[place == b].mean())
        for b in set(place.tolist())
    )


def check_rest(
    facts: dict[str, Any], y: np.ndarray, right: np.ndarray, sure: np.ndarray, p: np.ndarray
) -> None:
    confidence, calibration = facts["confidence"], facts["calibration"]
    assert confidence["mean_right"] == close(sure[right].mean())
    assert confidence["mean_wrong"] == close(sure[~right].mean())
    assert confidence["sure_wrong"] == (sure[~right] >= 0.9).sum()
    edges = np.linspace(0, 1, 21)
    assert confidence["right"] == np.histogram(sure[right], edges)[0].tolist()
    assert confidence["wrong"] == np.histogram(sure[~right], edges)[0].tolist()
    for bins in (calibration["equal_width"], calibration["equal_mass"]):
        assert bins["ece"] == close(ece(sure, right, np.array(bins["edges"]) + 1e-12))
        assert sum(bins["n"]) == len(y)
    tempered = calibration["tempered"]
    warm = p ** (1 / tempered["value"])
    warm /= warm.sum(1, keepdims=True)
    assert tempered["nll"] == close(oracle.log_loss(y, warm))
    assert tempered["ece"] == close(ece(warm.max(1), right, np.linspace(0, 1, 16)))
    for row in facts["coverage"]:
        kept = sure >= row["threshold"] - 1e-12
        assert (row["n"], row["correct"]) == (kept.sum(), right[kept].sum())


class Reader(HTMLParser):
    """Collects tags with their attributes, and the cells of each table."""

    def __init__(self) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.tables: list[list[list[str]]] = []
        self.cell: list[str] | None = None

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag == "table":
            self.tables.append([])
        elif tag == "tr":
            self.tables[-1].append([])
        elif tag in ("td", "th"):
            self.cell = []

    def handle_data(self, data: str) -> None:
        if self.cell is not None:
            self.cell.append(data)

    def handle_endtag(self, tag: str) -> None:
        if tag in ("td", "th") and self.cell is not None:
            self.tables[-1][-1].append("".join(self.cell).strip())
            self.cell = None


def read(page: str) -> Reader:
    reader = Reader()
    reader.feed(page)
    return reader


def test_the_tables_say_what_the_json_block_says(page: str) -> None:
    tables, facts = read(page).tables, block(page)["parts"]["test"]

    def found(*head: str) -> list[list[str]]:
        return next(t[1:] for t in tables if t and t[0][: len(head)] == list(head))

    numbers = {row[0]: row[1:4] for row in found("number", "value")}
    assert numbers["accuracy"][0] == f"{100 * facts['accuracy']['value']:.2f} %"
    low, high = facts["accuracy"]["interval"]
    assert numbers["accuracy"][1:] == [f"{100 * low:.2f}-{100 * high:.2f}", "1,000"]
    assert numbers["loss"][0] == f"{facts['loss']['value']:.4f}"
    for row, score in zip(found("class", "images"), facts["per_class"], strict=True):
        assert row[:4] == [
            score["name"], str(score["support"]), str(score["predicted"]), str(score["right"])
        ]  # fmt: skip
        recall = "n/a" if score["recall"] is None else f"{100 * score['recall']:.2f} %"
        assert row[6] == recall
    pairs = [[q["true"], q["predicted"], str(q["n"])] for q in facts["pairs"]]
    assert [row[:3] for row in found("label", "taken for")] == pairs
    counts = next(t for t in tables if t and t[0] == ["", *"0123456789"])
    assert [[int(cell) for cell in row[1:]] for row in counts[1:]] == facts["confusion"]
    answered = [row[:4] for row in found("answered", "n")]
    assert answered == [
        [f"{100 * r['coverage']:.2f} %", f"{r['n']:,}", f"{100 * r['threshold']:.2f} %",
         f"{100 * r['accuracy']:.2f} %"] for r in facts["coverage"]
    ]  # fmt: skip


def test_the_page_is_complete(run: Run, page: str) -> None:
    for words in (
        "Averages over classes", "Most confused", "Confusion matrix", "Confidence", "Calibration",
        "Worst mistakes", "How training went", "Diagnosis", "Data", "How it was trained", "Recipe",
        "A training image of each class", "peak memory of the process", "(best)", "gap, points",
        'name = "mlp"', "torch ", "micro", "macro", "weighted",
    ):  # fmt: skip
        assert words in html.unescape(page), words
    assert len(page) < 3_000_000
    assert page.count('<div class="exhibit">') == 32
    for exhibit in block(page)["parts"]["validation"]["exhibits"]:
        assert len(exhibit["nearest"]) == 3
        assert exhibit["history"].startswith(("never right at ", "right at "))


def test_the_page_needs_nothing_else(page: str) -> None:
    """No script, no style, picture or font from elsewhere: only names of XML are addresses."""
    reader = read(page)
    for tag, attributes in reader.tags:
        assert tag not in ("link", "iframe", "object", "embed", "base", "form"), tag
        if tag == "script":
            assert attributes["type"] == "application/json"
        assert not [name for name in attributes if name.startswith("on")]
        for name in ("src", "href", "xlink:href"):
            value = attributes.get(name) or "#"
            assert value.startswith(("data:image/png;base64,", "#")), value
    addresses = set(re.findall(r"https?://[^\s\"'<>)]+", page))
    assert addresses <= {"http://www.w3.org/2000/svg", "http://www.w3.org/1999/xlink"}
    assert "default-src 'none'" in page
    assert "@import" not in page
    assert "url(" not in re.sub(r"url\(#[^)]+\)", "", page)
    ids = [attributes["id"] for _, attributes in reader.tags if "id" in attributes]
    assert len(ids) == len(set(ids))
    for target in re.findall(r'(?:href="#|url\(#)([^")]+)', page):
        assert target in ids


def test_the_same_run_gives_the_same_bytes(run: Run, page: str) -> None:
    before = (run.path / "figures/confusion_matrix.png").read_bytes()
    write_report(run.path)
    assert (run.path / "report.html").read_text(encoding="utf-8") == page
    assert (run.path / "figures/confusion_matrix.png").read_bytes() == before


def test_each_figure_has_its_numbers_beside_it(run: Run) -> None:
    for name in ("confusion_matrix", "confidence_analysis", "calibration", "error_samples"):
        with Image.open(run.path / f"figures/{name}.png") as picture:
            assert min(picture.size) > 300
        assert (run.path / f"figures/{name}.pdf").read_bytes().startswith(b"%PDF")
        assert json.loads((run.path / f"figures/{name}.json").read_text())
    worst = json.loads((run.path / "figures/error_samples.json").read_text())["mistakes"]
    with (run.path / "predictions/test_errors.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert len(worst) == 16
    assert [f"{m['p_true']:.6g}" for m in worst] == [row["p_true"] for row in rows[:16]]


def test_drawing_loads_no_pyplot(run: Run) -> None:
    code = (
        "import sys; from pellucid.report.report import write_report; "
        f"write_report({str(run.path)!r}); sys.exit('matplotlib.pyplot' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_mistakes_are_explained_by_what_a_plain_program_finds(run: Run) -> None:
    model, data = load(run.path, "cpu"), Digits().load()
    assert data.test is not None
    said = model.predict_set(data.test)
    found = mistakes(said)[:4]
    search = Search(model, data.train)
    shown = exhibits(run, search, found, data.test, past=True)
    hidden = model.network[:-1] if isinstance(model.network, torch.nn.Sequential) else None
    mine, theirs = features(model, data.test), features(model, data.train)
    assert mine is not None
    assert theirs is not None
    assert mine.shape == (1000, 32)
    assert hidden is None or mine.shape[1] == 32
    for exhibit in shown:
        far = (theirs - mine[exhibit.mistake.row]).square().sum(1).sqrt()
        order = far.sort(stable=True)
        assert [n.distance for n in exhibit.nearest] == pytest.approx(
            order.values[:3].tolist(), rel=1e-4
        )
        for n in exhibit.nearest:
            assert n.label == data.train.classes[int(data.train.targets[n.index])]
        assert (
            exhibit.history.endswith("looks") or "of 13 looks, last after step" in exhibit.history
        )
    assert not model.network.training
    assert model.predict_set(data.test).logits.equal(said.logits)  # left as it was
    assert exhibits(run, search, (), data.test, past=True) == []


NAMES = ("</script><script>alert(1)</script>", "=1+1", "a|b", "x\"'>", "日本")


class OddNames:
    """Digits under names that a page, a table or a spreadsheet could stumble over."""

    validation = 0.2
    test = 0.0

    def load(self, progress: Progress = no_progress) -> Loaded:
        """Return 200 images of five classes."""
        train = Digits().load(progress).train
        index = (train.targets < 5).nonzero().flatten()[:200]
        part = train.part(index)
        images = part.pixels(torch.arange(len(part)))
        return Loaded(ImageSet.of(images, part.targets, NAMES, "odd"))


@pytest.fixture(scope="module")
def odd(tmp_path_factory: pytest.TempPathFactory) -> Run:
    return train(small(data=OddNames(), length=steps(3)), tmp_path_factory.mktemp("odd"))


def test_no_name_breaks_out_and_images_that_cannot_be_had_are_missed(odd: Run) -> None:
    page = write_report(odd.path).read_text(encoding="utf-8")
    reader = read(page)
    assert [a.get("type") for tag, a in reader.tags if tag == "script"] == ["application/json"]
    assert block(page)["data"]["classes"] == list(NAMES)
    assert "Without pictures, since the images are not at hand" in page
    assert list(block(page)["parts"]) == ["validation"]
    cells = {cell for t in reader.tables for row in t for cell in row}
    assert set(NAMES) <= cells
    text = write_report(odd.path, markdown=True).read_text(encoding="utf-8")
    assert "<script>" not in text
    assert "a\\|b" in text


def test_markdown_has_the_same_numbers(run: Run) -> None:
    assert command(["report", str(run.path), "--markdown"]) == 0
    text = (run.path / "report.md").read_text(encoding="utf-8")
    summary = run.summary() or {}
    assert f"| accuracy | {100 * summary['test']['accuracy']:.2f} % |" in text
    assert "{{" not in text
    assert "None" not in text


@pytest.mark.parametrize("part", PARTS)
def test_a_table_that_is_not_the_runs_own_is_refused(run: Run, part: str) -> None:
    path = run.path / f"predictions/{part}.csv"
    whole = path.read_text()
    head, *rows = whole.splitlines(keepends=True)
    wrong = next(i for i, row in enumerate(rows) if row.split(",")[2] != row.split(",")[3])
    try:
        path.write_text(head + "".join(rows[:wrong] + rows[wrong + 1 :]))
        with pytest.raises(BadRun, match="does not belong to this run's summary"):
            write_report(run.path)
    finally:
        path.write_text(whole)


def test_a_run_that_is_not_finished_has_no_report(tmp_path: Path) -> None:
    stopped = train(small(), tmp_path, stop=lambda *_: True)
    with pytest.raises(BadRun, match="is not finished; go on: pellucid resume"):
        write_report(stopped.path)


def test_evaluate_tells_all_and_keeps_it(run: Run, capsys: pytest.CaptureFixture[str]) -> None:
    opened = len(run.rows("openings.jsonl"))
    before = (run.path / "predictions/test.csv").read_bytes()
    assert command(["evaluate", str(run.path), "--on", "test"]) == 0
    page = capsys.readouterr().out
    assert all(len(line) <= 80 for line in page.splitlines() if "/" not in line)
    for words in ("balanced accuracy", "top-5", "macro", "most confused", "Brier", "temperature",
                  "when unsure answers are refused", f"opened {opened + 1} times"):  # fmt: skip
        assert words in html.unescape(page), words
    assert [row["why"] for row in run.rows("openings.jsonl")][-1] == "pellucid evaluate"
    assert (run.path / "predictions/test.csv").read_bytes() == before
    assert command(["evaluate", str(run.path), "--on", "train", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["n"] == 4500
    assert found["evaluation"]["calibration"]["tempered"]["fitted_on"] == "validation"
    table = read_predictions(run.path / "predictions/train.csv").predictions
    assert int((table.labels == table.targets).sum()) == found["correct"]
    assert (run.path / "figures/train/confusion_matrix.png").exists()
    assert len(run.rows("openings.jsonl")) == opened + 1


def test_data_with_other_classes_is_refused_with_the_difference(
    run: Run, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("1", "7", "bee", "wasp"):
        (tmp_path / "photos" / name).mkdir(parents=True)
        for i in range(3):
            Image.new("L", (28, 28), 40 * i).save(tmp_path / f"photos/{name}/{i}.png")
    assert command(["evaluate", str(run.path), "--on", str(tmp_path / "photos")]) == 2
    said = capsys.readouterr().err
    assert "does not know the classes bee, wasp" in said
    assert "+ bee, + wasp, - 0, - 2" in said


def test_compared_runs_are_compared_image_by_image(
    run: Run, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    other = train(small(model=MLPSpec(hidden=(8,))), tmp_path)
    words = ["compare-runs", str(run.path), str(other.path), "--out", str(tmp_path / "out")]
    assert command([*words, "--json", "--on", "test"]) == 0
    facts = json.loads(capsys.readouterr().out)
    a, b = (table(r, "test") for r in (run, other))
    right_a, right_b = a[0] == a[1], b[0] == b[1]
    pair = facts["pairs"][0]
    assert pair["only_a"] == (right_a & ~right_b).sum()
    assert pair["only_b"] == (right_b & ~right_a).sum()
    assert pair["difference"] == close(right_a.mean() - right_b.mean())
    low, high = pair["interval"]
    assert low < pair["difference"] < high
    assert [row["accuracy"] for row in facts["runs"]] == [
        close(right_a.mean()),
        close(right_b.mean()),
    ]
    assert facts["settings"][other.path.name] == ["model.hidden: [32] -> [8]"]
    with Image.open(tmp_path / "out/compared.png") as picture:
        assert picture.size[0] > 600
    assert command(words) == 0
    assert "the same 500 images for all runs" in capsys.readouterr().out


def test_runs_on_other_data_or_alone_are_not_compared(
    run: Run, odd: Run, capsys: pytest.CaptureFixture[str]
) -> None:
    assert command(["compare-runs", str(run.path), str(odd.path)]) == 2
    assert "Only runs on the same data" in capsys.readouterr().err
    assert command(["compare-runs", str(run.path), str(run.path)]) == 2
    assert "at least two runs, each once" in capsys.readouterr().err


def test_training_ends_with_a_report(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["train", "digits", "--length", "2 steps", "--model.name", "mlp", "--quiet"]
    assert command([*words, "--out", str(tmp_path)]) == 0
    page = capsys.readouterr().out
    assert "most confused" in page
    report = Path(page.splitlines()[-1].removeprefix("report: "))
    assert report.read_text(encoding="utf-8").startswith("<!DOCTYPE html>")
    assert (report.parent / "figures/error_samples.png").exists()


def test_progress_is_told(run: Run) -> None:
    import io

    stream = io.StringIO()
    write_report(run.path, console=Console(stream))
    assert "similar training images: 4,500 done" in stream.getvalue()
