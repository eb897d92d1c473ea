"""A formula that a user writes: read exactly, and never run."""

from __future__ import annotations

import math

import pytest
import torch

from pellucid.cli.main import run
from pellucid.errors import UserError
from pellucid.labs import optimizers, surfaces
from pellucid.labs.formula import FUNCTIONS, parse

HERE = torch.tensor([2.0, -1.5], dtype=torch.float64)


@pytest.mark.parametrize(
    "text",
    ["x + y", "-x^2 + y**3", "2*x - -y", "x/y/2", "x^2^0.5", "(x - 1)*(y + 2)", "1.5e-3*x",
     "sin(x)*cos(y) + tan(x)", "exp(-x^2) + log(x) + sqrt(x + 2)", "abs(y) + tanh(x*y)", "pi*x + e",
     "  x  ", "3", "+y"],
)  # fmt: skip
def test_a_formula_is_what_python_would_compute(text: str) -> None:
    names = {name: getattr(math, name) for name in FUNCTIONS if name != "abs"}
    known = {"x": 2.0, "y": -1.5, "pi": math.pi, "e": math.e, "abs": abs, **names}
    assert float(parse(text)(HERE)) == pytest.approx(eval(text.strip().replace("^", "**"), known))


@pytest.mark.parametrize(
    ("text", "place", "said"),
    [
        ("x^2 + z", 7, '"z" is not known'), ("x^2 + foo(y)", 7, '"foo" is no function here'),
        ("__import__(x)", 1, '"__import__" is no function'), ("x.real", 1, "not known"),
        ("exec(x)", 1, '"exec" is no function'), ("x.__class__(y)", 1, "takes one formula"),
        ("(x)(y)", 1, "no function here"), ("sin(x, y)", 1, "takes one formula"), ("sin", 1, "sin"),
        ("x[0]", 2, "'['"), ("'a'*x", 1, "not known"), ("x if y else 1", 1, "not known"),
        ("x and y", 1, "not known"), ("x // y", 1, "operator"), ("lambda_", 1, "not known"),
        ("x;y", 2, "';'"), ("x = 1", 3, "'='"), ("2j*x", 1, "not known"), ("True", 1, "not known"),
        ("1e400*x", 1, "too large"), ("x +", 3, "cannot be read"), ("x y", 3, "cannot be read"),
        ("x^2 ^", 5, "cannot be read"), ("x\n+ y", 2, r"'\n'"), ("é", 1, r"'\xe9'"),
        ("x, y", 1, "not known"), ("_", 1, '"_" is not known'),
    ],
)  # fmt: skip
def test_all_else_is_refused_with_its_place(text: str, place: int, said: str) -> None:
    with pytest.raises(UserError) as caught:
        parse(text)
    assert f"at character {place}: " in str(caught.value)
    assert said in str(caught.value)
    assert "Allowed: x, y, numbers" in str(caught.value)


def test_a_formula_has_an_end() -> None:
    with pytest.raises(UserError, match="up to 200 characters. This one has 301"):
        parse("x" + "+x" * 150)
    with pytest.raises(UserError, match="empty"):
        parse("   ")
    with pytest.raises(UserError, match="cannot be read"):
        parse("(" * 150 + "x")
    assert math.isinf(float(parse("9^9^9^9")(HERE)))  # in floating point, so it takes no time


def test_a_formula_has_a_slope_even_where_a_letter_is_missing() -> None:
    assert surfaces.gradient_of(parse("x^2"))(HERE).tolist() == [4, 0]
    assert surfaces.gradient_of(parse("7"))(HERE).tolist() == [0, 0]


def test_a_walk_needs_a_height_and_a_slope_at_its_start() -> None:
    with pytest.raises(
        UserError, match=r"At the start \(0, 0\) the formula log\(x\) has the height"
    ):
        surfaces.chosen("rosenbrock", "log(x)", (0.0, 0.0))
    assert surfaces.chosen("saddle", " ", (0.0, 0.0)) is surfaces.SURFACES["saddle"]


def test_the_lab_walks_on_a_formula(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("as_torch", "_first_steps", "_fixed", "_decay"):
        monkeypatch.setattr(optimizers, name, list)  # they are tested with the lab itself
    found = optimizers.run(formula="(x - 2)^2 + 3*(y + 1)^2", start=(1.0, 1.0), lr=0.1, steps=100)
    assert not found.failed
    assert found.values["gradient descent"] == pytest.approx([2, -1], abs=1e-6)
    assert "(x - 2)^2 + 3*(y + 1)^2" in found.text
    assert found.tables[1].rows[0][:4] == (0, 1.0, 1.0, 13.0)
    turned = optimizers.run(formula="x*y", azimuth=45.0, elevation=20.0, steps=5)
    (solid,) = [axis for axis in turned.figure.axes if axis.name == "3d"]
    assert (solid.azim, solid.elev) == (45, 20)


def test_a_wrong_formula_fails_a_claim(monkeypatch: pytest.MonkeyPatch) -> None:
    assert all(claim.holds for claim in optimizers._formula())
    monkeypatch.setattr(optimizers, "parse", lambda text: parse(text.replace("-", "+")))
    assert not all(claim.holds for claim in optimizers._formula())


def test_the_command_refuses_without_a_traceback(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["lab", "optimizers", "--formula", "x^2 + q"]) == 2
    shown = capsys.readouterr().err
    assert "at character 7" in shown
    assert "Traceback" not in shown
