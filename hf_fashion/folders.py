"""Reads a tree of class folders, `dress/1.jpg`, with or without split folders above, `train/dress/1.jpg`.

`datasets`' ImageFolder leaves files out without a word by their endings (.avif, none) and loses classes whose names
look like splits. Here the content decides what is a picture, whatever is no picture is listed, and a tree with two
readings is refused with both.
"""

import os
import shlex
from pathlib import Path

from datasets import Dataset, Features, Image, Value

from hf_fashion import images
from hf_fashion.errors import InputError
from hf_fashion.report import DROP, PICTURE, Report, cell
from hf_fashion.splits import split_name

PATHS = Features({"image": Image(), "label": Value("string"), "source_row": Value("string")})
_CLUTTER = {"thumbs.db", "desktop.ini", "ehthumbs.db", "icon\r", "__macosx"}
_DOCUMENTS = (".md", ".txt", ".csv", ".json", ".jsonl", ".yaml", ".yml", ".tsv", ".pdf", ".html")
_TABLES = (".csv", ".tsv", ".jsonl")
_NO_CLASS = {"image", "images", "img", "imgs", "photo", "photos", "picture", "pictures", "pics"}  # beside a table


def read(root: Path, report: Report, *, labels: bool = True) -> dict[str, Dataset]:
    """Reads a tree of class folders.

    Args:
        root: The folder above the class or split folders.
        report: Gets an error for each file that is no picture, and notes on what was passed over.
        labels: Whether there must be some: without, a folder of nothing but pictures is read, too.

    Returns:
        Name of each split folder ("train" when there is none) -> columns `image` (paths: nothing is copied), `label`
        (the folder's name as text; not in a folder of nothing but pictures), `source_row` (path relative to `root`).

    Raises:
        InputError: There are no class folders, or they hold the pictures of a table beside them, or the tree can be
            read in two ways.
    """
    root = Path(os.path.abspath(root))
    if not _is_utf8(str(root)):
        raise InputError(
            f"folder {root}", expected="a path in UTF-8", found=ascii(os.fsencode(root)), fix="rename the folder"
        )
    tree = _Tree(root, report)
    tops = tree.folders(root)
    if not tops:
        loose = [name for name in tree.files(root) if _is_picture(root / name)]
        if loose and not labels:
            return {"train": tree.pictures(root)}
        raise InputError(
            f"folder {root}",
            expected="a folder for each class (dress/1.jpg), a metadata.csv, or parquet files",
            found=f"{len(loose)} picture{'s' * (len(loose) > 1)} without labels"
            if loose
            else "no folders and no pictures",
            fix="sort the pictures into class folders, or write a metadata.csv with columns file_name,label",
        )
    splits = [name for name in tops if split_name(name)]
    deep = [name for name in splits if tree.folders(root / name)]
    if splits and (deep or len(splits) == len(tops)):
        if len(deep) < len(tops):
            _ambiguous(root, tops, splits, deep)
        return {name: tree.classes(root / name) for name in tops}
    _refuse_pictures_of_a_table(root, tops, tree.files(root), report)
    for name in splits:
        report.add("note", name, "label", found=f"folder {name} is read as a class, not as a split")
    return {"train": tree.classes(root)}


def _refuse_pictures_of_a_table(root: Path, tops: list[str], files: list[str], report: Report) -> None:
    """Raises InputError where a table lies beside what is one folder of pictures, not a folder for each class."""
    tables = [name for name in files if name.lower().endswith(_TABLES)]
    if not tables or len(tops) > 1 and not {name.lower() for name in tops} <= _NO_CLASS:
        return
    given = Path(str(report.source.get("source")))
    place = given if Path(os.path.abspath(given)) == root else root  # as it was typed
    raise InputError(
        f"folder {place}",
        expected="a folder for each class (dress/1.jpg)",
        found=f"{_list(tables)} beside the folder{'s' * (len(tops) > 1)} {_list(tops)}: read as folders, "
        f"{_list(tops)} would be the class",
        fix="did you mean " + " or ".join(f"--dataset {shlex.quote(str(place / name))}" for name in tables[:3]) + "?",
    )


def _ambiguous(root: Path, tops: list[str], splits: list[str], deep: list[str]) -> None:
    others = [name for name in tops if name not in deep]
    raise InputError(
        f"folder {root}: two readings",
        expected="either split folders that all hold class folders, or class folders only",
        found=f"{_list(deep) or 'no folder'} with folders inside, {_list(others)} without. Read as splits, the "
        f"pictures in {_list(others)} have no class; read as classes, {_list(splits)} would be classes",
        fix="move the class folders into split folders (train/dress), or give the folder of one split as the dataset",
    )


