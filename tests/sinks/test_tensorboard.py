"""TensorBoard shows the run log's numbers: read back from the files, and over its own server."""

from __future__ import annotations

import io
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Sequence
from itertools import groupby
from pathlib import Path
from typing import Any
from urllib.parse import quote

import numpy as np
import psutil
import pytest
import torch
from PIL import Image
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from pellucid.models.mnist_cnn import MnistCNNSpec
from pellucid.runs.folder import Run
from pellucid.sinks.board import Look, Story
from pellucid.sinks.boards import Boards
from pellucid.sinks.charts import points
from pellucid.sinks.pictures import grid
from pellucid.sinks.tensorboard import FOLDER, TensorBoard

Row = dict[str, Any]
Say = Callable[[str], None]

WEIGHTS = MnistCNNSpec().build((1, 28, 28), 10).state_dict()
SAMPLES = torch.rand(16, 1, 28, 28, generator=torch.Generator().manual_seed(0))


def story(path: Path, finished: Run, step: int = 0, rows: Sequence[Row] = ()) -> Story:
    recipe = (finished.path / "recipe.toml").read_text()
    return Story(path, path.name, recipe, step, rows)


def show(told: Story, rows: list[Row], say: Say, result: str = "") -> None:
    """One sitting of a run, as training does it: a look at the start and at each evaluation."""
    told.path.mkdir(exist_ok=True, parents=True)
    with Boards([TensorBoard()], say, pause=0) as boards:
        boards.open(told)
        boards.look(told.step, WEIGHTS, SAMPLES)
        for step, group in groupby(rows, lambda row: row["step"]):
            of_step = list(group)
            boards.rows(of_step)
            if of_step[-1]["kind"] == "evaluation":
                wait_until_idle(boards)
                boards.look(step, WEIGHTS, SAMPLES)
        if result:
            boards.result(result)


def wait_until_idle(boards: Boards) -> None:
    """Wait until there is room for a look: these evaluations come faster than real ones."""
    for worker in boards._workers:
        with worker._changed:
            while worker._waiting["looks"] and not worker.failure:
                worker._changed.wait(0.01)


def read(path: Path) -> EventAccumulator:
    """Return what TensorBoard's own reader finds, all of it."""
    everything = dict.fromkeys(("scalars", "images", "histograms", "tensors"), 0)
    return EventAccumulator(str(path / FOLDER), size_guidance=everything).Reload()


def scalars(path: Path) -> list[tuple[str, int, float]]:
    found = read(path)
    tags = found.Tags()["scalars"]
    return sorted((tag, one.step, one.value) for tag in tags for one in found.Scalars(tag))


def expected(rows: list[Row]) -> list[tuple[str, int, float]]:
    return sorted((p.tag, p.step, float(np.float32(p.value))) for p in points(rows))


@pytest.fixture
def shown(finished: Run, history: list[Row], say: Say, said: list[str], tmp_path: Path) -> Path:
    """A run that was shown from its start to its end."""
    show(story(tmp_path / "runs/one", finished), history, say, "test accuracy: 51.30 %")
    assert said == []
    return tmp_path / "runs/one"


def test_every_number_of_the_run_log_is_there_once(shown: Path, history: list[Row]) -> None:
    assert scalars(shown) == expected(history)
    assert len(list((shown / FOLDER).iterdir())) == 1


def test_pictures_and_histograms(shown: Path) -> None:
    found = read(shown)
    for name, images in (
        ("samples", SAMPLES.numpy()),
        ("filters", Look.at(0, WEIGHTS, SAMPLES).pictures()["filters"]),
    ):
        events = found.Images(name)
        assert [one.step for one in events] == [0, 4, 8, 12]
        picture = np.asarray(Image.open(io.BytesIO(events[-1].encoded_image_string)))
        np.testing.assert_array_equal(picture, grid(images) if name == "samples" else images)
    weights = {name: w for name, w in WEIGHTS.items() if w.is_floating_point() and w.numel() > 1}
    assert set(found.Tags()["histograms"]) == {f"weights/{name}" for name in weights}
    for name, tensor in weights.items():
        events = found.Histograms(f"weights/{name}")
        assert [one.step for one in events] == [0, 4, 8, 12]
        values = tensor.double()
        drawn = events[0].histogram_value
        assert (drawn.num, sum(drawn.bucket)) == (tensor.numel(), tensor.numel())
        assert (drawn.min, drawn.max) == (values.min(), values.max())
        assert drawn.sum == pytest.approx(float(values.sum()))


