"""Traps T2 of `docs/correctness.md`: the training loop and what it reports."""

from __future__ import annotations

import copy
import io
import json
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
import safetensors.torch
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.optim.lr_scheduler import CosineAnnealingLR, ReduceLROnPlateau
from torch.utils.data import DataLoader, SubsetRandomSampler, TensorDataset

from pellucid import (
    Console,
    Engine,
    FromDataset,
    Recipe,
    Run,
    fit,
    good,
    load,
    resume,
    steps,
    train,
)
from pellucid.assemble import Assembled, assemble
from pellucid.augment.pipeline import AugmentSpec
from pellucid.data.digits import Digits
from pellucid.engine import EngineSpec
from pellucid.errors import BadCheckpoint
from pellucid.evaluate import predict
from pellucid.figures.curves import curves
from pellucid.finish import result_text
from pellucid.metrics.accuracy import measure
from pellucid.models.mlp import MLPSpec
from pellucid.models.resnet import ResNetSpec
from pellucid.optim.plateau import Plateau
from pellucid.optim.schedules import Constant, Cosine, PlateauSpec
from pellucid.optim.specs import SGD, Adam
from pellucid.plan import epochs
from pellucid.recipe import EMASpec, RecordSpec
from pellucid.runs.checkpoint import read
from pellucid.runs.environment import fingerprint
from pellucid.seeds import generator
from pellucid.sinks.recorder import Mean, Recorder
from pellucid.state import Best
from pellucid.stopping import StopSpec
from pellucid.training import level
from pellucid.values import Loaded, Metrics, Progress, Step, no_progress

CPU = EngineSpec(device="cpu")


