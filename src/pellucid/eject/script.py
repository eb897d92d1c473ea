"""The text of a script: for one recipe, only the lines that it needs, in the order of events."""

from __future__ import annotations

import ast
import math
import re
import shlex
import sys
import textwrap
from pathlib import Path
from typing import Any

import msgspec

from pellucid.augment.pipeline import COLOURED, HIDDEN, MAPPED, MIXED, STORED
from pellucid.eject.collect import Collector, Import
from pellucid.eject.facts import Facts
from pellucid.eject.loop import main_text
from pellucid.eject.sources import DataText, data_text
from pellucid.evaluate import BATCH
from pellucid.optim.losses import CrossEntropy
from pellucid.optim.schedules import Constant, PlateauSpec

WIDTH = 100

FRAME = (
    *(("hashlib", ""), ("gzip", ""), ("os", ""), ("csv", ""), ("struct", ""), ("sys", "")),
    *(("unicodedata", ""), ("pathlib", "Path"), ("typing", "NamedTuple"), ("torch", "")),
    *(("torch", "Tensor"), ("torch", "nn"), ("collections.abc", "Callable")),
)
"""What the frame itself may use from outside."""
SHORT = {"np": ("numpy", ""), "F": ("torch.nn.functional", "")}

NAMES = {
    ("schedule", "epochs"): "CUT_EVERY",
    ("init", "std"): "INIT_STD",
    ("model", "dropout"): "DROPOUT",
}
"""Constants that are not just the name of their setting in capitals."""

NORMALISATION = '''\
def normalisation(images: Tensor) -> Callable[[Tensor], Tensor]:
    """Return the function from uint8 images to the network's input.

    It gives each channel mean 0 and standard deviation 1 over all pixels of `images`.
    """
    counts = torch.zeros(SHAPE[0], 256, dtype=torch.int64)  # exact: pixels are counted by value
    for chunk in images.split(2000):
        for channel in range(len(counts)):
            counts[channel] += torch.bincount(chunk[:, channel].flatten(), minlength=256)
    values = torch.arange(256, dtype=torch.float64) / 255
    share = counts.double() / counts.sum(1, keepdim=True)
    mean = (share * values).sum(1)
    variance = (share * (values - mean[:, None]) ** 2).sum(1)
    std = torch.where(variance > 0, variance, 1.0).sqrt()
    pairs = list(zip(mean.tolist(), std.tolist(), strict=True))
    scale = torch.tensor([1 / (255 * s) for _, s in pairs]).view(-1, 1, 1)
    shift = torch.tensor([-m / s for m, s in pairs]).view(-1, 1, 1)

    def prepare(images: Tensor) -> Tensor:
        x = images.to(torch.float32, memory_format=torch.channels_last)
        return x.mul_(scale).add_(shift)

    return prepare
'''

DATA_DIGEST = '''\
def data_digest(parts: tuple[Part, ...]) -> str:
    """Return the SHA-256 over classes, labels and pixels of all parts."""
    digests = ""
    for images, labels in parts:
        total = hashlib.sha256("\\n".join(CLASSES).encode())
        total.update(labels.numpy().tobytes())
        total.update(images.contiguous().numpy())
        digests += total.hexdigest()
    return hashlib.sha256(digests.encode()).hexdigest()
'''

WEIGHTS_DIGEST = '''\
def weights_digest(weights: dict[str, Tensor]) -> str:
    """Return the SHA-256 of names and numbers, in the order of the names."""
    total = hashlib.sha256()
    for name in sorted(weights):
        total.update(name.encode() + weights[name].numpy().tobytes())
    return total.hexdigest()
'''

EVALUATE = '''\
@torch.inference_mode()
def evaluate(
    model: nn.Module, images: Tensor, labels: Tensor, prepare: Callable[[Tensor], Tensor]
) -> Metrics:
    """Judge `model` in eval mode, in order, without augmentation."""
    model.eval()
{predict}
    loss = F.cross_entropy(logits.double(), labels)
    return Metrics(float(loss), int((logits.argmax(1) == labels).sum()), len(labels))
'''

