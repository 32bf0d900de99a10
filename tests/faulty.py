"""Runs that are killed, signalled or starved, and checkpoints that are damaged: for the tests and the benchmark."""

import multiprocessing
import os
import signal
from collections.abc import Callable
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from tiny import photos, tiny

from hf_fashion import training
from hf_fashion.recipes import classify
from hf_fashion.training import checkpoints

STEPS = 6  # of the runs below: 2 epochs of 3


def place(folder: Path, net: str = "vit") -> Path:
    """Writes 12, 6 and 6 photos, and a tiny net with dropout."""
    photos(folder / "photos", train=4, validation=2, test=2)
    tiny(net, folder / "net")
    return folder


def argv(place: Path, name: str, *more: str) -> list[str]:
    """The command line of a run of `STEPS` steps, augmented, with a checkpoint every second step."""
    return [
        "--model", str(place / "net"), "--dataset", str(place / "photos"), "--output_dir", str(place / name),
        "--augment", "trivialaugment", "--num_train_epochs", "2", "--per_device_train_batch_size", "4",
        "--learning_rate", "0.01", "--use_cpu", "True", "--disable_tqdm", "True", "--eval_strategy", "steps",
        "--eval_steps", "2", "--save_strategy", "steps", "--save_steps", "2", "--save_total_limit", "9", *more,
    ]  # fmt: skip


def go_on(run: Path) -> list[str]:
    return ["--output_dir", str(run), "--resume_from_checkpoint", "last"]


def same_weights(one: Path, two: Path) -> bool:
    """Whether the models that two runs left are equal to the bit."""
    first, second = (load_file(folder / "model.safetensors") for folder in (one, two))
    return first.keys() == second.keys() and all(torch.equal(first[name], second[name]) for name in first)


def call_at(number: int, what: Callable[[], None]) -> Callable[..., torch.Tensor]:
    """A `training_step` that does something before its n-th call, counted from 1."""
    plain, calls = training.FashionTrainer.training_step, iter(range(1, 10**6))

    def step(trainer, *args, **kwargs):
        if next(calls) == number:
            what()
        return plain(trainer, *args, **kwargs)

    return step


def killed(tokens: list[str], step: int, saving: bool = False) -> int | None:
    """Runs the recipe in a process that is killed (SIGKILL) in a step; gives its exit code.

    Args:
        tokens: Of the command line.
        step: Before the forward pass of this step, counted from 1 in this process.
        saving: In the next checkpoint after that step has begun, when all but its manifest is written.
    """

    def kill(*_):
        os.kill(os.getpid(), signal.SIGKILL)

    def run() -> None:
        def wait_for_checkpoint() -> None:
            checkpoints._told = kill

        training.FashionTrainer.training_step = call_at(step, wait_for_checkpoint if saving else kill)
        classify.main(tokens)

    process = multiprocessing.get_context("fork").Process(target=run)
    process.start()
    process.join(240)
    return process.exitcode


def _bytes(name: str, change: Callable[[bytes], bytes]) -> Callable[[Path], None]:
    def damage(checkpoint: Path) -> None:
        path = checkpoint / name
        path.write_bytes(change(path.read_bytes()))

    return damage


def _without(name: str) -> Callable[[Path], None]:
    return lambda checkpoint: (checkpoint / name).unlink()


def _flip(content: bytes) -> bytes:
    middle = len(content) * 3 // 4
    return content[:middle] + bytes([content[middle] ^ 0x10]) + content[middle + 1 :]


def _nan(checkpoint: Path) -> None:
    weights = load_file(checkpoint / "model.safetensors")
    next(iter(weights.values())).flatten()[0] = float("nan")
    save_file(weights, checkpoint / "model.safetensors", metadata={"format": "pt"})


def _empty(checkpoint: Path) -> None:
    (checkpoint.parent / f"checkpoint-{STEPS + 1}").mkdir()


def _unfinished(checkpoint: Path) -> None:
    half = checkpoint.parent / checkpoints.UNFINISHED / f"checkpoint-{STEPS + 1}"
    half.mkdir(parents=True)
    (half / "model.safetensors").write_bytes((checkpoint / "model.safetensors").read_bytes()[:100])


# What is done to the newest checkpoint or beside it; and what the run that goes on says of it.
DAMAGE: dict[str, tuple[Callable[[Path], None], str]] = {
    "no manifest": (_without("manifest.json"), "no manifest.json"),
    "truncated weights": (_bytes("model.safetensors", lambda content: content[:-1000]), "model.safetensors has"),
    "a flipped bit in the weights": (_bytes("model.safetensors", _flip), "another checksum"),
    "NaN in the weights": (_nan, "model.safetensors is not what was written"),
    "no optimizer.pt": (_without("optimizer.pt"), "no optimizer.pt"),
    "truncated optimizer.pt": (_bytes("optimizer.pt", lambda content: content[: len(content) // 2]), "optimizer.pt"),
    "no scheduler.pt": (_without("scheduler.pt"), "no scheduler.pt"),
    "no trainer_state.json": (_without("trainer_state.json"), "no trainer_state.json"),
    "broken trainer_state.json": (_bytes("trainer_state.json", lambda content: content[:-20]), "trainer_state.json"),
    "no rng_state.pth": (_without("rng_state.pth"), "no rng_state.pth"),
    "an empty folder": (_empty, f"checkpoint-{STEPS + 1}: it has no"),
    "a half-written folder": (_unfinished, "cut off"),
}
