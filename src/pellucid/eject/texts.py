"""Functions of a script that stand around the parts of the package, in the order of events."""

from __future__ import annotations

from pellucid.evaluate import BATCH

PART = "Part = tuple[Tensor, Tensor]  # uint8 images (N, C, H, W), int64 labels (N,)"

ARRAYS = '''\
def load(place: Path) -> tuple[Part, Part, Part]:
    """Return images and labels of the training, the validation and the test part."""
    arrays = np.load(place)
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

IDX_SPLIT = '''\
def load(place: Path) -> tuple[Part, Part, Part]:
    """Return images and labels of the training, the validation and the test part."""
    images, labels = read_part(place, "train")
    keep, take = stratified(labels, VALIDATION, generator(SEED, "split"))
    return (images[keep], labels[keep]), (images[take], labels[take]), read_part(place, "t10k")
'''

IDX_WHOLE = '''\
def load(place: Path) -> tuple[Part, Part, Part]:
    """Return images and labels of the training, the validation and the test part."""
    images, labels = read_part(place, "train")
    return (images, labels), (images[:0], labels[:0]), read_part(place, "t10k")
'''

FILE = '''\
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

FOLDER = '''\
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

TABLE = '''\
def listed(table: Path) -> list[File]:
    """Return the image files of the rows of `table`, in its order, each once."""
    found = {}
    with table.open(encoding="utf-8-sig", newline="") as file:
        for cells in csv.DictReader(file, skipinitialspace=True):
            row = {key.strip(): value.strip() for key, value in cells.items()}
            path, label = IMAGES / row["path"], CLASSES.index(tidy(row["label"]))
            part = PARTS[row.get("split", "train").lower()]
            image = File(tidy(row["path"]), path, label, part)
            found.setdefault(os.path.normpath(row["path"]), image)
    return list(found.values())
'''

DECODED = '''\
def decode(path: Path) -> NDArray[np.uint8]:
    """Return the pixels of an image file, (C, H, W): upright, its centre fitted to SHAPE."""
    stored = Image.open(path, formats=("PNG", "JPEG", "WEBP", "BMP", "GIF"))
    stored.load()
    image = fit(_turn(flatten(stored, "L" if SHAPE[0] == 1 else "RGB"), stored), SHAPE[1])
    pixels = np.asarray(image, np.uint8)  # (H, W) or (H, W, 3)
    return pixels[None] if SHAPE[0] == 1 else pixels.transpose(2, 0, 1)


def decoded(files: list[File]) -> Part:
    """Return images and labels of `files`."""
    images = np.zeros((len(files), *SHAPE), np.uint8)
    for row, file in enumerate(files):
        images[row] = decode(file.path)
    return torch.from_numpy(images), torch.tensor([file.label for file in files]).long()
'''

READABLE = '''\
def readable(file: File) -> bool:
    """Return whether `file` is an image; the others are left out."""
    try:
        decode(file.path)
    except Exception:  # what Pillow raises on damaged bytes is not documented
        return False
    return True
'''

BY_NAME = '''\
def set_apart(files: list[File]) -> tuple[list[File], list[File]]:
    """Return what is kept, and the test part: a share of each class, by the names alone."""
    taken = set()
    for label in range(len(CLASSES)):
        members = [file for file in files if file.label == label]
        members.sort(key=lambda file: hashlib.sha256(file.name.encode()).digest())
        taken |= set(members[: _count(len(members), TEST)])
    return [file for file in files if file not in taken], [f for f in files if f in taken]
'''

DATA_DIGEST = '''\
def data_digest(parts: tuple[Part, ...]) -> str:
    """Return the SHA-256 over classes, labels and pixels of all parts."""
    digests = ""
    for images, labels in parts:
        total = hashlib.sha256("\\n".join(CLASSES).encode())
        total.update(labels.numpy().tobytes())
        total.update(images.contiguous().numpy())
        digests += total.hexdigest()
    return hashlib.sha256(digests.encode()).hexdigest()
'''

NORMALISATION = '''\
def normalisation(images: Tensor) -> Callable[[Tensor], Tensor]:
    """Return the function from uint8 images to the network's input.

    It gives each channel mean 0 and standard deviation 1 over all pixels of `images`.
    """
    counts = torch.zeros(SHAPE[0], 256, dtype=torch.int64)  # exact: pixels are counted by value
    for chunk in images.split(2000):
        for channel in range(len(counts)):
            counts[channel] += torch.bincount(chunk[:, channel].flatten(), minlength=256)
    values = torch.arange(256, dtype=torch.float64) / 255
    share = counts.double() / counts.sum(1, keepdim=True)
    mean = (share * values).sum(1)
    variance = (share * (values - mean[:, None]) ** 2).sum(1)
    std = torch.where(variance > 0, variance, 1.0).sqrt()
    pairs = list(zip(mean.tolist(), std.tolist(), strict=True))
    scale = torch.tensor([1 / (255 * s) for _, s in pairs]).view(-1, 1, 1)
    shift = torch.tensor([-m / s for m, s in pairs]).view(-1, 1, 1)

    def prepare(images: Tensor) -> Tensor:
        x = images.to(torch.float32, memory_format=torch.channels_last)
        return x.mul_(scale).add_(shift)

    return prepare
'''

L1 = '''\
@torch.no_grad()
def add_l1(weights: list[Tensor]) -> None:
    """Add the gradient of `L1 * sum(abs(weight))` to that of each of `weights`."""
    signs = torch._foreach_sign([p.detach() for p in weights])
    torch._foreach_add_([p.grad for p in weights], signs, alpha=L1)
'''

EVALUATE = f'''\
@torch.inference_mode()
def evaluate(
    model: nn.Module, images: Tensor, labels: Tensor, prepare: Callable[[Tensor], Tensor]
) -> Metrics:
    """Judge `model` in eval mode, in order, without augmentation."""
    model.eval()
    logits = torch.cat([model(prepare(x)) for x in images.split({BATCH})])
    loss = F.cross_entropy(logits.double(), labels)
    return Metrics(float(loss), int((logits.argmax(1) == labels).sum()), len(labels))
'''

EVALUATE_BF16 = EVALUATE.replace(
    f"""\
    logits = torch.cat([model(prepare(x)) for x in images.split({BATCH})])
""",
    f"""\
    with torch.autocast("cpu", torch.bfloat16):
        logits = torch.cat([model(prepare(x)).float() for x in images.split({BATCH})])
""",
)

PIECES = '''\
def pieces(size: int) -> list[Tensor]:
    """Return the rows of each piece of a batch of `size`; pairs of rows stay together."""
    pairs = -(-size // 2)
    count = min(ACCUMULATE, pairs)
    cuts = [min(2 * (pairs * number // count), size) for number in range(count + 1)]
    return [torch.arange(*ends) for ends in zip(cuts, cuts[1:], strict=False)]
'''

WEIGHTED_LOSS = '''\
def weighted_loss(logits: Tensor, targets: Tensor, weights: Tensor) -> Tensor:
    """Return the mean cross-entropy, each image counting by the weight of its class."""
    total = F.cross_entropy(
        logits, targets, weights, reduction="sum", label_smoothing=LABEL_SMOOTHING
    )
    return total / len(targets)
'''

WEIGHTS_DIGEST = '''\
def weights_digest(weights: dict[str, Tensor]) -> str:
    """Return the SHA-256 of names and numbers, in the order of the names."""
    total = hashlib.sha256()
    for name in sorted(weights):
        total.update(name.encode() + weights[name].numpy().tobytes())
    return total.hexdigest()
'''
