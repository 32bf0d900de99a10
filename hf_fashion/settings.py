"""The command line of a recipe: strict on names and values, configs in front of it, and the folder of the run.

torch is imported for recipes that train and no others: an exported model is asked without it.
"""

import atexit
import contextlib
import difflib
import json
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

import datasets
import yaml
from transformers import HfArgumentParser
from transformers.utils import logging as transformers_logging

from hf_fashion import record
from hf_fashion.errors import InputError, command, library_errors
from hf_fashion.reading import aliases

if TYPE_CHECKING:
    from transformers import TrainingArguments

# Settings that do not change what is learned, and so may be others when a run is resumed.
FREE_ON_RESUME = {
    "benchmark_id", "card_photos", "card_prose", "dataloader_num_workers", "disable_tqdm", "license", "license_link",
    "license_name", "log_level", "logging_steps",
    "per_device_eval_batch_size", "save_total_limit", "use_cpu",
    "force_resume",
}  # fmt: skip
NOT_TO_REPEAT = {"config", "output_dir", "resume_from_checkpoint"}


def parse_args(
    recipe: str,
    dataclasses: Sequence[Any],
    argv: Sequence[str] | None = None,
    *,
    metrics: Sequence[str] | None = None,
) -> tuple[Any, ...]:
    """Parses the command line of a recipe, and `--config` in front of it, into dataclasses.

    A config is a YAML file of settings (or the run.json of an earlier run): a path, or the name of one of
    `recipes/configs`. Its values become command-line tokens in front of the user's, so that they are checked like
    those and the command line wins. A run that is resumed takes the settings of its own run.json in the same way, and
    refuses others. Where a dataclass is a `TrainingArguments`, the folder of the run is made (and goes again when
    nothing is written into it).

    Args:
        recipe: The recipe's stem, as in `runs/<stem>-<date>-<n>`.
        dataclasses: Each becomes a group of options.
        argv: Tokens; the process's own when None.
        metrics: What `--metric_for_best_model` may name, beside `loss`; None for a recipe that does not train.

    Returns:
        An instance of each dataclass, and last a dict of the settings that differ from their defaults.

    Raises:
        InputError: An unknown name, a value of the wrong type, a config or a checkpoint that is not there, an
            output folder in use, another setting than the run that is resumed.
    """
    tokens = [underscored(token) for token in (sys.argv[1:] if argv is None else argv)]
    # Bars over a second of reading or writing drown the training's own.
    transformers_logging.disable_progress_bar()
    datasets.disable_progress_bars()
    parser = _Parser(
        dataclasses,
        prog=command(recipe),
        allow_abbrev=False,
        usage=f"%(prog)s {_positional(dataclasses)}[--config NAME_OR_PATH] [--setting value ...]",
    )
    parser.add_argument("--config", help="A name of recipes/configs, a YAML file, or an earlier run's run.json.")
    # These are looked at first: the tokens behind them must win over the content of what they name.
    finder = _Parser(prog=parser.prog, add_help=False, allow_abbrev=False)
    for name in ("--config", "--output_dir", "--resume_from_checkpoint"):
        finder.add_argument(name)
    early = finder.parse_known_args(tokens)[0]
    checkpoint = _checkpoint(early.resume_from_checkpoint, early.output_dir) if early.resume_from_checkpoint else None
    if checkpoint and metrics is None:
        raise InputError(
            "--resume_from_checkpoint", expected="a recipe that trains", found=parser.prog, fix="leave it out"
        )
    stored = checkpoint.parent / "run.json" if checkpoint else None
    if stored and not stored.is_file():  # without its settings it would go on with the defaults, photos and net too
        raise InputError(
            f"--resume_from_checkpoint {early.resume_from_checkpoint}",
            expected="the run's run.json, with its settings", found=f"none in {stored.parent}",
            fix="put it back; or a new run with --model <the checkpoint's folder>",
        )  # fmt: skip
    before = _config_tokens(str(stored), parser) if stored else []
    before += _config_tokens(early.config, parser) if early.config else []
    with library_errors("the settings"):
        *parsed, _namespace, unknown = parser.parse_args_into_dataclasses(
            before + tokens, return_remaining_strings=True, look_for_args_file=False
        )
    for token in unknown:
        parser.unknown(token, where="the command line")
    # As typed, before `TrainingArguments` makes objects of some: what a config would say to repeat this run.
    typed, defaults = vars(parser.parse_known_args(before + tokens)[0]), parser.defaults()
    settings = {name: value for name, value in typed.items() if value != defaults[name] and name not in NOT_TO_REPEAT}
    if stored:
        _refuse_other_settings(stored, settings, forced=bool(settings.get("force_resume")))
    for group in parsed:
        if _trains(group):
            if metrics is None and (group.bf16 or group.fp16):
                raise InputError(
                    "--bf16, --fp16", expected="a measurement in full precision", found="half precision",
                    fix="leave it out",
                )  # fmt: skip
            best = str(group.metric_for_best_model).removeprefix("eval_")
            if metrics is not None and best not in (*metrics, "loss"):
                raise InputError(
                    f"--metric_for_best_model {best}", expected=f"one of: {', '.join(metrics)}, loss", found=best,
                    fix=f"--metric_for_best_model {metrics[0]}",
                )  # fmt: skip
            group.resume_from_checkpoint = str(checkpoint) if checkpoint else None
            group.output_dir = _folder(recipe, early.output_dir, checkpoint)
    return *parsed, settings


