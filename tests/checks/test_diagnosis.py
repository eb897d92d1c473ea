"""The rules themselves: what they are asked about, where they begin, and what they leave alone."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from typing import Any

import pytest
import torch

from pellucid import Engine, Recipe, epochs, good
from pellucid.assemble import assemble
from pellucid.checks.diagnosis import Facts, Finding, News, diagnose
from pellucid.checks.diagnosis_facts import (
    Agreement,
    DataFacts,
    TaskFacts,
    counts,
    facts_of,
    frozen,
)
from pellucid.data.sampling import Balanced
from pellucid.optim.losses import CrossEntropy
from pellucid.values import Staged
from tests.checks.faults_run import NetSpec

Row = dict[str, Any]

FACTS = Facts(
    classes=tuple("abcdefghij"), train=(100,) * 10, validation=(30,) * 10,
    optimizer="adam", lr=1e-3, batch_size=32, steps=1000, steps_per_epoch=32,
)  # fmt: skip
SOUND = TaskFacts(
    floor=0.0, floor_expected=0.0, doubling=1.0, unrepeatable=0.0, train_input=(0.0, 1.0),
    evaluation_input=(0.0, 1.0), together=0.1, together_expected=0.1, follow=1.0,
    follow_error=0.1, seen=256,
)  # fmt: skip


def vital(step: int = 100, **changes: Any) -> Row:
    """Return sound vital signs, but for the changes."""
    layers = [
        {"name": name, "kind": "Linear", "matrix": True, "used": True, "trained": True,
         "weights": 5.0, "grad": 0.5, "change": 0.3 if step else 0.0, "mean": 0.0, "std": 1.0}
        for name in ("first", "second", "last")
    ]  # fmt: skip
    acts = [
        {"after": name, "kind": "relu", "units": 64, "dead": 0.1, "zeros": 0.5}
        for name in ("first", "second")
    ]
    row = {
        "kind": "vitals", "step": step, "n": 128, "loss": 1.0 if step else 2.4, "chance": 2.3026,
        "accuracy": 0.5, "entropy": 2.2, "top_share": 0.2, "probabilities": False,
        "objective": 1.0 if step else 2.4, "repeat": 0.0, "mixing": 1e-6,
        "input": {"min": -1.0, "max": 3.0, "mean": 0.0, "std": 1.0}, "leftover": 0.0,
        "resting": [], "grad_norm": 1.0, "weights": 9.0, "change": 0.3 if step else 0.0,
        "layers": layers, "activations": acts,
    }  # fmt: skip
    return {**row, **changes}


def judged(
    step: int, train: float, held: float, accuracies: tuple[float, float], lr: float = 1e-3,
    running: float | None = None,
) -> Row:  # fmt: skip
    a, b = accuracies
    return {
        "kind": "evaluation", "step": step, "epoch": 1 + step // 32, "lr": lr,
        "running_loss": train if running is None else running,
        "train": {"loss": train, "accuracy": a, "n": 1000},
        "validation": {"loss": held, "accuracy": b, "n": 300}, "gap": a - b,
    }  # fmt: skip


def stepped(step: int, loss: float, lr: float = 1e-3, norm: float = 1.0) -> Row:
    row = {"kind": "step", "step": step, "epoch": 1, "loss": loss, "n": 320}
    return {**row, "lr": lr, "grad_norm": norm}


def told(*rows: Row, facts: Facts = FACTS, diverged: int | None = None) -> dict[str, str]:
    """Return the severity of each finding by its name."""
    return {f.name: f.severity for f in diagnose(rows, facts, diverged)}


def falling(values: list[float], held: list[float] | None = None, **keys: Any) -> list[Row]:
    """Return a run with these training losses at steps 100, 200, ..."""
    rows = [vital(0)]
    for number, loss in enumerate(values, 1):
        other = (held or values)[number - 1]
        rows += [judged(100 * number, loss, other, (0.6, 0.58), **keys), vital(100 * number)]
    return rows


def test_nothing_is_said_of_nothing_nor_of_a_sound_run() -> None:
    assert told() == {}
    assert told(vital(0)) == {}
    assert told(*falling([1.8, 1.4, 1.1, 0.9, 0.7]), facts=replace(FACTS, task=SOUND)) == {}


@pytest.mark.parametrize(
    ("name", "below", "above"),
    [
        ("outputs-are-probabilities", {"probabilities": False}, {"probabilities": True}),
        ("gradients-not-cleared", {"leftover": 0.0}, {"leftover": 0.1}),
        ("eval-mode-in-training", {"resting": []}, {"resting": ["norm"]}),
        ("evaluation-not-repeatable", {"repeat": 0.009}, {"repeat": 0.011}),
        ("images-influence-each-other", {"mixing": 0.009}, {"mixing": 0.011}),
    ],
)
def test_signs_begin_where_they_should(name: str, below: Row, above: Row) -> None:
    assert told(vital(0), vital(**below)) == {}
    assert told(vital(0), vital(**above)) == {name: "warning"}


def test_random_outputs_are_not_blamed_on_the_other_images() -> None:
    assert told(vital(0, repeat=0.5, mixing=0.5)) == {"evaluation-not-repeatable": "warning"}


@pytest.mark.parametrize(
    ("name", "task", "severity"),
    [
        ("loss-cannot-reach-its-floor", {"floor": 1.4612}, "warning"),
        ("loss-is-a-sum", {"doubling": 2.0}, "warning"),
        ("preparation-not-repeatable", {"unrepeatable": 0.5}, "warning"),
        ("parts-prepared-differently", {"train_input": (33.0, 78.0)}, "warning"),
        ("parts-prepared-differently", {"train_input": (2.0, 1.0)}, "warning"),
        ("batches-not-shuffled", {"together": 0.4}, "warning"),
        ("targets-not-of-images", {"follow": 0.1}, "warning"),
    ],
)
def test_facts_of_the_task_begin_where_they_should(name: str, task: Row, severity: str) -> None:
    facts = replace(FACTS, task=replace(SOUND, **task))
    assert told(facts=facts) == {name: severity}


@pytest.mark.parametrize(
    "task",
    [
        {"floor": 0.5003, "floor_expected": 0.5003},  # label smoothing 0.1
        {"floor": 0.6},
        {"train_input": (0.2, 0.7), "evaluation_input": (0.0, 1.0)},  # crops and erasing
        {"together": 0.12},
        {"follow": 0.4},  # under heavy augmentation
        {"follow": 0.1, "follow_error": 0.3},  # too few images to say
        {"follow": math.nan, "follow_error": math.nan},  # mixed targets
    ],
)
def test_what_sound_recipes_do_is_left_alone(task: Row) -> None:
    assert told(facts=replace(FACTS, task=replace(SOUND, **task))) == {}


def test_layers_that_stand_still_are_named_with_the_reason() -> None:
    row = vital(100)
    for layer, change in zip(
        row["layers"],
        ({"trained": False, "grad": None}, {"grad": None}, {"grad": 0.0}),
        strict=True,
    ):
        layer.update(change=0.0, **change)
    found = {f.name: f for f in diagnose([vital(0), row], FACTS)}["weights-stand-still"]
    assert "first must not change" in found.sentence
    assert "second gets no gradient" in found.sentence
    assert "last gets a gradient of exactly 0" in found.sentence
    assert found.numbers == {"step": 100, "still": 3, "layers": 3}
    row["layers"][2]["grad"] = 0.2
    row["leftover"] = 5.0  # of layers that the optimizer does not know, so nobody clears them
    (only,) = diagnose([vital(0), row], FACTS)
    assert "no step is taken" in only.sentence


def test_what_a_recipe_freezes_on_purpose_is_left_alone() -> None:
    row = vital(100, resting=["body.norm"])
    row["layers"][0].update(name="body.conv", change=0.0, trained=False, grad=None)
    assert set(told(vital(0), row)) == {"weights-stand-still", "eval-mode-in-training"}
    assert told(vital(0), row, facts=replace(FACTS, frozen=("body",))) == {}
    assert "weights-stand-still" in told(vital(0), row, facts=replace(FACTS, frozen=("bod",)))


def test_frozen_parts_are_those_of_a_model_that_is_trained_in_stages() -> None:
    class Transferred(torch.nn.Module):
        freeze_epochs = 1.0
        backbone_lr = 0.1

        def __init__(self) -> None:
            super().__init__()
            self.body, self.out = torch.nn.Linear(2, 2), torch.nn.Linear(2, 2)

        def backbone(self) -> list[torch.nn.Module]:
            return [self.body]

        def head(self) -> torch.nn.Module:
            return self.out

    model = Transferred()
    assert isinstance(model, Staged)
    assert frozen(model) == ("body",)
    model.freeze_epochs = 0.0
    assert frozen(model) == ()
    assert frozen(torch.nn.Linear(2, 2)) == ()


@pytest.mark.parametrize(
    ("loss", "expected"), [(5.2, None), (5.4, "note"), (17.2, "note"), (17.4, "warning")]
)
def test_a_start_far_from_chance(loss: float, expected: str | None) -> None:
    assert told(vital(0, loss=loss)).get("start-far-from-chance") == expected


@pytest.mark.parametrize(
    ("seen", "alarm"),
    [
        ({"mean": 0.13, "std": 0.31}, False),  # pixels from 0 to 1
        ({"mean": 33.3, "std": 78.6}, True),  # pixels from 0 to 255
        ({"mean": 0.0, "std": 0.004}, True),  # divided by 255 twice
    ],
)
def test_an_input_that_is_not_normalised(seen: Row, alarm: bool) -> None:
    row = vital(0, input={"min": 0.0, "max": 1.0, **seen})
    assert ("input-not-normalised" in told(row)) == alarm


@pytest.mark.parametrize(("share", "expected"), [(0.7, None), (0.8, "note"), (0.95, "warning")])
def test_dead_units(share: float, expected: str | None) -> None:
    row = vital(100)
    row["activations"][1]["dead"] = share
    assert told(vital(0), row).get("dead-units") == expected


def test_saturation_counts_more_at_the_start_than_later() -> None:
    def sigmoid(step: int, share: float) -> Row:
        entry = {"after": "first", "kind": "sigmoid", "units": 64, "dead": 0, "saturated": share}
        return vital(step, activations=[entry])

    assert told(sigmoid(0, 0.4), sigmoid(100, 0.9)) == {}
    assert told(sigmoid(0, 0.6), sigmoid(100, 0.1)) == {"saturated-units": "warning"}
    assert told(sigmoid(0, 0.1), sigmoid(100, 0.97)) == {"saturated-units": "warning"}


def test_gradients_that_vanish_or_explode() -> None:
    row = vital(0)
    row["layers"][0]["grad"] = 4e-4
    assert told(row) == {"vanishing-gradients": "warning"}
    row["layers"][0]["grad"] = 6e-4
    assert told(row) == {}
    row["layers"][0]["grad"] = 0.0  # dead, or cut off: other rules say so
    assert told(row) == {}
    assert told(vital(0, grad_norm=400.0)) == {"exploding-gradients": "warning"}
    assert told(vital(0), stepped(10, 1.0, norm=400.0)) == {"exploding-gradients": "warning"}
    assert told(vital(0), stepped(10, 1.0, norm=99.0)) == {}


def test_an_activation_behind_the_last_layer() -> None:
    row = vital(0)
    row["activations"].append({"after": "last", "kind": "relu", "units": 10, "dead": 0.0})
    assert told(row) == {"outputs-are-squashed": "warning"}
    row["activations"][-1]["after"] = "second"  # a hidden layer as wide as there are classes
    assert told(row) == {}


# ---- data -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("shared", "expected"), [((), None), ((3, 1000), "note"), ((30, 1000), "warning")]
)
def test_images_in_two_parts(shared: tuple[int, ...], expected: str | None) -> None:
    rows = (("test", "train", *shared),) if shared else ()
    facts = replace(FACTS, data=DataFacts(shared=rows))
    found = {f.name: f for f in diagnose([], facts)}
    assert (found["parts-share-images"].severity if found else None) == expected


def test_imbalance_is_an_alarm_unless_the_recipe_deals_with_it() -> None:
    sizes = (100,) * 9
    assert told(facts=replace(FACTS, train=(250, *sizes))) == {}
    assert told(facts=replace(FACTS, train=(400, *sizes))) == {"imbalance": "note"}
    skewed = replace(FACTS, train=(2000, *sizes))
    assert told(facts=skewed) == {"imbalance": "warning"}
    assert told(facts=replace(skewed, evened=True)) == {"imbalance": "note"}


def test_labels_in_another_order_need_more_than_a_weak_network() -> None:
    def of(as_is: float, relabelled: float, n: int = 200) -> dict[str, str]:
        found = Agreement(n, as_is, relabelled, 0.1, ("1", "0"))
        return told(facts=replace(FACTS, judged=found))

    assert of(0.02, 0.9) == {"labels-in-another-order": "warning"}
    assert of(0.05, 0.35) == {"labels-in-another-order": "warning"}
    assert of(0.8, 0.9) == {}
    assert of(0.4, 0.7) == {}  # two classes that are often confused, say
    assert of(0.08, 0.17) == {}  # a network that knows next to nothing
    assert of(0.05, 0.35, n=12) == {}


# ---- curves ---------------------------------------------------------------------------------


def test_a_learning_rate_that_is_too_high() -> None:
    assert told(vital(0), diverged=7) == {"lr-too-high": "warning"}
    rose = [vital(0), judged(100, 2.3, 2.3, (0.1, 0.1), running=3.7)]
    assert told(*rose) == {"lr-too-high": "warning"}
    assert told(vital(0), judged(100, 2.3, 2.3, (0.1, 0.1), running=3.3)) == {}
    thrown = [vital(0), judged(100, 2.31, 2.31, (0.1, 0.1)), vital(100, change=9.0)]
    assert told(*thrown) == {"lr-too-high": "warning"}
    learned = [vital(0), judged(100, 0.9, 0.9, (0.8, 0.8)), vital(100, change=9.0)]
    assert told(*learned) == {}  # small weights at the start may grow a lot


def test_a_loss_that_swings() -> None:
    smooth = [stepped(10 * i, 2.3 - 0.02 * i) for i in range(1, 41)]
    rough = [stepped(10 * i, 1.0 + 1.2 * (i % 2)) for i in range(1, 41)]
    assert told(vital(0), *smooth) == {}
    assert told(vital(0), *rough) == {"lr-too-high": "warning"}
    assert told(vital(0), *rough[:8], *smooth[8:]) == {}  # early jolts


def test_a_learning_rate_that_is_too_low_is_not_a_short_run_nor_a_warm_up() -> None:
    def run(step: int, lr: float = 1e-3, change: float = 0.002, loss: float = 2.39) -> list[Row]:
        return [vital(0), judged(step, loss, loss, (0.1, 0.1), lr), vital(step, change=change)]

    assert told(*run(300)) == {"lr-too-low": "warning"}
    assert told(*run(100)) == {}  # a tenth of the run
    assert told(*run(300, lr=1e-4)) == {}  # the rate itself is still rising, or has fallen
    assert told(*run(300, change=0.2)) == {}
    assert told(*run(300, loss=1.5)) == {}


def test_a_rate_that_falls_too_soon_is_not_a_warm_up() -> None:
    rates = [1e-3 * 0.7**i for i in range(20)]
    rows = [stepped(10 * i, 2.2, lr) for i, lr in enumerate(rates, 1)]
    done = [judged(200, 2.2, 2.2, (0.2, 0.2), rates[-1]), vital(200)]
    assert told(vital(0), *rows, *done) == {"lr-falls-too-soon": "warning"}
    assert told(vital(0), *rows[12:], *done) == {"lr-falls-too-soon": "warning"}  # rows are sparse
    rising = [stepped(10 * i, 2.2, 1e-6 * i) for i in range(1, 21)]
    assert told(vital(0), *rising, *done) == {}
    assert told(vital(0), *rows, *done, facts=replace(FACTS, steps=200)) == {}  # near the end


def blank(step: int, train: float = 0.1) -> list[Row]:
    return [judged(step, 2.3, 2.31, (train, 0.1)), vital(step)]


def test_labels_that_have_nothing_to_do_with_the_images() -> None:
    rows = [vital(0), *blank(200), *blank(400)]
    chance = DataFacts(train=Agreement(500, 0.1, 0.1, 0.1))
    clear = DataFacts(train=Agreement(500, 0.4, 0.4, 0.1))
    assert told(*rows, facts=replace(FACTS, data=chance)) == {"labels-unrelated": "warning"}
    assert told(*rows, facts=replace(FACTS, data=clear)) == {}  # early; it may still begin
    by_heart = [vital(0), *blank(200), *blank(400, train=0.6)]
    assert told(*by_heart, facts=replace(FACTS, data=clear))["labels-unrelated"] == "warning"
    late = [*rows, *blank(600)]
    assert told(*late, facts=replace(FACTS, data=clear)) == {"learns-nothing": "warning"}
    excused = [*rows[:-1], vital(400, mixing=0.5)]
    assert "labels-unrelated" not in told(*excused, facts=replace(FACTS, data=chance))


GOOD = (0.99, 0.97)
POOR = (0.99, 0.80)


def curve(
    train: list[float], held: list[float], accuracies: tuple[float, float], lr: float = 1e-3
) -> list[Row]:
    rows = [vital(0)]
    for number, pair in enumerate(zip(train, held, strict=True), 1):
        rows += [judged(100 * number, *pair, accuracies, lr), vital(100 * number)]
    return rows


def test_a_gap_alone_is_not_overfitting() -> None:
    better = curve([1.0, 0.5, 0.3, 0.2], [1.2, 1.0, 0.9, 0.85], POOR)
    assert told(*better) == {"gap": "note"}
    worse = curve([1.0, 0.5, 0.2, 0.1], [1.2, 0.9, 1.0, 1.2], POOR)
    assert told(*worse) == {"overfitting": "warning"}
    stands = curve([1.0, 0.5, 0.3, 0.2, 0.1], [1.2, 0.9, 0.92, 0.91, 0.93], POOR)
    assert told(*stands) == {"overfitting": "warning"}
    both = curve([1.0, 0.5, 0.55, 0.6], [1.2, 0.9, 1.0, 1.2], POOR)
    assert "overfitting" not in told(*both)  # training gets worse too: something else
    strong = curve([1.0, 0.5, 0.3], [1.9, 1.8, 1.7], (0.99, 0.6))
    assert told(*strong) == {"overfitting": "warning"}


def test_a_rising_loss_with_a_steady_accuracy_is_a_note() -> None:
    rows = curve([0.3, 0.1, 0.03, 0.01], [0.2, 0.1, 0.12, 0.15], GOOD)
    assert told(*rows) == {"overconfident": "note"}
    rows[-2]["validation"] = {**rows[-2]["validation"], "accuracy": 0.94}
    assert told(*rows) == {}  # the accuracy fell too


def test_underfitting_is_no_schedule_at_its_end() -> None:
    still = [2.0, 1.75, 1.71, 1.70, 1.70]
    fair = (0.4, 0.39)
    assert told(*curve(still, still, fair)) == {"underfitting": "warning"}
    assert told(*curve(still, still, fair, lr=1e-4)) == {}
    falls = [2.0, 1.75, 1.71, 1.66, 1.60]
    noisy = curve([2.0, 1.75, 1.71, 1.75, 1.70], still, fair)
    for row, running in zip(noisy[1::2], falls, strict=True):
        row["running_loss"] = running
    assert told(*noisy) == {}
    assert told(*curve(falls, falls, fair)) == {}
    assert told(*curve([0.9, 0.61, 0.6, 0.6, 0.6], [0.9, 0.6, 0.6, 0.6, 0.6], (0.8, 0.8))) == {
        "plateau": "note"
    }
    assert told(*curve([0.1] * 5, [0.1] * 5, GOOD)) == {}


# ---- telling --------------------------------------------------------------------------------


def test_news_are_told_once_and_again_only_when_they_get_worse() -> None:
    note = Finding("gap", "note", "", {}, "")
    warning = replace(note, severity="warning")
    news = News()
    assert news([note]) == [note]
    assert news([note]) == []
    assert news([warning]) == [warning]
    assert news([note, warning]) == []
    worst_first = News()
    assert worst_first([warning]) == [warning]
    assert worst_first([note]) == []


def test_warnings_come_first_and_each_finding_is_whole() -> None:
    facts = replace(FACTS, train=(400, *(100,) * 9))
    found = diagnose([vital(0, probabilities=True, grad_norm=1e4)], facts)
    assert [f.severity for f in found] == ["warning", "warning", "note"]
    for finding in found:
        assert finding.advice.endswith(".")
        assert finding.sentence.endswith(".")
        assert json.loads(json.dumps(dict(finding.numbers), allow_nan=False)) == finding.numbers
        assert str(finding).startswith(f"{finding.severity}: {finding.name}: ")


def test_numbers_that_are_not_finite_break_nothing() -> None:
    row = vital(100, loss=None, grad_norm=None, repeat=None, mixing=None, change=None)
    row["layers"][0].update(weights=None, grad=None, change=None)
    assert told(vital(0, loss=None, objective=None), judged(100, 2, 2, (0.1, 0.1)), row) == {}


def test_facts_come_from_recipe_and_data(tiny: Recipe) -> None:
    recipe = tiny.with_(loss=CrossEntropy(label_smoothing=0.1), sampling=Balanced())
    built = assemble(recipe, Engine.start(recipe.engine))
    facts = facts_of(recipe, built.splits, built.task.plan, built.state.model)
    assert facts.train == counts(built.splits.train)
    assert sum(facts.validation) == len(built.splits.validation)
    assert (facts.smoothing, facts.evened, facts.augmented) == (0.1, True, True)
    assert (facts.optimizer, facts.schedule, facts.lr) == ("adamw", "cosine", 3e-3)
    assert (facts.steps, facts.steps_per_epoch) == (12, 4)
    assert facts.uniform == pytest.approx(2.302585)
    plain = facts_of(good("digits").with_(length=epochs(1)), built.splits, built.task.plan,
                     NetSpec().build((1, 28, 28), 10))  # fmt: skip
    assert not plain.evened


def test_a_blind_answer_costs_the_entropy_of_the_classes() -> None:
    assert FACTS.blind == pytest.approx(FACTS.uniform)
    facts = replace(FACTS, classes=("a", "b"), train=(75, 25), validation=(9, 3))
    assert facts.blind == pytest.approx(0.5623, abs=1e-4)
    assert facts.guess == 0.75
    assert replace(facts, validation=()).guess == 0