class _Tree:
    """Walks one tree, and tells the report what it passes over."""

    def __init__(self, root: Path, report: Report) -> None:
        self.root, self.report = root, report

    def name(self, path: Path) -> str:
        """Names a file in findings: its path relative to the root; what is not UTF-8 in it is written out."""
        return path.relative_to(self.root).as_posix().encode("utf-8", "backslashreplace").decode()

    def entries(self, folder: Path) -> list[os.DirEntry[str]]:
        """Lists what is in a folder, sorted, without clutter and without what is refused."""
        kept = []
        try:
            with os.scandir(folder) as listing:
                entries = sorted(listing, key=lambda entry: entry.name)
        except OSError as error:
            if folder == self.root:
                raise InputError(
                    f"folder {folder}", expected="a folder that may be read", found=str(error.strerror),
                    fix="give yourself the right to read it",
                ) from None  # fmt: skip
            self._refuse(
                folder, "a folder that may be read", str(error.strerror), "give yourself the right to read it"
            )
            return []
        for entry in entries:
            path = folder / entry.name
            if entry.name.startswith(".") or entry.name.lower() in _CLUTTER:
                self.report.add("note", self.name(path), "image", found="passed over: a file of the system")
            elif not _is_utf8(entry.name):
                self._refuse(path, "a file name in UTF-8", ascii(os.fsencode(entry.name)), "rename it")
            elif entry.is_symlink() and not self._follow(path):
                continue
            elif not entry.is_dir() and not entry.is_file():  # reading a pipe would wait for ever
                self._refuse(path, "a file", "a pipe, a socket or a device", "remove it")
            else:
                kept.append(entry)
        return kept

    def _follow(self, path: Path) -> bool:
        """Says whether a link may be followed: to a file inside the root only."""
        try:
            target = path.resolve()
        except (OSError, RuntimeError):  # Python before 3.13 raises, later ones give the link itself
            target = path
        if target.is_symlink():
            self._refuse(path, PICTURE, "a link that leads back to itself", "remove the link")
            return False
        if not target.is_relative_to(self.root.resolve()):
            self._refuse(path, "a file inside the folder", f"a link out of it, to {target}", "copy the file itself")
        elif not target.exists():
            self._refuse(path, PICTURE, f"a link to nothing: {os.readlink(path)}", "remove the link")
        elif target.is_dir():
            inside = target.relative_to(self.root.resolve()).as_posix()
            self._refuse(path, "a folder", f"a link to the folder {inside}", "copy the folder itself")
        else:
            return True
        return False

    def _refuse(self, path: Path, expected: str, found: str, fix: str) -> None:
        self.report.add("error", self.name(path), "image", expected=expected, found=found, fix=fix)

    def folders(self, folder: Path) -> list[str]:
        return [entry.name for entry in self.entries(folder) if entry.is_dir()]

    def files(self, folder: Path) -> list[str]:
        return [entry.name for entry in self.entries(folder) if not entry.is_dir()]

    def pictures(self, folder: Path) -> Dataset:
        """Reads the pictures in a folder without class folders."""
        rows: dict[str, list[str]] = {"image": [], "source_row": []}
        for name in self.files(folder):
            path = folder / name
            if (reason := _why_not(path)) is None:
                rows["image"].append(str(path))
                rows["source_row"].append(self.name(path))
            else:
                self._pass_over(path, reason)
        return Dataset.from_dict(rows, features=Features({name: PATHS[name] for name in rows}))

    def classes(self, folder: Path) -> Dataset:
        """Reads the class folders in one folder."""
        for name in self.files(folder):
            self._stray(folder / name)
        rows: dict[str, list[str]] = {column: [] for column in PATHS}
        for label in self.folders(folder):
            self._no_folders_inside(folder / label)
            count = len(rows["label"])
            for name in self.files(folder / label):
                path = folder / label / name
                reason = _why_not(path)
                if reason:
                    self._pass_over(path, reason)
                    continue
                rows["image"].append(str(path))
                rows["label"].append(label)
                rows["source_row"].append(self.name(path))
            if len(rows["label"]) == count:
                self.report.add(
                    "warning",
                    self.name(folder / label),
                    "label",
                    expected="pictures in each class folder",
                    found="none: it is no class",
                    fix="add pictures, or remove the folder",
                )
        return Dataset.from_dict(rows, features=PATHS)

    def _pass_over(self, path: Path, reason: str) -> None:
        """Tells of a file among pictures that is none: a document by its name, or else an error."""
        if path.suffix.lower() in _DOCUMENTS:
            self.report.add("note", self.name(path), "image", found="passed over: a document beside the pictures")
        else:
            self._refuse(path, PICTURE, reason, DROP)

    def _stray(self, path: Path) -> None:
        """Tells of a file beside class folders."""
        if _is_picture(path):
            self._refuse(
                path,
                "pictures in class folders only",
                "a picture beside them: of an unknown class, or put there by mistake",
                "move it into its class folder, or remove it",
            )
        elif path.suffix.lower() in _DOCUMENTS or not path.suffix:
            self.report.add("note", self.name(path), "image", found="passed over: a document beside the class folders")
        else:
            self._refuse(path, PICTURE, _why_not(path) or "", DROP)

    def _no_folders_inside(self, folder: Path) -> None:
        inside = self.folders(folder)
        if inside:
            raise InputError(
                f"folder {folder}: two readings",
                expected="pictures in it, and no folders",
                found=f"folders: {_list(inside)}. The class is {folder.name!r}, or {inside[0]!r}",
                fix="move the pictures so that each class is one folder, or give the folder above the classes",
            )


def _is_utf8(name: str) -> bool:
    try:
        name.encode("utf-8")
    except UnicodeEncodeError:  # bytes that are not UTF-8 come as lone surrogates
        return False
    return True


def _why_not(path: Path) -> str | None:
    """Says why a file is no picture, by its header, or None when it is one."""
    try:
        images.probe(path)
    except ValueError as error:
        return str(error)
    return None


def _is_picture(path: Path) -> bool:
    return _why_not(path) is None


def _list(names: list[str]) -> str:
    more = f" and {len(names) - 5} more" if len(names) > 5 else ""
    return ", ".join(cell(name, 30) for name in names[:5]) + more
