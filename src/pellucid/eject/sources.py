"""How a script gets its images: the files of a known set, image files, or arrays written for it."""

from __future__ import annotations

import csv
import os
from pathlib import Path
from typing import NamedTuple

from pellucid.data import digits
from pellucid.data.cache import cache_folder
from pellucid.data.digits import Digits
from pellucid.data.folder import PART_NAMES, Folder
from pellucid.data.known import FashionMnist, Mnist
from pellucid.data.listing import JUNK
from pellucid.data.mnist import FASHION, FILES, MNIST
from pellucid.data.table import Csv
from pellucid.eject import texts
from pellucid.eject.collect import Collector
from pellucid.eject.facts import CannotEject, Facts

Constant = tuple[str, object, str]


class DataText(NamedTuple):
    """The data section of a script.

    Args:
        place: what the script reads unless it is told otherwise.
        what: what that is, for a person.
        text: functions, of which `load` is called.
        constants: name, value and comment of each.
    """

    place: Path
    what: str
    text: str
    constants: tuple[Constant, ...] = ()


def data_text(facts: Facts, arrays: Path | None, parts: Collector) -> DataText:
    """Return how the script of a run reads its data.

    Args:
        facts: of the run.
        arrays: a file that the images have been written to, or None to read those of the source.
        parts: takes what of our own source is used.

    Raises:
        CannotEject: if only arrays would do.
    """
    if arrays is not None:
        return DataText(arrays.resolve(), "the file of decoded images", texts.ARRAYS)
    data = facts.recipe.data
    table = getattr(data, "relabel", None)
    if table is not None:
        raise CannotEject(
            f"data.relabel: a script does not read the table of corrected labels {table}. Let "
            "images and labels be written for it: pellucid eject RUN --arrays data.npz"
        )
    if isinstance(data, Digits | Mnist | FashionMnist):
        return _idx(facts, data, parts)
    if isinstance(data, Folder | Csv):
        return _files(facts, data, parts)
    name = getattr(getattr(type(data), "__struct_config__", None), "tag", None)
    way = "pellucid eject RUN --arrays data.npz"
    if name is None:
        name, way = type(data).__name__, 'eject(run, recipe, arrays="data.npz")'
    raise CannotEject(
        f"data {name}: a script can read IDX files, image folders and tables by itself, not this. "
        f"Let the decoded images be written for it: {way}"
    )


def _idx(facts: Facts, data: Digits | Mnist | FashionMnist, parts: Collector) -> DataText:
    text = texts.IDX_WHOLE
    if facts.parts["validation"]:
        parts.add("pellucid.data.split", "stratified")
        text = texts.IDX_SPLIT
    text = f"{texts.IDX}\n\n{text}"
    constants = (("VALIDATION", data.validation, "share of the training images, of each class"),)
    if isinstance(data, Digits):
        return DataText(digits.FOLDER, "the folder with its four IDX files", text, constants)
    known = MNIST if isinstance(data, Mnist) else FASHION
    shared, downloads = os.environ.get("PELLUCID_DATA"), str(cache_folder() / "data")
    roots = [data.root] if data.root else [shared, downloads] if shared else [downloads]
    tried = [
        folder
        for root in roots
        for folder in (Path(root).expanduser() / known.name, Path(root) / known.alias / "raw")
    ]
    there = [folder for folder in tried if _holds(folder)]
    place = (there or tried)[0].resolve()
    return DataText(place, "the folder with its four IDX files", text, constants)


def _holds(folder: Path) -> bool:
    stems = (name.partition("-idx")[0] for name in FILES)
    return all(any(folder.glob(f"{stem}[-.]idx?-ubyte*")) for stem in stems)


def _files(facts: Facts, data: Folder | Csv, parts: Collector) -> DataText:
    for name in ("flatten", "_turn", "fit"):
        parts.add("pellucid.data.decode", name)
    place = Path(data.path).expanduser().resolve()
    constants: list[Constant] = []
    if isinstance(data, Folder):
        below, own = _prefixes(facts)
        constants.append(("PARTS", below, "the folder below which each part lies"))
        constants.append(("JUNK", tuple(sorted(JUNK)), "left by other programs"))
        listed, what = texts.FOLDER, "the folder of images"
    else:
        own = _own_parts(data)
        constants.append(("PARTS", PART_NAMES, "what a table may call a part"))
        listed, what = texts.TABLE.replace("IMAGES", "table.parent"), "the table of images"
        if data.images_root:
            root = Path(data.images_root).expanduser().resolve()
            constants.append(("IMAGES", root, "to which the paths of the table are relative"))
            listed = texts.TABLE
    readable = [texts.READABLE] if data.skip_unreadable else []
    split = _split(facts, data, own, constants, parts)
    text = "\n\n".join([texts.FILE, listed, texts.DECODED, *readable, *split])
    return DataText(place, what, text, tuple(constants))


def _split(
    facts: Facts, data: Folder | Csv, own: set[str], constants: list[Constant], parts: Collector
) -> list[str]:
    """Return the function `load`, and before it what it splits with."""
    only = " if readable(file)" if data.skip_unreadable else ""
    lines = [
        "def load(place: Path) -> tuple[Part, Part, Part]:",
        '    """Return images and labels of the training, the validation and the test part."""',
        f"    files = [file for file in listed(place){only}]" if only else
        "    files = listed(place)",
        "    train, held, test = (",
        "        [file for file in files if file.part == part]",
        '        for part in ("train", "validation", "test")',
        "    )",
    ]  # fmt: skip
    helpers = []
    if facts.parts["test"] and "test" not in own:
        parts.add("pellucid.data.split", "_count")
        constants.append(("TEST", data.test, "share of the images, of each class, by their names"))
        helpers.append(texts.BY_NAME)
        lines.append("    train, test = set_apart(train)")
    if facts.parts["validation"] and "validation" not in own:
        parts.add("pellucid.data.split", "stratified")
        constants.append(("VALIDATION", data.validation, "share of the rest, of each class"))
        lines += [
            "    labels = torch.tensor([file.label for file in train])",
            '    keep, take = stratified(labels, VALIDATION, generator(SEED, "split"))',
            "    train, held = [train[i] for i in keep], [train[i] for i in take]",
        ]
    lines.append("    return decoded(train), decoded(held), decoded(test)")
    return [*helpers, "\n".join(lines)]


def _prefixes(facts: Facts) -> tuple[dict[str, str], set[str]]:
    """Return below which folder each part lies, and which parts the folder itself brings.

    From the run's own list of files, so that the images need not be here.
    """
    rows = [(part, name.split("/"), label) for part, name, label in facts.table()]
    depth = next(
        depth
        for depth in range(min(len(names) for _, names, _ in rows))
        if all(names[depth] == label for _, names, label in rows)
    )
    found: dict[str, str] = {}
    for part, names, _ in rows:
        found.setdefault(part, "/".join(names[:depth]))
    own = {part for part, below in found.items() if below != found["train"]}
    return {part: found[part] for part in ("train", *sorted(own))}, own


def _own_parts(data: Csv) -> set[str]:
    """Return the parts that the table itself names."""
    table = Path(data.path).expanduser()
    if not table.is_file():
        raise CannotEject(
            f"The table {table} is not there any more, so nobody can tell which parts it names. "
            "Bring it back."
        )
    with table.open(encoding="utf-8-sig", newline="") as file:
        rows = csv.DictReader(file, skipinitialspace=True)
        columns = {name.strip(): name for name in rows.fieldnames or ()}
        if "split" not in columns:
            return {"train"}
        return {PART_NAMES[row[columns["split"]].strip().lower()] for row in rows}