PREDICT = {
    "fp32": f"    logits = torch.cat([model(prepare(x)) for x in images.split({BATCH})])",
    "bf16": f"""\
    with torch.autocast("cpu", torch.bfloat16):
        logits = torch.cat([model(prepare(x)).float() for x in images.split({BATCH})])""",
}

PIECES = '''\
def pieces(size: int) -> list[Tensor]:
    """Return the rows of each piece of a batch of `size`; pairs of rows stay together."""
    pairs = -(-size // 2)
    count = min(ACCUMULATE, pairs)
    cuts = [min(2 * (pairs * number // count), size) for number in range(count + 1)]
    return [torch.arange(*ends) for ends in zip(cuts, cuts[1:], strict=False)]
'''

LOSS = '''\
def weighted_loss(logits: Tensor, targets: Tensor, weights: Tensor) -> Tensor:
    """Return the mean cross-entropy, each image counting by the weight of its class."""
    total = F.cross_entropy(logits, targets, weights, reduction="sum"{smoothing})
    return total / len(targets)
'''

L1_TEXT = '''\
@torch.no_grad()
def add_l1(weights: list[Tensor]) -> None:
    """Add the gradient of `L1 * sum(abs(weight))` to that of each of `weights`."""
    signs = torch._foreach_sign([p.detach() for p in weights])
    torch._foreach_add_([p.grad for p in weights if p.grad is not None], signs, alpha=L1)
'''


