"""`pellucid evaluate`."""

from __future__ import annotations

import json as json_text
import sys


def evaluate(
    run: str,
    /,
    *,
    on: str = "validation",
    views: str = "one",
    device: str = "auto",
    json: bool = False,
) -> int:
    """Judge the best model of a run on one of its parts, or on other data.

    Tables, numbers and figures are kept in the run folder. Judging on test opens that part once
    more; each opening is a row in the run's openings.jsonl.

    Parameters
    ----------
    run
        A path, a run's name, or latest.
    on
        validation, test, train, or other data: a known name, an image folder, a CSV file. Of
        other data all parts are judged together.
    views
        Of each image: one; flip (and its mirror image); shift (and moved by a pixel each way);
        flip-shift. The mean over several views (test-time augmentation) is kept apart from what
        the model says of one, under a name of its own.
    device
        auto, cpu, cuda, mps.
    json
        Print one JSON object on standard output.
    """
    from pellucid.cli.judge import judge_run
    from pellucid.report.page import judgement_page
    from pellucid.sinks.console import Console, count, percent

    console = Console(sys.stderr)
    result = judge_run(run, on, device, console, views)
    console.close()
    if json:
        print(json_text.dumps(result, ensure_ascii=False))
        return 0
    if views != "one":
        print(f"the mean over several views of each image ({views})")
    print(f"{result['on']} accuracy: {percent(result['correct'], result['n'])}")
    print(f"{result['on']} loss: {result['loss']:.4f}")
    print(f"checkpoint: after step {result['checkpoint']:,} of {result['run']}")
    if result["openings"]:
        print(f"test images opened {count(result['openings'], 'time')} in this run")
    print()
    print(judgement_page({**result["evaluation"], "part": result["part"]}))
    return 0
