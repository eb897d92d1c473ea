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
from pellucid.eject.collect import Collector
from pellucid.eject.facts import CannotEject, Facts

ARRAYS = '''\
def load(path: Path) -> tuple[Part, Part, Part]:
    """Return images and labels of the training, the validation and the test part."""
    arrays = np.load(path)
    train, held, test = (
        (torch.from_numpy(arrays[f"{part}_images"]), torch.from_numpy(arrays[f"{part}_labels"]))
        for part in ("train", "validation", "test")
    )
    return train, held, test
'''

IDX = '''\
def read_idx(folder: Path, stem: str) -> Tensor:
    """Return the array in an IDX file, plain or gzipped: magic number, dimensions, bytes."""
    files = sorted(folder.glob(f"{stem}[-.]idx?-ubyte*"))
    if not files:
        sys.exit(f"{folder} holds no {stem}-idx... file. Name another folder: train.py FOLDER")
    data = files[0].read_bytes()
    if data[:2] == b"\\x1f\\x8b":
        data = gzip.decompress(data)
    start = 4 + 4 * data[3]
    shape = struct.unpack(f">{data[3]}I", data[4:start])
    return torch.from_numpy(np.frombuffer(data, np.uint8, offset=start).reshape(shape).copy())


def read_part(folder: Path, name: str) -> Part:
    """Return images (N, 1, H, W) and labels (N,) of the part `name`."""
    images, labels = read_idx(folder, f"{name}-images"), read_idx(folder, f"{name}-labels")
    return images.unsqueeze(1), labels.long()
'''

IDX_LOAD = '''\
def load(folder: Path) -> tuple[Part, Part, Part]:
    """Return images and labels of the training, the validation and the test part."""
    images, labels = read_part(folder, "train")
    keep, held = {split}
    return (images[keep], labels[keep]), (images[held], labels[held]), read_part(folder, "t10k")
'''

STRATIFIED = 'stratified(labels, VALIDATION, generator(SEED, "split"))'
NO_SPLIT = "torch.arange(len(labels)), torch.arange(0)  # no validation part"

FILES_HEAD = '''\
class File(NamedTuple):
    """An image file: its name in the data, where it lies, its label and its part."""

    name: str
    path: Path
    label: int
    part: str


def tidy(name: str) -> str:
    """Return `name` in Unicode's composed form, so that equal looks are equal texts."""
    return unicodedata.normalize("NFC", name)
'''

FOLDER_LIST = '''\
def listed(folder: Path) -> list[File]:
    """Return the image files in the class folders of each part, sorted by name."""
    found = []
    for part, below in PARTS.items():
        for path in (folder / below).rglob("*"):
            inner = path.relative_to(folder / below).parts
            hidden = any(p.startswith(".") or p.lower() in JUNK for p in inner)
            if path.is_file() and len(inner) > 1 and not hidden:
                name = tidy(path.relative_to(folder).as_posix())
                found.append(File(name, path, CLASSES.index(tidy(inner[0])), part))
    return sorted(found, key=lambda file: file.name.encode())
'''

TABLE_LIST = '''\
def listed(table: Path) -> list[File]:
    """Return the image files of the rows of `table`, in its order, each once."""
    folder = {folder}
    found = {{}}
    with table.open(encoding="utf-8-sig", newline="") as file:
        for cells in csv.DictReader(file, skipinitialspace=True):
            row = {{key.strip(): value.strip() for key, value in cells.items()}}
            part = PARTS[row.get("split", "train").lower()]
            image = File(tidy(row["path"]), folder / row["path"], CLASSES.index(tidy(row["label"])), part)
            found.setdefault(os.path.normpath(row["path"]), image)
    return list(found.values())
'''

DECODED = '''\
def decoded(files: list[File]) -> tuple[Part, list[str]]:
    """Return images (N, C, H, W) and labels (N,) of `files`, and their names."""
    channels, size, _ = SHAPE
    images = [np.zeros((0, *SHAPE), np.uint8)]
    images += [decode(file.path.read_bytes(), channels, size)[None] for file in files]
    labels = torch.tensor([file.label for file in files], dtype=torch.int64)
    return (torch.from_numpy(np.concatenate(images)), labels), [file.name for file in files]
'''

READABLE = '''\
def readable(file: File) -> bool:
    """Return whether `file` is an image; others are left out."""
    try:
        decode(file.path.read_bytes(), SHAPE[0], SHAPE[1])
    except (NotAnImage, OSError):
        return False
    return True
'''