def _positional(dataclasses: Sequence[Any]) -> str:
    """What is typed without a setting's name, as the recipe's dataclass says it in `_usage`: "MODEL PHOTOS "."""
    return "".join(f"{one._usage} " for one in dataclasses if hasattr(one, "_usage"))


def _trains(group: Any) -> bool:
    """Whether a dataclass is a `TrainingArguments`; where nobody imported those, none is."""
    arguments = sys.modules.get("transformers.training_args")
    return arguments is not None and isinstance(group, arguments.TrainingArguments)


def choose_metric(training_args: "TrainingArguments", metrics: Sequence[str], argv: Sequence[str]) -> None:
    """Sets what the best checkpoint is chosen by to the first of the metrics that this run has, unless it was typed.

    Raises:
        InputError: Another was typed.
    """
    wanted = str(training_args.metric_for_best_model).removeprefix("eval_")
    if wanted in (*metrics, "loss"):
        return
    if any(underscored(token).split("=")[0] == "--metric_for_best_model" for token in argv):
        raise InputError(
            f"--metric_for_best_model {wanted}",
            expected=f"with labels such as these, one of: {', '.join(metrics)}, loss", found=wanted,
            fix=f"--metric_for_best_model {metrics[0]}",
        )  # fmt: skip
    print(f"the best checkpoint is chosen by {metrics[0]}, since with labels such as these there is no {wanted}")
    training_args.metric_for_best_model = metrics[0]


def underscored(token: str) -> str:
    """An option as it is called here, also when it was typed with dashes, as HfArgumentParser lets one do."""
    name, equals, value = token.partition("=")
    return name[:2] + name[2:].replace("-", "_") + equals + value if name.startswith("--") else token


class _Parser(HfArgumentParser):
    """An `HfArgumentParser` whose errors are one readable message, without two pages of usage."""

    def names(self) -> list[str]:
        return sorted(
            {option for action in self._actions for option in action.option_strings if "-" not in option[2:]}
        )

    def defaults(self) -> dict[str, Any]:
        """What is parsed when nothing is typed but what must be."""
        required = [token for action in self._actions if action.required for token in (action.option_strings[0], "")]
        return vars(self.parse_known_args(required)[0])

    def error(self, message: str) -> NoReturn:
        raise InputError(
            message, expected="the settings that --help lists, with values of their type",
            found="the one named above", fix=f"{self.prog} --help",
        )  # fmt: skip

    def unknown(self, token: str, where: str) -> NoReturn:
        name = token.split("=")[0]
        near = difflib.get_close_matches(name, self.names(), n=3)
        raise InputError(
            f"unknown setting in {where}: {token}",
            expected="a setting that --help lists",
            found=name,
            fix=f"did you mean {' or '.join(near)}?" if near else f"{self.prog} --help",
        )


def _config_tokens(config: str, parser: _Parser) -> list[str]:
    path = _config_path(config)
    try:
        text = path.read_text(encoding="utf-8")
        if path.suffix == ".json":
            values = typed = json.loads(text)["arguments"]
        else:
            # BaseLoader makes nothing but text, lists and mappings: `1e-4` and `01` stay what they are until the
            # parser, which knows the type, reads them. A nested mapping becomes JSON, and so needs its types.
            aliases.refuse(f"config {path}", text)
            values, typed = yaml.load(text, Loader=yaml.BaseLoader), yaml.safe_load(text)
    except (
        OSError, UnicodeDecodeError, yaml.YAMLError, json.JSONDecodeError, KeyError, TypeError, RecursionError,
    ) as error:  # fmt: skip
        raise InputError(
            f"config {path}", expected="YAML (`setting: value` lines) or a run.json", found=str(error),
            fix="mend the file, or start from one of recipes/configs",
        ) from error  # fmt: skip
    if not isinstance(values, dict):
        raise InputError(
            f"config {path}", expected="`setting: value` lines", found=type(values).__name__, fix="mend the file"
        )
    if path.suffix != ".json":
        keys = [key.value for key, _ in yaml.compose(text, Loader=yaml.SafeLoader).value]
        twice = sorted({key for key in keys if keys.count(key) > 1})
        if twice:
            raise InputError(f"config {path}", expected="each setting once", found=", ".join(twice), fix="keep one")
    tokens: list[str] = []
    for key, value in values.items():
        if f"--{key}" not in parser.names() or key == "config":
            parser.unknown(f"--{key}", where=str(path))
        if key == "force_resume":  # it was for that time
            continue
        if typed[key] is None:  # `license:` or `license: null`: as if it were not there
            continue
        if isinstance(value, list):
            tokens += [f"--{key}", *map(str, value)]
        elif isinstance(value, dict):
            tokens.append(f"--{key}={json.dumps(typed[key])}")
        else:
            tokens.append(f"--{key}={value}")
    return tokens


