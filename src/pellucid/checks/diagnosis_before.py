"""What is known before the first step: twins in two parts, classes, loss, batches, preparation.

Each rule returns one finding or none. The thresholds stand here; docs/diagnosis.md says how they
were fixed.
"""

from __future__ import annotations

import math
from collections.abc import Callable

from pellucid.checks.diagnosis_facts import Agreement, Course, Facts, Finding

Rule = Callable[[Course, Facts], Finding | None]

SHARED = 0.01  # share of a part that is also in another
ALIKE, SKEWED = 3.0, 10.0  # largest class / smallest class: a note, a warning
FLOOR = 0.3  # of ln C, above what the lowest loss should be
TOGETHER = 0.25  # of the way from shuffled to sorted batches
FOLLOW = 0.25  # of the way from chance to targets that always fit their images


def shared_images(course: Course, facts: Facts) -> Finding | None:
    """Images of one part that are also in another, pixel by pixel."""
    if not facts.data or not facts.data.shared:
        return None
    shared = max(facts.data.shared, key=lambda row: row[2] / row[3])
    part, other, n, of = shared
    many = n / of >= SHARED
    sentences = [
        f"{n} of the {of} {part} images ({n / of:.1%}) are also among the {other} images, pixel "
        "by pixel."
        for part, other, n, of in facts.data.shared
    ]
    return Finding(
        "parts-share-images",
        "warning" if many else "note",
        " ".join(sentences) + (" A score on them says little about new images." if many else ""),
        {"part": part, "other": other, "n": n, "of": of},
        "split before images are copied or augmented, and keep all copies of an image in one "
        "part; drop the twins.",
    )


def conflicting_labels(course: Course, facts: Facts) -> Finding | None:
    """Equal images with different labels."""
    if not facts.data or not facts.data.conflicts:
        return None
    n, of = facts.data.conflicts, sum(facts.train)
    return Finding(
        "same-image-two-labels",
        "warning" if n / of >= SHARED else "note",
        f"{n} of {of} training images have a twin, pixel by pixel, with another label.",
        {"n": n, "of": of},
        "look at these images and settle their labels.",
    )


def imbalance(course: Course, facts: Facts) -> Finding | None:
    """Classes of very different size."""
    most, least = max(facts.train), min(facts.train)
    if least == 0 or most / least < ALIKE:
        return None
    big, small = facts.classes[facts.train.index(most)], facts.classes[facts.train.index(least)]
    share = most / sum(facts.train)
    last = course.last
    said = f" Now {last['top_share']:.0%} of the answers are one class." if last else ""
    return Finding(
        "imbalance",
        "warning" if most / least >= SKEWED and not facts.evened else "note",
        f"Class {big} has {most} training images and class {small} has {least}: {most / least:.0f} "
        f"to 1. Always answering {big} would be right for {share:.1%} of them.{said}",
        {"largest": most, "smallest": least, "ratio": most / least, "share": share},
        "judge by recall per class, not by accuracy; class weights (--loss.class_weights "
        "balanced) or balanced sampling (--sampling.name balanced); more images of the rare "
        "classes.",
    )


def other_order(course: Course, facts: Facts) -> Finding | None:
    """Labels of the validation part that name other classes than those of the training part."""
    seen = facts.data.validation if facts.data else None
    for found, said in (
        (seen, "the most similar training images"),
        (facts.judged, "the trained network"),
    ):
        if found and _in_another_order(found):
            label, is_ = found.example
            return Finding(
                "labels-in-another-order",
                "warning",
                f"Validation labels agree with {said} for {found.as_is:.1%} of {found.n} images, "
                f"less than half as often as if classes were renamed ({found.relabelled:.1%}): "
                f"what is labelled {label} looks like {is_}.",
                {"as_is": found.as_is, "relabelled": found.relabelled, "n": found.n},
                "compare the order of the classes in both parts (sorted as text, as numbers, from "
                "0, from 1); look at some images of each part with their labels.",
            )
    return None


def _in_another_order(found: Agreement) -> bool:
    a, b = found.as_is, found.relabelled
    error = math.sqrt((a * (1 - a) + b * (1 - b)) / found.n)
    return a < b / 2 and b - a > max(0.1, 3 * error)


