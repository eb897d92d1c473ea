"""`pellucid learn`."""

from __future__ import annotations

import json as json_text


def learn(step: int | None = None, /, *, json: bool = False) -> int:
    """Walk the learning path: six steps on real digits, each one command, one thing, a check.

    Without a number, show the path; with one, run that step's command and check what it left.

    Parameters
    ----------
    step
        1 to 6.
    json
        Print one JSON object on standard output.
    """
    from pellucid.errors import UserError
    from pellucid.labs.path import STEPS

    if step is None:
        return _show(json)
    if not 1 <= step <= len(STEPS):
        raise UserError(f"The path has steps 1 to {len(STEPS)}. Got {step}.")
    return _walk(step, json)


def _show(json: bool) -> int:
    from pellucid.cli.lab_learning import progress
    from pellucid.labs.path import NEXT, STEPS

    done = progress().steps
    if json:
        rows = [
            {"step": i, "title": s.title, "command": s.command, "labs": s.labs, "done": i in done}
            for i, s in enumerate(STEPS, 1)
        ]
        print(json_text.dumps({"steps": rows}))
        return 0
    for number, step in enumerate(STEPS, 1):
        print(f"{number}. {step.title}{'  (done)' if number in done else ''}")
        print(f"   command: {step.command}\n   look at: {step.look}")
        print(f"   theory:  pellucid lab {' | '.join(step.labs)}\n")
    print("Run a step and its check: pellucid learn 1\n\nAfter that:")
    for title, command in NEXT:
        print(f"   {title}: {command}")
    print("\nThe whole theory, from the chain rule on, in order: pellucid lab")
    return 0


def _walk(number: int, json: bool) -> int:
    import contextlib
    import sys

    from pellucid.cli.lab_learning import progress
    from pellucid.cli.main import run as run_command
    from pellucid.labs.page import json_of_claim, verdict
    from pellucid.labs.path import STEPS
    from pellucid.runs.listing import find

    step = STEPS[number - 1]
    print(f"{number}. {step.title}\n$ {step.command}", file=sys.stderr if json else sys.stdout)
    with contextlib.redirect_stdout(sys.stderr if json else sys.stdout):
        code = run_command(step.words)
    if code:
        return code
    claims = step.check(find("latest"))
    holds = all(claim.holds for claim in claims)
    if holds:
        progress().stepped(number)
    if json:
        rows = [json_of_claim(claim) for claim in claims]
        print(json_text.dumps({"step": number, "holds": holds, "claims": rows}))
    else:
        print(f"\nLook at: {step.look}\n")
        print("\n".join(verdict(claim) for claim in claims))
        print(f"\nTheory: pellucid lab {' | '.join(step.labs)}")
    return 0 if holds else 1