class Script:
    """One script under construction."""

    def __init__(self, facts: Facts, arrays: Path | None) -> None:
        self.facts = facts
        self.recipe = facts.recipe
        self.parts = Collector()
        self.constants: dict[str, tuple[object, str]] = {}
        self.sections: list[tuple[str, str]] = []
        self._plain_constants()
        self._section("Random numbers: functions of (seed, purpose, step)", self._random())
        data = data_text(facts, arrays, self.parts)
        self._section("Data", self._data(data))
        model = self._model()
        self._section("Augmentation: each image has draws of its own", self._augment())
        optimizer = self._optimizer()
        self._section("Training", self._training() + [main_text(facts, model, optimizer)])
        self.data = data

    def text(self) -> str:
        """Return the whole script."""
        body = ""
        for title, text in self.sections:
            body += f"\n\n# {f'-- {title} '.ljust(WIDTH - 4, '-')}\n\n\n{text.strip()}\n"
        constants = self._constants(body)
        body = f'{constants}{body}\n\nif __name__ == "__main__":\n    main()\n'
        return f"{self._docstring()}\n\n{self._imports(body)}\n\n{body}"

    def constant(self, name: str, value: object, comment: str = "") -> str:
        """Have a constant, which is written if something uses it; return its name."""
        self.constants[name] = (value, comment)
        return name

    def fields(self, section: str) -> dict[str, str]:
        """Have a constant for each setting of a part; return their names by setting."""
        spec: Any = getattr(self.recipe, section)
        return {
            f.name: self.constant(
                NAMES.get((section, f.name), f.name.upper()), getattr(spec, f.name)
            )
            for f in msgspec.structs.fields(spec)
        }

    def _section(self, title: str, texts: list[str]) -> None:
        texts = [part.strip() for part in (self.parts.taken(), *texts)]
        text = "\n\n\n".join(part for part in texts if part)
        if text:
            self.sections.append((title, text))

    def _plain_constants(self) -> None:
        recipe, facts = self.recipe, self.facts
        self.constant("SEED", recipe.seed, "names all random streams")
        self.constant("CLASSES", facts.classes)
        self.constant("SHAPE", facts.shape, "channels, height and width of an image")
        self.constant("BATCH_SIZE", recipe.batch_size)
        self.constant("ACCUMULATE", recipe.accumulate, "pieces of a batch, to save memory")
        amount = recipe.length.amount
        if recipe.length.unit == "epochs" and amount.denominator == 1:
            self.constant("EPOCHS", int(amount))
        else:
            self.constant("STEPS", facts.steps, f"{recipe.length}")
        every = recipe.evaluate.steps(facts.per_epoch, recipe.batch_size, facts.steps)
        self.constant("EVALUATE_EVERY", every, "steps")
        loss = recipe.loss
        assert isinstance(loss, CrossEntropy)
        self.constant("LABEL_SMOOTHING", loss.label_smoothing)
        self.constant("CLASS_WEIGHTS", loss.class_weights)
        self.constant("EMA_DECAY", recipe.ema.decay)
        self.constant("MAX_GRAD_NORM", recipe.max_grad_norm)
        self.constant("MAX_GRAD_VALUE", recipe.max_grad_value)

    def _random(self) -> list[str]:
        self.parts.add("pellucid.seeds", "reseed")
        self.parts.add("pellucid.seeds", "generator")
        return []

    def _data(self, data: DataText) -> list[str]:
        for name, value, comment in data.constants:
            self.constant(name, value, comment)
        alias = "Part = tuple[Tensor, Tensor]  # uint8 images (N, C, H, W), int64 labels (N,)"
        sampling: Any = self.recipe.sampling
        own = self.parts.taken()
        self.parts.function(sampling, "order", "epoch_order", {})
        return [alias, own, data.text, DATA_DIGEST, NORMALISATION, self.parts.taken()]

    def _model(self) -> list[str]:
        """Have the network; return the lines that make it."""
        given = {"shape": "SHAPE", "classes": "len(CLASSES)"}
        model: Any = self.recipe.model
        init: Any = self.recipe.init
        lines = [f"model = {self.parts.expression(model, 'build', self.fields('model'), given)}"]
        constants = self.fields("init")
        if type(init).__name__ != "Default":
            lines.append(self.parts.expression(init, "apply", constants, {}))
        self._section("Model", [])
        return lines

    def _augment(self) -> list[str]:
        on = self.recipe.augment.operations()  # type: ignore[attr-defined]
        if not on:
            return []
        for operation in on.values():
            self.parts.value(operation, ("draw", "apply"))
        pieces = self.recipe.accumulate > 1
        lines = _augment_lines(on, pieces, self.parts)
        return ["\n".join(lines) + "\n"]

    def _optimizer(self) -> list[str]:
        """Have optimizer and schedule; return the lines that make them."""
        spec: Any = self.recipe.optimizer
        schedule: Any = self.recipe.schedule
        make = self.parts.expression(spec, "_make", self.fields("optimizer"), {})
        kept = {"MuonAdamW": ("__init__", "step")}.get(make.partition("(")[0])
        assert kept is None or "MuonAdamW" in self.parts.pieces
        constants = self.fields("schedule")
        warmup = getattr(schedule, "warmup", 0)
        if not isinstance(schedule, Constant | PlateauSpec) or warmup:
            if warmup:
                self.parts.add("pellucid.optim.schedules", "warmed")
            self.parts.function(
                schedule, "build", "learning_rates", constants,
                {"_warmed": "warmed({0}, round(WARMUP * {1}))" if warmup else "{0}"},
                ("_cuts_within",),
            )  # fmt: skip
        self._section("Optimizer and learning rate", [L1_TEXT] if spec.l1 else [])
        return [make]

    def _training(self) -> list[str]:
        """Return what the loop calls."""
        recipe = self.recipe
        self.parts.add("pellucid.values", "Metrics")
        if isinstance(recipe.schedule, PlateauSpec):
            keep = ("__init__", "lower", "offer")
            self.parts.add("pellucid.optim.plateau", "Plateau", keep)
        if recipe.stop.patience:  # type: ignore[attr-defined]
            self.parts.add("pellucid.stopping", "EarlyStop", ("__init__", "now", "offer"))
        if recipe.ema.decay:
            self.parts.add("pellucid.state", "EMA", ("__init__", "update"))
        loss = recipe.loss
        assert isinstance(loss, CrossEntropy)
        texts = [EVALUATE.format(predict=PREDICT[self.facts.precision])]
        if loss.class_weights != "none":
            smoothing = ", label_smoothing=LABEL_SMOOTHING" if loss.label_smoothing else ""
            texts.append(LOSS.format(smoothing=smoothing))
        if recipe.accumulate > 1:
            texts.append(PIECES)
        return [*texts, WEIGHTS_DIGEST]

    def _constants(self, body: str) -> str:
        """Return the lines of the constants that `body` uses."""
        threads = int(self.facts.environment["threads"])
        for name, value, comment in (
            ("DATA", str(self.data.place), f"{self.data.what}; the first argument names another"),
            ("THREADS", threads, "with others, sums are rounded otherwise"),
            ("TORCH", self.facts.environment["packages"]["torch"], "the version of the run"),
            ("DATA_DIGEST", self.facts.data_digest, ""),
            ("WEIGHTS_DIGEST", self.facts.weights_digest, "of the run after its last step"),
        ):
            self.constant(name, value, comment)
        used = [name for name in self.constants if re.search(rf"\b{name}\b", body)]
        return "\n".join(_constant(name, *self.constants[name]) for name in used) + "\n"

    def _imports(self, body: str) -> str:
        known = {name or module: Import(name or module, module, name) for module, name in FRAME}
        known |= {short: Import(short, *place) for short, place in SHORT.items()}
        known |= self.parts.imports
        used = {node.id for node in ast.walk(ast.parse(body)) if isinstance(node, ast.Name)}
        wanted = [found for name, found in known.items() if name in used]
        ours = [found for found in wanted if found.module.split(".")[0] in sys.stdlib_module_names]
        theirs = [found for found in wanted if found not in ours]
        first = "from __future__ import annotations"
        return "\n\n".join(text for text in (first, _lines(ours), _lines(theirs)) if text)

    def _docstring(self) -> str:
        facts, recipe = self.facts, self.recipe
        environment = facts.environment
        packages = environment["packages"]
        command = shlex.join(["pellucid", *environment.get("command", [""])[1:]])
        lines = [
            f"Train {type(recipe.model).__name__.removesuffix('Spec')} on {self._data_name()}: one "
            "run of pellucid as a script of its own.",
            "",
            "    python train.py [DATA] [WEIGHTS.npz]",
            "",
            *textwrap.wrap(
                f"DATA is {self.data.what}; WEIGHTS.npz takes the weights after the last step, by "
                "name. Needs PyTorch, NumPy" + (" and Pillow" if "decode" in self.parts.pieces else "")
                + ".", 98,
            ),
            "",
            f"The run    {facts.run.name}",
            *textwrap.wrap(f"Made by    {command}", 98, subsequent_indent=" " * 11),
            f"With       pellucid {packages['pellucid']}, torch {packages['torch']}, numpy "
            f"{packages['numpy']}, Python {environment['python']}",
            *textwrap.wrap(
                f"On         {environment['processor']}, {environment['capability']}, "
                f"{environment['device']}, {facts.precision}", 98, subsequent_indent=" " * 11,
            ),
            *self._result(),
        ]  # fmt: skip
        text = "\n".join(lines).replace("\\", "\\\\").replace('"""', "'''")
        return f'"""{text}\n"""'

    def _data_name(self) -> str:
        data: Any = self.recipe.data
        tag = getattr(getattr(type(data), "__struct_config__", None), "tag", None)
        return Path(data.path).name if hasattr(data, "path") else str(tag or "data")

    def _result(self) -> list[str]:
        summary = self.facts.summary
        if summary is None:
            return ["It ended   not yet, when this was written: there is nothing to compare with"]
        test = summary["test"]
        score = f"; {test['correct']:,} of {test['n']:,} test images right" if test else ""
        best = summary["best"]["step"]
        return [
            f"It ended   after step {summary['steps']:,}; best after step {best:,}{score}",
            "",
            "On the same data, versions, kind of processor and number of threads this script ends",
            "with the same weights bit for bit, and says whether it did.",
        ]


