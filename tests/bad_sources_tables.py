"""Tables and labels as they occur in real catalogues, made in code; see `bad_sources.py`, which has what both need."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from bad_sources import SPELT, TWO, Case, Made, Truth, lines, numbered
from datasets import Dataset, Features, Image, Value
from loading import picture, put


def table(
    text: str | bytes, truth: Truth | None = None, name: str = "metadata.csv", count: int = 8
) -> Callable[[Path], Made]:
    """A table beside numbered pictures `0.png`, `1.png`, ...; it is one split."""

    def make(root: Path) -> Made:
        for number in range(count):
            put(root / f"{number}.png", number)
        (root / name).write_bytes(text if isinstance(text, bytes) else text.encode())
        whole = name.startswith("metadata.")
        bare = {"path": "imagefolder", "data_dir": str(root)} if whole else None
        return Made(root if whole else root / name, truth, bare, {"lone_split": "test"})

    return make


WESTERN = ["dress", "Größe"] * 4
CYRILLIC = ["платье", "шляпа"] * 4
MISSING = ["NA", "None", "null", "nan"] * 2
FORMULAS = ["=1+2", "+hat", "-dress", "@SUM(A1)"] * 2


def path_row(path: str) -> Callable[[Path], Made]:
    """A table with one path that leads elsewhere."""

    def make(root: Path) -> Made:
        put(root.parent / "9.png", 50)
        inside = root / "in"
        return table(lines(TWO) + f"{path.format(root=root.parent)},hat\n")(inside)._replace(truth=None)

    return make


def _table_link(root: Path) -> Made:
    made = table(lines(TWO) + "out.png,hat\n")(root / "in")
    (root / "in" / "out.png").symlink_to(put(root / "50.png", 50))
    return made


def _repeats(labels: tuple[str, str]) -> Callable[[Path], Made]:
    truth = numbered(TWO) | {0: labels[0]}
    rows = lines(TWO[1:]).replace("\n", "\n").splitlines()
    text = "file_name,label\n" + "".join(f"{n + 1}.png,{row.split(',')[1]}\n" for n, row in enumerate(rows[1:]))
    text += "".join(f"0.png,{label}\n" for label in labels)

    def make(root: Path) -> Made:
        return table(text, None if labels[0] != labels[1] else truth)(root)

    return make


def json_lines(rows: list[Any]) -> str:
    return "".join((row if isinstance(row, str) else json.dumps(row)) + "\n" for row in rows)


def parquet_of_paths(path: str) -> Callable[[Path], Made]:
    """A parquet file whose pictures are paths, in the form that `datasets` itself writes."""

    def make(root: Path) -> Made:
        outside = put(root / "50.png", 50)
        inside = root / "in"
        inside.mkdir()
        rows: dict[str, list[Any]] = {"image": [{"bytes": picture(n), "path": None} for n in range(8)]}
        rows["image"].append({"bytes": None, "path": path.format(outside=outside)})
        rows["label"] = [*TWO, "hat"]
        features = Features({"image": Image(), "label": Value("string")})
        # Not `to_parquet`, which embeds the picture.
        pq.write_table(pa.table(rows, schema=features.arrow_schema), inside / "train.parquet")
        return Made(inside / "train.parquet", None, {"path": "parquet", "data_files": str(inside / "train.parquet")})

    return make


def readme(path: str) -> Callable[[Path], Made]:
    """A folder whose README.md names its files, elsewhere."""

    def make(root: Path) -> Made:
        inside = root / "in"
        inside.mkdir()
        rows = {"image": [{"bytes": picture(n), "path": None} for n in range(8)], "label": TWO}
        features = Features({"image": Image(), "label": Value("string")})
        Dataset.from_dict(rows, features=features).to_parquet(str(root / "secret.parquet"))
        where = path.format(root=root)
        (inside / "README.md").write_text(
            f"---\nconfigs:\n- config_name: default\n  data_files:\n  - split: train\n    path: {where!r}\n---\n"
        )
        return Made(inside, None, {"path": str(inside)})

    return make


# -- the list

ENCODED = [
    Case(f"{name}", table(lines(labels).encode(encoding), numbered(labels)), wanted, words)
    for name, labels, encoding, wanted, words in (
        ("CSV in cp1252", WESTERN, "cp1252", "reported", ("cp1252", "Größe")),
        ("CSV in UTF-16 with a mark", WESTERN, "utf-16", "right", ()),
        ("CSV in UTF-16 without a mark", WESTERN, "utf-16-le", "refused", ()),
        ("CSV in UTF-8 with a BOM", WESTERN, "utf-8-sig", "right", ()),
        ("CSV in cp1251 (Cyrillic)", CYRILLIC, "cp1251", "refused", ("UTF-8",)),
        ("CSV in Shift-JIS", ["帽子", "服"] * 4, "shift-jis", "refused", ("UTF-8",)),
    )
]
TABLES = [
    Case("labels NA, None, null, nan", table(lines(MISSING), numbered(MISSING)), "reported", ("perhaps no label",)),
    Case("empty labels", table(lines([*TWO[:6], "", "  "])), "refused", ("metadata.csv:8", "metadata.csv:9")),
    Case("labels 01 and 1", table(lines(["01", "1"] * 4), numbered(["01", "1"] * 4)), "reported", ("generic",)),
    Case("labels True and False", table(lines(["True", "False"] * 4), numbered(["True", "False"] * 4)), "right"),
    Case("labels 1.0 and 1", table(lines(["1.0", "1"] * 4), numbered(["1.0", "1"] * 4)), "right"),
    Case("labels dress, Dress and 'dress '", table(lines(["dress", "Dress", "dress ", "hat"] * 2), numbered(
        ["dress", "Dress", "dress ", "hat"] * 2)), "reported", (SPELT,)),
    *ENCODED,
    Case("CSV with semicolons", table(lines(TWO, ";"), numbered(TWO)), "right"),
    Case("CSV with tabs", table(lines(TWO, "\t"), numbered(TWO)), "right"),
    Case("CSV with line ends \\r\\n", table(lines(TWO, end="\r\n"), numbered(TWO)), "right"),
    Case("CSV with line ends \\r", table(lines(TWO, end="\r"), numbered(TWO)), "right"),
    Case("CSV with a note in semicolons under commas", table(
        lines([f"{label},a;b" for label in TWO], head="file_name,label,note"), numbered(TWO)), "right"),
    Case("CSV with a quoted line end", table(
        lines([f'{label},"two\nlines"' for label in TWO], head="file_name,label,note"), numbered(TWO)), "right"),
    Case("paths with backslashes", lambda root: _photos(root, "photos\\{}.png"), "reported", ("\\",)),
    Case("paths with ./", table(lines(TWO).replace("\n", "\n./").removesuffix("./"), numbered(TWO)), "right"),
    Case("a header only", table("file_name,label\n"), "refused", ("a header and no rows",)),
    Case("an empty file", table(""), "refused", ("an empty file",)),
    Case("no header", table(lines(TWO, head="0.png,dress")), "refused", ("column names",)),
    Case("a header twice", table(lines([f"{label},x" for label in TWO], head="file_name,label,label")), "refused",
         ("twice: label",)),
    Case("rows of another length", table(lines([*TWO[:7], "hat,extra"])), "refused", ("metadata.csv:9", "2 cells")),
    Case("a quote that is never closed", table(lines([*TWO[:7], '"hat'])), "refused", ("line",)),
    Case("null bytes in a cell", table(lines([*TWO[:7], "h\0at"])), "refused", ("metadata.csv",)),
    Case("a cell of 200,000 letters", table(lines([*TWO[:7], "x" * 200_000])), "refused", ("line",)),
    Case("a missing file", table(lines(TWO), count=7), "refused", ("metadata.csv:9", "no such file: 7.png")),
    Case("a file of another case of letters", table(lines(TWO).replace("7.png", "7.PNG")), "refused",
         ("metadata.csv:9", "7.PNG")),
    Case("a file listed twice with one label", _repeats(("dress", "dress")), "reported", ("listed 2 times",)),
    Case("a file listed twice with two labels", _repeats(("dress", "hat")), "refused",
         ("metadata.csv:9 and metadata.csv:10",)),
    Case("a file listed twice, spelt in two ways", table(
        lines(TWO) + "./0.png,hat\n"), "refused", ("listed 2 times",)),
    Case("rows for 8 of 9 files", table(lines(TWO), numbered(TWO), count=9), "reported", ("8.png",)),
    Case("empty paths", table(lines(TWO) + ",hat\n"), "refused", ("metadata.csv:10", "no path")),
    Case("a path to a folder", table(lines(TWO) + ".,hat\n"), "refused", ("metadata.csv:10",)),
    Case("a path to the table itself", table(lines(TWO) + "metadata.csv,hat\n"), "refused", ("metadata.csv",)),
    *(
        Case(f"path {path.replace('{root}', '')}", path_row(path), "refused", ("metadata.csv:10",))
        for path in (
            "../9.png", "{root}/9.png", "a/../../9.png", "..\\9.png", "file:///etc/passwd", "http://example.org/9.png",
            "HTTPS://example.org/9.png", "hf://datasets/a/b/9.png", "s3://bucket/9.png", "file:9.png",
            "//example.org/9.png", "\\\\server\\9.png", "C:\\9.png", "C:9.png", "~/9.png", "zip://9.png::../x.zip",
            "/proc/self/environ", "/dev/zero", "9.png\0", "x" * 5000,
        )
    ),
    Case("a path that is a link out of the folder", _table_link, "refused", ("metadata.csv:10", "link")),
    Case("cells that begin with = + - @", table(lines(FORMULAS), numbered(FORMULAS)), "right"),
    Case("labels with HTML and templates", table(
        lines(["<script>alert(1)</script>", "{{ 7*7 }}", "`x`"] * 2), numbered(
        ["<script>alert(1)</script>", "{{ 7*7 }}", "`x`"] * 2), count=6), "right"),
    Case("a label with terminal escapes", table(
        lines(["\x1b[31mred", "hat"] * 4), numbered(["\x1b[31mred", "hat"] * 4)), "right"),
    Case("no column of labels", lambda root: table(lines(TWO, head="file_name,colour"))(root)._replace(bare=None),
         "refused", ("--label_column",)),
    Case("JSON lines", table(json_lines(
        [{"file_name": f"{n}.png", "label": label} for n, label in enumerate(TWO)]), numbered(TWO),
        "metadata.jsonl"), "right"),
    Case("JSON lines with a broken line", table(json_lines(
        [*({"file_name": f"{n}.png", "label": label} for n, label in enumerate(TWO)), '{"file_name":']),
        name="metadata.jsonl"), "refused", ("metadata.jsonl:9",)),
    Case("JSON lines 100,000 brackets deep", table(json_lines(
        [{"file_name": "0.png", "label": "a"}, "[" * 100_000]), name="metadata.jsonl"), "refused",
        ("metadata.jsonl:2",)),
    Case("JSON lines with a number of 5,000 digits", table(json_lines(
        [{"file_name": "0.png", "label": "a"}, '{"file_name": "1.png", "label": ' + "9" * 5000 + "}"]),
        name="metadata.jsonl"), "refused", ("metadata.jsonl:2",)),
    Case("JSON lines with half a surrogate pair", table(json_lines(
        [*({"file_name": f"{n}.png", "label": label} for n, label in enumerate(TWO)),
         '{"file_name": "7.png", "label": "\\ud800"}']), name="metadata.jsonl"), "refused", ("metadata.jsonl:9",)),
    Case("JSON lines with NaN labels", table(json_lines(
        [*({"file_name": f"{n}.png", "label": label} for n, label in enumerate(TWO[:7])),
         '{"file_name": "7.png", "label": NaN}']), name="metadata.jsonl"), "refused", ("metadata.jsonl:8",)),
    Case("parquet whose pictures are a path outside", parquet_of_paths("{outside}"), "refused", ("train:8",)),
    Case("parquet whose pictures are a path ../", parquet_of_paths("../50.png"), "refused", ("train:8",)),
    Case("parquet whose pictures are an address", parquet_of_paths("http://127.0.0.1:9/x.png"), "refused",
         ("train:8",)),
    Case("a README.md that names files ../", readme("../secret.parquet"), "refused", ("../secret.parquet",)),
    Case("a README.md that names absolute files", readme("{root}/secret.parquet"), "refused", ("secret.parquet",)),
    Case("a README.md that names an address", readme("http://127.0.0.1:9/x.parquet"), "refused", ("127.0.0.1",)),
]  # fmt: skip


def _photos(root: Path, form: str) -> Made:
    for number in range(8):
        put(root / "photos" / f"{number}.png", number)
    rows = "".join(f"{form.format(number)},{label}\n" for number, label in enumerate(TWO))
    (root / "metadata.csv").write_text("file_name,label\n" + rows)
    return Made(root, numbered(TWO), {"path": "imagefolder", "data_dir": str(root)})
