# /// script
# requires-python = ">=3.11"
# dependencies = ["hf_fashion[sweep]"]
# ///
"""Try settings of the classifier over several values and seeds, and choose on validation.

    accelerate launch recipes/sweep.py --try learning_rate 1e-3 5e-3 --try freeze backbone stages:4 --seeds 42 43 44
    accelerate launch recipes/sweep.py --dataset ./photos --search learning_rate 1e-4 1e-2 log --search mixup 0 0.4
    accelerate launch recipes/sweep.py --output_dir runs/sweep-2026-11-24-1 --resume

The first is a full grid, the second a search by Optuna's TPE (`--trials`, 20 by default). All other settings are those
of classify.py and the same in all runs; with none, `--config classify-efficientnet-lite0` as there. All runs have the
same photos for validation, and none is measured on test: the command that is printed at the end does that, once.
"""

import json
import os
import sys
import tempfile
import traceback
from dataclasses import fields, replace
from typing import Any

from accelerate import PartialState
from accelerate.utils import release_memory

from hf_fashion import backbones, sweeps
from hf_fashion.errors import InputError, script
from hf_fashion.recipes import classify
from hf_fashion.tasks.classify import PhotoArguments

# Points are compared only when these are the same in all. Weights, focus, smoothing and mixing need not be: the loss
# of validation is the plain one whatever is trained with (`training.classification_loss`).
MEASURED = {
    *(field.name for field in fields(PhotoArguments)),
    "split_by", "split_seed", "validation_share", "test_share", "metric_for_best_model", "greater_is_better",
}  # fmt: skip


def main(argv: list[str] | None = None) -> sweeps.Sweep:
    asked = sweeps.parse_args(sys.argv[1:] if argv is None else argv)
    asked.rest = asked.rest or classify.DEFAULT
    sweeps.refuse_missing()
    args, training_args = check(asked)
    seeds = asked.seeds or [training_args.seed]
    # Photos that one seed cuts off for test would be for validation under another: all runs cut as the last one will.
    split_seed = seeds[0] if args.split_seed is None else args.split_seed
    metric = str(training_args.metric_for_best_model).removeprefix("eval_")
    sweep = sweeps.Sweep(asked, seeds=seeds, metric=metric, greater=bool(training_args.greater_is_better))
    try:
        with sweep:
            while job := sweep.next():
                if sweep.first:
                    print(f"\n{job}", flush=True)
                run(sweep, job, [*asked.rest, "--split_seed", str(split_seed), *job.tokens])
    finally:
        if sweep.first:
            print(f"\n{sweep.summary()}", flush=True)
    return sweep


def check(asked: sweeps.Asked) -> tuple[Any, Any]:
    """Parses every point as its run will, and loads each net once; notes which ranges are of whole numbers.

    Returns:
        The settings of the first point: the recipe's own, and the training's.

    Raises:
        InputError: A wrong name or value, the same point twice, or points that would not be measured alike.
    """
    points = asked.points()
    parsed: list[tuple[Any, ...]] = []
    with tempfile.TemporaryDirectory() as scratch:
        for number, point in enumerate(points):
            tokens = [*asked.rest, *sweeps.tokens(point), "--output_dir", f"{scratch}/{number}"]
            parsed.append(classify.parse_args(tokens))
    args, _, training_args, first = parsed[0]
    known: dict[str, dict[str, str]] = {}
    for point, (*_, changed) in zip(points, parsed, strict=True):
        for name in sorted(MEASURED):
            if changed.get(name) != first.get(name):
                raise InputError(
                    f"--{name} in a sweep", expected="points that are measured on the same photos, by the same figure",
                    found=" ".join(sweeps.tokens(point)), fix=f"the same --{name} for all; one sweep for each value",
                )  # fmt: skip
        same = known.setdefault(json.dumps(changed, sort_keys=True), point)
        if same is not point:
            raise InputError(
                "--try", expected="each point once", fix="leave one of the two out",
                found=f"{' '.join(sweeps.tokens(same))} and {' '.join(sweeps.tokens(point))} say the same",
            )  # fmt: skip
    for place, setting in enumerate(asked.swept):
        if not setting.values:
            kinds = {type(getattr(group, setting.name)) for group in parsed[0][:3] if hasattr(group, setting.name)}
            if not kinds <= {int, float}:
                raise InputError(
                    f"--search {setting.name}", expected="a setting that is a number",
                    found=", ".join(kind.__name__ for kind in kinds), fix=f"--try {setting.name} VALUE VALUE",
                )  # fmt: skip
            asked.swept[place] = replace(setting, whole=kinds == {int})
    nets = {
        (args.model, args.model_revision, args.freeze, args.resize, args.image_size, args.from_scratch)
        for args, *_ in parsed
    }
    for model, revision, freeze, resize, image_size, from_scratch in sorted(nets, key=str):
        backbones.load_classifier(
            model, ["a", "b"], freeze=freeze, resize=resize, image_size=image_size, revision=revision,
            from_scratch=from_scratch,
        )  # fmt: skip
    return args, training_args


def run(sweep: sweeps.Sweep, job: sweeps.Job, argv: list[str]) -> None:
    """One whole training, without its measurement on test; one that fails is noted, and the sweep goes on."""
    before = sum(os.times()[:4])
    value, metric, reason = None, None, None
    try:
        info = classify.main(argv, sweep=sweep.typed).info
        metric, value = info["metric"], info["validation"][f"eval_{info['metric']}"]
    except Exception as error:
        # Before any training: most likely all runs would end so. And with several processes, others may not know.
        early = isinstance(error, InputError) and not os.path.exists(f"{job.folder}/run.json")
        if (early and sweep.is_new) or (PartialState().num_processes > 1 and not isinstance(error, InputError)):
            raise
        reason = (
            f"{error.what}: {error.found}" if isinstance(error, InputError) else f"{type(error).__name__}: {error}"
        )
        if not isinstance(error, InputError):  # a fault of the code: where it is would be lost in the table
            traceback.print_exc()
        print(f"failed: {reason}", file=sys.stderr)
    release_memory()
    sweep.tell(job, value=value, metric=metric, cpu_seconds=sum(os.times()[:4]) - before, reason=reason)


if __name__ == "__main__":
    script(main)()
