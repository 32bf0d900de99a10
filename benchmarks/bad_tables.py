"""Folders, tables and labels as they occur in real catalogues: what becomes of each, beside `load_dataset` alone.

    python benchmarks/bad_tables.py
    python benchmarks/bad_tables.py --markdown

The cases are those of `tests/bad_sources.py` and `bad_sources_tables.py`. Every picture is its own, so an outcome is
told by pixels and labels: "right" (all as meant), "reported" (as meant, and what was odd is said), "refused" (with the
reason), "wrong" (rows lost, added or with another label, or read although nobody can tell how), "crash" (an exception
that names neither file nor row). The peer is `load_dataset("imagefolder", data_dir=...)`, or what else reads the form.
Whatever it raises counts as refused where the case is to be refused, even when its message says nothing of the reason,
and as a crash elsewhere; "-" is a form that it has no way in for.
"""

import argparse
import sys
import tempfile
from collections import Counter
from pathlib import Path

import datasets

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests"))

from bad_sources import FOLDERS, Case, Made, bare, ours
from bad_sources_tables import TABLES

from hf_fashion.report import cell


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--markdown", action="store_true", help="Print a Markdown table.")
    args = parser.parse_args()
    datasets.disable_progress_bars()
    datasets.utils.logging.set_verbosity_error()
    found = [(case, *outcomes(case)) for case in (*FOLDERS, *TABLES)]
    lines = [("case", "wanted", "hf_fashion", "load_dataset")]
    lines += [(cell(case.name), case.wanted, own, peer) for case, own, peer in found]
    widths = [max(len(line[column]) for line in lines) for column in range(4)]
    for number, line in enumerate(lines):
        told = [
            text.replace("|", "\\|" if args.markdown else "|").ljust(width)
            for text, width in zip(line, widths, strict=True)
        ]
        print(f"| {' | '.join(told)} |" if args.markdown else "  ".join(told).rstrip())
        if args.markdown and not number:
            print("|" + "---|" * 4)
    print()
    for name, kinds in (("hf_fashion", [own for _, own, _ in found]), ("load_dataset", [peer for *_, peer in found])):
        counts = Counter(kinds)
        total = ", ".join(f"{counts[kind]} {kind}" for kind in ("right", "reported", "refused", "wrong", "crash", "-"))
        print(f"{name:<13} {total}, of {len(found)}")
    as_wanted = sum(own == case.wanted for case, own, _ in found)
    as_good = sum(good(case, peer) for case, _, peer in found)
    print(f"as wanted: hf_fashion {as_wanted}, load_dataset {as_good} (what it reads right counts, said or not)")


def outcomes(case: Case) -> tuple[str, str]:
    """What became of a case: here, and with datasets alone."""
    with tempfile.TemporaryDirectory() as place:
        datasets.config.HF_DATASETS_CACHE = Path(place) / "cache"
        root = Path(place) / "source"
        root.mkdir()
        made: Made = case.make(root)
        return ours(made, case.words).kind, bare(made, case.wanted).kind


def good(case: Case, kind: str) -> bool:
    return kind == case.wanted or case.wanted == "reported" and kind == "right"


if __name__ == "__main__":
    main()
