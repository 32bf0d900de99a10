"""Folders and zips as they occur in real catalogues, made in code; each with what is true of it.

Every picture is one of its own, so that what a loader made of a source is told by pixels and labels, whatever it calls
its rows. `tests/test_bad_folders.py` and `tests/test_bad_tables.py` hold `data.load` to `wanted`;
`benchmarks/bad_tables.py` prints the same cases beside what `load_dataset` alone does. `bad_sources_tables.py` has
the tables.
"""

import hashlib
import os
import unicodedata
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

from datasets import ClassLabel, Dataset, DatasetDict, Features, Image, load_dataset
from loading import COLUMNS, picture, put

from hf_fashion import checks, data, images
from hf_fashion.errors import InputError

Truth = dict[int, str]  # number of a picture -> its label, of all that should be read


class Made(NamedTuple):
    """A source on the disk.

    Args:
        source: What is given to `data.load`.
        truth: What is in it; None when nobody can tell, so that reading it is wrong.
        bare: What `load_dataset` is given for the same, or None when it has no way in.
        options: Of `data.load`.
    """

    source: Any
    truth: Truth | None
    bare: dict[str, Any] | None = None
    options: dict[str, Any] = {}


class Case(NamedTuple):
    """A case of the list.

    Args:
        name: In words.
        make: An empty folder -> the source in it.
        wanted: "right" (read as meant), "reported" (read as meant, and said), "refused" (with the reason).
        words: What the report or the refusal must say.
    """

    name: str
    make: Callable[[Path], Made]
    wanted: str
    words: tuple[str, ...] = ()


class Outcome(NamedTuple):
    """What a loader did: `kind` is "right", "reported", "refused", "wrong" or "crash"; `said` is all that it said."""

    kind: str
    said: str


def ours(made: Made, words: tuple[str, ...] = ()) -> Outcome:
    """Loads and checks a source as a recipe does."""
    try:
        dataset, report = data.load(made.source, COLUMNS, **made.options)
        checks.check(dataset, report).raise_on_errors()
    except InputError as error:
        return Outcome("refused", str(error))
    except Exception as error:
        return Outcome("crash", f"{type(error).__name__}: {error}")
    said = str(report)
    if set(read(dataset)) != set((made.truth or {}).items()):
        return Outcome("wrong", said)
    told = report.of("warning") or any(word in said for word in words)
    return Outcome("reported" if told else "right", said)


def bare(made: Made, wanted: str) -> Outcome:
    """Loads a source with `load_dataset` alone, and decodes every picture; "-" where it has no way in."""
    if made.bare is None:
        return Outcome("-", "")
    try:
        loaded = load_dataset(**made.bare)
        rows = [(row, split) for split in loaded.values() for row in split]
        labels = {id(split): split.features.get("label") for split in loaded.values()}
        found = [
            (NUMBERS.get(_digest(images.decode(row["image"])), -1), _label(row.get("label"), labels[id(split)]))
            for row, split in rows
        ]
    except Exception as error:
        return Outcome("refused" if wanted == "refused" else "crash", f"{type(error).__name__}: {error}")
    return Outcome("right" if set(found) == set((made.truth or {}).items()) else "wrong", "")


def _label(value: Any, feature: Any) -> Any:
    return feature.int2str(value) if isinstance(feature, ClassLabel) and value is not None else value


def read(dataset: DatasetDict) -> list[tuple[int, str]]:
    """Number and label of every picture that was loaded."""
    names = data.labels(dataset)
    rows = [row for split in dataset.values() for row in split.cast_column("image", Image(decode=False))]
    return sorted((NUMBERS.get(_digest(images.decode(row["image"])), -1), names[row["label"]]) for row in rows)


def _digest(image: Any) -> bytes:
    return hashlib.sha256(image.tobytes()).digest()


NUMBERS = {_digest(images.decode(picture(number))): number for number in range(60)}


def lines(labels: list[str], delimiter: str = ",", head: str = "file_name,label", end: str = "\n") -> str:
    """A row a label, in the order of the pictures."""
    rows = [head.replace(",", delimiter), *(f"{n}.png{delimiter}{label}" for n, label in enumerate(labels))]
    return end.join(rows) + end


