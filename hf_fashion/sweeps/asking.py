"""What a sweep is asked to try: its own settings, read from the command line."""

import argparse
import itertools
import json
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

from hf_fashion import record
from hf_fashion.errors import InputError, command, extra
from hf_fashion.settings import underscored

TRIALS = 20
# Set by the sweep itself, run by run.
OWN = {
    "seed": "--seeds 42 43 44",
    "output_dir": "--output_dir for the whole sweep",
    "resume_from_checkpoint": "--resume",
}
MANY_POINTS = 1000


@dataclass(frozen=True)
class Swept:
    """A setting of the recipe and what it is to be: one of `values`, or a number from `low` to `high`.

    Values are kept as they were typed: the recipe's own parser reads them.
    """

    name: str
    values: tuple[str, ...] = ()
    low: str = ""
    high: str = ""
    log: bool = False
    whole: bool = False

    @property
    def ends(self) -> tuple[str, ...]:
        """What to check before anything is trained."""
        return self.values or (self.low, self.high)

    def distribution(self) -> Any:
        """Optuna's word for it."""
        from optuna import distributions

        if self.values:
            return distributions.CategoricalDistribution(self.values)
        if self.whole:
            return distributions.IntDistribution(int(self.low), int(self.high), log=self.log)
        return distributions.FloatDistribution(float(self.low), float(self.high), log=self.log)


@dataclass
class Asked:
    """The sweep's own settings.

    Attributes:
        swept: What is tried; with a range among them it is a search, else a full grid.
        seeds: The runs of each point; empty for the recipe's own seed.
        trials: How many points a search has.
        output_dir: The sweep's folder; None for a new one.
        rest: Tokens of the recipe.
        argv: All tokens, as typed.
    """

    swept: list[Swept]
    seeds: list[int]
    trials: int
    output_dir: str | None
    rest: list[str]
    argv: list[str]

    @property
    def searches(self) -> bool:
        return any(not setting.values for setting in self.swept)

    def points(self) -> list[dict[str, str]]:
        """What to check: all points of a grid; of a search each value and each end, one at a time."""
        if not self.searches:
            return self.grid()
        first = {setting.name: setting.ends[0] for setting in self.swept}
        others = [first | {setting.name: end} for setting in self.swept for end in setting.ends[1:]]
        return [first, *others]

    def grid(self) -> list[dict[str, str]]:
        """Every combination of the values, in the order they were typed."""
        names = [setting.name for setting in self.swept]
        return [
            dict(zip(names, values, strict=True))
            for values in itertools.product(*(setting.values for setting in self.swept))
        ]


def tokens(values: Mapping[str, str]) -> list[str]:
    """A point as tokens of the command line; with `=`, so that a value may begin with a dash."""
    return [f"--{name}={value}" for name, value in values.items()]


def parse_args(argv: Sequence[str]) -> Asked:
    """Parses the sweep's own settings; all others are the recipe's and are left to it.

    With `--resume` the settings are those that the sweep began with.

    Raises:
        InputError: Nothing to try, a setting twice, a range that is none, a folder that is in use or has no sweep.
    """
    argv = [underscored(token) for token in argv]
    typed, rest = _parser().parse_known_args(argv)
    if typed.resume:
        return _resumed(typed, rest)
    swept = [_values(words) for words in typed.values] + [_range(words) for words in typed.ranges]
    if not swept:
        raise InputError(
            "nothing to try", expected="--try NAME VALUE VALUE, or --search NAME LOW HIGH",
            found="neither", fix=f"{command('sweep')} --try learning_rate 1e-3 3e-3 1e-2 --seeds 42 43 44",
        )  # fmt: skip
    names = [setting.name for setting in swept]
    given = [token.split("=")[0].removeprefix("--") for token in rest if token.startswith("--")]
    for name in [*names, *given]:
        if name in OWN:
            raise InputError(f"--{name} in a sweep", expected=OWN[name], found=f"--{name}", fix=OWN[name])
    twice = sorted({name for name in names if names.count(name) > 1 or name in given})
    if twice:
        raise InputError(
            f"--{twice[0]}", expected="each setting once", found="it is given several times",
            fix=f"name {twice[0]} once, in --try or in --search",
        )  # fmt: skip
    asked = Asked(swept, typed.seeds or [], typed.trials or TRIALS, typed.output_dir, rest, argv)
    if typed.trials is not None and (typed.trials < 1 or not asked.searches):
        raise InputError(
            f"--trials {typed.trials}", expected="1 or more, with --search",
            found=f"{typed.trials}" if asked.searches else "--try alone, of which every point is run",
            fix="leave it out" if not asked.searches else "--trials 20",
        )  # fmt: skip
    if len(set(asked.seeds)) < len(asked.seeds):
        raise InputError(
            "--seeds", expected="different numbers", found=" ".join(map(str, asked.seeds)), fix="each seed once"
        )
    points = 1
    for setting in swept:
        points *= len(setting.values)
    if points > MANY_POINTS:
        raise InputError(
            "--try", expected=f"at most {MANY_POINTS} points", found=f"{points}",
            fix="fewer values; or --search with --trials, which does not try all",
        )  # fmt: skip
    if asked.output_dir and (Path(asked.output_dir) / "sweep.json").is_file():
        raise InputError(
            f"--output_dir {asked.output_dir}", expected="a new or empty folder", found="a sweep",
            fix=f"another; or go on with that sweep: --output_dir {shlex.quote(asked.output_dir)} --resume",
        )  # fmt: skip
    if asked.output_dir:
        record.refuse_in_use(asked.output_dir)
    return asked


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise InputError(
            message, expected="the settings that --help lists", found="the one named above", fix=f"{self.prog} --help"
        )


