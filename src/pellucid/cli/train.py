"""`pellucid train` and `pellucid resume`."""

from __future__ import annotations

import json as json_text
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from cyclopts import Parameter

from pellucid.distributed.place import rank_here, started_as_one_of_several

if TYPE_CHECKING:
    from pellucid.engine import EngineSpec
    from pellucid.recipe import Recipe

Settings = Annotated[dict[str, Any] | None, Parameter(parse=False)]


def train(
    data: str | None = None,
    /,
    *,
    recipe: str = "good",
    out: Path = Path("runs"),
    epochs: str | None = None,
    seed: str | None = None,
    device: str | None = None,
    precision: str | None = None,
    compile: bool = False,
    deterministic: bool = False,
    tune_speed: bool = False,
    json: bool = False,
    quiet: bool = False,
    dry_run: bool = False,
    settings: Settings = None,
) -> int:
    """Train a classifier, judge it on the sealed test part, keep everything in a run folder.

    Every value of a recipe is a setting: --optimizer.lr 0.01 --model.name resnet
    --model.depth 20 --augment.flip on --data.validation 0.2 --batch-size 64.
    `pellucid recipes show good DATA` prints all of them.

    Parameters
    ----------
    data
        A known name (`pellucid data list`), an image folder, or a CSV file; digits if left out.
    recipe
        good, notes, fast, best, or a file: FILE.toml.
    out
        The folder that collects runs.
    epochs
        Length of the run, a number; the same as --length "N epochs".
    seed
        Names all random streams; a whole number.
    device
        auto, cpu, cuda, cuda:1, mps.
    precision
        fp32; bf16, on a CPU only if its kernels pass a check; fp16, on a GPU.
    compile
        Compile the model with torch.compile first, and say when that pays.
    deterministic
        On a GPU, only kernels that give the same bits each time.
    tune_speed
        Try settings first: the fastest number of threads is taken, others are named.
    json
        Print one JSON object on standard output.
    quiet
        No progress on standard error.
    dry_run
        Print the resolved recipe and the plan, and stop.
    """
    from pellucid.catalogue import to_toml, to_tree
    from pellucid.cli.resolve import Options, resolve
    from pellucid.engine import Engine
    from pellucid.training import train as train_recipe

    _not_both(settings)

    options = Options(
        recipe, epochs, seed, device, precision, compile, deterministic, settings or {}
    )
    resolved = resolve(data, options)
    if dry_run:
        from pellucid.cli.dry_run import dry_run as plan

        return plan(resolved, Engine.start(resolved.engine), json)
    if tune_speed:
        resolved = _tuned(resolved, quiet)
    if _starts_others(resolved.engine):
        text = to_toml(to_tree(resolved))
        return _several(["train", "--out", str(out)], text, resolved.engine, json, quiet)
    return _run(
        lambda console, stop: train_recipe(resolved, out, console=console, stop=stop), json, quiet
    )


def resume(
    run: str, /, *, json: bool = False, quiet: bool = False, settings: Settings = None
) -> int:
    """Go on with a run from its newest good checkpoint, as if it had never stopped.

    With --engine.procs N another number of processes does it, with --engine.workers N Ray's.

    Parameters
    ----------
    run
        A path, a run's name, or latest.
    json
        Print one JSON object on standard output.
    quiet
        No progress on standard error.
    """
    from pellucid.training import resume as resume_run

    _not_both(settings)
    engine = _engine_of(run, settings)
    if _starts_others(engine):
        return _several(["resume", run], "", engine, json, quiet)
    return _run(lambda console, stop: resume_run(run, console=console, stop=stop), json, quiet)


def _tuned(recipe: Recipe, quiet: bool) -> Recipe:
    """Return `recipe` with settings that are faster on this machine."""
    from pellucid.bench.tune import tuned
    from pellucid.sinks.console import Console

    console = Console(None if quiet else sys.stderr)
    try:
        return tuned(recipe, console)
    finally:
        console.close()