def test_text_is_shown_as_it_is(shown: Path, finished: Run) -> None:
    found = read(shown)
    texts = {
        tag: found.Tensors(f"{tag}/text_summary")[0].tensor_proto.string_val[0].decode()
        for tag in ("recipe", "result")
    }
    assert texts["result"] == "    test accuracy: 51.30 %"
    lines = [line.removeprefix("    ") for line in texts["recipe"].splitlines()]
    assert lines == (finished.path / "recipe.toml").read_text().splitlines()


@pytest.mark.parametrize(
    "options",
    [
        pytest.param([], id="fast"),
        pytest.param(["--load_fast", "false"], id="python", marks=pytest.mark.slow),
    ],
)
def test_the_server_shows_all_runs_at_one_address(
    shown: Path, finished: Run, history: list[Row], say: Say, options: list[str],
    get: Callable[..., Any], tensorboard: Callable[..., Any],
) -> None:  # fmt: skip
    """Also a run that went back to step 4, and went on from there."""
    other = shown.parent / "two"
    show(story(other, finished), history, say)
    show(story(other, finished, 4, history[:2]), history[2:], say, "again")
    names = {"one/tensorboard", "two/tensorboard"}
    with tensorboard(shown.parent, *options) as (url, pid):
        while set(get(f"{url}/data/runs")) != names or len(tags(get, url, names)) < 2:
            pass  # it loads in the background; the test's own time limit ends this
        for name in names:
            found = []
            for tag in tags(get, url, names)[name]:
                place = f"{url}/data/plugin/scalars/scalars?run={quote(name)}&tag={quote(tag)}"
                found += [(tag, step, value) for _, step, value in get(place)]
            assert sorted(found) == expected(history)
        images = get(f"{url}/data/plugin/images/tags")
        assert images["one/tensorboard"].keys() == {"filters", "samples"}
        bars = get(f"{url}/data/plugin/histograms/tags")["one/tensorboard"]
        assert "weights/" + next(iter(WEIGHTS)) in bars
        layout = get(f"{url}/data/plugin/custom_scalars/layout")
        charts = {c["title"]: c["multiline"]["tag"] for c in layout["category"][0]["chart"]}
        assert charts["Loss"] == ["loss/train", "loss/validation", "loss/running"]
        assert charts["Accuracy"] == ["accuracy/train", "accuracy/validation"]
        _check_table(get, url, names)
        server = psutil.Process(pid)
        processes = [server, *server.children(recursive=True)]
    _, alive = psutil.wait_procs(processes, timeout=30)
    assert alive == []


def tags(get: Callable[..., Any], url: str, names: set[str]) -> dict[str, Any]:
    found: dict[str, Any] = get(f"{url}/data/plugin/scalars/tags")
    return {name: found[name] for name in names if len(found.get(name, ())) == 9}


def _check_table(get: Callable[..., Any], url: str, names: set[str]) -> None:
    """The table of all runs: settings of the recipe, beside the last scores."""
    table = f"{url}/data/plugin/hparams"
    metrics = [{"name": {"tag": "accuracy/validation", "group": ""}}]
    ask = {"experimentName": "", "allowedStatuses": ["STATUS_SUCCESS"], "colParams": [],
           "startIndex": 0, "sliceSize": 10}  # fmt: skip
    experiment = get(f"{table}/experiment", {"experimentName": ""})
    settings = {one["name"] for one in experiment["hparamInfos"]}
    assert {"optimizer.lr", "batch_size", "max_grad_norm", "model.name"} <= settings
    assert metrics[0]["name"]["tag"] in {m["name"]["tag"] for m in experiment["metricInfos"]}
    groups = get(f"{table}/session_groups", ask)["sessionGroups"]
    sessions = {one["sessions"][0]["name"]: one for one in groups}
    assert set(sessions) <= names
    assert len([s for one in groups for s in one["sessions"]]) == 2
    assert groups[0]["hparams"]["batch_size"] == 32
    assert groups[0]["hparams"]["max_grad_norm"] == "inf"


# going on


@pytest.fixture
def killed(finished: Run, history: list[Row], say: Say, tmp_path: Path) -> Path:
    """A run that was shown up to step 9, and ended there without a word."""
    show(story(tmp_path / "runs/one", finished), history[:5], say)
    return tmp_path / "runs/one"


def go_on(path: Path, finished: Run, history: list[Row], kept: int, say: Say) -> None:
    step = history[kept - 1]["step"] if kept else 0
    show(story(path, finished, step, history[:kept]), history[kept:], say, "done")


@pytest.mark.parametrize("kept", range(6))
def test_after_a_resume_each_number_is_there_once(
    killed: Path, finished: Run, history: list[Row], say: Say, kept: int
) -> None:
    """The checkpoint may be any number of rows older than what the board has."""
    go_on(killed, finished, history, kept, say)
    assert scalars(killed) == expected(history)
    found = read(killed)
    looks = [0, *(row["step"] for row in history if row["kind"] == "evaluation")]
    assert [one.step for one in found.Images("filters")] == looks
    assert [one.step for one in found.Histograms("weights/" + next(iter(WEIGHTS)))] == looks
    assert len(found.Tensors("recipe/text_summary")) == 1


