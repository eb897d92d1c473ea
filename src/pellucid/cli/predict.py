"""`pellucid predict`."""

from __future__ import annotations

import csv as csv_text
import json as json_text
import sys


def predict(
    run: str,
    /,
    *paths: str,
    device: str = "auto",
    csv: bool = False,
    json: bool = False,
) -> int:
    """Classify image files with the best model of a run.

    Parameters
    ----------
    run
        A path, a run's name, or latest.
    paths
        Image files, or folders with all images below them.
    device
        auto, cpu, cuda, mps.
    csv
        Print CSV: file, prediction, confidence, the probability of each class.
    json
        Print one JSON object on standard output.
    """
    from pellucid.errors import BadData
    from pellucid.inference import classifier, image_files, judged
    from pellucid.runs.listing import find

    if csv and json:
        raise BadData("Take either --csv or --json.")
    if not paths:
        raise BadData("Name at least one image file or folder: pellucid predict RUN IMAGE...")
    files = image_files(paths)
    opened = find(run)
    found = judged(opened)
    for problem in found.problems:
        print(f"warning: {problem}", file=sys.stderr)
    model = classifier(opened, found.checkpoint, device)
    shares = model.predict(files).logits.double().softmax(1)
    order = shares.argsort(dim=1, descending=True, stable=True)[:, : min(3, len(model.classes))]
    results = [
        {
            "file": str(file),
            "prediction": model.classes[best[0]],
            "confidence": float(row[best[0]]),
            "probabilities": dict(zip(model.classes, row.tolist(), strict=True)),
            "top": [(model.classes[i], float(row[i])) for i in best],
        }
        for file, row, best in zip(files, shares, order.tolist(), strict=True)
    ]
    if json:
        content = {"run": str(opened.path), "checkpoint": model.step, "predictions": results}
        print(json_text.dumps(content, ensure_ascii=False))
    elif csv:
        table = csv_text.writer(sys.stdout, lineterminator="\n")
        names = [f"p:{name}" for name in model.classes]
        table.writerow(["file", "prediction", "confidence", *names])
        for result in results:
            shown = [f"{p:.6g}" for p in result["probabilities"].values()]
            table.writerow(
                [result["file"], result["prediction"], f"{result['confidence']:.6g}", *shown]
            )
    else:
        width = max(len(result["prediction"]) for result in results)
        for result in results:
            others = ", ".join(f"{name} {100 * p:.1f} %" for name, p in result["top"][1:])
            print(
                f"{result['prediction']:<{width}}  {100 * result['confidence']:5.1f} %  "
                f"{result['file']}  (then {others})"
            )
    return 0
