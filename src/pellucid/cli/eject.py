"""`pellucid eject`."""

from __future__ import annotations

import json as json_text
import sys
from pathlib import Path


def eject(
    run: str,
    /,
    *,
    out: Path | None = None,
    arrays: Path | None = None,
    check: bool = False,
    json: bool = False,
) -> int:
    """Print a script that trains what a run trained, without pellucid: its loop, for its recipe.

    The script needs PyTorch, NumPy and, for image files, Pillow. On the same data, versions and
    number of threads it ends with the same weights, bit for bit.

    Parameters
    ----------
    run
        A path, a run's name, or latest.
    out
        Write the script to this file.
    arrays
        Write the decoded images to this .npz file, which the script then reads; for data that a
        script cannot read by itself.
    check
        Run the script and compare its weights with those of the run; exit 1 if they differ.
    json
        Print one JSON object on standard output.
    """
    from pellucid.eject import check as check_script
    from pellucid.eject import eject as script_of
    from pellucid.sinks.console import Console

    console = Console(sys.stderr)
    script = script_of(run, arrays=arrays, progress=console.progress)
    console.close()
    result: dict[str, object] = {"run": run, "lines": script.count("\n")}
    if out is not None:
        out.write_text(script, encoding="utf-8")
        result["out"] = str(out)
    else:
        result["script"] = script
    if not json and out is None:
        print(script, end="", flush=True)
    same = True
    if check:
        verdict = check_script(run, script)
        same = verdict.same
        result["check"] = {
            "same": same,
            "tensors": verdict.tensors,
            "different": list(verdict.different),
        }
        print(_words(verdict.tensors, verdict.different), file=sys.stderr)
    if json:
        print(json_text.dumps(result, ensure_ascii=False))
    return 0 if same else 1


def _words(tensors: int, different: tuple[str, ...]) -> str:
    if not different:
        return f"check: the script ends with the run's weights, bit for bit ({tensors} tensors)"
    return (
        f"check failed: {len(different)} of {tensors} tensors differ from those of the run: "
        f"{', '.join(different[:10])}. Different data, versions, threads or processor do that; "
        "without them it is a bug."
    )
