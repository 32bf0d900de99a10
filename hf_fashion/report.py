"""What was found while a dataset was read and checked: every finding at once, as a table."""

import itertools
import shlex
import textwrap
from dataclasses import dataclass, field, replace
from typing import Any, Literal

from hf_fashion.errors import InputError, command, printable

Level = Literal["error", "warning", "note"]

PICTURE = "a picture that can be read"  # the `expected` of every finding that `on_bad_image="drop"` may settle
DROP = "mend or remove the file, or type --on_bad_image drop"  # the `fix` of most of these
ONE_SPLIT = "each picture in one split only"  # of every leak of equal pictures
SHOWN = 20  # rows of a table that are printed; the rest is counted
_CELL = 60  # characters
_LINE = 70  # characters of a cell of the table; a longer text goes on in the line below
_LONGEST = 400  # characters of a text that are printed, of a file's name, too
_ALL = "--output_dir findings lists all"


@dataclass(frozen=True)
class Finding:
    """One thing that was seen in a dataset.

    Args:
        level: An error stops the run, a warning is printed and recorded, a note is recorded.
        where: The file, row, split or class.
        column: The column it is about, "" for none.
        expected: What would have been right.
        found: What was there.
        fix: What to do about it, "" for nothing.
        rows: Split and row number of the pictures that it is about, where it is about some.
    """

    level: Level
    where: str
    column: str
    expected: str
    found: str
    fix: str
    rows: tuple[tuple[str, int], ...] = ()


@dataclass
class Report:
    """What is known about a dataset.

    Args:
        source: `source` (as given), `kind`, `config`, `revision`, `fingerprint`, `license`.
        findings: Errors, warnings and notes, in the order in which they were seen.
        left_out: Rows that the user chose to leave out, each with `where` and `reason`.
        sizes: Rows of each split.
        cut: The splits that the source did not have, and that were cut from its train split.
        carried: Columns that are carried along, and that are neither pictures nor labels.
    """

    source: dict[str, Any]
    findings: list[Finding] = field(default_factory=list)
    left_out: list[dict[str, str]] = field(default_factory=list)
    sizes: dict[str, int] = field(default_factory=dict)
    cut: list[str] = field(default_factory=list)
    carried: list[str] = field(default_factory=list)

    def add(
        self, level: Level, where: str, column: str, *, expected: str = "", found: str = "", fix: str = "",
        rows: tuple[tuple[str, int], ...] = (),
    ) -> None:  # fmt: skip
        """Adds a finding, unless just that was said before."""
        finding = Finding(level, where, column, expected, found, fix, rows)
        if finding not in self._seen:
            self._seen.add(finding)
            self.findings.append(finding)

    def __post_init__(self) -> None:
        self._seen = set(self.findings)
        self._left = {(row["where"], row["reason"]) for row in self.left_out}

    def of(self, level: Level) -> list[Finding]:
        """Gives the findings of one level."""
        return [finding for finding in self.findings if finding.level == level]

    def leave_out(self, where: str, reason: str) -> None:
        """Records a row that is left out by the user's choice."""
        if (where, reason) not in self._left:
            self._left.add((where, reason))
            self.left_out.append({"where": where, "reason": reason})

    def leave_out_pictures(self) -> None:
        """Turns the errors about unreadable pictures into warnings, and records each as left out."""
        for position, finding in enumerate(self.findings):
            if finding.level == "error" and finding.expected == PICTURE:
                self.leave_out(finding.where, finding.found)
                self.findings[position] = replace(finding, level="warning", fix="left out")
        self._seen = set(self.findings)

    def raise_on_errors(self) -> "Report":
        """Stops when an error was found, with all errors in one message.

        Returns:
            The report itself, when it holds no error.

        Raises:
            InputError: With the table of errors.
        """
        errors = self.of("error")
        if errors:
            told = list(dict.fromkeys(finding.fix for finding in errors if finding.fix))
            fixes = [fix for fix in told if not any(other != fix and other.startswith(fix) for other in told)]
            source = str(self.source.get("source"))
            again = f"{command('check')} --dataset {shlex.quote(source)} {_ALL}" if source != "in hand" else ""
            raise InputError(
                f"dataset {self.source.get('source')}",
                expected="a dataset without errors",
                found=f"{len(errors)} error{'s' * (len(errors) > 1)}\n{table(errors, again)}",
                fix="; ".join(fixes[:3]) or "mend the rows named above",
            )
        return self

    def to_dict(self) -> dict[str, Any]:
        """Gives what a run's record keeps: the source, sizes, splits that were cut, rows left out, and warnings and
        notes as sentences."""
        told = [finding for finding in self.findings if finding.level != "error"]
        notes = [
            f"{f.level}: {f.where}" + f" ({f.column})" * bool(f.column) + f": {f.found}" + f"; {f.fix}" * bool(f.fix)
            for f in told
        ]
        return {**self.source, "sizes": self.sizes, "cut": self.cut, "left_out": self.left_out, "notes": notes}

    def __str__(self) -> str:
        return self.text()

    def text(self, more: str = "") -> str:
        """Prints the report, errors and warnings as a table.

        Args:
            more: Where all findings are, said where some are not printed; "" says what to type.
        """
        more = more or _ALL
        source = self.source
        rows = ", ".join(f"{split} {size}" for split, size in self.sizes.items())
        name, license_ = printable(str(source.get("source"))), printable(str(source.get("license")))
        head = f"dataset {name} ({source.get('kind')}, licence {license_}): "
        head += rows or "no rows"
        if self.left_out:
            head += f"; {len(self.left_out)} left out"
        order = {"error": 0, "warning": 1}
        told = sorted((f for f in self.findings if f.level in order), key=lambda finding: order[finding.level])
        notes = [f"note: {cell(f.where)}: {cell(f.found, _LONGEST)}" for f in self.of("note")]
        if len(notes) > SHOWN:
            notes[SHOWN:] = [f"... and {len(notes) - SHOWN} more notes: {more}"]
        return "\n".join([head, *([table(told, more)] if told else []), *notes])