@pytest.fixture(scope="module", autouse=True)
def _one_thread() -> Iterator[None]:
    """Small tensors gain nothing from more threads."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@dataclass(frozen=True)
class Few:
    """The first `n` training digits, equally many of each, and 200 test digits."""

    n: int = 300
    validation: float = 0.1
    test: float = 0.0

    def load(self, progress: Progress = no_progress) -> Loaded:
        digits = Digits().load(progress)
        test = digits.test.part(torch.arange(200))
        labels = digits.train.targets
        each = [(labels == digit).nonzero().flatten()[: self.n // 10] for digit in range(10)]
        return Loaded(digits.train.part(torch.cat(each)), test=test)


def few(**changes: object) -> Recipe:
    """A recipe of 7 steps; an epoch has 270 images in 5 of them: 64, 64, 64, 64 and 14."""
    return good("digits").with_(
        data=Few(), batch_size=64, length=steps(7), engine=CPU,
        record=RecordSpec(every=2, snapshots=0),
    ).with_(**changes)  # fmt: skip


def ready(recipe: Recipe) -> tuple[Engine, Assembled]:
    engine = Engine.start(recipe.engine)
    return engine, assemble(recipe, engine)


def walk(recipe: Recipe) -> list[Step]:
    """Return all steps of a run without a folder."""
    engine, built = ready(recipe)
    return list(fit(built.state, built.task, engine))


def losses(recipe: Recipe) -> list[float]:
    return [float(step.loss) for step in walk(recipe)]


def recorded(recipe: Recipe, folder: Path) -> tuple[list[Step], list[dict]]:
    """Return all steps of a run, and the rows that its recorder writes."""
    engine, built = ready(recipe)
    seen, rows = [], []
    metrics, timing = folder / "metrics.jsonl", folder / "timing.jsonl"
    with Recorder(metrics, timing, recipe.record.every, lambda step: []) as recorder:
        for step in fit(built.state, built.task, engine):
            seen.append(step)
            rows += recorder(step)
    assert [json.loads(line) for line in metrics.read_text().splitlines()] == rows
    return seen, rows


def of_kind(rows: list[dict], kind: str) -> list[dict]:
    return [row for row in rows if row["kind"] == kind]


def after(n: int) -> Callable[[Step], bool]:
    """Return what is true when it is asked for the `n`-th time."""
    count = iter(range(1, 1000))
    return lambda _: next(count) == n


def weights(run: Run, step: int) -> dict[str, Tensor]:
    return safetensors.torch.load_file(run.checkpoints.path(step) / "model.safetensors")


def equal(one: dict[str, Tensor], other: dict[str, Tensor]) -> bool:
    return all(torch.equal(one[name], other[name]) for name in one.keys() | other.keys())


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    recipe = few(data=Digits(), batch_size=128, length=steps(4))
    return train(recipe, tmp_path_factory.mktemp("runs"))


def test_trap_T2_1_loss_of_an_epoch_counts_each_image_once(tmp_path):
    batch, size = [1.0, 1.0, 5.0], [4, 4, 2]
    assert sum(batch) / 3 == pytest.approx(2.33, abs=0.01)
    mean = Mean()
    for value, n in zip(batch, size, strict=True):
        mean.add(value, n)
    assert (mean.value, mean.n) == (pytest.approx(1.8), 10)

    seen, rows = recorded(few(length=steps(5)), tmp_path)
    assert [step.size for step in seen] == [64, 64, 64, 64, 14]
    weighted = sum(float(step.loss) * step.size for step in seen) / 270
    loose = sum(float(step.loss) for step in seen) / 5
    row = of_kind(rows, "evaluation")[-1]
    assert row["running_loss"] == pytest.approx(weighted, rel=1e-6)
    assert abs(loose - weighted) > 1e-3


def test_trap_T2_2_a_mean_divides_by_what_was_seen(tmp_path):
    data = TensorDataset(torch.arange(10.0))
    for loader in (
        DataLoader(data, batch_size=4, drop_last=True),
        DataLoader(data, batch_size=4, sampler=SubsetRandomSampler(range(8))),
    ):
        seen = sum(len(x) for (x,) in loader)
        assert seen == 8 != len(loader.dataset)

    # The first look at the model comes after 192 of 270 images.
    seen, rows = recorded(few(evaluate=steps(3)), tmp_path)
    total = sum(float(step.loss) * step.size for step in seen[:3])
    assert of_kind(rows, "evaluation")[0]["running_loss"] == pytest.approx(total / 192, rel=1e-6)
    assert [row["n"] for row in of_kind(rows, "step")] == [128, 128, 14 + 64]


def test_trap_T2_3_accuracy_is_correct_over_seen(run: Run):
    model, test = load(run.path, "cpu"), Digits().load().test
    right = (lambda p: p.labels == p.targets)(model.predict_set(test))
    # 500 wrong ones, which fill the first pass of `predict`, then 200 right ones.
    index = torch.cat([(~right).nonzero().flatten()[:500], right.nonzero().flatten()[:200]])
    assert len(index) == 700
    assert measure(model.predict_set(test.part(index))).accuracy == 200 / 700 != (0 + 1) / 2

    scores = run.summary()["test"]
    assert (scores["correct"], scores["n"]) == (int(right.sum()), 1000)
    assert scores["accuracy"] == scores["correct"] / scores["n"]


def test_trap_T2_4_training_images_are_judged_again_in_eval_mode(run: Run):
    row = of_kind(run.rows("metrics.jsonl"), "evaluation")[-1]
    _, built = ready(few(data=Digits(), batch_size=128, length=steps(4)))
    model = load(run.path, "cpu")
    network = model.network.eval()
    train_part, index = built.splits.train, torch.arange(2000) * 4500 // 2000
    with torch.no_grad():
        logits = network(built.task.prepare(train_part.pixels(index)))
    targets = train_part.label(index)
    loss = float(F.cross_entropy(logits.double(), targets))
    assert row["train"]["loss"] == pytest.approx(loss, rel=1e-6)
    assert row["train"]["accuracy"] == pytest.approx(
        float((logits.argmax(1) == targets).sum()) / 2000
    )
    assert row["gap"] == row["train"]["accuracy"] - row["validation"]["accuracy"]
    assert row["running_loss"] > row["train"]["loss"] + 0.05  # the weights moved meanwhile


def test_trap_T2_5_eval_and_no_grad_are_two_things():
    layer, x = nn.Dropout(0.5).eval(), torch.ones(100, requires_grad=True)
    assert layer(x).requires_grad
    assert torch.equal(layer(x), x)
    with torch.no_grad():
        dropped = layer.train()(x)
    assert not dropped.requires_grad
    assert int((dropped == 0).sum()) > 0

    engine, built = ready(few())
    for mode in (True, False):
        built.state.model.train(mode)
        table = predict(engine, built.state.model, built.splits.validation, built.task.prepare)
        assert built.state.model.training is built.state.model.dropout.training is mode
        assert not table.logits.requires_grad

    plain = losses(few(evaluate=steps(2)))
    engine, built = ready(few(evaluate=steps(2)))
    left = []
    for step in fit(built.state, built.task, engine):
        left.append(float(step.loss))
        built.state.model.eval()  # a caller who forgets to switch back
    assert left == plain


def test_trap_T2_6_state_dict_keeps_changing():
    engine, built = ready(few())
    state = built.state
    loose = state.model.state_dict()
    deep = copy.deepcopy(loose)
    ours = state.tensors()["model"]
    for _ in fit(state, built.task, engine):
        pass
    assert equal(loose, state.model.state_dict())  # "the best" has become the last
    assert not equal(deep, state.model.state_dict())
    assert equal(deep, ours)


def test_trap_T2_7_weights_alone_do_not_resume_a_run(tmp_path):
    recipe = few(ema=EMASpec(decay=0.9))
    whole = train(recipe, tmp_path)
    stopped = train(recipe, tmp_path, stop=after(3))
    folder = stopped.checkpoints.path(3)
    names = {path.name for path in folder.iterdir()}
    assert names == {
        "model.safetensors", "optimizer.safetensors", "ema.safetensors", "state.json",
        "manifest.json",
    }  # fmt: skip
    saved = read(folder)
    assert {"step", "best", "plateau", "optimizer", "recorder", "recipe"} <= saved.facts.keys()
    assert "conv1.weight/exp_avg_sq" in saved.tensors["optimizer"]

    engine, built = ready(recipe)
    built.state.model.load_state_dict(saved.tensors["model"])
    built.state.step = 3
    for _ in fit(built.state, built.task, engine):
        pass
    assert not equal(built.state.model.state_dict(), weights(whole, 7))

    resumed = resume(stopped.path, recipe)
    for name in ("model", "optimizer", "ema"):
        path = Path("checkpoints", "step-00000007", f"{name}.safetensors")
        assert (resumed.path / path).read_bytes() == (whole.path / path).read_bytes()
    assert resumed.metrics.read_bytes() == whole.metrics.read_bytes()


class Trojan:
    """An object whose pickle runs code where it is loaded: here it makes a file."""

    def __init__(self, mark: Path):
        self.mark = mark

    def __reduce__(self):
        return Path.touch, (self.mark,)


def test_trap_T2_8_a_pickle_runs_code_and_our_checkpoints_hold_none(tmp_path):
    mark, file = tmp_path / "mark", tmp_path / "weights.pt"
    torch.save({"weight": Trojan(mark)}, file)  # noqa: TID251
    with pytest.raises(Exception, match="Weights only load failed"):
        torch.load(file, weights_only=True)  # noqa: TID251
    assert not mark.exists()
    torch.load(file, weights_only=False)  # noqa: TID251
    assert mark.exists()
    mark.unlink()

    run = train(few(ema=EMASpec(decay=0.9)), tmp_path, stop=after(1))
    folder = run.checkpoints.path(1)
    for path in folder.iterdir():
        data = path.read_bytes()
        if path.suffix == ".safetensors":  # length of a header, the header, bare numbers
            size = int.from_bytes(data[:8], "little")
            header = json.loads(data[8 : 8 + size])
            ends = [t["data_offsets"][1] for name, t in header.items() if name != "__metadata__"]
            assert max(ends) == len(data) - 8 - size
        else:
            assert path.suffix == ".json"
            json.loads(data)

    # Neither a swapped file nor one that the manifest vouches for is ever unpickled.
    model = folder / "model.safetensors"
    model.write_bytes(file.read_bytes())
    with pytest.raises(BadCheckpoint, match="damaged"):
        read(folder)
    vouch(folder, model)
    with pytest.raises(BadCheckpoint, match="cannot be read"):
        read(folder)
    assert not mark.exists()


def vouch(folder: Path, file: Path) -> None:
    """Let the manifest of a checkpoint say that `file` is as it should be."""
    from hashlib import sha256

    manifest = folder / "manifest.json"
    content = json.loads(manifest.read_bytes())
    del content["digest"]
    data = file.read_bytes()
    content["files"][file.name] = {"size": len(data), "sha256": sha256(data).hexdigest()}

    def text() -> bytes:
        return (json.dumps(content, indent=1, ensure_ascii=False) + "\n").encode()

    content["digest"] = sha256(text()).hexdigest()
    manifest.write_bytes(text())


def test_trap_T2_9_a_running_sum_of_losses_keeps_their_graphs():
    layer, total, detached = nn.Linear(3, 1), torch.zeros(()), torch.zeros(())
    for _ in range(3):
        loss = layer(torch.ones(2, 3)).mean()
        total, detached = total + loss, detached + loss.detach()
    depth, node = 0, total.grad_fn
    while node.next_functions and node.next_functions[0][0]:
        depth, node = depth + 1, node.next_functions[0][0]
    assert depth >= 2  # each round hangs on the one before
    assert detached.grad_fn is None

    for step in walk(few()):
        for value in (step.loss, step.grad_norm):
            assert value.grad_fn is None
            assert not value.requires_grad


def test_trap_T2_10_zero_grad_may_stand_anywhere_between_step_and_backward():
    x = torch.linspace(-1, 1, 12).view(4, 3)

    def trained(place: str) -> Tensor:
        layer = nn.Linear(3, 1)
        nn.init.ones_(layer.weight)
        nn.init.zeros_(layer.bias)
        optimizer = torch.optim.SGD(layer.parameters(), lr=0.1)
        for _ in range(3):
            if place == "first":
                optimizer.zero_grad()
            loss = layer(x).square().mean()
            if place == "before backward":
                optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            if place == "last":
                optimizer.zero_grad()
        return layer.weight.detach().clone()

    first = trained("first")
    assert torch.equal(first, trained("before backward"))
    assert torch.equal(first, trained("last"))
    assert not torch.equal(first, trained("nowhere"))

    engine, built = ready(few())
    for _ in fit(built.state, built.task, engine):
        assert all(p.grad is None for p in built.state.model.parameters())


def test_trap_T2_11_optimizer_steps_before_scheduler():
    def rates(scheduler_first: bool) -> list[float]:
        optimizer = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=3e-3)
        scheduler, used = CosineAnnealingLR(optimizer, T_max=7), []
        for _ in range(7):
            if scheduler_first:
                scheduler.step()
            used.append(optimizer.param_groups[0]["lr"])
            optimizer.step()
            if not scheduler_first:
                scheduler.step()
        return used

    with pytest.warns(UserWarning, match="lr_scheduler.step"):
        loose = rates(scheduler_first=True)
    right = rates(scheduler_first=False)
    assert right[0] == 3e-3 > loose[0]  # the full rate was never used
    ours = [step.lr for step in walk(few(schedule=Cosine()))]
    assert ours == pytest.approx(right, rel=1e-9)


def metrics(loss: float) -> Metrics:
    return Metrics(loss, 50, 100)


@pytest.mark.parametrize(
    ("factor", "patience", "threshold", "cooldown", "floor"),
    [
        (0.1, 10, 1e-4, 0, 0.0),
        (0.5, 2, 1e-4, 0, 0.0),
        (0.5, 0, 0.05, 3, 0.01),
        (0.9, 1, 0.1, 0, 0.0),
        (0.3, 1, 0.0, 1, 0.1),
    ],
)
def test_trap_T2_12_plateau_counts_as_torch_does(factor, patience, threshold, cooldown, floor):
    draws = torch.rand(200, generator=generator(0, "plateau"), dtype=torch.float64)
    course = 8 * (1 + draws) * torch.linspace(1, 0.4, 200, dtype=torch.float64)
    optimizer = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=1.0)
    theirs = ReduceLROnPlateau(
        optimizer, factor=factor, patience=patience, threshold=threshold, cooldown=cooldown,
        min_lr=floor,
    )  # fmt: skip
    ours = Plateau(factor, patience, threshold, cooldown, floor)
    for loss in course.round(decimals=1).tolist():  # rounded, so that some are equal
        theirs.step(loss)
        ours.offer(metrics(loss))
        assert ours.lower(1.0) == pytest.approx(optimizer.param_groups[0]["lr"], rel=1e-12)
    assert ours.cuts > 0


def test_trap_T2_12_plateau_has_a_direction_a_patience_and_a_threshold():
    def rates(course: list[float], **settings: object) -> list[float]:
        optimizer = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=1.0)
        scheduler, seen = ReduceLROnPlateau(optimizer, **settings), []
        for value in course:
            scheduler.step(value)
            seen.append(optimizer.param_groups[0]["lr"])
        return seen

    still = [1.0] + [1.0] * 4
    assert rates(still, patience=2) == [1.0, 1.0, 1.0, 0.1, 0.1]  # the third bad one cuts
    tiny = [1 - 5e-5 * i for i in range(5)]
    assert rates(tiny[:2] + tiny[:2] * 2, patience=2)[-1] == 0.1  # gains below 1e-4 are none
    rising = [0.5, 0.6, 0.7, 0.8]  # an accuracy
    assert rates(rising, patience=1)[-1] < 1.0
    assert rates(rising, patience=1, mode="max")[-1] == 1.0
    assert rates([-1.0] * 50, patience=2)[-1] == 1.0  # negative: standing still passes for better
    assert rates([1.0] * 50, patience=2)[-1] < 1e-6

    ours, cuts = Plateau(0.1, 2, 1e-4, 0, 0.0), []
    for value in still:
        ours.offer(metrics(value))
        cuts.append(ours.cuts)
    assert cuts == [0, 0, 0, 1, 1]

    # In the loop: asked once per look at the validation images, and of nothing else.
    engine, built = ready(few(schedule=PlateauSpec(patience=0, threshold=10.0), evaluate=steps(3)))
    course = [
        (step.lr, step.evaluation is not None) for step in fit(built.state, built.task, engine)
    ]
    assert [looked for _, looked in course] == [False, False, True, False, False, True, True]
    assert [lr for lr, _ in course] == pytest.approx([3e-3] * 6 + [3e-4])
    assert built.state.plateau.cuts == 2  # of three looks the first sets the best


def test_trap_T2_13_loss_and_accuracy_move_apart(run: Run):
    def judged(logits: list[list[float]]) -> tuple[float, float]:
        x, zeros = torch.tensor(logits), torch.zeros(len(logits), dtype=torch.int64)
        return float(F.cross_entropy(x, zeros)), float((x.argmax(1) == zeros).float().mean())

    unsure = judged([[0.1, 0.0], [0.1, 0.0], [0.0, 0.1]])
    sure = judged([[4.0, 0.0], [0.0, 0.1], [0.0, 0.1]])
    assert sure[0] < unsure[0]
    assert sure[1] < unsure[1]

    table = load(run.path, "cpu").predict_set(Digits().load().test)
    loud = type(table)(20 * table.logits, table.targets, table.index, table.classes)
    assert measure(loud).correct == measure(table).correct
    assert measure(loud).loss > measure(table).loss + 0.5  # over-confidence

    best = Best()
    best.offer(Metrics(0.5, 90, 100), 1)
    best.offer(Metrics(0.9, 91, 100), 2)  # more right, at a higher loss
    assert best.step == 2
    best.offer(Metrics(0.1, 90, 100), 3)
    assert best.step == 2
    best.offer(Metrics(0.8, 91, 100), 4)
    assert best.step == 4


def test_trap_T2_14_a_gap_is_not_yet_overfitting():
    recipe = few(
        data=Few(n=500, validation=0.8), model=MLPSpec(hidden=(64,)), augment=AugmentSpec(),
        batch_size=50, optimizer=Adam(lr=1e-3), schedule=Constant(), length=steps(40),
        evaluate=steps(2),
    )  # fmt: skip
    looks = [step.evaluation for step in walk(recipe) if step.evaluation]
    gaps = [look.train.accuracy - look.validation.accuracy for look in looks]
    assert looks[-1].train.accuracy > 0.98
    assert gaps[-1] > 0.1
    assert gaps[-1] > gaps[0]
    assert looks[-1].validation.accuracy > looks[0].validation.accuracy + 0.1  # better all the same
    assert looks[-1].validation.loss < looks[0].validation.loss


def test_trap_T2_15_steps_of_an_epoch_are_a_ceiling():
    data = TensorDataset(torch.zeros(270))
    assert len(DataLoader(data, batch_size=64)) == math.ceil(270 / 64) == 5
    assert len(DataLoader(data, batch_size=64, drop_last=True)) == 270 // 64 == 4

    _, built = ready(few(length=epochs(3)))
    plan = built.task.plan
    assert (plan.steps_per_epoch, plan.steps) == (5, 15)
    assert [plan.epoch(step) for step in (1, 5, 6, 15)] == [1, 1, 2, 3]
    assert sum(len(built.task.train.index(step)) for step in range(5)) == 270


def test_trap_T2_16_equal_seeds_are_not_enough_for_equal_results(tmp_path):
    numbers = torch.tensor([1e8, 1.0, -1e8, 1.0])
    assert float((numbers[0] + numbers[1]) + (numbers[2] + numbers[3])) != (
        float((numbers[0] + numbers[2]) + (numbers[1] + numbers[3]))
    )  # the order of a sum is up to threads, kernels and versions

    plain = losses(few())
    assert plain == losses(few()) != losses(few(seed=1))
    engine, built = ready(few())
    beside = []
    for step in fit(built.state, built.task, engine):
        beside.append(float(step.loss))
        torch.rand(3)  # a caller who draws numbers too
    assert beside == plain

    cuda = torch.device("cuda")
    assert Engine(torch.device("cpu"), CPU).level == "bitwise"
    assert Engine(cuda, EngineSpec()).level == "seeded"
    assert Engine(cuda, EngineSpec(deterministic=True)).level == "bitwise"
    engine, built = ready(few(data=FromDataset(Noisy())))
    assert level(engine, built) == "free"

    run = train(few(), tmp_path, stop=after(1))
    decides = fingerprint(run.read_json("environment.json"))
    assert {"torch", "threads", "device", "processor"} <= decides.keys()
    assert None not in decides.values()
    said = io.StringIO()
    torch.set_num_threads(2)
    try:
        resume(run.path, few(), console=Console(said), stop=after(1))
    finally:
        torch.set_num_threads(1)
    assert "not bitwise the same run any more" in said.getvalue()
    assert "threads: 1 -> 2" in said.getvalue()


class Noisy(torch.utils.data.Dataset):
    """Digits with noise that is drawn anew at each reading."""

    def __init__(self):
        data = Digits().load().train.part(torch.arange(100))
        self.images, self.labels = data.pixels(torch.arange(100)), data.targets.tolist()

    def __len__(self):
        return 100

    def __getitem__(self, i):
        return self.images[i] | torch.randint(0, 9, (1, 28, 28), dtype=torch.uint8), self.labels[i]


def test_trap_T2_17_the_best_is_named_and_brought_back(tmp_path):
    # The rate rises until it wrecks the network, so the best is not the last.
    recipe = few(
        optimizer=Adam(lr=2.0), schedule=Constant(warmup=1.0), length=steps(8), evaluate=steps(1)
    )
    run = train(recipe, tmp_path)
    looks = of_kind(run.rows("metrics.jsonl"), "evaluation")
    best = max(
        looks, key=lambda row: (row["validation"]["accuracy"], -row["validation"]["loss"])
    )  # fmt: skip
    summary = run.summary()
    assert summary["best"]["step"] == best["step"] < 8
    assert summary["validation"]["accuracy"] == best["validation"]["accuracy"]
    assert looks[-1]["validation"]["loss"] > best["validation"]["loss"]
    assert load(run.path, "cpu").step == best["step"]
    assert f"after step {best['step']}" in result_text(summary)
    assert "validation accuracy, then by lower validation loss" in Best.__doc__


def test_trap_T2_18_accumulation_weights_its_pieces_by_size():
    recipe = few(
        model=MLPSpec(hidden=(32,)), augment=AugmentSpec(), optimizer=SGD(lr=0.1, weight_decay=0),
        schedule=Constant(), batch_size=10, length=steps(6),
    )  # fmt: skip
    engine, whole = ready(recipe)
    big = [float(step.loss) for step in fit(whole.state, whole.task, engine)]
    engine, pieces = ready(recipe.with_(accumulate=3))
    assert [len(batch.index) for batch in pieces.task.train.pieces(0)] == [2, 4, 4]
    small = [float(step.loss) for step in fit(pieces.state, pieces.task, engine)]
    assert small == pytest.approx(big, rel=1e-5)
    for name, weight in whole.state.model.state_dict().items():
        torch.testing.assert_close(pieces.state.model.state_dict()[name], weight)

    # The loose way, a plain mean over the pieces, is another gradient.
    batch, = whole.task.train.pieces(0)  # fmt: skip
    model = recipe.model.build((1, 28, 28), 10)
    x = whole.task.prepare(batch.images)

    def gradient(loss: Tensor) -> Tensor:
        return torch.autograd.grad(loss, model.layers[1].weight)[0]

    right = gradient(F.cross_entropy(model(x), batch.targets))
    parts = [
        F.cross_entropy(model(x[s]), batch.targets[s]) for s in torch.arange(10).tensor_split(3)
    ]
    by_size = sum(part * n for part, n in zip(parts, (4, 3, 3), strict=True)) / 10
    torch.testing.assert_close(gradient(by_size), right)
    parts = [
        F.cross_entropy(model(x[s]), batch.targets[s]) for s in torch.arange(10).tensor_split(3)
    ]
    assert float((gradient(sum(parts) / 3) - right).norm() / right.norm()) > 0.01

    # Batch normalisation sees the pieces, whoever adds up the gradients.
    ends = []
    for accumulate in (1, 3):
        net = few(model=ResNetSpec(depth=8, width=16), length=steps(1), accumulate=accumulate)
        engine, built = ready(net)
        list(fit(built.state, built.task, engine))
        ends.append(dict(built.state.model.named_buffers()))
    name = next(name for name in ends[0] if name.endswith("running_var"))
    assert not torch.allclose(ends[0][name], ends[1][name], rtol=1e-3)


def test_trap_T2_19_a_row_every_so_many_steps_is_written_inside_the_loop(tmp_path):
    inside = [batch_idx for batch_idx in range(469) if batch_idx % 50 == 0]
    after_it = [batch_idx for batch_idx in range(469)[-1:] if batch_idx % 50 == 0]
    assert (len(inside), len(after_it)) == (10, 0)
    assert 468 % 50 == 18

    seen, rows = recorded(few(), tmp_path)
    rows = of_kind(rows, "step")
    assert [row["step"] for row in rows] == [2, 4, 6]
    for row in rows:
        window = seen[row["step"] - 2 : row["step"]]
        mean = sum(float(s.loss) * s.size for s in window) / sum(s.size for s in window)
        assert row["loss"] == pytest.approx(mean, rel=1e-6)


def test_trap_T2_20_loss_of_the_last_batch_is_not_the_loss_of_the_epoch(tmp_path):
    seen, rows = recorded(few(length=epochs(2)), tmp_path)
    looks = of_kind(rows, "evaluation")
    for look, epoch in zip(looks, (seen[:5], seen[5:]), strict=True):
        mean = sum(float(step.loss) * step.size for step in epoch) / 270
        assert look["running_loss"] == pytest.approx(mean, rel=1e-6)
        assert abs(look["running_loss"] - float(epoch[-1].loss)) > 0.01

    figure = curves(rows, "a run", 5, 10)
    names = [text.get_text() for text in figure.axes[0].get_legend().get_texts()]
    assert "training batches (running)" in names
    assert "train (eval mode, n = 270)" in names
    assert "validation (eval mode, n = 30)" in names


def test_trap_T2_21_no_grad_leaves_requires_grad_alone():
    layer = nn.Linear(3, 1)
    with torch.no_grad():
        out = layer(torch.ones(2, 3)).sum()
        assert all(p.requires_grad for p in layer.parameters())
    assert not out.requires_grad
    with pytest.raises(RuntimeError, match="does not require grad"):
        out.backward()

    engine, built = ready(few())
    table = predict(engine, built.state.model, built.splits.validation, built.task.prepare)
    assert all(p.requires_grad for p in built.state.model.parameters())
    with pytest.raises(RuntimeError, match="does not require grad"):
        table.logits.sum().backward()


def test_trap_T2_22_patience_says_which_evaluation_cuts():
    optimizer = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=1.0)
    theirs, ours = ReduceLROnPlateau(optimizer, patience=3), PlateauSpec(patience=3).plateau()
    for bad in range(5):  # the first is the best, then 1, 2, 3, 4 bad ones
        theirs.step(1.0)
        ours.offer(metrics(1.0))
        cut = bad == 4
        assert (optimizer.param_groups[0]["lr"] < 1) is cut
        assert (ours.lower(1.0) < 1) is cut
    stop = StopSpec(patience=3).build()
    for bad in range(4):  # the first is the best, then 1, 2, 3 bad ones
        stop.offer(metrics(1.0))
        assert stop.now is (bad == 3)
    assert "that are borne; the next one cuts" in " ".join(PlateauSpec.__doc__.split())


def test_trap_T2_23_every_figure_names_its_part_and_its_mode(run: Run):
    text = result_text(run.summary())
    accuracies = [line for line in text.splitlines() if "accuracy" in line]
    assert [line.split(" accuracy:")[0] for line in accuracies] == ["validation", "test"]
    for line, n in zip(accuracies, ("500", "1,000"), strict=True):
        assert f"(n = {n}; 95 %:" in line
    log = (run.path / "log.txt").read_text(encoding="utf-8")
    looks = [line for line in log.splitlines() if line.startswith("epoch 1/1")]
    assert [line.split()[2:4] for line in looks] == [["eval", "train"], ["eval", "validation"]]
    assert all("n = " in line and "95 %:" in line for line in looks)

    figure = curves(run.rows("metrics.jsonl"), "a run", 36, 4)
    lines = figure.axes[1].get_legend().get_texts()
    shown = [t.get_text() for t in lines if not t.get_text().startswith("best")]
    assert shown == ["train (eval mode, n = 2,000)", "validation (eval mode, n = 500)"]