def _augment_lines(on: dict[str, Any], pieces: bool, parts: Collector) -> list[str]:
    """Return the function that augments a batch, or a piece of one."""
    mixing = not on.keys().isdisjoint(MIXED)
    rows, size = ("rows: Tensor, size: int, ", "") if pieces else ("", "")
    result = "tuple[Tensor, Tensor]" if mixing else "Tensor"
    targets = "targets: Tensor, " if mixing else ""
    del size
    lines = [
        "def augment(",
        f"    images: Tensor, {targets}{rows}step: int, prepare: Callable[[Tensor], Tensor]",
        f") -> {result}:",
        f'    """Return uint8 images{" and targets" if mixing else ""} as the network gets them."""',
        "",
        "    def draws(operation: Any, name: str) -> Tensor:",
        '        stream = generator(SEED, f"augment/{name}", step)',
    ]
    if pieces:
        lines += ["        return operation.draw(size, SHAPE, stream)[rows]", ""]
    else:
        lines += ["        return operation.draw(len(images), SHAPE, stream)", ""]
    parts.imports["Any"] = Import("Any", "typing", "Any")

    def each(names: tuple[str, ...]) -> list[str]:
        return [
            f'    images = {type(on[n]).__name__}().apply(images, draws({type(on[n]).__name__}(), "{n}"))'
            for n in names
            if n in on
        ]

    lines += each(STORED)
    if not on.keys().isdisjoint(MAPPED + COLOURED):
        lines.append("    images = images.to(torch.float32, copy=True)")
    if not on.keys().isdisjoint(MAPPED):
        parts.add("pellucid.augment.geometry", "affine")
        none = (
            "torch.zeros(len(images))",
            "torch.zeros(len(images), 2)",
            "torch.ones(len(images))",
        )
        lines.append("    images = affine(")
        lines.append("        images,")
        for name, nothing in zip(MAPPED, none, strict=True):
            drawn = f'draws({type(on[name]).__name__}(), "{name}")' if name in on else nothing
            lines.append(f"        {drawn},")
        lines.append("    )")
    lines += each(COLOURED)
    lines.append("    images = prepare(images)")
    lines += each(HIDDEN)
    if mixing:
        parts.add("pellucid.augment.mixing", "soft")
        parts.add("pellucid.augment.mixing", "partners")
        whole = "rows, size" if pieces else "torch.arange(len(images)), len(images)"
        lines.append("    targets = soft(targets, len(CLASSES))")
        lines.append(f"    partner = partners({whole})")
        for name in MIXED:
            if name in on:
                kind = type(on[name]).__name__
                lines.append(f'    drawn = draws({kind}(), "{name}")')
                lines.append(
                    f"    images, targets = {kind}().apply(images, targets, drawn, partner)"
                )
    lines.append("    return images, targets" if mixing else "    return images")
    return lines