def _config_path(config: str) -> Path:
    if Path(config).is_file():
        return Path(config)
    import hf_fashion.recipes.configs  # ships beside the recipes; imported here since a config is seldom asked for

    shipped = {path.stem: path for path in sorted(Path(hf_fashion.recipes.configs.__file__).parent.glob("*.yaml"))}
    if config not in shipped:
        near = difflib.get_close_matches(config, shipped, n=1)
        raise InputError(
            f"--config {config}",
            expected="a YAML file, a run.json, or one of: " + ", ".join(shipped),
            found="neither a file nor one of these names",
            fix=f"--config {near[0] if near else next(iter(shipped), 'FILE.yaml')}",
        )
    return shipped[config]


def _checkpoint(wanted: str, folder: str | None) -> Path:
    """The checkpoint to go on from: `last` is the newest good one of the folder."""
    from hf_fashion.training import checkpoints

    todo = "--output_dir runs/<the run> --resume_from_checkpoint last"
    first = os.environ.get("RANK", "0") == "0"
    if wanted != "last":
        bad = checkpoints.problems(wanted)
        if bad:
            raise InputError(
                f"--resume_from_checkpoint {wanted}", expected="'last', or a whole checkpoint-<step> folder",
                found="; ".join(bad), fix=todo,
            )  # fmt: skip
        chosen = Path(wanted)
    else:
        if not folder or not Path(folder).is_dir():
            raise InputError(
                "--resume_from_checkpoint last", expected="--output_dir with the folder of the run to go on with",
                found=f"--output_dir {folder}", fix=todo,
            )  # fmt: skip
        found, passed = checkpoints.newest(folder)
        told = [f"{path}: {'; '.join(bad)}" for path, bad in passed.items()]
        if found is None:
            raise InputError(
                f"--output_dir {folder}", expected="a whole folder checkpoint-<step> inside",
                found="".join(f"\n  {line}" for line in told) or "none",
                fix="start anew: without --resume_from_checkpoint, and with another --output_dir",
            )  # fmt: skip
        chosen = found
        for line in told if first else ():
            print(f"passed over {line}")
    if first:
        bare = "" if (chosen / checkpoints.MANIFEST).is_file() else ", which has no manifest, but can be read"
        print(f"going on from {chosen}{bare}")
    return chosen


def _refuse_other_settings(stored: Path, settings: dict[str, Any], forced: bool) -> None:
    before = json.loads(stored.read_text(encoding="utf-8"))["arguments"]
    other = [
        name
        for name in sorted({*before, *settings} - FREE_ON_RESUME)
        if json.dumps(before.get(name)) != json.dumps(settings.get(name))
    ]
    found = ", ".join(f"--{name} {settings.get(name, 'at its default')}" for name in other)
    if other and not forced:
        raise InputError(
            "the run that is resumed", expected="its own settings: they are read from its run.json", found=found,
            fix="leave these out; or --force_resume True; or a new run with --model <that run's folder>",
        )  # fmt: skip
    if other and os.environ.get("RANK", "0") == "0":
        print(f"forced: the run goes on with other settings than it had: {found}")


def _folder(recipe: str, given: str | None, checkpoint: Path | None) -> str:
    """Makes the run's folder, in the first process; every other one is told which it is."""
    from accelerate import PartialState
    from accelerate.utils import broadcast_object_list

    state = PartialState()
    started = int(os.environ.get("WORLD_SIZE", "1")) if "LOCAL_RANK" in os.environ else 1
    if started > state.num_processes:  # without a GPU accelerate lets each be a run of its own
        raise InputError(
            f"{started} processes", expected="a GPU for each of them", found="none that torch can use",
            fix="--use_cpu True, or start one process",
        )  # fmt: skip
    folder = given
    if state.is_main_process:
        try:
            if checkpoint and (given is None or Path(given).resolve() == checkpoint.parent.resolve()):
                folder = str(checkpoint.parent)
                record.refuse_running(folder)
            elif given is not None:
                record.refuse_in_use(given)
                Path(given).mkdir(parents=True, exist_ok=True)
            else:
                folder = record.claim_folder(recipe)
        except OSError as error:
            raise InputError(
                f"--output_dir {given or 'runs'}", expected="a folder that can be made", found=str(error.strerror),
                fix="another --output_dir",
            ) from error  # fmt: skip
        atexit.register(_remove_if_empty, str(folder))
    if state.num_processes > 1:
        [folder] = broadcast_object_list([folder])
    return str(folder)


def _remove_if_empty(folder: str) -> None:
    with contextlib.suppress(OSError):
        os.rmdir(folder)
