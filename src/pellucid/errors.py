"""Everything that pellucid raises on purpose.

    PellucidError                  exit code 1
    ├── UserError                  exit code 2: the input has to change
    │   ├── BadRecipe              a setting that is unknown, of the wrong kind or out of range
    │   ├── BadData                data that cannot be trained on as it is
    │   │   ├── DataNotFound       nothing at the place, or no way to get it
    │   │   ├── UnreadableImages   files that are damaged, empty or no image
    │   │   └── DataChanged        the data differs from what the run was started on
    │   ├── BadRun                 no such run, or not one that this command can use
    │   │   ├── RunBusy            another process is writing to the run folder
    │   │   └── RecipeMismatch     the recipe and the checkpoint do not belong together
    │   ├── MissingExtra           an optional package is not installed
    │   ├── DoesNotApply           a view that says nothing about this model (viewdata)
    │   └── BadOption              an option of a view that cannot be (views.options)
    ├── Diverged                   loss or gradient stopped being a finite number
    ├── BadCheckpoint              a checkpoint that does not verify
    ├── SaveFailed                 the disk refused; what was saved before is untouched
    ├── LostProcess                one of several processes is gone, or does not answer
    ├── Drifted                    several processes no longer hold the same weights
    └── Ended                      this process ends because another one has; it has said why

Messages say what was wrong, what was given, what is allowed and what to do.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class PellucidError(Exception):
    """Base of every error that pellucid raises on purpose."""

    exit_code = 1


class UserError(PellucidError):
    """The input has to change before the command can work."""

    exit_code = 2


class BadRecipe(UserError):
    """A setting is unknown, of the wrong kind, or out of its range."""


class BadData(UserError):
    """The data cannot be trained on as it is."""


class DataNotFound(BadData):
    """There is nothing at the place that was named, and no way to get it."""


class UnreadableImages(BadData):
    """Some files are damaged, empty, or no image.

    Attributes:
        files: pairs of file and reason, one for each such file.
    """

    def __init__(self, message: str, files: Iterable[tuple[str, str]] = ()) -> None:
        super().__init__(message)
        self.files = tuple(files)


class DataChanged(BadData):
    """The data differs from what the run was started on."""


class BadRun(UserError):
    """There is no such run, or not one that this command can use."""


class RunBusy(BadRun):
    """Another process is writing to the run folder."""


class RecipeMismatch(BadRun):
    """The recipe and the checkpoint do not belong together."""


class MissingExtra(UserError):
    """An optional package is not installed."""


class Diverged(PellucidError):
    """The loss or the gradient stopped being a finite number.

    Attributes:
        step: the first bad step.
        images: the images of that step's batch, by file or position.
    """

    def __init__(self, message: str, step: int, images: Iterable[str] = ()) -> None:
        super().__init__(message)
        self.step = step
        self.images = tuple(images)


class BadCheckpoint(PellucidError):
    """A checkpoint does not verify."""


class SaveFailed(PellucidError):
    """The disk refused a save; what was saved before is untouched."""


class LostProcess(PellucidError):
    """One of several processes is gone, or does not answer."""


class Drifted(PellucidError):
    """Several processes that train one model no longer hold the same weights."""


class Ended(PellucidError):
    """This process ends because another one has, which has said why.

    Attributes:
        exit_code: that of the other one.
    """

    def __init__(self, exit_code: int) -> None:
        super().__init__("another process of this training has ended, and has said why")
        self.exit_code = exit_code


def nearest(given: str, known: Iterable[str]) -> list[str]:
    """Return `known` with the names that look most like `given` first.

    >>> nearest("adamx", ["muon", "sgd", "adamw"])
    ['adamw', 'muon', 'sgd']
    """
    names = list(known)
    close = difflib.get_close_matches(given, names, n=3, cutoff=0.5)
    return close + sorted(name for name in names if name not in close)


def did_you_mean(given: str, known: Iterable[str]) -> str:
    """Return `; did you mean "x"?` when a known name is close to `given`, else an empty text.

    >>> did_you_mean("adamx", ["sgd", "adamw"])
    '; did you mean "adamw"?'
    """
    close = difflib.get_close_matches(given, list(known), n=1, cutoff=0.5)
    return f'; did you mean "{close[0]}"?' if close else ""
