"""Checks that train for a moment: one batch by heart, shuffled labels."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

import msgspec
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from pellucid import Engine, Recipe, good, notes
from pellucid.assemble import Assembled, assemble
from pellucid.checks import preflight_learning, preflight_shuffled
from pellucid.checks.preflight_learning import overfit
from pellucid.checks.preflight_shuffled import (
    Relabelled,
    Short,
    duration,
    in_words,
    short,
    shuffled_labels,
)
from pellucid.evaluate import predict
from pellucid.models.mlp import MLP, MLPSpec
from pellucid.models.mnist_cnn import MnistCNNSpec
from pellucid.optim.losses import CrossEntropy
from pellucid.optim.specs import SGD, Adam
from pellucid.seeds import generator
from pellucid.values import Batch, ImageSet, Predictions

Shape = tuple[int, int, int]
PLAIN = notes("digits").with_(model=MLPSpec(hidden=(50,)))
ENGINE = Engine.start(PLAIN.engine)


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    """So small a network only loses by a second thread, and much of it on a busy machine."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@dataclass(frozen=True)
class Made:
    """A model of one's own."""

    make: Callable[[Shape, int], nn.Module]

    def build(self, shape: Shape, classes: int) -> nn.Module:
        return self.make(shape, classes)


def heart(recipe: Recipe, steps: int = 200) -> tuple[str, str]:
    check = overfit(recipe, ENGINE, assemble(recipe, ENGINE), steps)
    return check.verdict, check.measured


def tried(recipe: Recipe, steps: int = 40) -> tuple[Short, Short, Assembled]:
    built = assemble(recipe, ENGINE)
    right = short(recipe, ENGINE, built, steps, shuffled=False)
    return right, short(recipe, ENGINE, built, steps, shuffled=True), built


def zeros(shape: Shape, classes: int) -> nn.Module:
    model = MLP(shape, classes, (20,))
    for parameter in model.parameters():
        nn.init.zeros_(parameter)
    return model


def test_one_batch_is_learned_by_heart() -> None:
    verdict, measured = heart(PLAIN)
    assert verdict == "ok"
    assert measured.endswith("32 of 32 right")


def test_dropout_and_augmentation_are_off() -> None:
    """With nineteen of twenty units dropped it would take far longer."""

    def augment(batch: Batch, step: int) -> Batch:
        raise AssertionError("the batch was augmented")

    recipe = good("digits").with_(model=MnistCNNSpec(dropout=0.95))
    built = assemble(recipe, ENGINE)
    watched = replace(built, task=replace(built.task, augment=augment))
    assert overfit(recipe, ENGINE, watched, 30).verdict == "ok"


def test_the_floor_of_a_smoothed_loss_is_known() -> None:
    recipe = PLAIN.with_(loss=CrossEntropy(label_smoothing=0.3))
    verdict, measured = heart(recipe)
    p = 1 - 0.3 + 0.03
    entropy = -p * math.log(p) - 9 * 0.03 * math.log(0.03)  # of the smoothed target
    assert verdict == "ok"
    assert f"(floor {entropy:.3f})" in measured


@pytest.mark.parametrize(
    "make",
    [
        lambda shape, classes: nn.Sequential(MLP(shape, classes, (50,)), nn.Softmax(1)),
        lambda shape, classes: nn.Sequential(MLP(shape, classes, (50,)), nn.Sigmoid()),
        zeros,
    ],
    ids=["softmax", "sigmoid", "zeros"],
)
def test_a_model_that_cannot(make: Callable[[Shape, int], nn.Module]) -> None:
    check = overfit(PLAIN.with_(model=Made(make)), ENGINE, assemble(PLAIN, ENGINE), 100)
    assert check.verdict == "failed"
    assert check.measured.count("Adam at 0.001") == 2
    assert "last layers" in check.advice


def test_a_loss_with_the_wrong_sign() -> None:
    def wrong(logits: Tensor, targets: Tensor) -> Tensor:
        return -F.cross_entropy(logits, targets)

    assert heart(PLAIN.with_(loss=wrong), 30)[0] == "failed"


def test_labels_that_contradict_each_other() -> None:
    """The same picture under every label."""
    built = assemble(PLAIN, ENGINE)
    train = built.splits.train
    same = train.images[train.rows[:1]].expand(len(train), -1, -1, -1)
    one = ImageSet.of(same, train.targets, train.classes, train.name)
    broken = replace(built, splits=replace(built.splits, train=one))
    assert overfit(PLAIN, ENGINE, broken, 40).verdict == "failed"


