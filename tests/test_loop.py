"""The loop is short, knows little, and is plain PyTorch."""

from __future__ import annotations

import ast
import inspect
from pathlib import Path

import torch
import torch.nn.functional as F

from pellucid import Engine, Recipe
from pellucid import fit as fit_function
from pellucid.assemble import assemble
from pellucid.augment.pipeline import AugmentSpec
from pellucid.models.mnist_cnn import MnistCNNSpec
from pellucid.optim.schedules import Constant
from pellucid.optim.specs import Adam

SOURCE = Path(inspect.getfile(fit_function)).read_text(encoding="utf-8")


def test_the_loop_fits_on_a_screen() -> None:
    lines = inspect.getsource(fit_function).splitlines()
    assert len(lines) <= 80
    assert len(SOURCE.splitlines()) <= 80


def test_the_loop_imports_only_what_it_needs() -> None:
    allowed = {"engine", "evaluate", "plan", "seeds", "state", "task", "values"}
    imported = {
        node.module for node in ast.walk(ast.parse(SOURCE)) if isinstance(node, ast.ImportFrom)
    }
    ours = {module.removeprefix("pellucid.") for module in imported if module} - {
        "__future__",
        "collections.abc",
    }
    assert ours <= allowed


def test_the_loop_has_no_branch_on_a_feature_and_one_yield() -> None:
    tree = ast.parse(SOURCE)
    branches = [node for node in ast.walk(tree) if isinstance(node, ast.If | ast.IfExp)]
    assert len(branches) == 1
    assert ast.unparse(branches[0].test).startswith("due(")
    assert sum(isinstance(node, ast.Yield) for node in ast.walk(tree)) == 1


def test_fit_is_the_bare_loop(tiny: Recipe) -> None:
    """Without options the weights are, bit for bit, those of ten lines of plain PyTorch."""
    recipe = tiny.with_(
        model=MnistCNNSpec(), augment=AugmentSpec(), optimizer=Adam(lr=1e-3), schedule=Constant()
    )
    engine = Engine.start(recipe.engine)
    ours, bare = assemble(recipe, engine), assemble(recipe, engine)
    for _ in fit_function(ours.state, ours.task, engine):
        pass
    model, train = bare.state.model, bare.splits.train
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3, fused=True)
    model.train()
    for step in range(12):
        index = bare.task.train.index(step)
        images = train.images[train.rows[index]].float() / 255
        mean, std = bare.preprocessing.mean[0], bare.preprocessing.std[0]
        images = (images - mean) / std
        prepared = bare.task.prepare(train.pixels(index))
        torch.testing.assert_close(prepared, images, rtol=1e-5, atol=1e-5)
        loss = F.cross_entropy(model(prepared), train.labels[train.rows[index]])
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
    for name, weight in ours.state.model.state_dict().items():
        assert torch.equal(weight, model.state_dict()[name]), name


def test_show_loop_prints_this_very_file(capsys) -> None:  # type: ignore[no-untyped-def]
    from pellucid.cli.main import run

    assert run(["show", "loop"]) == 0
    shown = [line.split("  | ")[0].rstrip() for line in capsys.readouterr().out.splitlines()]
    assert shown == [line.rstrip() for line in SOURCE.splitlines()]
