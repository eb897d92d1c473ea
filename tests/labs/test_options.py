"""Options of a lab: read from text as from Python, and refused with what is allowed."""

from __future__ import annotations

from typing import Annotated, Literal

import pytest
import torch
from matplotlib.figure import Figure

from pellucid.errors import UserError
from pellucid.labs.options import about, from_words, lab, options, ranged, read
from pellucid.labs.result import LabResult, is_true


@lab
def sample(
    *,
    lr: Annotated[float, ranged("learning rate", 0.001, 1)] = 0.1,
    steps: Annotated[int, ranged("how many", 1, 100)] = 10,
    rule: Annotated[Literal["sgd", "adam"], about("which")] = "sgd",
    wide: Annotated[bool, about("or narrow")] = False,
    start: Annotated[
        tuple[Annotated[float, ranged("x", -5, 5)], Annotated[float, ranged("y", -5, 5)]],
        about("where"),
    ] = (0.0, 1.0),
) -> LabResult:
    """Return what was given."""
    values = {"lr": lr, "steps": steps, "rule": rule, "wide": wide, "start": start}
    noise = float(torch.rand(()))
    return LabResult("", [is_true("yes", True)], Figure, values={**values, "noise": noise})


def test_text_becomes_what_python_would_give() -> None:
    words = ["--lr", "0.5", "--steps=3", "--rule", "adam", "--wide", "yes", "--start", "-1,2.5"]
    given = read(sample, from_words(words))
    assert given == {"lr": 0.5, "steps": 3, "rule": "adam", "wide": True, "start": (-1.0, 2.5)}
    assert {k: v for k, v in sample(**given).values.items() if k != "noise"} == given


def test_what_is_left_out_keeps_its_default() -> None:
    assert read(sample, {}) == {
        "lr": 0.1, "steps": 10, "rule": "sgd", "wide": False, "start": (0.0, 1.0)
    }  # fmt: skip


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"lr": "2"}, r'--lr must be a number from 0.001 to 1. Got "2".'),
        ({"lr": 0.0}, r"--lr must be a number from 0.001 to 1"),
        ({"lr": "nan"}, r"--lr must be a number"),
        ({"lr": float("nan")}, r"--lr must be a number"),
        ({"lr": "fast"}, r"--lr must be a number"),
        ({"steps": "3.5"}, r"--steps must be a whole number from 1 to 100"),
        ({"steps": 101}, r"--steps must be a whole number from 1 to 100"),
        ({"rule": "adma"}, r'--rule must be one of sgd, adam. Got "adma".'),
        ({"wide": "perhaps"}, r"--wide must be yes or no"),
        ({"start": "1"}, r"--start must be 2 numbers with commas between them, each a number"),
        ({"start": "1,9"}, r"from -5 to 5"),
        ({"start": (1.0, float("inf"))}, r"from -5 to 5"),
        ({"stepz": "1"}, r"no option --stepz; did you mean .--steps..* Its options: --steps, --"),
    ],
)
def test_a_wrong_value_is_refused_with_what_is_allowed(given: dict[str, object], said: str) -> None:
    with pytest.raises(UserError, match=said):
        sample(**given)


@pytest.mark.parametrize(
    ("words", "said"),
    [(["lr", "1"], 'Got "lr"'), (["--lr"], "--lr needs a value"), (["--lr", "--steps"], "value")],
)
def test_words_that_are_no_options(words: list[str], said: str) -> None:
    with pytest.raises(UserError, match=said):
        from_words(words)


def test_a_negative_number_is_a_value() -> None:
    assert from_words(["--w", "-1", "--batch-size", "4"]) == {"w": "-1", "batch_size": "4"}


def test_options_say_what_they_are() -> None:
    found = options(sample)
    assert found["lr"].help == "learning rate"
    assert found["lr"].allowed == "a number from 0.001 to 1"
    assert found["start"].flag == "--start"


def test_a_lab_draws_the_same_numbers_and_leaves_the_callers_stream_alone() -> None:
    torch.rand(3)
    before = torch.get_rng_state()
    one = sample().values["noise"]
    assert torch.equal(torch.get_rng_state(), before)
    torch.rand(5)
    assert sample().values["noise"] == one