@pytest.mark.parametrize("share", [0.999, 0.9, 0.5, 0.0])
def test_what_never_got_to_the_disk_is_written_again(
    killed: Path, finished: Run, history: list[Row], say: Say, share: float
) -> None:
    """The machine went down: the checkpoint is there, the end of the event file is not."""
    (file,) = (killed / FOLDER).iterdir()
    os.truncate(file, int(share * file.stat().st_size))
    go_on(killed, finished, history, 5, say)
    assert scalars(killed) == expected(history)
    assert len(read(killed).Tensors("recipe/text_summary")) == 1


def test_a_damaged_file_is_read_as_far_as_it_goes(
    killed: Path, finished: Run, history: list[Row], say: Say, said: list[str]
) -> None:
    (file,) = (killed / FOLDER).iterdir()
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 4
    file.write_bytes(content)
    go_on(killed, finished, history, 5, say)
    assert said == []
    assert scalars(killed) == expected(history)


def test_numbers_that_were_dropped_are_there_after_a_resume(
    finished: Run, history: list[Row], say: Say, tmp_path: Path
) -> None:
    path = tmp_path / "one"
    show(story(path, finished), [*history[:2], *history[3:5]], say)
    go_on(path, finished, history, 5, say)
    assert scalars(path) == expected(history)


def test_numbers_that_were_purged_and_did_not_come_again_are_missing(
    killed: Path, finished: Run, history: list[Row], say: Say
) -> None:
    """Back to step 4, on to step 9 without a word to the board, and from there to the end."""
    show(story(killed, finished, 4, history[:2]), [], say)
    go_on(killed, finished, history, 5, say)
    assert scalars(killed) == expected(history)


def test_a_folder_that_was_removed_is_made_anew(
    killed: Path, finished: Run, history: list[Row], say: Say
) -> None:
    shutil.rmtree(killed / FOLDER)
    go_on(killed, finished, history, 5, say)
    assert scalars(killed) == expected(history)
    assert len(read(killed).Tensors("recipe/text_summary")) == 1


def test_sittings_of_one_second_keep_their_order(
    killed: Path, finished: Run, history: list[Row], say: Say
) -> None:
    for _ in range(12):
        show(story(killed, finished, 9, history[:5]), [], say)
    go_on(killed, finished, history, 3, say)
    assert scalars(killed) == expected(history)


# trouble


def test_weights_that_are_no_numbers_do_no_harm(
    finished: Run, say: Say, said: list[str], tmp_path: Path
) -> None:
    strange = {
        "conv": torch.tensor([torch.nan, torch.inf, 1.0, 2.0]).reshape(1, 1, 2, 2),
        "bias": torch.full((3,), torch.nan),
        "zeros": torch.zeros(5),
    }
    with Boards([TensorBoard()], say) as boards:
        boards.open(story(tmp_path, finished))
        boards.look(0, strange)
    assert said == []
    found = read(tmp_path)
    assert set(found.Tags()["histograms"]) == {"weights/conv", "weights/zeros"}
    assert found.Histograms("weights/conv")[0].histogram_value.num == 2


def test_a_folder_that_cannot_be_made(
    finished: Run, history: list[Row], say: Say, said: list[str], tmp_path: Path
) -> None:
    (tmp_path / FOLDER).write_text("a file is in the way")
    show(story(tmp_path, finished), history, say, "done")
    assert len(said) == 1
    assert said[0].startswith("warning: TensorBoard is switched off, training goes on: FileExists")


def test_a_full_disk_is_one_warning(tmp_path: Path) -> None:
    """A real limit on the size of files, in a real process."""
    program = """
import resource, sys
from pathlib import Path
from pellucid.sinks.board import Story
from pellucid.sinks.boards import Boards
from pellucid.sinks.tensorboard import TensorBoard
resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000))
row = {"kind": "step", "step": 0, "loss": 0.5, "lr": 0.1, "grad_norm": 1.0}
with Boards([TensorBoard()], print, pause=0) as boards:
    boards.open(Story(Path(sys.argv[1]), "one", "seed = 0"))
    for step in range(1000):
        boards.rows([{**row, "step": step}])
print("training went on")
"""
    command = [sys.executable, "-c", program, str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.stdout.splitlines() == [
        "warning: TensorBoard is switched off, training goes on: "
        "OSError: [Errno 27] File too large",
        "training went on",
    ]
    assert done.stderr == ""