def numbered(labels: list[str]) -> Truth:
    return dict(enumerate(labels))


TWO = ["dress", "hat"] * 4
SPELT = "spelling for each class"  # what is said of several

# -- folders


def folders(*names: str, count: int = 4, start: int = 0) -> Callable[[Path], Made]:
    """Class folders, pictures numbered on; the label is the last part of a name."""

    def make(root: Path) -> Made:
        truth: Truth = {}
        for name in names:
            for _ in range(count):
                number = start + len(truth)
                put(root / name / f"{number}.png", number)
                truth[number] = Path(name).name
        return Made(root, truth, {"path": "imagefolder", "data_dir": str(root)})

    return make


def changed(
    change: Callable[[Path], Any], *names: str, truth: Truth | None = None, known: bool = True, count: int = 4
) -> Callable[[Path], Made]:
    """Two class folders, with something done to them; `truth` is what it adds, `known` whether there is any."""

    def make(root: Path) -> Made:
        made = folders(*(names or ("dress", "hat")), count=count)(root)
        change(root)
        return made._replace(truth={**(made.truth or {}), **(truth or {})} if known else None)

    return make


def _link(target: str, name: str) -> Callable[[Path], None]:
    def change(root: Path) -> None:
        outside = put(root.parent / f"{root.name}-outside" / "50.png", 50)
        (root / name).symlink_to(outside if target == "outside" else target)

    return change


def _link_folder_out(root: Path) -> None:
    put(root.parent / f"{root.name}-outside" / "50.png", 50)
    (root / "bag").symlink_to(root.parent / f"{root.name}-outside")


ODD = ("none", "b.jpg?x=1", "c d.png", "e#%20.png", "f[1]*.png", "g\nh.png", "ü.png", "http:x.png", "d.JPG")


def _odd_names(root: Path) -> None:
    for number, name in enumerate([*ODD, unicodedata.normalize("NFD", "é.png")], 30):
        put(root / "hat" / name, number)


def _not_utf8(root: Path) -> None:
    with open(os.fsencode(root / "hat") + b"/\xff.png", "wb") as file:
        file.write(picture(50))


def _other_formats(root: Path) -> None:
    put(root / "hat" / "1.avif", 30, "PNG")
    put(root / "hat" / "2.mpo", 31)
    put(root / "hat" / "3.jfif", 32)


def _clutter(root: Path) -> None:
    for name in (".DS_Store", "._0.png", "Thumbs.db"):
        (root / "hat" / name).write_bytes(b"x")


def _not_pictures(root: Path) -> None:
    (root / "hat" / "empty.png").write_bytes(b"")
    (root / "hat" / "notes.jpg").write_text("notes")


def split_folders(**splits: tuple[str, ...]) -> Callable[[Path], Made]:
    def make(root: Path) -> Made:
        truth: Truth = {}
        for split, names in splits.items():
            truth |= folders(*names, count=3, start=len(truth))(root / split).truth or {}
        return Made(root, truth, {"path": "imagefolder", "data_dir": str(root)})

    return make


def in_hand(train: list[str], test: list[str], used: int | None = None) -> Callable[[Path], Made]:
    """Splits whose ClassLabel names differ."""

    def make(_: Path) -> Made:
        parts, truth, number = {}, {}, 0
        for split, names in (("train", train), ("validation", train), ("test", test)):
            rows: dict[str, list[Any]] = {"image": [], "label": []}
            for label in range(min(used or len(names), len(names))):
                for _ in range(3):
                    rows["image"].append({"bytes": picture(number), "path": None})
                    rows["label"].append(label)
                    truth[number] = names[label]
                    number += 1
            features = Features({"image": Image(), "label": ClassLabel(names=names)})
            parts[split] = Dataset.from_dict(rows, features=features)
        return Made(DatasetDict(parts), truth)

    return make


# -- archives