def test_a_learning_rate_that_is_much_too_low() -> None:
    verdict, measured = heart(PLAIN.with_(optimizer=SGD(lr=1e-6)))
    assert verdict == "warning"
    assert measured.startswith("SGD at 1e-06: loss 3.")
    assert "Adam at 0.001" in measured


def test_a_learning_rate_that_is_much_too_high() -> None:
    assert heart(PLAIN.with_(optimizer=SGD(lr=1e4)))[0] == "warning"


def test_the_batch_holds_each_class() -> None:
    built = assemble(PLAIN, ENGINE)
    batch = preflight_learning._each_class(built, 32)
    assert torch.bincount(batch.targets).tolist() == [4, 4, 3, 3, 3, 3, 3, 3, 3, 3]
    assert len(set(batch.index.tolist())) == 32
    assert torch.equal(batch.images, built.splits.train.pixels(batch.index))
    assert torch.equal(batch.targets, built.splits.train.label(batch.index))


def test_shuffled_labels_are_not_learned_and_right_ones_are() -> None:
    right, mixed, built = tried(PLAIN)
    check = shuffled_labels(right, mixed, 40)
    assert check.verdict == "ok"
    assert right.n == mixed.n == len(built.splits.validation) == 500
    assert right.accuracy > 0.6
    assert abs(mixed.belief - 0.1) < 0.02


@dataclass(frozen=True)
class Knowing:
    """A model that knows the digits from elsewhere, and can only shift its answers."""

    def build(self, shape: Shape, classes: int) -> nn.Module:
        built = assemble(PLAIN, ENGINE)
        train = built.splits.train
        x = built.task.prepare(train.pixels(torch.arange(len(train)))).flatten(1)
        x = torch.cat([x, torch.ones(len(x), 1)], 1)
        y = 10 * F.one_hot(train.targets, classes).float() - 1
        solved = torch.linalg.lstsq(x.T @ x + 100 * torch.eye(785), x.T @ y).solution
        layer = nn.Linear(784, classes)
        with torch.no_grad():
            layer.weight.copy_(solved[:784].T)
            layer.bias.copy_(solved[784])
        layer.weight.requires_grad_(False)
        return nn.Sequential(nn.Flatten(), layer)


def test_classes_that_are_known_from_elsewhere() -> None:
    right, mixed, _ = tried(PLAIN.with_(model=Knowing()), 10)
    assert mixed.accuracy > 0.7
    check = shuffled_labels(right, mixed, 10)
    assert check.verdict == "failed"
    assert "without having been shown" in check.advice


def test_nothing_is_learned_at_a_tiny_rate() -> None:
    right, mixed, _ = tried(PLAIN.with_(optimizer=SGD(lr=1e-7)))
    check = shuffled_labels(right, mixed, 40)
    assert check.verdict == "failed"
    assert "taught nothing" in check.advice


def test_verdicts_on_numbers() -> None:
    def one(accuracy: float, belief: float, n: int = 500) -> Short:
        return Short(accuracy, belief, 0.1, n, 0.01, 0.0)

    good_run, noise = one(0.9, 0.85), one(0.17, 0.101)
    assert good_run.bound == pytest.approx(0.1 + 3 * math.sqrt(0.1 * 0.9 / 500))
    assert shuffled_labels(good_run, noise).verdict == "ok"
    assert shuffled_labels(good_run, one(0.3, 0.2)).verdict == "warning"
    assert shuffled_labels(good_run, one(0.9, 0.6)).verdict == "failed"
    assert shuffled_labels(good_run, one(0.1, math.nan)).verdict != "ok"
    assert shuffled_labels(one(0.13, 0.11), noise).verdict == "failed"
    assert shuffled_labels(one(0.15, 0.11), noise).verdict == "ok"


def test_accuracy_of_shuffled_labels_leaves_the_binomial_interval() -> None:
    """Why it is not what counts: one network gives images of one class much the same answer."""
    classes = torch.arange(500) % 10
    logits = F.one_hot((classes * 3 + 4) % 10, 10).float()  # each digit is taken for one other
    said = Predictions(0.01 * logits, classes, torch.arange(500), tuple("0123456789"))
    found = preflight_shuffled._summed(said, 0.01, 0.01)
    assert found.accuracy == pytest.approx(0.2)  # 3 c + 4 = c for two of ten, by chance
    assert found.accuracy > found.bound
    assert found.belief < found.bound


