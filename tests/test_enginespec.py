"""What a recipe may say of processes; and what is said where Ray is not installed."""

from __future__ import annotations

import sys
from pathlib import Path

import msgspec
import pytest

from pellucid import Recipe, good, train
from pellucid.catalogue import from_tree, overlay, to_tree
from pellucid.cli.main import run as command
from pellucid.distributed.ray import ranks
from pellucid.enginespec import EngineSpec
from pellucid.errors import BadRecipe

RAY = ["--engine.name", "ray", "--engine.workers", "2"]


def test_how_many() -> None:
    assert EngineSpec().size == 1
    assert EngineSpec(procs=3).size == 3
    assert EngineSpec(name="ray", workers=2).of(4) == EngineSpec(name="ray", workers=4)
    assert EngineSpec().of(2) == EngineSpec(procs=2)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--engine.workers", "2"], "engine: workers are started by Ray: set name to ray too"),
        ([*RAY, "--engine.procs", "2"], "with name ray, Ray starts them: write workers = 2"),
        (["--engine.name", "rai"], 'engine.name must be one of torch, ray. Got "rai"'),
        (["--engine.name", "ray", "--engine.workers", "0"], "engine.workers must be"),
    ],
)
def test_settings_that_do_not_go_together(
    words: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert command(["train", *words]) == 2
    assert message in capsys.readouterr().err


def test_another_name_keeps_the_other_settings() -> None:
    """The two are one table: who lets Ray start a recipe does not want its precision lost."""
    recipe = good("digits").with_(engine=EngineSpec(precision="bf16", threads=3))
    tree = overlay(to_tree(recipe), {"engine": {"name": "ray", "workers": "2"}})
    spec = EngineSpec(name="ray", workers=2, precision="bf16", threads=3)
    assert from_tree(tree).engine == spec
    assert from_tree(to_tree(recipe.with_(engine=spec))).engine == spec


def test_without_ray(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    monkeypatch.chdir(tmp_path)
    assert command(["train", *RAY]) == 2
    said = capsys.readouterr()
    assert "pip install 'pellucid[ray]'" in said.err
    assert said.out == ""
    assert list(tmp_path.iterdir()) == []


def test_an_address_for_clients(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("RAY_ADDRESS", "ray://127.0.0.1:10001")
    assert command(["train", *RAY]) == 2
    assert "its own address there: HOST:PORT or auto" in capsys.readouterr().err


def test_one_of_several_starts_no_others(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("RANK", "WORLD_SIZE"):
        monkeypatch.setenv(name, "1")
    for words in (RAY[:2], RAY[2:]):
        assert command(["train", *words]) == 2
        assert f"{words[0]} starts processes, and this one is one" in capsys.readouterr().err


def test_python_starts_no_others(tiny: Recipe, tmp_path: Path) -> None:
    with pytest.raises(BadRecipe, match=r"engine\.workers is 2, and this process is alone"):
        train(tiny.with_(engine=EngineSpec(name="ray", workers=2)), tmp_path)
    run = train(tiny.with_(engine=EngineSpec(name="ray")), tmp_path)
    text = (run.path / "recipe.toml").read_text(encoding="utf-8")
    assert 'name = "ray"' in text
    assert "workers = 1" in text


def test_a_checkpoint_from_before_there_were_names(tiny: Recipe, tmp_path: Path) -> None:
    """It says nothing of `name` and `workers`: that is no other recipe."""
    from pellucid import resume

    class After:
        def __call__(self, step: object) -> bool:
            return True

    run = train(tiny, tmp_path, stop=After())
    other = msgspec.structs.replace(tiny.engine, name="ray")
    assert resume(run.path, tiny.with_(engine=other)).summary() is not None


def test_who_becomes_which_rank() -> None:
    found = [("b", ["3"]), ("a", ["0"]), ("b", ["1"]), ("c", []), ("a", ["2"])]
    ranked = ranks(found, "b")
    assert [worker for worker, _ in ranked] == [0, 2, 1, 4, 3]
    assert [environ["RANK"] for _, environ in ranked] == list("01234")
    assert [environ["LOCAL_RANK"] for _, environ in ranked] == list("01010")
    assert [environ["LOCAL_WORLD_SIZE"] for _, environ in ranked] == list("22221")
    gpus = [environ.get("CUDA_VISIBLE_DEVICES") for _, environ in ranked]
    assert gpus == ["3,1", "3,1", "0,2", "0,2", None]
    assert {environ["WORLD_SIZE"] for _, environ in ranked} == {"5"}