def table(findings: list[Finding], more: str = "") -> str:
    """Prints findings as a text table of at most `SHOWN` findings; what is left out is counted.

    A long text goes on in the lines below, so that no reason is cut.

    Args:
        findings: In the order of the table.
        more: Where all of them are, for a table that does not show them; "" for nowhere.
    """
    head = ("level", "where", "column", "expected", "found", "to do")
    rows = [[[name] for name in head]]
    for f in findings[:SHOWN]:
        wrapped = [_wrapped(text) for text in (f.level, f.where, f.column, f.expected, f.found)]
        rows.append([*wrapped, [printable(f.fix)]])
    widths = [max(len(line) for row in rows for line in row[column]) for column in range(len(head) - 1)]
    lines = []
    for row in rows:
        for parts in itertools.zip_longest(*row, fillvalue=""):
            padded = [text.ljust(width) for text, width in zip(parts, widths, strict=False)]
            lines.append("  ".join([*padded, parts[-1]]).rstrip())
    if len(findings) > SHOWN:
        lines.append(f"... and {len(findings) - SHOWN} more" + f": {more}" * bool(more))
    return "\n".join(lines)


def _wrapped(text: str) -> list[str]:
    """The lines of one cell; one, and empty, for no text."""
    return textwrap.wrap(cell(text, _LONGEST), _LINE, break_on_hyphens=False) or [""]


def cell(text: str, width: int = _CELL) -> str:
    """Makes text fit for one cell: printable characters only (file names may hold any), cut in the middle."""
    text = printable(text)
    return text if len(text) <= width else f"{text[: width // 2 - 2]} … {text[-(width // 2 - 1) :]}"