def _parser() -> _Parser:
    parser = _Parser(
        prog=command("sweep"), allow_abbrev=False,
        usage="%(prog)s --try NAME VALUE ... [--setting value ...]",
        description=f"All other settings are those that `{command('classify')} --help` lists, the same in all runs.",
    )  # fmt: skip
    add = parser.add_argument
    add("--try", dest="values", nargs="+", action="append", default=[], metavar=("NAME", "VALUE"),
        help="A setting and its values; several --try make a full grid.")  # fmt: skip
    add("--search", dest="ranges", nargs="+", action="append", default=[], metavar=("NAME", "LOW HIGH [log]"),
        help="A setting and the range in which Optuna's TPE looks for the best, on a log scale if so said. With it, "
        "the values of --try are among what is searched, and not a grid.")  # fmt: skip
    add("--trials", type=int, help=f"How many points a search tries. Default: {TRIALS}.")
    add("--seeds", nargs="+", type=int, help="Each point is run with each of these. Default: the recipe's seed alone.")
    add("--output_dir", help="Folder of the sweep; new or empty. Default: runs/sweep-<date>-<n>.")
    add("--resume", action="store_true", help="Go on with the sweep in --output_dir; what has finished stays.")
    return parser


def _resumed(typed: argparse.Namespace, rest: list[str]) -> Asked:
    others = [*rest, *(f"--{name}" for name in ("trials", "seeds") if getattr(typed, name))]
    others += ["--try"] * bool(typed.values) + ["--search"] * bool(typed.ranges)
    if others:
        raise InputError(
            "a sweep that is resumed", expected="its own settings: they are read from its sweep.json",
            found=" ".join(others), fix="leave these out; or start a new sweep",
        )  # fmt: skip
    path = Path(typed.output_dir or "") / "sweep.json"
    if not typed.output_dir or not path.is_file():
        raise InputError(
            "--resume", expected="--output_dir with the folder of a sweep, with a sweep.json",
            found=f"--output_dir {typed.output_dir}", fix="--output_dir runs/sweep-<date>-<n> --resume",
        )  # fmt: skip
    argv = json.loads(path.read_text(encoding="utf-8"))["argv"]
    first, rest = _parser().parse_known_args(argv)
    swept = [_values(words) for words in first.values] + [_range(words) for words in first.ranges]
    return Asked(swept, first.seeds or [], first.trials or TRIALS, typed.output_dir, rest, argv)


def _values(words: Sequence[str]) -> Swept:
    name, *values = words
    if not values or len(set(values)) < len(values):
        raise InputError(
            f"--try {' '.join(words)}", expected="the name of a setting and its values, each once",
            found="no value" if not values else "a value twice", fix="--try learning_rate 1e-3 3e-3 1e-2",
        )  # fmt: skip
    return Swept(_setting(name), tuple(values))


def _range(words: Sequence[str]) -> Swept:
    name, *ends = words
    log = ends[-1:] == ["log"]
    low, high = ends[: len(ends) - log] if len(ends) - log == 2 else ("", "")
    try:
        right = float(low) < float(high) < float("inf") and float(low) > (0.0 if log else -float("inf"))
    except ValueError:
        right = False
    if not right:
        raise InputError(
            f"--search {' '.join(words)}",
            expected="the name of a setting and two numbers, the lower one first"
            + (", both above 0 on a log scale" if log else ""),
            found=" ".join(ends) or "none", fix="--search learning_rate 1e-4 1e-2 log; or --try NAME VALUE VALUE",
        )  # fmt: skip
    return Swept(_setting(name), low=low, high=high, log=log)


def _setting(typed: str) -> str:
    return underscored("--" + typed.removeprefix("--"))[2:]


def refuse_missing() -> None:
    """Raises InputError unless Optuna is installed."""
    with extra("a sweep", "optuna", "sweep"):
        import optuna
    optuna.logging.set_verbosity(optuna.logging.WARNING)
