"""Kills and damage: how many runs go on to the bit, and how many damaged checkpoints are passed over.

    python benchmarks/faults.py
    python benchmarks/faults.py --kills 100 --workers 2

A tiny ViT with dropout learns 12 augmented photos for 6 steps, with a checkpoint a step. A run is killed (SIGKILL) at
a random step, in the step or while its checkpoint is written, and goes on with `--resume_from_checkpoint last`; its
model is compared with that of an unbroken run. Then the newest checkpoint of the unbroken run is damaged, in each of
the ways of `tests/faulty.py`, and the run goes on from what is left. The bare Trainer does so
from what `transformers.trainer_utils.get_last_checkpoint` finds. All of it on the CPU.
"""

import argparse
import contextlib
import io
import random
import shutil
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

from datasets import disable_progress_bars
from transformers import Trainer, TrainingArguments
from transformers.trainer_utils import get_last_checkpoint
from transformers.utils import logging

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))

import faulty

from hf_fashion import backbones, data
from hf_fashion.recipes import classify


def quiet(what: Callable[..., object], *args: object) -> tuple[object, str]:
    """What a function gives, or the error that it raises, and what it printed."""
    said = io.StringIO()
    with contextlib.redirect_stdout(said), contextlib.redirect_stderr(said):
        try:
            return what(*args), said.getvalue()
        except Exception as error:
            return error, said.getvalue()


def kills(place: Path, number: int, workers: int) -> None:
    more = ["--save_steps", "1", "--eval_steps", "1", "--dataloader_num_workers", str(workers)]
    quiet(classify.main, faulty.argv(place, "whole", *more))
    draw = random.Random(0)
    rows: dict[str, list[bool]] = {"in a step": [], "while a checkpoint is written": []}
    for index in range(number):
        name, step, saving = f"killed {index}", draw.randint(2, faulty.STEPS), draw.random() < 0.3
        # In a process of its own, which says nothing.
        code, _ = quiet(faulty.killed, faulty.argv(place, name, *more), step, saving)
        ended, _ = quiet(classify.main, faulty.go_on(place / name))
        same = code == -9 and not isinstance(ended, Exception) and faulty.same_weights(place / "whole", place / name)
        rows[[*rows][saving]].append(same)
        shutil.rmtree(place / name)
    print(f"\nkilled at a random step, {workers} workers   runs   equal to the bit")
    for name, results in rows.items():
        print(f"{name:<36}   {len(results):>4}   {sum(results)}")


def bare(run: Path, arguments: list[str]) -> str:
    """What the bare Trainer does in the same place."""
    dataset, _ = data.load(arguments[3], classify.classify.COLUMNS)
    model, processor = backbones.load_classifier(arguments[1], data.labels(dataset))
    args = TrainingArguments(
        output_dir=str(run), num_train_epochs=3, per_device_train_batch_size=4, use_cpu=True, disable_tqdm=True,
        save_strategy="no", report_to="none", remove_unused_columns=False,
    )  # fmt: skip
    train = classify.classify.prepare(dataset["train"], processor, train=True)
    trainer = Trainer(model=model, args=args, train_dataset=train)
    last = get_last_checkpoint(str(run))
    ended, _ = quiet(lambda: trainer.train(resume_from_checkpoint=last))
    if isinstance(ended, Exception):
        return f"crash: {type(ended).__name__}"
    finite = all(bool(value.isfinite().all()) for value in model.state_dict().values())
    return f"goes on from {Path(str(last)).name}" + ("" if finite else ", ends with NaN weights")


def damage(place: Path) -> None:
    arguments = faulty.argv(place, "unbroken")
    quiet(classify.main, arguments)
    print(f"\n{'damage':<28} {'goes on from':<14} {'it is said':<11} {'equal to the bit':<17} bare Trainer")
    good = 0
    for kind, (change, says) in faulty.DAMAGE.items():
        run = place / "damaged"
        shutil.copytree(place / "unbroken", run)
        change(run / f"checkpoint-{faulty.STEPS}")
        theirs = bare(Path(shutil.copytree(run, place / "theirs")), arguments)
        ended, said = quiet(classify.main, faulty.go_on(run))
        start = next((line.split("/")[-1] for line in said.splitlines() if line.startswith("going on from")), "-")
        told = "passed over" in said and says in said
        same = not isinstance(ended, Exception) and faulty.same_weights(place / "unbroken", run)
        good += told and same
        print(f"{kind:<28} {start:<14} {'yes' if told else 'no':<11} {'yes' if same else 'no':<17} {theirs}")
        shutil.rmtree(run)
        shutil.rmtree(place / "theirs")
    print(f"{good} of {len(faulty.DAMAGE)} passed over, said, and ended as the unbroken run")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=20, help="How many runs are killed.")
    parser.add_argument("--workers", type=int, default=0, help="Processes that load photos.")
    asked = parser.parse_args()
    logging.set_verbosity_error()
    disable_progress_bars()
    with tempfile.TemporaryDirectory() as scratch:
        place = faulty.place(Path(scratch))
        kills(place, asked.kills, asked.workers)
        damage(place)


if __name__ == "__main__":
    main()