def _not_both(settings: dict[str, Any] | None) -> None:
    """Refuse to start processes where something else has started them."""
    from pellucid.errors import BadRecipe

    asked = (settings or {}).get("engine", {})
    starts = {"name", "procs", "workers"} & set(asked if isinstance(asked, dict) else ())
    if started_as_one_of_several() and starts:
        raise BadRecipe(
            f"--engine.{min(starts)} starts processes, and this one is one of several already "
            "(torchrun). Leave one of the two out."
        )


def _starts_others(engine: EngineSpec) -> bool:
    """Return whether this process is to start those that train, which it is not itself."""
    return (engine.size > 1 or engine.name == "ray") and not started_as_one_of_several()


def _engine_of(run: str, settings: dict[str, Any] | None) -> EngineSpec:
    """Return how `run` computes, in as many processes as `settings` say or it was begun with."""
    import msgspec

    from pellucid.catalogue import read_toml
    from pellucid.engine import EngineSpec
    from pellucid.errors import BadRecipe
    from pellucid.runs.folder import RECIPE
    from pellucid.runs.listing import find

    given = settings or {}
    asked = given.get("engine", {})
    if set(given) - {"engine"} or set(asked) - {"procs", "workers"} or len(asked) > 1:
        raise BadRecipe(
            "resume goes on with the recipe of the run; the only setting that it takes is "
            "--engine.procs N, or with Ray --engine.workers N."
        )
    if started_as_one_of_several():
        return EngineSpec()  # who started this one has settled it
    stored = read_toml(find(run).path / RECIPE).get("engine", {})
    if asked:
        name = "ray" if "workers" in asked else "torch"
        stored = {**stored, "name": name, "procs": 1, "workers": 1, **asked}
    try:
        return msgspec.convert(stored, EngineSpec, strict=False)
    except msgspec.ValidationError as error:
        raise BadRecipe(f"engine of {run}: {error}") from None


def _several(words: list[str], recipe: str, engine: EngineSpec, json: bool, quiet: bool) -> int:
    """Run the command `words` as several processes, with the text of a recipe or without."""
    from pellucid.launch import check_gpus, launch, launch_on_ray

    words = ["-m", "pellucid", *words, *["--json"] * json, *["--quiet"] * quiet]
    if engine.name == "ray":
        return launch_on_ray(words, recipe, engine, _say)
    check_gpus(engine.device, engine.procs)
    with tempfile.TemporaryDirectory(prefix="pellucid-") as folder:
        if recipe:
            file = Path(folder) / "recipe.toml"
            file.write_text(recipe, encoding="utf-8")
            words += ["--recipe", str(file)]
        return launch([sys.executable, *words], engine.procs, engine.threads, _say)


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def _run(work: Any, json: bool, quiet: bool) -> int:
    """Do `work` under Ctrl-C, show its result, return the exit code.

    Of several processes rank 0 shows it. The others are silent, but for what goes wrong there.
    """
    from pellucid.cli.stop import Stopper
    from pellucid.cli.told import told
    from pellucid.errors import Ended, PellucidError
    from pellucid.finish import result_text
    from pellucid.runs.followed import FollowedRun
    from pellucid.sinks.console import Console

    rank = rank_here()
    console = Console(None if quiet or rank else sys.stderr)
    stopper = Stopper()
    try:
        with stopper.listening():
            run = work(console, stopper)
    except Ended as error:  # who caused it has said why
        return error.exit_code
    except PellucidError as error:
        if not rank:
            raise
        print(f"error on rank {rank}: {error}", file=sys.stderr)
        return error.exit_code
    finally:
        console.close()
    if isinstance(run, FollowedRun):
        return 130 if run.stopped else 0
    summary = run.summary()
    page = told(run, console) if summary else ""
    if json:
        result = summary or {"run": str(run.path), "stopped": True}
        print(json_text.dumps(result, ensure_ascii=False))
    elif summary:
        print(f"{result_text(summary)}\n{page}")
    return 0 if summary else 130