BY_NAME = '''\
def set_apart(names: list[str], labels: Tensor) -> tuple[Tensor, Tensor]:
    """Return positions to keep, and the test part: a share of each class, by the names alone."""
    taken = []
    for label in labels.unique():
        members = (labels == label).nonzero().flatten().tolist()
        members.sort(key=lambda i: hashlib.sha256(names[i].encode()).digest())
        taken += members[: _count(len(members), TEST)]
    return _both(len(labels), torch.tensor(taken))
'''


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
    constants: tuple[tuple[str, object, str], ...] = ()


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
        return DataText(arrays.resolve(), "the arrays beside it", ARRAYS)
    data = facts.recipe.data
    if isinstance(data, Digits | Mnist | FashionMnist):
        return _idx(facts, data, parts)
    if isinstance(data, Folder | Csv):
        return _files(facts, data, parts)
    name = getattr(getattr(type(data), "__struct_config__", None), "tag", type(data).__name__)
    raise CannotEject(
        f"data {name}: a script can read IDX files, image folders and tables by itself, not this. "
        "Let the decoded images be written for it: pellucid eject RUN --arrays data.npz"
    )


def _idx(facts: Facts, data: Digits | Mnist | FashionMnist, parts: Collector) -> DataText:
    share = bool(facts.parts["validation"])
    if share:
        parts.add("pellucid.data.split", "stratified")
    text = "\n\n".join([IDX, IDX_LOAD.format(split=STRATIFIED if share else NO_SPLIT)])
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
    parts.add("pellucid.data.decode", "decode")
    place = Path(data.path).expanduser().resolve()
    texts = [FILES_HEAD]
    constants: list[tuple[str, object, str]] = []
    if isinstance(data, Folder):
        below, own = _prefixes(facts)
        constants.append(("PARTS", below, "the folder below which each part lies"))
        constants.append(("JUNK", tuple(sorted(JUNK)), "left by other programs"))
        texts.append(FOLDER_LIST)
        what = "the folder of images"
    else:
        own = _own_parts(data)
        root = f"Path({str(Path(data.images_root).expanduser().resolve())!r})"
        texts.append(TABLE_LIST.format(folder=root if data.images_root else "table.parent"))
        constants.append(("PARTS", PART_NAMES, "what a table may call a part"))
        what = "the table of images"
    if data.skip_unreadable:
        texts.append(READABLE)
    texts += [DECODED, *_split(facts, data, own, constants, parts)]
    return DataText(place, what, "\n\n".join(texts), tuple(constants))


def _split(
    facts: Facts,
    data: Folder | Csv,
    own: set[str],
    constants: list[tuple[str, object, str]],
    parts: Collector,
) -> list[str]:
    """Return the function `load`, and before it what it splits with."""
    lines = [
        "def load(place: Path) -> tuple[Part, Part, Part]:",
        '    """Return images and labels of the training, the validation and the test part."""',
        "    files = listed(place)",
    ]
    if data.skip_unreadable:
        lines.append("    files = [file for file in files if readable(file)]")
    for part, name in (("train", "train"), ("validation", "held"), ("test", "test")):
        names = "names" if part == "train" else "_"
        lines.append(
            f'    {name}, {names} = decoded([file for file in files if file.part == "{part}"])'
        )
    texts = []
    if facts.parts["test"] and "test" not in own:
        parts.add("pellucid.data.split", "_count")
        parts.add("pellucid.data.split", "_both")
        constants.append(("TEST", data.test, "share of the images, of each class, by their names"))
        texts.append(BY_NAME)
        lines += [
            "    keep, take = set_apart(names, train[1])",
            "    train, test = (train[0][keep], train[1][keep]), (train[0][take], train[1][take])",
        ]
    if facts.parts["validation"] and "validation" not in own:
        parts.add("pellucid.data.split", "stratified")
        constants.append(("VALIDATION", data.validation, "share of the rest, of each class"))
        lines += [
            '    keep, take = stratified(train[1], VALIDATION, generator(SEED, "split"))',
            "    train, held = (train[0][keep], train[1][keep]), (train[0][take], train[1][take])",
        ]
    lines.append("    return train, held, test")
    if not texts:
        lines = [line.replace("train, names =", "train, _ =") for line in lines]
    return [*texts, "\n".join(lines) + "\n"]


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