def test_luck_is_that_of_unequal_classes() -> None:
    """Always saying the class of nine in ten images is right for nine in ten."""
    targets = (torch.arange(1000) % 10 == 0).long()
    logits = torch.tensor([[20.0, -20.0]]).repeat(1000, 1)
    said = Predictions(logits, targets, torch.arange(1000), ("a", "b"))
    found = preflight_shuffled._summed(said, 0.01, 0.01)
    assert found.luck == pytest.approx(0.9)
    assert found.belief == pytest.approx(0.9)


def test_only_the_labels_are_shuffled() -> None:
    built = assemble(PLAIN, ENGINE)
    train = built.splits.train
    mixed = train.targets[torch.randperm(len(train), generator=generator(0, "test"))]
    given = Relabelled(built.task.train, mixed)
    assert torch.equal(given.index(3), built.task.train.index(3))
    (batch,) = given.pieces(3)
    (plain,) = built.task.train.pieces(3)
    assert torch.equal(batch.images, plain.images)
    assert torch.equal(batch.targets, mixed[batch.index])
    assert not torch.equal(batch.targets, plain.targets)


def test_training_on_shuffled_labels_is_done_with_all_of_them(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A permutation: as many of each class as before, and another order."""
    seen: list[Tensor] = []

    def kept(train: object, labels: Tensor) -> Relabelled:
        seen.append(labels)
        return Relabelled(train, labels)  # type: ignore[arg-type]

    monkeypatch.setattr(preflight_shuffled, "Relabelled", kept)
    built = assemble(PLAIN, ENGINE)
    short(PLAIN, ENGINE, built, 1, shuffled=True)
    short(PLAIN, ENGINE, built, 1, shuffled=False)
    (labels,) = seen
    assert torch.equal(labels.bincount(), built.splits.train.targets.bincount())
    assert 0.05 < float((labels == built.splits.train.targets).double().mean()) < 0.15


def test_the_schedule_is_run_through() -> None:
    """The 36th of 36 steps takes the rate of the end of the recipe's 360."""
    recipe = good("digits").with_(model=MLPSpec(hidden=(20,)))
    built = assemble(recipe, ENGINE)
    asked: list[int] = []

    def schedule(step: int) -> float:
        asked.append(step)
        return built.task.schedule(step)

    watched = replace(built, task=replace(built.task, schedule=schedule))
    short(recipe, ENGINE, watched, 36, shuffled=False)
    assert asked == list(range(0, 360, 10))


def test_averaged_weights_are_judged_if_the_recipe_averages() -> None:
    recipe = PLAIN.with_(ema=msgspec.structs.replace(PLAIN.ema, decay=0.9))
    right, mixed, _ = tried(recipe, 30)
    assert shuffled_labels(right, mixed, 30).verdict == "ok"


def test_accuracy_is_that_of_plain_counting() -> None:
    built = assemble(PLAIN, ENGINE)
    said = predict(ENGINE, built.state.model, built.splits.validation, built.task.prepare)
    found = preflight_shuffled._summed(said, 0.0, 0.0)
    right = int((said.logits.argmax(1) == built.splits.validation.targets).sum())
    assert found.accuracy == right / 500
    shares = said.logits.softmax(1)[torch.arange(500), said.targets]
    assert found.belief == pytest.approx(shares.mean().item(), abs=1e-6)


def test_the_length_of_a_run_is_estimated() -> None:
    built = assemble(PLAIN, ENGINE)  # 432 steps, 12 evaluations of 500 + 2,000 images
    check = duration(Short(0.9, 0.9, 0.1, 500, 0.1, 0.001), built)
    assert check.measured == "100 ms a step; 432 steps and 12 evaluations: about 73 s"
    assert in_words(99) == "99 s"
    assert in_words(43.2 * 2500) == "30.0 h"


def test_a_fresh_model_is_that_of_the_run() -> None:
    built = assemble(PLAIN.with_(optimizer=Adam(lr=0.1)), ENGINE)
    state, engine = preflight_learning.fresh(PLAIN, ENGINE, built)
    assert state.model is not built.state.model
    assert engine is not ENGINE
    for name, weight in state.model.state_dict().items():
        assert torch.equal(weight, built.state.model.state_dict()[name])


def test_one_batch_is_one_batch() -> None:
    batch = Batch(torch.zeros(1), torch.zeros(1), torch.arange(3), torch.arange(3), 3)
    given = preflight_learning.OneBatch(batch)
    assert list(given.pieces(7)) == [batch]
    assert given.index(7) is batch.index
