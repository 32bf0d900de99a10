"""Settings and the Trainer: transformers' own, with the defaults and the few repairs that a whole run needs."""

import difflib
import json
import math
import os
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NoReturn, cast

import torch
import yaml
from accelerate import PartialState
from accelerate.utils import broadcast_object_list
from transformers import HfArgumentParser, PreTrainedModel, Trainer, TrainerCallback, TrainingArguments
from transformers.trainer_utils import get_last_checkpoint
from transformers.utils import logging as transformers_logging

from hf_fashion import record
from hf_fashion.errors import InputError, in_range


@dataclass
class FashionTrainingArguments(TrainingArguments):
    """`transformers.TrainingArguments` with defaults for a fine-tune of a few thousand photos."""

    _argument_group_name = "training (transformers.TrainingArguments; the names and meanings are its own)"

    output_dir: str | None = field(
        default=None, metadata={"help": "Folder for the run; new or empty. Default: runs/<recipe>-<date>-<n>."}
    )
    num_train_epochs: float = field(default=8.0, metadata={"help": "Passes over the training photos."})
    per_device_train_batch_size: int = field(default=32, metadata={"help": "Photos a step and device."})
    per_device_eval_batch_size: int = field(default=32, metadata={"help": "Photos a step and device in evaluation."})
    learning_rate: float = field(default=5e-4, metadata={"help": "Peak learning rate of AdamW."})
    weight_decay: float = field(default=0.01, metadata={"help": "AdamW's weight decay."})
    lr_scheduler_type: str = field(default="cosine", metadata={"help": "Schedule after the warm-up."})
    warmup_steps: float = field(default=0.1, metadata={"help": "Warm-up: below 1 a share of all steps, else steps."})
    eval_strategy: str = field(default="epoch", metadata={"help": "no, steps or epoch."})
    save_strategy: str = field(default="epoch", metadata={"help": "no, steps, epoch or best."})
    logging_strategy: str = field(default="epoch", metadata={"help": "no, steps or epoch."})
    load_best_model_at_end: bool = field(
        default=True, metadata={"help": "Keep the checkpoint that was best on validation, not the last one."}
    )
    metric_for_best_model: str = field(default="accuracy", metadata={"help": "What 'best' means, on validation."})
    save_total_limit: int | None = field(default=1, metadata={"help": "Checkpoints kept beside the best one."})
    # An image column is 'unused' in the Trainer's eyes and would be dropped before the transform sees it.
    remove_unused_columns: bool = field(default=False, metadata={"help": "Leave it False: the photos are a column."})
    # True hides a NaN loss as 0.000.
    logging_nan_inf_filter: bool = field(default=False, metadata={"help": "True would print a NaN loss as 0."})
    label_names: list[str] | None = field(default_factory=lambda: ["labels"], metadata={"help": "Keys of the labels."})
    dataloader_num_workers: int = field(
        default_factory=lambda: min(8, (os.cpu_count() or 2) - 1) if torch.cuda.is_available() else 0,
        metadata={"help": "Processes that load photos. Default: 0 on a CPU, up to 8 with a GPU."},
    )
    dataloader_pin_memory: bool = field(
        default_factory=torch.cuda.is_available, metadata={"help": "Page-locked batches; of use with a GPU only."}
    )
    resume_from_checkpoint: str | None = field(
        default=None, metadata={"help": "'last' (needs --output_dir) or the path of a checkpoint."}
    )

    def __post_init__(self) -> None:
        in_range("learning_rate", self.learning_rate, 0.0, 10.0)
        in_range("num_train_epochs", self.num_train_epochs, 0.0, 1e6)
        in_range("per_device_train_batch_size", self.per_device_train_batch_size, 1, 1e6)
        in_range("per_device_eval_batch_size", self.per_device_eval_batch_size, 1, 1e6)
        if self.push_to_hub:
            raise InputError(
                "--push_to_hub",
                expected="a run without it: the Trainer's own push uploads pickles and overwrites the card",
                found="--push_to_hub True",
                fix="train first, then `hf upload <user>/<name> <the run's folder> --exclude 'checkpoint-*'`",
            )
        super().__post_init__()


