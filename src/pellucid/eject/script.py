"""A script for one recipe: only the lines that it needs, in the order of events."""

from __future__ import annotations

import re
import textwrap
from pathlib import Path
from typing import Any

import msgspec

from pellucid.assemble import PROBE
from pellucid.data.sampling import Hard
from pellucid.eject import texts
from pellucid.eject.augmentation import augment_text
from pellucid.eject.collect import Collector
from pellucid.eject.facts import Facts
from pellucid.eject.layout import WIDTH, constant, heading, imports
from pellucid.eject.loop import main_text, scheduled
from pellucid.eject.sources import DataText, data_text
from pellucid.models.init import Default
from pellucid.models.whitening import Whitening
from pellucid.optim.losses import CrossEntropy
from pellucid.optim.schedules import PlateauSpec

NAMES = {
    "schedule.epochs": "CUT_EVERY",
    "init.std": "INIT_STD",
    "init.eps": "WHITENING_EPS",
    "sampling.share": "ROUND_SHARE",
}
"""Constants that are not just the name of their setting in capitals."""


class Script:
    """One script under construction.

    Args:
        facts: of the run.
        arrays: a file with the decoded images, which the script reads instead of the data.

    Raises:
        CannotEject: if a script cannot read the data, and there are no arrays.
    """

    def __init__(self, facts: Facts, arrays: Path | None) -> None:
        self.facts = facts
        self.recipe = facts.recipe
        self.parts = Collector()
        self._constants: dict[str, tuple[object, str]] = {}
        self._sections: list[tuple[str, str]] = []
        self._of_the_recipe()
        self._random()
        self._what = self._data(arrays)
        model = self._model()
        self._augment()
        optimizer = self._optimizer()
        self._training(main_text(facts, model, optimizer))

    def text(self) -> str:
        """Return the whole script."""
        body = "".join(f"\n\n{_banner(title)}\n\n\n{text}\n" for title, text in self._sections)
        facts = self.facts
        run = {
            "DATA": (self._what.place, f"{self._what.what}; the first argument names another"),
            "THREADS": (facts.environment["threads"], "with others, sums are rounded otherwise"),
            "TORCH": (facts.environment["packages"]["torch"], ""),
            "DATA_DIGEST": (facts.data_digest, ""),
            "WEIGHTS_DIGEST": (facts.weights_digest, "at the end"),
        }
        whole = f"{_banner('The recipe')}\n\n{_used(self._constants, body)}\n\n"
        whole += f"{_banner('The run')}\n\n{_used(run, body)}\n{body}"
        whole += '\n\nif __name__ == "__main__":\n    main()\n'
        pillow = "flatten" in self.parts.pieces
        top = heading(facts, self._what.what, pillow)
        return f"{top}\n\n{imports(whole, self.parts.imports.values())}\n\n{whole}"

    def _constant(self, name: str, value: object, comment: str = "") -> str:
        """Have a constant, which is written if something uses it; return its name."""
        assert name not in self._constants, f"two settings are called {name}"
        self._constants[name] = (value, comment)
        return name

    def _fields(self, section: str) -> dict[str, str]:
        """Have a constant for each setting of a part; return their names by setting."""
        spec: Any = getattr(self.recipe, section)
        return {
            field.name: self._constant(
                NAMES.get(f"{section}.{field.name}", field.name.upper()),
                getattr(spec, field.name),
                f"{section}.{field.name}",
            )
            for field in msgspec.structs.fields(spec)
        }

    def _section(self, title: str, *added: str) -> None:
        """Add a section of the parts that are new, and what is `added`."""
        found = [part.strip() for part in (self.parts.taken(), *added)]
        text = "\n\n\n".join(part for part in found if part)
        if text:
            self._sections.append((title, text))

    def _of_the_recipe(self) -> None:
        recipe, facts = self.recipe, self.facts
        loss = recipe.loss
        assert isinstance(loss, CrossEntropy)
        every = recipe.evaluate.steps(facts.per_epoch, recipe.batch_size, facts.steps)
        self._constant("SEED", recipe.seed, "names all random streams")
        self._constant("CLASSES", facts.classes)
        self._constant("SHAPE", facts.shape, "channels, height and width of an image")
        self._constant("EPOCHS", recipe.length.amount.numerator)
        given = "" if recipe.length.unit == "steps" else f"{recipe.length}"
        self._constant("STEPS", facts.steps, given)
        self._constant("BATCH_SIZE", recipe.batch_size)
        self._constant("ACCUMULATE", recipe.accumulate, "pieces of a batch, to save memory")
        self._constant("EVALUATE_EVERY", every, "steps")
        self._constant("LABEL_SMOOTHING", loss.label_smoothing)
        self._constant("CLASS_WEIGHTS", loss.class_weights)
        self._constant("MAX_GRAD_NORM", recipe.max_grad_norm)
        self._constant("MAX_GRAD_VALUE", recipe.max_grad_value)
        self._constant("EMA_DECAY", recipe.ema.decay)
        self._constant("EMA_EVERY", recipe.ema.every, "steps")
        self._constant("EMA_GROWTH", recipe.ema.growth)

    def _random(self) -> None:
        self.parts.add("pellucid.seeds", "reseed")
        self.parts.add("pellucid.seeds", "generator")
        self._section("Random numbers: functions of (seed, purpose, step)")

    def _data(self, arrays: Path | None) -> DataText:
        data = data_text(self.facts, arrays, self.parts)
        for name, value, comment in data.constants:
            self._constant(name, value, comment)
        own = self.parts.taken()
        sampling: Any = self.recipe.sampling
        names = self._fields("sampling")
        self.parts.function(sampling, "order", "epoch_order", {})
        if isinstance(sampling, Hard):
            self.parts.function(sampling, "size", "round_size", names)
            self.parts.function(
                sampling, "again", "round_order", names, {"size": "round_size({0})"}
            )
        order = self.parts.taken()
        self._section(
            "Data", texts.PART, own, data.text, texts.DATA_DIGEST, texts.NORMALISATION, order
        )
        return data

    def _model(self) -> list[str]:
        """Add the network; return the lines that make it."""
        given = {"shape": "SHAPE", "classes": "len(CLASSES)"}
        model: Any = self.recipe.model
        init: Any = self.recipe.init
        made = self.parts.expression(model, "build", self._fields("model"), given)
        lines = [f"model = {made}"]
        if len(lines[0]) > WIDTH - 4:
            kind, _, arguments = made.removesuffix(")").partition("(")
            wrapped = textwrap.wrap(f"{arguments},", WIDTH - 8)
            lines = [f"model = {kind}(", *(f"    {line}" for line in wrapped), ")"]
        if isinstance(init, Whitening):
            names = self._fields("init")
            self.parts.function(init, "apply", "keep_first", names)
            self.parts.function(init, "see", "whiten_first", names)
            some = f"torch.arange(some) * len(images) // some  # at most {PROBE:,}, evenly spread"
            lines += [
                "keep_first(model)", f"some = min({PROBE}, len(images))", f"rows = {some}",
                "whiten_first(model, prepare(images[rows]))",
            ]  # fmt: skip
        elif not isinstance(init, Default):
            lines.append(self.parts.expression(init, "apply", self._fields("init"), {}))
        self._section("Model")
        return lines

    def _augment(self) -> None:
        on = self.recipe.augment.operations()  # type: ignore[attr-defined]
        if on:
            text = augment_text(on, self.recipe.accumulate > 1, self.parts)
            self._section("Augmentation: each image has draws of its own", text)

    def _optimizer(self) -> str:
        """Add optimizer and schedule; return the expression that makes the optimizer."""
        spec: Any = self.recipe.optimizer
        schedule: Any = self.recipe.schedule
        self.parts.methods["MuonAdamW"] = ("__init__", "step")
        given = {"optim": "torch.optim"}
        make = self.parts.expression(spec, "_make", self._fields("optimizer"), given)
        constants = self._fields("schedule")
        warmup = getattr(schedule, "warmup", 0)
        if scheduled(self.recipe):
            if warmup:
                self.parts.add("pellucid.optim.schedules", "warmed")
            warmed = "warmed({0}, round(WARMUP * {1}))" if warmup else "{0}"
            self.parts.function(
                schedule, "build", "learning_rates", constants, {"_warmed": warmed},
                ("_cuts_within",),
            )  # fmt: skip
        self._section("Optimizer and learning rate", texts.L1 if spec.l1 else "")
        return make

    def _training(self, main: str) -> None:
        """Add what the loop calls, and the loop."""
        recipe = self.recipe
        self.parts.add("pellucid.values", "Metrics")
        self.parts.methods["Plateau"] = ("__init__", "lower", "offer")
        self.parts.methods["EarlyStop"] = ("__init__", "now", "offer")
        self.parts.methods["EMA"] = ("__init__", "update")
        stop: Any = recipe.stop
        if isinstance(recipe.schedule, PlateauSpec):
            self.parts.add("pellucid.optim.plateau", "Plateau")
        if stop.patience:
            self.parts.add("pellucid.stopping", "EarlyStop")
        if recipe.ema.decay:
            self.parts.add("pellucid.averages", "EMA")
            if recipe.ema.growth:
                self.parts.add("pellucid.averages", "Grown")
        loss = recipe.loss
        assert isinstance(loss, CrossEntropy)
        bf16 = self.facts.precision == "bf16"
        self._section(
            "Training",
            texts.EVALUATE_BF16 if bf16 else texts.EVALUATE,
            texts.WEIGHTED_LOSS if loss.class_weights != "none" else "",
            texts.PIECES if recipe.accumulate > 1 else "",
            texts.WEIGHTS_DIGEST,
            main,
        )


def _used(constants: dict[str, tuple[object, str]], body: str) -> str:
    """Return the lines of those constants that `body` uses."""
    return "\n".join(
        constant(name, *given)
        for name, given in constants.items()
        if re.search(rf"\b{name}\b", body)
    )


def _banner(title: str) -> str:
    return f"# -- {title} ".ljust(WIDTH - 2, "-")
