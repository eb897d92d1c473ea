"""What the curves of a run say: learning rate, labels, over- and underfitting.

A curve shows that something is wrong more often than what: so these rules know which causes were
seen directly, and are silent where one of them explains the curve. The thresholds stand here;
docs/diagnosis.md says how they were fixed.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Set
from typing import Any

from pellucid.checks.diagnosis_facts import Course, Facts, Finding

Row = dict[str, Any]
Rule = Callable[[Course, Facts, Set[str]], Finding | None]

LEARNED = 0.95  # of the loss of a blind answer: above it nothing was learned
THROWN = 5.0  # change of all weights, relative to their start
ROSE = 1.5  # running loss against the start
SWING, SWINGS = 0.4, 3  # rises of the training loss, of the blind loss; how many
SLOW = 2e-3  # change of the weights after n steps, of the square root of n
HARDLY = 0.2  # share of the starting loss that was learned
FADED = 0.01  # of the full learning rate
HIGH = (
    0.3  # of the full learning rate: above it a curve that stands still is no doing of the schedule
)
BLURRED = 0.1  # accuracy: with fewer images "no better than a guess" says nothing
GAP, STRONG_GAP = 0.10, 0.30  # accuracy, training minus validation
WORSE, FELL = 0.10, 0.8  # validation loss above its best; training loss since then
STILL = 0.02  # gain of the training loss over the second half
POOR = 0.5  # of the loss of a blind answer

INNER = {
    "weights-stand-still", "dead-units", "vanishing-gradients", "saturated-units",
    "images-influence-each-other", "evaluation-not-repeatable", "exploding-gradients",
    "start-far-from-chance", "batches-not-shuffled", "targets-not-of-images",
    "parts-prepared-differently", "lr-too-high", "lr-too-low", "lr-falls-too-soon",
    "gradients-not-cleared", "labels-in-another-order", "preparation-not-repeatable",
    "outputs-are-probabilities", "loss-cannot-reach-its-floor", "imbalance",
}  # fmt: skip
"""Causes that explain a run which learns nothing."""

CURVES = {"learns-nothing", "labels-unrelated"}


def too_high(course: Course, facts: Facts, seen: Set[str]) -> Finding | None:
    """A learning rate that throws the weights about."""
    said = _diverged(course, facts) or _rose(course, facts) or _thrown(course, facts)
    if not said and "start-far-from-chance" not in seen:
        said = _swings(course, facts)
    if not said or seen & {"gradients-not-cleared"}:
        return None
    sentence, numbers = said
    return Finding(
        "lr-too-high",
        "warning",
        f"{sentence} The full learning rate is {facts.lr:g}.",
        {**numbers, "lr": facts.lr},
        f"a tenth of it (--optimizer.lr {facts.lr / 10:g}), a warm-up (--schedule.warmup 0.1), "
        "clipped gradients (--max-grad-norm 1).",
    )


Said = tuple[str, dict[str, float | int | str]] | None


def _diverged(course: Course, facts: Facts) -> Said:
    if course.diverged is None:
        return None
    return f"At step {course.diverged} loss or gradient was no finite number.", {
        "step": course.diverged
    }


def _rose(course: Course, facts: Facts) -> Said:
    if not course.evaluations or not course.first:
        return None
    row = course.evaluations[-1]
    start = max(course.first["objective"] or 0.0, facts.blind)
    if row["running_loss"] < ROSE * start:
        return None
    return (
        f"The training loss of the epoch up to step {row['step']} is {row['running_loss']:.3g}; "
        f"before the first step it was {start:.3g}.",
        {"step": row["step"], "running_loss": row["running_loss"], "start": start},
    )


def _thrown(course: Course, facts: Facts) -> Said:
    row = course.last
    if not row or not course.evaluations or row["change"] is None or row["step"] < 20:
        return None
    loss = course.evaluations[-1]["train"]["loss"]
    if loss < LEARNED * facts.blind or row["change"] < THROWN:
        return None
    return (
        f"After step {row['step']} the weights have moved {row['change']:.3g} times their first "
        f"size, and the training loss is {loss:.3f}: answering the classes' shares without "
        f"looking at the image gives {facts.blind:.3f}.",
        {"step": row["step"], "change": row["change"], "loss": loss, "blind": facts.blind},
    )


def _swings(course: Course, facts: Facts) -> Said:
    losses = [row["loss"] for row in course.steps]
    losses = losses[len(losses) // 5 :]
    rises = [b - a for a, b in zip(losses, losses[1:], strict=False) if b - a > SWING * facts.blind]
    if len(rises) < SWINGS:
        return None
    return (
        f"The training loss swings: {len(rises)} times it rose by more than "
        f"{SWING * facts.blind:.2f} from one row to the next, up to {max(rises):.2f}.",
        {"swings": len(rises), "largest": max(rises)},
    )


def falls_too_soon(course: Course, facts: Facts, seen: Set[str]) -> Finding | None:
    """A schedule that ends the learning early."""
    losses, peak = course.losses("train"), 0.0
    for row in course.steps:
        peak = max(peak, row["lr"])
        if row["lr"] < min(FADED * facts.lr, peak):  # a warm-up is never below what it was
            break
    else:
        return None
    if row["step"] >= facts.steps / 2 or not losses or losses[-1] < POOR * facts.blind:
        return None
    return Finding(
        "lr-falls-too-soon",
        "warning",
        f"At step {row['step']} of {facts.steps} the learning rate has fallen to {row['lr']:.1e}, "
        f"from {facts.lr:g}, and the training loss is still {losses[-1]:.3f}.",
        {"step": row["step"], "lr": row["lr"], "full": facts.lr, "loss": losses[-1]},
        "a schedule whose length is that of the run; is one that counts epochs stepped at "
        "each batch?",
    )


def too_low(course: Course, facts: Facts, seen: Set[str]) -> Finding | None:
    """A learning rate that hardly moves the weights."""
    row, losses = course.last, course.losses("train")
    excused = {"weights-stand-still", "lr-falls-too-soon", "lr-too-high", "saturated-units"}
    excused |= {"exploding-gradients", "start-far-from-chance", "vanishing-gradients", "dead-units"}
    if not row or not losses or row["change"] is None or seen & excused:
        return None
    start = course.first["loss"] if course.first else facts.blind
    gain = 1 - losses[-1] / start
    enough = row["step"] >= max(20, facts.steps / 5) and _lr(course, facts) >= HIGH * facts.lr
    if not enough or gain > HARDLY or row["change"] > SLOW * math.sqrt(row["step"]):
        return None
    return Finding(
        "lr-too-low",
        "warning",
        f"In {row['step']} steps the weights have moved by {row['change']:.2%} of their size, and "
        f"the training loss went from {start:.3f} to {losses[-1]:.3f}. The learning rate is "
        f"{facts.lr:g}.",
        {"step": row["step"], "change": row["change"], "start": start, "loss": losses[-1]},
        f"ten times as much (--optimizer.lr {facts.lr * 10:g}), again if need be; "
        "pellucid preflight tries a range of them.",
    )


def nothing_learned(course: Course, facts: Facts, seen: Set[str]) -> Finding | None:
    """Validation no better than without looking, though the weights move."""
    row, judged = course.last, [r for r in course.evaluations if r["validation"]]
    if not row or len(judged) < 2 or row["step"] < max(50, 0.3 * facts.steps) or seen & INNER:
        return None
    late = row["step"] >= max(100, 0.5 * facts.steps)
    n = judged[-1]["validation"]["n"]
    error = math.sqrt(facts.guess * (1 - facts.guess) / n)
    best = max(r["validation"]["accuracy"] for r in judged)
    train = judged[-1]["train"]["accuracy"]
    if best > facts.guess + 3 * error:
        return None
    sentence = (
        f"After step {row['step']} the best validation accuracy is {best:.1%} (n = {n}); always "
        f"answering the largest class gives {facts.guess:.1%}."
    )
    numbers = {"step": row["step"], "best": best, "guess": facts.guess, "n": n, "train": train}
    agreement = facts.data.train if facts.data else None
    if agreement and agreement.as_is <= agreement.chance + agreement.error:
        sentence += (
            f" The most similar training image has the same label for {agreement.as_is:.1%} of "
            f"{agreement.n}, where chance gives {agreement.chance:.1%}."
        )
    elif 3 * error > BLURRED:
        return None
    elif train > best + 0.2:
        sentence += f" Training images are right in {train:.1%}: they are learned by heart."
    elif not late or judged[-1]["train"]["loss"] < LEARNED * facts.blind:
        return None
    else:
        return Finding(
            "learns-nothing", "warning", sentence, numbers,
            "overfit one batch first (pellucid preflight); look at a batch as the network gets "
            "it, with its targets; a simpler model; another learning rate.",
        )  # fmt: skip
    return Finding(
        "labels-unrelated", "warning", sentence, numbers,
        "look at some training images with their labels; were images and labels shuffled or "
        "sorted apart from each other?",
    )  # fmt: skip


def overfitting(course: Course, facts: Facts, seen: Set[str]) -> Finding | None:
    """Training images ever better, validation images not."""
    rows = [r for r in course.evaluations if r["validation"]]
    if len(rows) < 3 or seen & {"labels-unrelated", "labels-in-another-order", "lr-too-high"}:
        return None
    train = [r["train"]["loss"] for r in rows]
    held = [r["validation"]["loss"] for r in rows]
    now, best = rows[-1], held.index(min(held))
    gap, n = now["gap"], now["validation"]["n"]
    share = now["validation"]["accuracy"]
    known = now["train"]["accuracy"]
    error = math.sqrt(share * (1 - share) / n + known * (1 - known) / now["train"]["n"])
    if gap < max(GAP, 2 * error):
        return None
    falls = train[-1] < FELL * train[best]
    rises = held[-1] > (1 + WORSE) * held[best] and falls
    stands = len(held) - 1 - best >= 3 and falls
    strong = gap >= STRONG_GAP
    text = (
        f"After step {now['step']} {known:.1%} of training and {share:.1%} of "
        f"validation images (n = {n}) are right, a gap of {100 * gap:.1f} points; the validation "
    )
    if best == len(held) - 1:
        text += f"loss is the best so far ({held[best]:.3f})."
    else:
        text += (
            f"loss was best at step {rows[best]['step']} ({held[best]:.3f}) and is {held[-1]:.3f}, "
            f"while the training loss went from {train[best]:.3f} to {train[-1]:.3f}."
        )
    numbers = {"gap": gap, "best_step": rows[best]["step"], "best": held[best], "now": held[-1]}
    if not (rises or stands or strong):
        return Finding(
            "gap", "note", text, numbers,
            "nothing yet: a gap is normal while validation gets better; more data or augmentation "
            "make it smaller.",
        )  # fmt: skip
    return Finding(
        "overfitting", "warning", text, numbers,
        "more images; augmentation (--augment.crop on, --augment.flip on); weight decay "
        "(--optimizer.weight_decay); dropout (--model.dropout 0.25); a smaller model; an earlier "
        "stop. The best checkpoint by validation is kept in any case.",
    )  # fmt: skip


def overconfident(course: Course, facts: Facts, seen: Set[str]) -> Finding | None:
    """A validation loss that rises while the accuracy holds."""
    rows = [r for r in course.evaluations if r["validation"]]
    if len(rows) < 3 or "overfitting" in seen:
        return None
    held = [r["validation"]["loss"] for r in rows]
    best = held.index(min(held))
    a, b = rows[best]["validation"]["accuracy"], rows[-1]["validation"]["accuracy"]
    if held[-1] < 1.2 * held[best] or b < a - 0.01 or rows[-1]["gap"] >= GAP:
        return None
    return Finding(
        "overconfident", "note",
        f"The validation loss rose from {held[best]:.3f} (step {rows[best]['step']}) to "
        f"{held[-1]:.3f}, while the accuracy went from {a:.1%} to {b:.1%}: a few wrong answers "
        "are given with more and more certainty.",
        {"best": held[best], "now": held[-1], "accuracy": b},
        "label smoothing (--loss.label_smoothing 0.1) or weight decay, if probabilities matter.",
    )  # fmt: skip


def standstill(course: Course, facts: Facts, seen: Set[str]) -> Finding | None:
    """A training loss that has stopped falling, at a poor value or at a good one."""
    rows = course.evaluations
    if len(rows) < 4 or course.done < max(100, 0.4 * facts.steps) or seen & (INNER | CURVES):
        return None
    losses = [r["train"]["loss"] for r in rows]
    middle = next(i for i, r in enumerate(rows) if r["step"] >= course.done / 2)
    for curve in (losses, [r["running_loss"] for r in rows]):  # one alone may be a bad moment
        if min(curve[middle + 1 :], default=0.0) < (1 - STILL) * min(curve[: middle + 1]):
            return None
    if _lr(course, facts) < HIGH * facts.lr or losses[-1] < 0.1 * facts.blind:
        return None
    gap = rows[-1]["gap"] or 0.0
    text = (
        f"The training loss has stood still since step {rows[middle]['step']}: {losses[middle]:.3f}"
        f" then, {losses[-1]:.3f} after step {rows[-1]['step']}"
    )
    numbers = {"since": rows[middle]["step"], "then": losses[middle], "now": losses[-1]}
    if losses[-1] > POOR * facts.blind and gap < GAP:
        return Finding(
            "underfitting", "warning",
            f"{text}; {rows[-1]['train']['accuracy']:.1%} of the training images are right. The "
            "model learns neither part well.",
            numbers,
            "a larger model; a learning rate of ten times as much, or a tenth; less weight "
            "decay, dropout and augmentation; a longer run.",
        )  # fmt: skip
    return Finding(
        "plateau", "note", f"{text}.", numbers,
        "a lower learning rate from here on (--schedule.name cosine or plateau); or stop.",
    )  # fmt: skip


def _lr(course: Course, facts: Facts) -> float:
    rows = [row for row in course.rows if "lr" in row]
    return float(rows[-1]["lr"]) if rows else facts.lr


RULES: tuple[Rule, ...] = (
    too_high, falls_too_soon, too_low, nothing_learned, overfitting, overconfident, standstill,
)  # fmt: skip
"""In the order in which they are asked: later ones know what earlier ones found."""
