"""A training split that is read while it is learned from: for datasets that are too large for the disk.

The source is parquet with the pictures inside, in a folder or on the Hub. Of the training split only the column of
labels is read beforehand, so that classes are known and counted; its pictures are read a row group at a time, and only
where the process and the worker need them. Validation and test are read whole, as ever: each is measured several
times, and every row of theirs counts once.

Why not `datasets.IterableDataset`: it cannot say in which file a row lies, gives processes unequal numbers of rows
where files are of unequal length (several processes would wait for each other for ever), and has every process read
everything where files are fewer than processes. Which rows a row group holds stands in each file's footer, and from
that all shares of all epochs follow.
"""

import contextlib
import functools
import glob
import hashlib
import json
import os
import re
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import fsspec  # type: ignore[import-untyped]
import numpy as np
import pyarrow.compute as pc
import pyarrow.parquet as pq
import torch
from datasets import ClassLabel, Dataset, DatasetDict, Features, Image, List, Value, load_dataset
from transformers import TrainingArguments

from hf_fashion import data, images, reading
from hf_fashion.augmentation import drawn
from hf_fashion.columns import attribute_texts, class_names, is_list, is_text, label_texts, pick, pick_attributes
from hf_fashion.errors import InputError
from hf_fashion.report import PICTURE, Report, cell
from hf_fashion.splits import ORDER, coverage, split_name

LEFT_OUT = "left_out.jsonl"  # in the run's folder: a line for each picture that was passed over
_BATCH = 64  # rows of a row group in memory at once, beside the shuffle buffer
_LABELS = 65_536  # labels in memory at once


class RowError(InputError):
    """Something is wrong with a row that was met in training.

    Torch makes an exception of a worker process again in the main one, from a text that ends with its message; the
    message is taken out of it.
    """

    def __init__(self, what: str, *, expected: str = "", found: str = "", fix: str = "") -> None:
        told = re.search(r".*RowError: (.+)\n  expected: (.+)\n  found:    (.+)\n  to do:    (.+)", what, re.DOTALL)
        if told:
            what, expected, found, fix = (part.strip() for part in told.groups())
        super().__init__(what, expected=expected, found=found, fix=fix)


class _Group(NamedTuple):
    """A row group: `first` is the number of its first row in the split, `offset` in its file."""

    file: int
    group: int
    first: int
    offset: int
    rows: int