def loss_floor(course: Course, facts: Facts) -> Finding | None:
    """A loss that stays high however right the answers are."""
    task = facts.task
    if not task or task.floor - task.floor_expected < FLOOR * facts.uniform:
        return None
    return Finding(
        "loss-cannot-reach-its-floor",
        "warning",
        f"Answers that are all right and entirely sure still cost {task.floor:.3f}; they should "
        f"cost {task.floor_expected:.3f}. With a softmax before cross-entropy the least is "
        f"{math.log(math.e + len(facts.classes) - 1) - 1:.3f} for {len(facts.classes)} classes.",
        {"floor": task.floor, "expected": task.floor_expected},
        "give the loss logits: no softmax in it or before it.",
    )


def summed_loss(course: Course, facts: Facts) -> Finding | None:
    """A loss that grows with the batch."""
    if not facts.task or not facts.task.doubling > 1.5:
        return None
    return Finding(
        "loss-is-a-sum",
        "warning",
        f"A batch given twice has {facts.task.doubling:.2f} times the loss: it is a sum over the "
        "images, so the size of a step grows with the batch.",
        {"doubling": facts.task.doubling},
        'the mean over the images (reduction="mean").',
    )


def unrepeatable_preparation(course: Course, facts: Facts) -> Finding | None:
    """Images that are prepared for evaluation differently each time."""
    if not facts.task or facts.task.unrepeatable <= 1e-4:
        return None
    return Finding(
        "preparation-not-repeatable",
        "warning",
        "The same image, prepared twice for evaluation, differs by up to "
        f"{facts.task.unrepeatable:.3g}: something random is in it.",
        {"difference": facts.task.unrepeatable},
        "augment training images only.",
    )


def prepared_differently(course: Course, facts: Facts) -> Finding | None:
    """Inputs in training on another scale than in evaluation."""
    if not facts.task:
        return None
    (a, b), (c, d) = facts.task.train_input, facts.task.evaluation_input
    wide = max(b, d) / max(min(b, d), 1e-12)
    if wide < 3 and abs(a - c) < 1.5 * max(b, d):
        return None
    return Finding(
        "parts-prepared-differently",
        "warning",
        f"In training the network gets these images with mean {a:.3g} and standard deviation "
        f"{b:.3g}, in evaluation the same ones with {c:.3g} and {d:.3g}.",
        {"train_mean": a, "train_std": b, "evaluation_mean": c, "evaluation_std": d},
        "the same scaling in both, after augmentation.",
    )


def unshuffled(course: Course, facts: Facts) -> Finding | None:
    """Batches in which few classes meet."""
    task = facts.task
    if not task:
        return None
    way = (task.together - task.together_expected) / max(1 - task.together_expected, 1e-12)
    if way < TOGETHER:
        return None
    return Finding(
        "batches-not-shuffled",
        "warning",
        f"Two images of a batch have the same label in {task.together:.0%} of pairs; in any order "
        f"it would be {task.together_expected:.0%}. Each step pulls towards few classes.",
        {"together": task.together, "expected": task.together_expected},
        "shuffle the training images anew in each epoch.",
    )


def astray(course: Course, facts: Facts) -> Finding | None:
    """Targets of a batch that do not belong to its images."""
    task = facts.task
    if not task or not task.follow + task.follow_error < FOLLOW:
        return None
    return Finding(
        "targets-not-of-images",
        "warning",
        f"Of the first {task.seen} training images, as the network gets them, the targets follow "
        f"what the images look like by {task.follow:.0%} (+-{task.follow_error:.0%}): 100 % is "
        "always, 0 % is chance.",
        {"follow": task.follow, "error": task.follow_error, "n": task.seen},
        "reorder images and labels together; look at a batch with its targets.",
    )


RULES: tuple[Rule, ...] = (
    shared_images, conflicting_labels, imbalance, other_order, loss_floor, summed_loss,
    unrepeatable_preparation, prepared_differently, unshuffled, astray,
)  # fmt: skip
"""In the order in which they are told."""