def archive(
    members: dict[str, bytes | int], truth: Truth | None = None, change: Callable[[Path], None] | None = None
) -> Callable[[Path], Made]:
    """A zip: name of a member -> its bytes, or the number of a picture."""

    def make(root: Path) -> Made:
        path = root / "photos.zip"
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as file:
            for name, content in members.items():
                file.writestr(name, picture(content) if isinstance(content, int) else content)
        if change is not None:
            change(path)
        return Made(path, truth, {"path": "imagefolder", "data_dir": str(root)})

    return make


def _members(prefix: str = "", count: int = 4) -> dict[str, bytes | int]:
    return {f"{prefix}{'hat' if n >= count else 'dress'}/{n}.png": n for n in range(2 * count)}


ZIPPED: Truth = {n: "hat" if n >= 4 else "dress" for n in range(8)}


def _with_link(path: Path) -> None:
    with zipfile.ZipFile(path, "a") as file:
        link = zipfile.ZipInfo("hat/passwd.png")
        link.external_attr = 0o120777 << 16  # a symbolic link, as `zip -y` stores it
        file.writestr(link, "/etc/passwd")


def _lying(path: Path) -> None:
    """Says in the directory that 400 MB of zeros are a few bytes."""
    with zipfile.ZipFile(path, "a", zipfile.ZIP_DEFLATED) as file:
        file.writestr("hat/zeros.png", bytes(1000))
    content = bytearray(path.read_bytes())
    place = content.rfind(b"PK\x01\x02")
    content[place + 24 : place + 28] = (1).to_bytes(4, "little")
    path.write_bytes(bytes(content))


def _cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-40])


# -- the list