class Stream:
    """The training split before it is read: where its rows lie, their labels' names and how often each occurs.

    Args:
        files: Parquet files, as paths or addresses of fsspec (`hf://...`).
        root: What the names of files in messages are relative to.
        features: Columns of the files.
        image: Column of the pictures.
        told: Canonical column of labels -> the column of the files.
        strict: Every row has its one label; else they are attributes, and may be unknown.

    Raises:
        InputError: A file that cannot be read, or lacks a column.
    """

    def __init__(
        self, files: Sequence[str], root: str, features: Features, image: str, told: Mapping[str, str],
        strict: bool = True,
    ) -> None:  # fmt: skip
        self.files, self.image, self.told, self.strict = list(files), image, dict(told), strict
        self.root, self._source = root, features
        self._groups: list[_Group] = []
        self.names: dict[str, list[str]] = {}
        self.options: dict[str, Any] = {}
        self._counts: dict[str, Counter[str]] = {}
        self._numbers: dict[str, dict[str, int]] = {}
        self._footers: dict[int, pq.FileMetaData] = {}
        for number in range(len(self.files)):
            self._add(number)

    def __len__(self) -> int:
        return self._groups[-1].first + self._groups[-1].rows if self._groups else 0

    @property
    def features(self) -> Features:
        """The canonical columns, as those of the other splits."""
        kinds: dict[str, Any] = {"image": Image()}
        for column, name in self.told.items():
            label = ClassLabel(names=self.names[column])
            kinds[column] = List(label) if is_list(self._source[name]) else label
        return Features(kinds)

    def examples(
        self, transform: Callable[[dict[str, Any]], dict[str, Any]], seed: int, keyed: bool = False
    ) -> "StreamedExamples":
        """What the Trainer gets; see `StreamedExamples`, whose other settings are `options`."""
        return StreamedExamples(self, transform, seed, keyed=keyed, **self.options)

    def class_counts(self, column: str = "label") -> np.ndarray:
        """Rows of each class (classes,)."""
        return np.asarray([self._counts[column][name] for name in self.names[column]], dtype=int)

    def count(self, report: Report) -> dict[str, list[str]]:
        """Reads the columns of labels alone, and tells the report of rows without a label.

        Returns:
            Column -> the labels that occur, as text.
        """
        for column, name in self.told.items():
            feature, counted = self._source[name], Counter[str]()
            inner = feature.feature if is_list(feature) else feature
            for number in range(len(self.files)):
                start = 0
                for values in self._column(number, name):
                    for pair in pc.value_counts(values.flatten() if is_list(feature) else values).to_pylist():
                        text = _text(name, inner, pair["values"])
                        if text is not None:
                            counted[text] += pair["counts"]
                        elif self.strict:
                            row = start + values.to_pylist().index(pair["values"])
                            report.add(
                                "error", self.place(number, row), name, expected="a label",
                                found=f"{pair['values']!r}, in {pair['counts']} row(s) from there on",
                                fix="fill in the labels, or remove the rows",
                            )  # fmt: skip
                    start += len(values)
            self._counts[column] = counted
        return {column: list(counted) for column, counted in self._counts.items()}

    def place(self, file: int, row: int) -> str:
        """How a row is named in messages."""
        return f"{_short(self.files[file], self.root)} row {row}"

    def label(self, column: str, value: Any) -> Any:
        """A value of the files as a class number, a list of these, or None for an attribute that is not known.

        Raises:
            KeyError: There is no such class.
        """
        feature = self._source[self.told[column]]
        if is_list(feature):
            if value is None:
                return None
            return list(dict.fromkeys(self._number(column, feature.feature, part) for part in value))
        if not self.strict and (value is None or isinstance(value, str) and not value.strip()):
            return None
        return self._number(column, feature, value)

    def rows(self, pieces: Iterable[tuple[_Group, int, int]]) -> Iterator[dict[str, Any]]:
        """Encoded rows of parts (row group, from, to) of row groups: `row` is the number in the split."""
        columns = list(dict.fromkeys([self.image, *self.told.values()]))
        for group, start, stop in pieces:
            position = 0
            with self._open(group.file) as file:
                batches = file.iter_batches(_BATCH, row_groups=[group.group], columns=columns, use_threads=False)
                for batch in batches:
                    first = max(start, position)
                    taken = (
                        batch.slice(first - position, max(stop - first, 0)) if first < position + len(batch) else ()
                    )
                    for number, values in enumerate(taken.to_pylist() if taken else (), start=first):
                        place = self.place(group.file, group.offset + number)
                        yield {"row": group.first + number, "place": place, "values": values}
                    position += len(batch)
                    if position >= stop:
                        break

    def pieces(self, order: np.ndarray, start: int, stop: int) -> Iterator[tuple[_Group, int, int]]:
        """The parts of row groups that hold rows start to stop when the groups stand in the given order; behind the
        last row the first comes again."""
        ends = np.cumsum([self._groups[number].rows for number in order])
        position = start
        while position < stop:
            within = position % len(self)
            index = int(np.searchsorted(ends, within, side="right"))
            group = self._groups[order[index]]
            first = within - int(ends[index] - group.rows)
            last = min(group.rows, first + stop - position)
            yield group, first, last
            position += last - first

    @property
    def groups(self) -> int:
        """How many row groups there are."""
        return len(self._groups)

    def settle(self, report: Report) -> "Stream":
        """Adds to the report the rows that training left out so far, each once, and the size of what is left."""
        left_out = self.options["left_out"]
        lines = left_out.read_text(encoding="utf-8").splitlines() if left_out and left_out.is_file() else []
        rows = {row["where"]: row for row in map(json.loads, lines)}
        for where in sorted(rows, key=lambda where: (where.rpartition(" ")[0], int(where.rpartition(" ")[2]))):
            report.leave_out(**rows[where])
        sizes = {**report.sizes, "train": len(self) - len(rows)}
        report.sizes = {split: sizes[split] for split in ORDER if split in sizes}
        return self

    def _number(self, column: str, feature: Any, value: Any) -> int:
        if column not in self._numbers:
            self._numbers[column] = {name: number for number, name in enumerate(self.names[column])}
        return self._numbers[column][str(_text(self.told[column], feature, value))]

    @contextlib.contextmanager
    def _open(self, number: int) -> Iterator[pq.ParquetFile]:
        # A footer is read once: row groups come in random order, and each of another file than the one before.
        with _opened(self.files[number]) as handle:
            file = pq.ParquetFile(handle, metadata=self._footers.get(number))
            self._footers[number] = file.metadata
            yield file

    def _column(self, number: int, name: str) -> Iterator[Any]:
        with self._open(number) as file:
            for batch in file.iter_batches(_LABELS, columns=[name]):
                yield batch.column(0)

    def _add(self, number: int) -> None:
        name = _short(self.files[number], self.root)
        try:
            with self._open(number) as file:
                footer, columns = file.metadata, file.schema_arrow.names
        except (OSError, ValueError) as error:
            raise InputError(
                f"file {name}", expected="a parquet file", found=cell(str(error), 200), fix="mend it, or take it out"
            ) from error
        missing = sorted({self.image, *self.told.values()} - set(columns))
        if missing:
            raise InputError(
                f"file {name}", expected="the columns of the other files", found=f"no {', '.join(missing)}",
                fix="write all files with the same columns",
            )  # fmt: skip
        first, offset = len(self), 0
        for group in range(footer.num_row_groups):
            rows = footer.row_group(group).num_rows
            if rows:
                self._groups.append(_Group(number, group, first + offset, offset, rows))
            offset += rows


