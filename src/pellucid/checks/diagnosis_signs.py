"""What the vital signs of a network show directly.

Each rule returns one finding or none. The thresholds stand here; docs/diagnosis.md says how they
were fixed.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

from pellucid.checks.diagnosis_facts import Course, Facts, Finding

Rule = Callable[[Course, Facts], Finding | None]
Row = dict[str, Any]

REPEAT = 0.01  # relative difference of two outputs; kernels of a GPU differ by up to 0.001
FAR, VERY_FAR = 3.0, 15.0  # nats above ln C at the start: a note, a warning
OFF_CENTRE, TOO_WIDE, TOO_FLAT = 5.0, 5.0, 0.01  # of the input, whose deviation should be near 1
MANY_DEAD, DEAD = 0.75, 0.9  # of the units of a layer: a note, a warning
SATURATED_START, SATURATED = 0.5, 0.95  # of the values of a layer
VANISHED = 1e-3  # gradient / weights, first layer against last
EXPLODED = 300.0  # norm of the gradient


def probabilities(course: Course, facts: Facts) -> Finding | None:
    """Outputs that are probabilities already."""
    row = next((row for row in course.vitals if row["probabilities"]), None)
    if not row:
        return None
    return Finding(
        "outputs-are-probabilities",
        "warning",
        f"After step {row['step']} the outputs for all {row['n']} images are between 0 and 1 and "
        "sum to 1: a softmax has been applied. Cross-entropy applies its own, and then the loss "
        f"cannot go below {math.log(math.e + len(facts.classes) - 1) - 1:.3f}.",
        {"step": row["step"], "n": row["n"]},
        "return logits: take the softmax out of the model.",
    )


def squashed(course: Course, facts: Facts) -> Finding | None:
    """An activation behind the last layer."""
    row = course.vitals[0] if course.vitals else None
    last = row["activations"][-1] if row and row["activations"] else None
    used = [layer["name"] for layer in row["layers"] if layer["used"]] if row else []
    if not row or not last or last["kind"] == "tanh" or last["units"] != len(facts.classes):
        return None
    if last["after"] != used[-1] or row["probabilities"]:
        return None
    return Finding(
        "outputs-are-squashed",
        "warning",
        f"The outputs go through a {last['kind']} behind {last['after']}, the last layer. "
        "Cross-entropy wants logits, which may be any number: "
        + ("all below 0 are alike here." if last["kind"] == "relu" else "from 0 to 1 is too near."),
        {"after": last["after"], "units": last["units"]},
        "no activation behind the last layer.",
    )


def uncleared(course: Course, facts: Facts) -> Finding | None:
    """Gradients that are still there after the step."""
    row = course.last
    if not row or not row["leftover"] or _still(row, facts):
        return None
    fresh = row["grad_norm"] or 0.0
    return Finding(
        "gradients-not-cleared",
        "warning",
        f"After step {row['step']} the parameters still hold a gradient of norm "
        f"{row['leftover']:.3g} (a fresh one on {row['n']} images has {fresh:.3g}). The next "
        "backward pass adds to it.",
        {"step": row["step"], "leftover": row["leftover"], "fresh": fresh},
        "optimizer.zero_grad() once a step, for all parameters.",
    )


def resting(course: Course, facts: Facts) -> Finding | None:
    """Layers in eval mode during training."""
    row = course.last
    names = [n for n in row["resting"] if not _meant(n, facts)] if row else []
    if not row or not names:
        return None
    return Finding(
        "eval-mode-in-training",
        "warning",
        f"After step {row['step']} {len(names)} layer{'s' * (len(names) != 1)} that should act "
        f"differently in training {'are' if len(names) > 1 else 'is'} in eval mode: "
        f"{_list(names)}. Dropout drops nothing there, and batch norm learns no statistics.",
        {"step": row["step"], "layers": len(names)},
        "model.train() before the next batch, after each evaluation; look for a train() that "
        "the model overrides.",
    )


def unrepeatable(course: Course, facts: Facts) -> Finding | None:
    """Two answers to the same images in eval mode."""
    row = next((row for row in course.vitals if (row["repeat"] or 0) > REPEAT), None)
    if not row:
        return None
    return Finding(
        "evaluation-not-repeatable",
        "warning",
        f"After step {row['step']} the same images got outputs in eval mode that differ by "
        f"{row['repeat']:.1%} of the largest: something random is still on.",
        {"step": row["step"], "difference": row["repeat"]},
        "model.eval() for each evaluation; F.dropout(x, p, training=self.training).",
    )


def mixed(course: Course, facts: Facts) -> Finding | None:
    """Answers that depend on the other images of the batch."""
    rows = (r for r in course.vitals if (r["mixing"] or 0) > REPEAT >= (r["repeat"] or 0))
    row = next(rows, None)
    if not row:
        return None
    return Finding(
        "images-influence-each-other",
        "warning",
        f"After step {row['step']} the outputs in eval mode change by {row['mixing']:.1%} of the "
        "largest when other images of the batch are left out.",
        {"step": row["step"], "difference": row["mixing"]},
        "model.eval(), so that batch norm uses its running statistics; look for a view or "
        "reshape that runs over the batch dimension where a transpose or permute was meant.",
    )


def standing_still(course: Course, facts: Facts) -> Finding | None:
    """Layers whose weights are what they were at the start, to the last bit."""
    row = course.last
    still = _still(row, facts) if row else []
    if not row or not still:
        return None
    frozen = [layer["name"] for layer in still if not layer["trained"]]
    unused = [layer["name"] for layer in still if layer["trained"] and layer["grad"] is None]
    flat = [layer["name"] for layer in still if layer["grad"] == 0]
    rest = [layer["name"] for layer in still if layer["trained"] and layer["grad"]]
    why = [
        f"{_list(names)} {text}"
        for names, text in (
            (frozen, "must not change (requires_grad is False)"),
            (unused, "gets no gradient: cut off from the loss, by detach or by not being used"),
            (flat, "gets a gradient of exactly 0"),
            (rest, "gets a gradient, but no step is taken, or one too small for float32"),
        )
        if names
    ]
    return Finding(
        "weights-stand-still",
        "warning",
        f"After {row['step']} steps {len(still)} of {len(row['layers'])} layers with weights are "
        f"exactly what they were at the start: {'; '.join(why)}.",
        {"step": row["step"], "still": len(still), "layers": len(row["layers"])},
        "requires_grad on what is to learn; all of model.parameters() in the optimizer; "
        "optimizer.step() in each step; no detach in the forward pass; initial weights that "
        "are not all 0; look for dead units.",
    )


def _still(row: Row, facts: Facts) -> list[Row]:
    layers = row["layers"]
    return [one for one in layers if one["change"] == 0 and not _meant(one["name"], facts)]


def unnormalised(course: Course, facts: Facts) -> Finding | None:
    """Inputs far from mean 0 and standard deviation 1."""
    row = course.vitals[0] if course.vitals else None
    seen = row and row["input"]
    if not seen or seen["mean"] is None or seen["std"] is None:
        return None
    if abs(seen["mean"]) < OFF_CENTRE and TOO_FLAT < seen["std"] < TOO_WIDE:
        return None
    return Finding(
        "input-not-normalised",
        "warning",
        f"What reaches the first layer has mean {seen['mean']:.3g} and standard deviation "
        f"{seen['std']:.3g} (from {seen['min']:.3g} to {seen['max']:.3g}); near 0 and 1 is usual.",
        dict(seen),
        "subtract the mean and divide by the standard deviation of the training images.",
    )


def far_start(course: Course, facts: Facts) -> Finding | None:
    """A first loss that is far above that of a network that knows nothing."""
    row = course.first
    if not row or row["loss"] is None or row["loss"] - row["chance"] < FAR:
        return None
    return Finding(
        "start-far-from-chance",
        "warning" if row["loss"] - row["chance"] >= VERY_FAR else "note",
        f"Before the first step the loss is {row['loss']:.3f}; that of a network that holds all "
        f"{len(facts.classes)} classes for equally likely is ln {len(facts.classes)} = "
        f"{row['chance']:.3f}. It is sure of wrong answers, and unlearns that first.",
        {"loss": row["loss"], "chance": row["chance"]},
        "smaller weights in the last layer; inputs near mean 0 and standard deviation 1.",
    )


def dead(course: Course, facts: Facts) -> Finding | None:
    """Units that are 0 for every image."""
    row = course.vitals[-1] if course.vitals else None
    layers = [a for a in row["activations"] if a["kind"] == "relu"] if row else []
    worst = max(layers, key=lambda a: float(a["dead"]), default=None)
    if not row or not worst or worst["dead"] < MANY_DEAD:
        return None
    n = round(worst["dead"] * worst["units"])
    return Finding(
        "dead-units",
        "warning" if worst["dead"] >= DEAD else "note",
        f"After step {row['step']} {n} of {worst['units']} units behind {worst['after']} are 0 for "
        f"all {row['n']} images looked at, and learn nothing from them.",
        {"step": row["step"], "dead": n, "units": worst["units"], "after": worst["after"]},
        "learning rate / 10, or a warm-up; biases that do not start far below 0; Kaiming initial "
        "weights; LeakyReLU or GELU.",
    )


def saturated(course: Course, facts: Facts) -> Finding | None:
    """Sigmoids and tanhs that sit at their ends, where they have no slope."""
    for row, most in ((course.first, SATURATED_START), (course.last, SATURATED)):
        layers = [a for a in row["activations"] if a["kind"] != "relu"] if row else []
        worst = max(layers, key=lambda a: float(a["saturated"]), default=None)
        if row and worst and worst["saturated"] >= most:
            return Finding(
                "saturated-units",
                "warning",
                f"After step {row['step']} {worst['saturated']:.0%} of the values of the "
                f"{worst['kind']} behind {worst['after']} lie within 2 % of its range from an end, "
                "where its slope, and so the gradient, is near 0.",
                {"step": row["step"], "share": worst["saturated"], "after": worst["after"]},
                "smaller initial weights (Xavier); inputs near mean 0 and standard deviation 1; "
                "ReLU in hidden layers; batch norm before the activation.",
            )
    return None


def vanishing(course: Course, facts: Facts) -> Finding | None:
    """Gradients that get lost on the way back to the first layer."""
    for row in course.vitals[:1] + course.vitals[-1:]:
        ends = _ends(row)
        if ends and ends[0][1] < VANISHED * ends[1][1]:
            (first, a), (last, b) = ends
            return Finding(
                "vanishing-gradients",
                "warning",
                f"After step {row['step']} the gradient of {first}, relative to its weights, is "
                f"{a:.1e}, and that of {last} is {b:.1e}: {b / a:.0e} times as large.",
                {"step": row["step"], "first": a, "last": b},
                "ReLU instead of sigmoid or tanh; initial weights that keep the scale (Kaiming, "
                "Xavier); batch norm; residual connections; fewer layers.",
            )
    return None


def exploding(course: Course, facts: Facts) -> Finding | None:
    """Gradients that are very large."""
    seen = [(row["step"], row["grad_norm"]) for row in course.vitals[:1] + course.steps]
    step, norm = max(seen, key=lambda pair: pair[1] or 0.0, default=(0, 0.0))
    if not norm or norm < EXPLODED:
        return None
    return Finding(
        "exploding-gradients",
        "warning",
        f"The gradient had norm {norm:.3g} {f'at step {step}' if step else 'at the start'}; below "
        "20 is usual.",
        {"step": step, "grad_norm": norm},
        "smaller initial weights (Kaiming); normalised inputs; a mean, not a sum, as loss; "
        "learning rate / 10; --max-grad-norm 1.",
    )


def _ends(row: Row) -> tuple[tuple[str, float], tuple[str, float]] | None:
    """Return name and gradient / weights of the first and the last layer that get a gradient."""
    found = [
        (layer["name"], layer["grad"] / layer["weights"])
        for layer in row["layers"]
        if layer["matrix"] and layer["grad"] and layer["weights"]
    ]
    return (found[0], found[-1]) if len(found) > 1 else None


def _meant(name: str, facts: Facts) -> bool:
    """Return whether the recipe itself keeps this layer from training."""
    return f"{name}.".startswith(tuple(f"{start}." for start in facts.frozen))


def _list(names: list[str], most: int = 4) -> str:
    shown = ", ".join(name or "the model itself" for name in names[:most])
    return shown + (f" and {len(names) - most} more" if len(names) > most else "")


RULES: tuple[Rule, ...] = (
    probabilities, squashed, uncleared, resting, unrepeatable, mixed, standing_still,
    unnormalised, far_start, dead, saturated, vanishing, exploding,
)  # fmt: skip
"""In the order in which they are told."""
