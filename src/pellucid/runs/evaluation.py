"""What is kept of a judgement: the table of predictions, that of mistakes, all numbers as JSON."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from pellucid.errors import BadRun
from pellucid.metrics.calibration import fit_temperature
from pellucid.metrics.judgement import Judgement, Temperature, judge
from pellucid.metrics.mistakes import mistakes
from pellucid.runs.folder import Run
from pellucid.runs.predictions import mistake_table, prediction_table, read_predictions
from pellucid.values import ImageSet, Predictions

VALIDATION = "validation"


def keep_evaluation(
    run: Run,
    data: ImageSet,
    predictions: Predictions,
    part: str,
    checkpoint: int,
    temperature: Temperature | None = None,
) -> Judgement:
    """Write what `predictions` are and what follows from them; return the latter.

    `predictions/<part>.csv`, `predictions/<part>_errors.csv` and `evaluation/<part>.json`.

    Args:
        run: whose model was judged.
        data: the images.
        predictions: what was said of them.
        part: names the files.
        checkpoint: the step of the weights that were judged.
        temperature: fitted on validation images.

    Raises:
        BadData: if a logit is not finite or a label is no class.
    """
    run.write(f"predictions/{part}.csv", prediction_table(data, predictions))
    judged = judge(predictions, temperature)
    run.write(f"predictions/{part}_errors.csv", mistake_table(mistakes(predictions), data))
    facts = {"part": part, "data": data.name, "checkpoint": checkpoint}
    run.write_json(f"evaluation/{part}.json", {**facts, **judged.as_dict()})
    return judged


def temperature_from(predictions: Predictions, part: str = VALIDATION) -> Temperature | None:
    """Return the temperature that fits `predictions` best; None where there is none."""
    value = fit_temperature(predictions)
    return None if value is None else Temperature(value, part, len(predictions))


def stored_temperature(run: Run, part: str = VALIDATION) -> Temperature | None:
    """Return the temperature that the run's table of predictions on `part` gives, if it is there.

    Args:
        run: whose model was judged on it.
        part: `validation`, or the name under which several views of its images were judged.
    """
    path = run.path / "predictions" / f"{part}.csv"
    return temperature_from(read_predictions(path).predictions, part) if path.exists() else None


def headline(judged: Judgement) -> dict[str, Any]:
    """Return what a summary holds of a judgement: all but matrix, bins and curves."""
    calibration = judged.calibration
    tempered = calibration.tempered
    return {
        "accuracy": judged.accuracy.value,
        "n": judged.n,
        "correct": judged.correct,
        "interval": list(judged.accuracy.interval or ()) or None,
        "loss": judged.loss.value,
        "loss_interval": judged.loss.interval,
        "balanced_accuracy": judged.balanced_accuracy.value,
        "balanced_accuracy_interval": judged.balanced_accuracy.interval,
        "top": [asdict(top) for top in judged.top],
        "averages": [asdict(average) for average in judged.averages],
        "per_class": [asdict(score) for score in judged.per_class],
        "pairs": [asdict(pair) for pair in judged.pairs],
        "ece": calibration.equal_width.ece,
        "ece_interval": calibration.equal_width.interval,
        "ece_equal_mass": calibration.equal_mass.ece,
        "ece_equal_mass_interval": calibration.equal_mass.interval,
        "brier": calibration.brier.value,
        "brier_interval": calibration.brier.interval,
        "temperature": asdict(tempered) if tempered else None,
    }


def stored_evaluation(run: Run, part: str) -> dict[str, Any] | None:
    """Return the kept numbers on `part`, or None if it was not judged.

    Raises:
        BadRun: if the file is damaged.
    """
    found = run.read_json(f"evaluation/{part}.json")
    if found is not None and not {"part", "n", "accuracy", "confusion"} <= found.keys():
        raise BadRun(f"{run.path}/evaluation/{part}.json is damaged. pellucid evaluate makes it.")
    return found
