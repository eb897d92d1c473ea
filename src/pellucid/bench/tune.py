"""`pellucid train --tune-speed`: settings that are faster here, applied or named."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from pellucid.bench.measure import try_all
from pellucid.bench.proposals import Trial, candidates, kept_threads, proposals
from pellucid.engine import Engine
from pellucid.errors import BadRecipe
from pellucid.recipe import Recipe
from pellucid.sinks.console import Console


def tuned(recipe: Recipe, console: Console) -> Recipe:
    """Return `recipe` with the number of threads that is fastest here; name what else would help.

    Only what changes no more than the last bits is applied, and the run's own recipe says so.
    Whatever changes more needs the user's word.

    Args:
        recipe: what is to be trained.
        console: told what was found.

    Raises:
        BadRecipe: if several processes are to train.
    """
    if recipe.engine.size > 1:
        raise BadRecipe(
            f"--tune-speed tries settings in one process, and {recipe.engine.size} are asked for. "
            "Leave it out, or train in one."
        )
    with kept_threads():
        engine = Engine.start(recipe.engine)
        tries = [
            candidate
            for candidate in candidates(recipe, engine)
            if candidate.changes != "the training"
            and not (recipe.engine.threads and candidate.changes == "last bits")  # said already
        ]
    recipe, lines = applied(recipe, try_all(recipe, tries, console))
    for line in lines:
        console.line(line)
    return recipe


def applied(recipe: Recipe, trials: Sequence[Trial]) -> tuple[Recipe, list[str]]:
    """Return the recipe with what may be applied, and a line on each setting that is faster."""
    lines = []
    for trial in proposals(trials):
        gain = f"{trial.ratio:.2f} of the time ({trial.low:.2f} to {trial.high:.2f}, n = {trial.n})"
        option, value = trial.setting.split()
        if option == "--engine.threads":
            engine = msgspec.structs.replace(recipe.engine, threads=int(value))
            recipe = recipe.with_(engine=engine)
            lines.append(f"speed: {trial.setting} takes {gain}: applied; it changes the last bits")
        else:
            lines.append(
                f"speed: {trial.setting} would take {gain}; it changes {trial.changes}, so it is "
                "not applied: add it if you want it"
            )
    return recipe, lines or ["speed: no setting was faster in all pairs by more than 3 %"]