FOLDERS = [
    Case("class folders named like splits", folders("training shoes", "testers", "dev"), "right"),
    Case("a class folder called exactly as a split, two others", folders("dress", "test", "hat"), "right"),
    Case("a split folder beside class folders", changed(
        lambda root: folders("a", "b", start=20)(root / "train"), known=False), "refused",
        ("two readings", "would be classes")),
    Case("only folders named as splits, pictures in them", changed(
        lambda root: None, "train", "test", known=False), "refused", ("two readings",)),
    Case("folders inside a class folder", folders("shoes/boots", "shoes/heels"), "refused", ("two readings",)),
    Case("split folders", split_folders(train=("a", "b"), val=("a", "b"), test=("a", "b")), "right"),
    Case("two folders that mean one split", split_folders(
        train=("a", "b"), val=("a", "b"), dev=("a", "b"), test=("a", "b")), "refused", ("mean the same",)),
    Case("one class only", folders("dress", count=8), "refused", ("one class only",)),
    Case("a stray picture at the root", changed(
        lambda root: put(root / "stray.png", 50), known=False), "refused", ("stray.png", "a picture beside them")),
    Case("an empty class folder", changed(lambda root: (root / "bag").mkdir()), "reported", ("bag", "no class")),
    Case("a linked class folder", changed(
        lambda root: (root / "cap").symlink_to(root / "hat"), known=False), "refused", ("cap", "link to the folder")),
    Case("a class folder that is a link out of the folder", changed(_link_folder_out, known=False), "refused",
         ("bag", "link out of it")),
    Case("a file that is a link out of the folder", changed(_link("outside", "hat/out.png"), known=False), "refused",
         ("hat/out.png", "link out of it")),
    Case("a dead link", changed(_link("nothing.png", "hat/dead.png"), known=False), "refused",
         ("hat/dead.png", "link to nothing")),
    Case("a link that leads to itself", changed(_link("loop.png", "hat/loop.png"), known=False), "refused",
         ("hat/loop.png",)),
    Case("a named pipe in a class folder", changed(lambda root: os.mkfifo(root / "hat" / "pipe.png"), known=False),
         "refused", ("hat/pipe.png",)),
    Case("file names: none, ?x=1, #, %, [*], newline, NFD, address", changed(
        _odd_names, truth={30 + n: "hat" for n in range(len(ODD) + 1)}), "right"),
    Case("a file name that is not UTF-8", changed(_not_utf8, known=False), "refused", ("xff", "UTF-8")),
    Case("endings .avif, .mpo, .jfif", changed(
        _other_formats, truth=dict.fromkeys((30, 31, 32), "hat")), "right"),
    Case("files of the system", changed(_clutter), "reported", ("passed over",)),
    Case("an empty file and a text called .jpg", changed(_not_pictures, known=False), "refused",
         ("hat/empty.png", "hat/notes.jpg")),
    Case("classes dress, Dress and 'dress '", folders("dress", "Dress", "dress ", "hat"), "reported", (SPELT,)),
    Case("one class in NFC and in NFD", folders(
        "robe d'été", unicodedata.normalize("NFD", "robe d'été"), "hat"), "reported", (SPELT,)),
    Case("a class one letter from a frequent one", changed(
        lambda root: put(root / "trousres" / "50.png", 50), "trousers", "hat", truth={50: "trousres"}, count=20),
        "reported", ("trousres", SPELT)),
    Case("a class name of blanks only", folders("dress", "  ", "hat"), "refused", ("label",)),
    Case("train and test with other classes", split_folders(
        train=("a", "b"), validation=("a", "b"), test=("a", "c")), "refused", ("none of: c",)),
    Case("a class missing from test", split_folders(
        train=("a", "b"), validation=("a", "b"), test=("a",)), "reported", ("none of: b",)),
    Case("one picture of a class", changed(
        lambda root: put(root / "bag" / "50.png", 50), truth={50: "bag"}), "reported", ("one photo only",)),
    Case("ClassLabel names in another order", in_hand(["a", "b"], ["b", "a"]), "reported", ("another order",)),
    Case("ClassLabel names that differ", in_hand(["a", "b"], ["a", "c"], used=1), "refused",
         ("same classes in every split",)),
    Case("generic names LABEL_0, LABEL_1", in_hand(["LABEL_0", "LABEL_1"], ["LABEL_0", "LABEL_1"]), "reported",
         ("generic names",)),
    Case("an empty folder", lambda root: Made(root, None, {"path": "imagefolder", "data_dir": str(root)}), "refused",
         ("no folders and no pictures",)),
    Case("pictures without class folders", changed(
        lambda root: [path.rename(root / path.name) for path in root.rglob("*.png")], known=False),
        "refused", ("expected",)),
    Case("zip of class folders", archive(_members(), ZIPPED), "right"),
    Case("zip of a folder of class folders", archive(_members("photos/"), ZIPPED), "reported", ("photos",)),
    Case("zip of split folders", archive(
        {f"{split}/{label}/{n}.png": 6 * i + 3 * j + n for i, split in enumerate(("train", "val", "test"))
         for j, label in enumerate("ab") for n in range(3)},
        {n: "ab"[n // 3 % 2] for n in range(18)}), "right"),
    Case("zip with a metadata.csv", archive(
        {f"{n}.png": n for n in range(8)} | {"metadata.csv": lines(TWO).encode()}, numbered(TWO)), "right"),
    Case("zip with names as Windows writes them", archive(
        {name.replace("/", "\\"): content for name, content in _members().items()}, ZIPPED), "right"),
    Case("zip-slip: ../", archive({**_members(), "../canary.png": 50}), "refused", ("../canary.png",)),
    Case("zip-slip: ..\\", archive({**_members(), "..\\canary.png": 50}), "refused", ("canary.png",)),
    Case("zip-slip: an absolute path", archive({**_members(), "/tmp/canary.png": 50}), "refused", ("/tmp/canary",)),
    Case("zip-slip: a link", archive(_members(), change=_with_link), "refused", ("hat/passwd.png", "link")),
    Case("a bomb in a zip", archive({**_members(), "hat/zeros.png": bytes(400_000_000)}), "refused", ("bomb",)),
    Case("a zip that lies about a size", archive(_members(), change=_lying), "refused", ("hat/zeros.png",)),
    Case("a zip that was cut short", archive(_members(), change=_cut), "refused", ("zip",)),
    Case("a zip without pictures", archive({"readme.txt": b"x"}), "refused", ("no folders and no pictures",)),
    Case("a zip in a zip", archive({**_members(), "hat/more.zip": b"PK\x03\x04"}), "refused", ("hat/more.zip",)),
]  # fmt: skip