class StreamedExamples(torch.utils.data.IterableDataset):
    """Rows of a stream -> training examples, in an order that depends on (seed, epoch) and on how many read.

    In each epoch the row groups are shuffled and dealt out, in that order, to the processes and to the workers of
    each; a worker shuffles its share with a buffer. Every row comes once an epoch; where the rows cannot be dealt out
    evenly, the last process gets up to (processes - 1) rows a second time, so that all make the same number of
    steps. Which crop a row gets depends on (seed, epoch, row) only, as in `augmentation.Augmented`.

    Args:
        stream: The split.
        transform: Row -> example; draws from torch's global generator.
        seed: The run's seed.
        keyed: See `augmentation.Augmented`.
        shuffle_buffer: Encoded rows that a worker holds to draw from. More than a row group has, or rows that lie
            together stay together.
        on_bad_image: "stop", or "drop": the row is noted, and the one before it is shown again with another crop, so
            that all processes keep step.
        left_out: File that such rows are noted in.
    """

    def __init__(
        self, stream: Stream, transform: Callable[[dict[str, Any]], dict[str, Any]], seed: int, *,
        keyed: bool = False, shuffle_buffer: int = 1000, on_bad_image: str = "stop", left_out: Path | None = None,
    ) -> None:  # fmt: skip
        self.stream, self.transform, self.seed, self.keyed = stream, transform, seed, keyed
        self.shuffle_buffer, self.on_bad_image, self.left_out = shuffle_buffer, on_bad_image, left_out
        self.batch_size, self.process, self.processes = 1, 0, 1
        # In shared memory, since worker processes that outlive an epoch hold a copy of everything else.
        self._epoch = torch.zeros((), dtype=torch.int64).share_memory_()
        self._skipped = torch.zeros(2, dtype=torch.int64).share_memory_()  # an epoch, and batches of it
        self._told: set[str] = set()

    def share(self, batch_size: int, process: int = 0, processes: int = 1) -> None:
        """Says what the data loader asks for: batches of this size, for one of so many processes."""
        self.batch_size, self.process, self.processes = batch_size, process, processes

    def __len__(self) -> int:
        """Examples an epoch, of this process."""
        return -(-len(self.stream) // self.processes)

    def set_epoch(self, epoch: int) -> None:
        self._epoch.fill_(epoch)

    def skip(self, epoch: int, batches: int) -> None:
        """Says that the first batches of an epoch are going to be thrown away, and so need not be decoded."""
        self._skipped.copy_(torch.tensor([epoch, batches]))

    def __iter__(self) -> Iterator[dict[str, Any]]:
        worker = torch.utils.data.get_worker_info()
        lane, lanes = (worker.id, worker.num_workers) if worker else (0, 1)
        epoch, skipped = self._skipped.tolist()
        skipped *= epoch == int(self._epoch)
        unread = (skipped // lanes + (lane < skipped % lanes)) * self.batch_size
        passed: deque[dict[str, Any]] = deque(maxlen=_BATCH)  # rows that were not decoded
        example: dict[str, Any] | None = None  # the last one
        good: dict[str, Any] | None = None  # the row that it was made of, for the `time`th time
        time, owed = 0, 0
        for number, row in enumerate(self._shuffled(lane, lanes)):
            if number < unread and example is not None:
                passed.append(row)
                yield example  # into a batch that the reader throws away
                continue
            decoded = self._decoded(row)
            if decoded is not None:
                good, time = decoded, 0
            elif passed:  # as if the rows before had been decoded
                bad = 0
                while passed and (decoded := self._decoded(passed.pop())) is None:
                    bad += 1
                good, time = (decoded, bad + 1) if decoded is not None else (good, time + bad)
            passed.clear()
            if good is None:
                owed += 1
                continue
            for _ in range(1 + owed):
                name = f"{self.seed}/{int(self._epoch)}/{good['row']}" + (f"/{time}" if time else "")
                example = drawn(self.transform, good["values"], name, self.keyed)
                time += 1
                yield example
            owed = 0
        if owed:
            raise RowError(
                f"{owed} training pictures that one process reads in an epoch",
                expected="one at least that can be read", found=f"none, the last of them {row['place']}",
                fix="check the dataset, or read with fewer --dataloader_num_workers",
            )  # fmt: skip

    def _shuffled(self, lane: int, lanes: int) -> Iterator[dict[str, Any]]:
        """The rows of one worker's share, shuffled."""
        epoch = int(self._epoch)
        batches = -(-len(self) // self.batch_size)
        # Whole batches to each, the first workers one more: then the loader, which takes a batch from each in turn,
        # gets as many as it counts on, and only the last is short.
        first = (lane * (batches // lanes) + min(lane, batches % lanes)) * self.batch_size
        last = first + (batches // lanes + (lane < batches % lanes)) * self.batch_size
        start = self.process * len(self)
        order = np.random.default_rng([self.seed, epoch]).permutation(self.stream.groups)
        rows = self.stream.rows(self.stream.pieces(order, start + min(first, len(self)), start + min(last, len(self))))
        random = np.random.default_rng([self.seed, epoch, self.process, lane])
        held: list[dict[str, Any]] = []
        for row in rows:
            if len(held) < self.shuffle_buffer:
                held.append(row)
                continue
            place = int(random.integers(len(held)))
            yield held[place]
            held[place] = row
        yield from (held[place] for place in random.permutation(len(held)))

    def _decoded(self, row: dict[str, Any]) -> dict[str, Any] | None:
        """The row with its picture and class numbers; None when the picture is left out."""
        values = row["values"]
        labels = {}
        for column, name in self.stream.told.items():
            try:
                labels[column] = self.stream.label(column, values[name])
            except KeyError:
                raise RowError(
                    row["place"], expected=f"a {column} that was there when the run began",
                    found=cell(repr(values[name])), fix="leave the files as they are while a run reads them",
                ) from None  # fmt: skip
        source = values[self.stream.image]
        try:
            picture = images.decode({"bytes": source, "path": None} if isinstance(source, bytes) else source)
        except ValueError as error:
            if self.on_bad_image == "stop":
                raise RowError(
                    row["place"], expected=PICTURE, found=str(error),
                    fix="mend the row in its place and --resume_from_checkpoint last; or start anew with "
                    "--on_bad_image drop, or without --streaming, which looks at all rows beforehand",
                ) from error  # fmt: skip
            self._note(row["place"], str(error))
            return None
        return {"row": row["row"], "values": {"image": picture, **labels}}

    def _note(self, place: str, reason: str) -> None:
        if self.left_out is not None and place not in self._told:
            self._told.add(place)
            with open(self.left_out, "a", encoding="utf-8") as file:  # a short line in one piece, also from many
                file.write(json.dumps({"where": place, "reason": reason}) + "\n")


def load(
    source: str | Path, *, config: str | None = None, revision: str | None = None,
    names: Mapping[str, str | None] | None = None, label_columns: Sequence[str] | None = None,
    shuffle_buffer: int = 1000, on_bad_image: str = "stop", folder: str | Path | None = None,
) -> tuple[DatasetDict, Report, Stream]:  # fmt: skip
    """Loads what is measured, and finds what is learned from.

    Args:
        source: A folder with parquet files as the Hub has them (data/train-00000-of-00002.parquet, ...), or a Hub id.
        config: Configuration of a dataset that has several.
        revision: Commit, branch or tag of a dataset on the Hub.
        names: See `data.load`.
        label_columns: See there.
        shuffle_buffer: See `StreamedExamples`.
        on_bad_image: See there.
        folder: Of the run; rows that are left out are noted in its `left_out.jsonl`.

    Returns:
        The validation and the test split as `data.load` gives them; what was seen; the training split.

    Raises:
        InputError: Nothing that can be streamed, or one of the three splits is missing.
    """
    report = Report({"source": str(source), "kind": "", "config": config, "revision": None, "license": "unknown"})
    found = reading.parquet_files(source, config, revision, report)
    report.source |= {"kind": found.kind, "revision": found.revision, "license": found.license or "unknown"}
    splits = _splits(found.files, str(source), report)
    features = found.features or _features(splits["train"][0])
    given = {column: name for column, name in (names or {}).items() if name}
    if label_columns is None:
        image, label = pick(features, given, "train")
        label_columns = [label] if is_list(features[label]) else None
    if label_columns is None:
        told = {"label": label}
    else:
        image, chosen = pick_attributes(features, given, label_columns, "train")
        told = {name: name for name in chosen}
    if is_text(features[image]):
        raise InputError(
            f"column {image}", expected="pictures inside the parquet files, which can be streamed", found="paths",
            fix="embed them: datasets.table.embed_table_storage before to_parquet, or push_to_hub, which does it",
        )  # fmt: skip
    stream = Stream(splits["train"], found.root, features, image, told, strict=label_columns is None)
    stream.options = {
        "shuffle_buffer": shuffle_buffer, "on_bad_image": on_bad_image,
        "left_out": Path(folder) / LEFT_OUT if folder is not None else None,
    }  # fmt: skip
    if not len(stream):
        raise InputError(f"dataset {source}", expected="training rows", found="none", fix="check what it holds")
    measured = {
        split: reading.attempt(f"the {split} split", functools.partial(_whole, splits[split], found.features))
        for split in ORDER[1:]
    }
    texts = {column: {"train": values} for column, values in stream.count(report).items()}
    said: dict[str, dict[str, list[Any]]] = {split: {} for split in measured}
    for column, name in told.items():
        declared = {"train": names_} if (names_ := _declared(features[name])) else {}
        for split, rows in measured.items():
            if name not in rows.features:
                pick_attributes(rows.features, given, [name], split)  # says what is missing
            said[split][column] = _texts(rows, name, label_columns is None)
            texts[column][split] = [text for row in said[split][column] for text in _each(row)]
            declared |= {split: names_} if (names_ := _declared(rows.features[name])) else {}
        stream.names[column] = class_names(texts[column], declared, report, column)
    dataset, digest = DatasetDict(), hashlib.sha256()
    for split, rows in measured.items():
        for column, name in told.items():
            rows = _numbered(rows, name, said[split][column], stream.names[column])
        canonical, part = data.load(
            DatasetDict({split: rows}), Features({"image": Image(), "label": Value("string")}),
            names={"image": image} | ({"label": told["label"]} if label_columns is None else {}),
            label_columns=label_columns, lone_split=split,
        )  # fmt: skip
        dataset[split] = canonical[split]
        digest.update(str(part.source["fingerprint"]).encode())
        for finding in part.findings:
            if finding.found.startswith("one class only"):
                continue  # what all splits have together is told below
            report.add(
                finding.level, finding.where, finding.column, expected=finding.expected, found=finding.found,
                fix=finding.fix,
            )  # fmt: skip
    for column in told:
        counts = {"train": stream.class_counts(column)} | {
            split: data.class_counts(rows, column) for split, rows in dataset.items()
        }
        coverage(counts, stream.names[column], report, column, strict=label_columns is None)
        digest.update(f"{column} {stream.names[column]} {counts['train'].tolist()}".encode())
    digest.update(f"{len(stream)} {[os.path.basename(file) for file in stream.files]}".encode())
    report.source |= {"fingerprint": digest.hexdigest()[:16]}
    report.add(
        "note", "split train", "image",
        found=f"streamed: its {len(stream)} pictures were not looked at before training, nor compared with those of "
        "validation and test, so a picture that lies in two splits was not found",
    )  # fmt: skip
    return dataset, report, stream


def refuse(args: TrainingArguments, sampler: str, report: Report) -> None:
    """Raises InputError for settings that a streamed training cannot have; records how many processes read.

    Args:
        args: The training's. A run that is resumed must read as before, or rows would be shown twice in an epoch.
        sampler: `--sampler`.
        report: Its source gets an entry `readers`.
    """
    resumed_from = args.resume_from_checkpoint
    for name, wanted, why, fix in (
        ("sampler " + sampler, sampler != "shuffle", "rows that can be chosen", "--class_weights " + sampler),
        ("dataloader_drop_last", args.dataloader_drop_last, "the last rows too", "leave it out"),
    ):
        if wanted:
            raise InputError(f"--{name} with --streaming", expected=why, found="rows in the order of files", fix=fix)
    readers = {"processes": args.world_size, "workers": args.dataloader_num_workers}
    stored = Path(resumed_from).parent / "run.json" if resumed_from else None
    if stored is not None and stored.is_file():
        before = json.loads(stored.read_text(encoding="utf-8"))["dataset"].get("readers", readers)
        if before != readers:
            raise InputError(
                "the streamed run that is resumed", expected=_in_words(before), found=_in_words(readers),
                fix=f"as many as before: --dataloader_num_workers {before['workers']}",
            )  # fmt: skip
    report.source["readers"] = readers


def _in_words(readers: Mapping[str, int]) -> str:
    return f"{readers['processes']} process(es) with {readers['workers']} --dataloader_num_workers each"


def _splits(files: Mapping[str, Sequence[str]], source: str, report: Report) -> dict[str, list[str]]:
    """Canonical split -> its files."""
    found: dict[str, list[str]] = {}
    for name, paths in files.items():
        split = split_name(name)
        if split is None or split in found:
            report.add("note", f"split {name}", "", found="not used")
        else:
            found[split] = list(paths)
    missing = [split for split in ORDER if split not in found]
    if missing:
        raise InputError(
            f"dataset {source} with --streaming",
            expected="train, validation and test as splits of the source: nothing is cut from a stream",
            found=f"no {' and no '.join(missing)}, but {', '.join(files)}",
            fix=f"write them to files of their own, as data/{missing[0]}-00000-of-00001.parquet; or leave "
            "--streaming out",
        )  # fmt: skip
    return found


def _whole(files: Sequence[str], features: Features | None) -> Dataset:
    """Files as a dataset on the disk. (`load_dataset` of the source itself would fetch the training split, too.)"""
    names = [file if "://" in file else glob.escape(file) for file in files]
    return load_dataset("parquet", data_files=names, split="train", features=features)


def _features(file: str) -> Features:
    def read() -> Features:
        with _opened(file) as handle:
            return Features.from_arrow_schema(pq.read_schema(handle))

    return reading.attempt(f"file {file}", read)


def _opened(file: str) -> Any:
    system, path = fsspec.core.url_to_fs(file)
    return system.open(path, "rb")


def _declared(feature: Any) -> list[str]:
    inner = feature.feature if is_list(feature) else feature
    return list(inner.names) if isinstance(inner, ClassLabel) else []


def _texts(rows: Dataset, name: str, strict: bool) -> list[Any]:
    """The labels of a measured split as text; what is wrong with them `data.load` says."""
    values, silent = rows.with_format(None).select_columns([name])[:][name], Report({})
    where = [""] * len(values)
    if strict:
        return label_texts(name, rows.features[name], values, where, silent)
    return attribute_texts(name, rows.features[name], values, where, None, silent)[0]


def _each(row: Any) -> list[str]:
    return [] if row is None else row if isinstance(row, list) else [row]


def _numbered(rows: Dataset, name: str, texts: Sequence[Any], names: Sequence[str]) -> Dataset:
    """The column as numbers of these names."""
    if _declared(rows.features[name]) == list(names):
        return rows
    number = {text: position for position, text in enumerate(names)}
    label = ClassLabel(names=list(names))
    many = is_list(rows.features[name])
    values: list[Any] = []
    for row in texts:
        told = [number[text] for text in _each(row)]
        values.append(None if row is None else told if many else told[0])
    # Not `add_column`: what it adds cannot be taken off and added again (datasets 5.2), as `data.load` would.
    features = Features({**rows.features, name: List(label) if many else label})
    return rows.map(lambda _, row: {name: values[row]}, with_indices=True, input_columns=name, features=features)


def _text(name: str, feature: Any, value: Any) -> str | None:
    return label_texts(name, feature, [value], [""], Report({}))[0]


def _short(file: str, root: str) -> str:
    """A file as the source names it: within its folder, or within its repository on the Hub."""
    if "://" in file:
        return re.sub(r"^hf://datasets/[^/]+/[^/@]+(@[^/]+)?/", "", file)
    return Path(os.path.relpath(file, root)).as_posix()