class StopOnNonFiniteLoss(TrainerCallback):
    """Ends a run whose logged loss is NaN or infinite: what follows would be saved as if it were a model."""

    def on_log(self, args: Any, state: Any, control: Any, logs: dict[str, Any] | None = None, **kwargs: Any) -> None:
        for name in ("loss", "eval_loss"):
            value = (logs or {}).get(name)
            if value is not None and not math.isfinite(value):
                raise InputError(
                    f"training stopped at step {state.global_step}",
                    expected=f"a finite {name}",
                    found=f"{name} = {value}",
                    fix="a lower --learning_rate, or --max_grad_norm 1.0; the last checkpoint is kept",
                )


class FashionTrainer(Trainer):
    """`transformers.Trainer` that restores every tensor, and stops at a loss that is not finite.

    Checkpoints of ViT, Swin, DeiT, BEiT, DINOv2 and others keep older tensor names; the Trainer (transformers 5.23)
    loads them with `strict=False` and without renaming, so that a resumed or "best" model is part checkpoint, part
    last step (transformers issues 43701, 48805). `from_pretrained` renames; so the two loading methods go through it.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        # Same numbers, and a convolution net takes half the time on a CPU, less on a GPU too.
        torch.nn.Module.to(cast(torch.nn.Module, self.model), memory_format=torch.channels_last)
        self.add_callback(StopOnNonFiniteLoss())

    def _load_from_checkpoint(self, resume_from_checkpoint: str, model: Any = None) -> None:
        model = self.model if model is None else model
        if self._is_plain() and isinstance(model, PreTrainedModel):
            restore(model, resume_from_checkpoint)
        else:
            super()._load_from_checkpoint(resume_from_checkpoint, model)

    def _load_best_model(self) -> None:
        best = self.state.best_model_checkpoint
        if self._is_plain() and isinstance(self.model, PreTrainedModel) and best is not None:
            restore(self.model, best)
        else:
            super()._load_best_model()

    def _is_plain(self) -> bool:
        return not (self.is_fsdp_enabled or self.is_deepspeed_enabled)


def restore(model: PreTrainedModel, checkpoint: str | Path) -> None:
    """Loads every tensor of a checkpoint into `model`, in place.

    Raises:
        InputError: The checkpoint holds other tensors than the model.
    """
    loaded: Any = type(model).from_pretrained(
        checkpoint, dtype=model.dtype, use_safetensors=True, output_loading_info=True
    )
    fresh, info = loaded
    odd = {name: sorted(map(str, keys)) for name, keys in info.items() if keys}
    if odd:
        raise InputError(
            f"checkpoint {checkpoint}",
            expected="every tensor of the model, and no other",
            found=", ".join(f"{name}: {len(keys)} ({keys[0]}, ...)" for name, keys in odd.items()),
            fix="resume with the model, the labels and the version of transformers that wrote the checkpoint",
        )
    model.load_state_dict(fresh.state_dict(), strict=True)


def parse_args(recipe: str, dataclasses: Sequence[Any], argv: Sequence[str] | None = None) -> tuple[Any, ...]:
    """Parses the command line of a recipe, and `--config` in front of it, into dataclasses.

    A config is a YAML file of settings (or the run.json of an earlier run): a path, or the name of one of
    `recipes/configs`. Its values become command-line tokens in front of the user's, so that they are checked like
    those and the command line wins. Where a dataclass is a `TrainingArguments`, the folder of the run is chosen, or
    refused when in use.

    Args:
        recipe: The recipe's stem, as in `runs/<stem>-<date>-<n>`.
        dataclasses: Each becomes a group of options.
        argv: Tokens; the process's own when None.

    Returns:
        An instance of each dataclass, and last a dict of the settings that differ from their defaults.

    Raises:
        InputError: An unknown name, a value of the wrong type, a config or a checkpoint that is not there, an
            output folder in use.
    """
    tokens = list(sys.argv[1:] if argv is None else argv)
    # Bars over a second of reading or writing weights drown the training's own.
    transformers_logging.disable_progress_bar()
    parser = _Parser(
        dataclasses,
        prog=f"accelerate launch recipes/{recipe}.py",
        allow_abbrev=False,
        usage="%(prog)s [--config NAME_OR_PATH] [--setting value ...]",
    )
    parser.add_argument("--config", help="A name of recipes/configs, a YAML file, or an earlier run's run.json.")
    # `--config` alone is looked at first: it may stand anywhere, and the tokens behind it must win over its content.
    finder = _Parser(prog=parser.prog, add_help=False, allow_abbrev=False)
    finder.add_argument("--config")
    found, rest = finder.parse_known_args(tokens)
    if found.config:
        rest = _config_tokens(found.config, parser) + rest
    *parsed, _namespace, unknown = parser.parse_args_into_dataclasses(
        rest, return_remaining_strings=True, look_for_args_file=False
    )
    for token in unknown:
        parser.unknown(token, where="the command line")
    # As typed, before `TrainingArguments` makes objects of some: what a config would say to repeat this run.
    typed, defaults = vars(parser.parse_known_args(rest)[0]), parser.defaults()
    for group in parsed:
        if isinstance(group, TrainingArguments):
            _choose_folder(recipe, group, given=typed["output_dir"])
    not_to_repeat = {"config", "output_dir", "resume_from_checkpoint", "hub_token"}
    settings = {name: value for name, value in typed.items() if value != defaults[name] and name not in not_to_repeat}
    return *parsed, settings


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
    text = path.read_text(encoding="utf-8")
    try:
        if path.suffix == ".json":
            values = typed = json.loads(text)["arguments"]
        else:
            # BaseLoader makes nothing but text, lists and mappings: `1e-4` and `01` stay what they are until the
            # parser, which knows the type, reads them. A nested mapping becomes JSON, and so needs its types.
            values, typed = yaml.load(text, Loader=yaml.BaseLoader), yaml.safe_load(text)
    except (yaml.YAMLError, json.JSONDecodeError, KeyError, TypeError) as error:
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
        if f"--{key}" not in parser.names():
            parser.unknown(f"--{key}", where=str(path))
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


def _choose_folder(recipe: str, settings: TrainingArguments, given: str | None) -> None:
    """Sets `output_dir` and resolves `resume_from_checkpoint`; makes nothing."""
    resume = settings.resume_from_checkpoint
    if resume == "last":
        if not given or not Path(given).is_dir():
            raise InputError(
                "--resume_from_checkpoint last", expected="--output_dir with the folder of the run to go on with",
                found=f"--output_dir {given}", fix="--output_dir runs/<the run> --resume_from_checkpoint last",
            )  # fmt: skip
        resume = get_last_checkpoint(given)
        if resume is None:
            raise InputError(
                f"--output_dir {given}", expected="a folder checkpoint-<step> inside", found="none",
                fix="start anew without --resume_from_checkpoint, in another folder",
            )  # fmt: skip
    if resume:
        if not (Path(resume) / "trainer_state.json").is_file():
            raise InputError(
                f"--resume_from_checkpoint {resume}", expected="'last' or the path of a checkpoint-<step> folder",
                found="no trainer_state.json there", fix="--output_dir runs/<the run> --resume_from_checkpoint last",
            )  # fmt: skip
        given = given or str(Path(resume).parent)
    else:
        given = given or record.new_folder(recipe)
        record.refuse_in_use(given)
    settings.resume_from_checkpoint = resume
    # Every process must write to the folder that the first one chose.
    if PartialState().num_processes > 1:
        [given] = broadcast_object_list([given])
    settings.output_dir = str(given)


def device_name() -> str:
    """What the run computes on, in words: the GPU's name, or the CPU's threads."""
    state = PartialState()
    if state.device.type == "cuda":
        return f"{state.num_processes} x {torch.cuda.get_device_name()}"
    return f"{state.device.type}, {torch.get_num_threads()} threads" + (
        f", {state.num_processes} processes" if state.num_processes > 1 else ""
    )