def _constant(name: str, value: object, comment: str) -> str:
    shown = "math.inf" if value == math.inf else repr(value)
    line = f"{name} = {shown}" + (f"  # {comment}" if comment else "")
    if len(line) <= WIDTH:
        return line
    if isinstance(value, tuple | dict) and len(shown) > WIDTH - 20:
        head, tail = shown[0], shown[-1]
        inner = textwrap.fill(
            shown[1:-1], WIDTH, initial_indent="    ", subsequent_indent="    ",
            break_long_words=False, break_on_hyphens=False,
        )  # fmt: skip
        comma = "" if inner.endswith(",") else ","
        line = f"{name} = {head}\n{inner}{comma}\n{tail}"
    else:
        line = f"{name} = {shown}"
    return f"# {comment}\n{line}" if comment else line


def _lines(imports: list[Import]) -> str:
    """Return import statements, one for each module."""
    plain = sorted(
        f"import {found.module}" + (f" as {found.bound}" if found.bound != found.module else "")
        for found in imports
        if not found.name
    )
    by_module: dict[str, list[str]] = {}
    for found in imports:
        if found.name:
            by_module.setdefault(found.module, []).append(found.name)
    named = [
        f"from {module} import {', '.join(sorted(by_module[module]))}"
        for module in sorted(by_module)
    ]
    return "\n".join([*plain, *named])
