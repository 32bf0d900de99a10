"""What the frozen first stages of a net say of each photo, computed once: the rest learns on it, to the same bits.

With the first stages frozen (`--freeze stages:N`), and photos that are shown alike in every epoch, the first module
that learns is given the same in every epoch: the activations at the cut. Where that module is, is found by running the
net once, and that nothing else passes the cut is proven by a step of training both ways, before it is relied on.
"""

import math
import shutil
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple

import numpy as np
import torch
from accelerate.utils import broadcast_object_list
from datasets import Dataset
from torch import nn
from transformers import PreTrainedModel, Trainer, TrainingArguments

from hf_fashion import cache
from hf_fashion.training.features import KEY, Kept, about, in_precision, pixels_of

# numpy has no bfloat16: its bits are kept as whole numbers.
_KEPT_AS = {torch.float32: torch.float32, torch.float16: torch.float16, torch.bfloat16: torch.int16}
_SEEN, _PROVEN = 2, 3  # photos: what has so many rows with both numbers is told of photos
_DISK = 200e6  # bytes/s that the disk of a small machine reads and writes


class NoCut(Exception):
    """Nothing that could be kept parts the frozen stages from what learns; says why, in words."""


class Cut(NamedTuple):
    """The place where a picture leaves the frozen stages of a net."""

    name: str  # of the first module that learns
    module: nn.Module
    argument: int | str  # of that module, which is the activations (n, ...)
    order: tuple[int, ...]  # dimensions as they lie in memory: the layout, too, decides what a kernel does
    dtype: torch.dtype
    before: list[tuple[nn.Module, Any]]  # modules that need not run, and what they gave for `_SEEN` photos


def cut_of(model: PreTrainedModel, pixels: torch.Tensor) -> Cut:
    """The first module, in the order of calls, of which all parameters learn, and what is called before it.

    Args:
        model: A net with frozen parameters.
        pixels: `_SEEN` pictures of any content (n, 3, height, width).

    Raises:
        NoCut: There is none, or more than one tensor with a row for each photo passes it.
    """
    calls: Counter[nn.Module] = Counter()
    found: list[tuple[nn.Module, tuple[Any, ...], dict[str, Any]]] = []
    inside: list[nn.Module] = []  # a module of which nothing learns: those within it go with it
    before: list[tuple[nn.Module, Any]] = []

    def enter(module: nn.Module, args: tuple[Any, ...], named: dict[str, Any]) -> None:
        calls[module] += 1
        if found or inside:
            return
        states = {own.requires_grad for own in module.parameters()}
        if states == {True}:
            found.append((module, args, named))
        elif True not in states:
            inside.append(module)

    def leave(module: nn.Module, _args: Any, given: Any) -> None:
        if inside and inside[-1] is module:
            before.append((inside.pop(), given))

    hooks = [hook for module in model.modules() for hook in (
        module.register_forward_pre_hook(enter, with_kwargs=True), module.register_forward_hook(leave),
    )]  # fmt: skip
    try:
        with torch.no_grad():
            model(pixel_values=pixels)
    finally:
        for hook in hooks:
            hook.remove()

    names = {module: name for name, module in model.named_modules()}
    frozen = [module for module, _ in before if any(True for _ in module.parameters())]
    if not found or not frozen:
        raise NoCut("no frozen stage comes before what learns")
    [(first, args, named)] = found
    several = [names[module] for module in (first, *frozen) if calls[module] > 1]
    if several:
        raise NoCut(f"{several[0]} runs more than once for a photo")
    told: list[tuple[int | str, Any]] = [*enumerate(args), *named.items()]
    passing = [(place, value) for place, value in told if _is_of_photos(value, _SEEN)]
    if len(passing) != 1:
        raise NoCut(f"{names[first]} is given {len(passing)} tensors of a photo, not one")
    [(place, value)] = passing
    if value.dtype not in _KEPT_AS:
        raise NoCut(f"{names[first]} is given {value.dtype}")
    order = (0, *sorted(range(1, value.ndim), key=lambda dimension: -value.stride(dimension)))
    # Of those without parameters (a maximum, a rotation of positions), what is told of no photo is computed as ever.
    skipped = [
        (module, given) for module, given in before
        if calls[module] == 1 and (module in frozen or _is_of_photos(given, _SEEN))
    ]  # fmt: skip
    return Cut(names[first], first, place, order, value.dtype, skipped)


def _is_of_photos(value: Any, count: int) -> bool:
    return isinstance(value, torch.Tensor) and value.ndim > 0 and len(value) == count


def _hollow(given: Any, count: int) -> Any:
    """What a module gives for `count` photos, with NaN for all that is told of them; it takes no memory."""
    if isinstance(given, torch.Tensor):
        if not _is_of_photos(given, _SEEN):
            return given
        return given.new_full((), math.nan if given.is_floating_point() else 0).expand(count, *given.shape[1:])
    if isinstance(given, Mapping):  # a ModelOutput
        return type(given)(**{name: _hollow(value, count) for name, value in given.items()})
    if type(given) in (tuple, list):
        return type(given)(_hollow(value, count) for value in given)
    return given


class Activations:
    """The activations of a net at the cut between its frozen stages and those that learn.

    Args:
        model: A classifier whose first stages are frozen.
        processor: Its image processor.
        args: Of the training: precision and device are theirs.
        picture: Shape of what the net sees (3, height, width).

    Attributes:
        cut: Where they are taken.
        seconds: That a photo takes until the cut, and in a whole step, as `misses` measured them.
        size: Bytes that are kept of a photo, as `misses` found.
        kept: Those of any photos (rows, ...), with dimensions as `cut.order` has them, in the precision that the net
            gives them in; bfloat16 as the whole numbers of the same bits.

    Raises:
        NoCut: See `cut_of`.
    """

    def __init__(self, model: PreTrainedModel, processor: Any, args: TrainingArguments, picture: torch.Size) -> None:
        self.model, self.args, self._picture = model, args, picture
        nn.Module.to(model, memory_format=torch.channels_last)  # as the Trainer will have it
        noise = torch.rand(_SEEN, *picture, generator=torch.Generator().manual_seed(0))
        with in_precision(model, args, train=True), _buffers_as_they_are(model):
            self.cut = cut_of(model, noise.to(args.device))
        tensors: dict[str, torch.Tensor] = {
            name: value for name, value in model.named_parameters() if not value.requires_grad
        }
        for place, (module, _) in enumerate(self.cut.before):
            tensors |= {f"{place} {name}": value for name, value in module.named_buffers()}
        told = about(model, processor, args, tensors)
        self.kept = Kept(lambda pixels: self.stored(self.seen(pixels)), told | {"cut": self.cut.name}, args)
        self.seconds, self.size = (0.0, 1.0), 0
        self._now: torch.Tensor | None = None  # what the cut is given in place of what comes before it

    def seen(self, pixels: torch.Tensor) -> torch.Tensor:
        """What passes the cut for a batch of pictures (n, 3, height, width)."""
        found: list[torch.Tensor] = []

        def reached(_: nn.Module, args: tuple[Any, ...], named: dict[str, Any]) -> None:
            found.append(self._of(args, named))
            raise _Reached

        hook = self.cut.module.register_forward_pre_hook(reached, with_kwargs=True)
        try:
            with torch.no_grad(), in_precision(self.model, self.args):
                self.model(pixel_values=pixels.to(self.args.device))
        except _Reached:
            pass
        finally:
            hook.remove()
        return found[0]

    def _of(self, args: tuple[Any, ...], named: dict[str, Any]) -> torch.Tensor:
        place = self.cut.argument
        return args[place] if isinstance(place, int) else named[place]

    def stored(self, seen: torch.Tensor) -> np.ndarray:
        """Activations as they are kept."""
        return seen.permute(self.cut.order).contiguous().view(_KEPT_AS[self.cut.dtype]).cpu().numpy()

    def restored(self, kept: torch.Tensor) -> torch.Tensor:
        """What was kept, as activations: the same bits in the same layout."""
        return kept.to(self.args.device).view(self.cut.dtype).permute(*np.argsort(self.cut.order).tolist())

    @contextmanager
    def taken(self, _trainer: Trainer | None = None) -> Iterator[None]:
        """While it lasts, the net takes `features`, which are activations, where it is given no pictures."""
        before = [(module, module.__dict__.get("forward"), module.forward, given) for module, given in self.cut.before]

        def enter(_: nn.Module, args: tuple[Any, ...], named: dict[str, Any]) -> tuple[Any, dict[str, Any]]:
            told = named.get(KEY)
            # Kept until the next batch: with activation checkpointing the backward pass may come by the cut again.
            self._now = None if told is None else self.restored(told)
            if told is None:
                return args, named
            rest = {name: value for name, value in named.items() if name not in (KEY, "pixel_values")}
            nothing = torch.full((), math.nan, device=told.device).expand(len(told), *self._picture)
            return args, {**rest, "pixel_values": nothing}

        def go_on(_: nn.Module, args: tuple[Any, ...], named: dict[str, Any]) -> tuple[Any, dict[str, Any]]:
            place = self.cut.argument
            if self._now is None:
                return args, named
            if isinstance(place, int):
                return (*args[:place], self._now, *args[place + 1 :]), named
            return args, {**named, place: self._now}

        def skipped(forward: Callable[..., Any], given: Any) -> Callable[..., Any]:
            def skip(*args: Any, **named: Any) -> Any:
                return forward(*args, **named) if self._now is None else _hollow(given, len(self._now))

            return skip

        hooks = [
            self.model.register_forward_pre_hook(enter, with_kwargs=True),
            self.cut.module.register_forward_pre_hook(go_on, with_kwargs=True),
        ]
        for module, _, forward, given in before:
            module.forward = skipped(forward, given)
        try:
            yield
        finally:
            self._now = None
            for hook in hooks:
                hook.remove()
            for module, own, *_ in before:
                del module.forward
                if own is not None:
                    module.forward = own

    def misses(self, pixels: torch.Tensor) -> str:
        """What keeps the net from learning on activations as it does on pictures, in words; empty when nothing does.

        Args:
            pixels: Pictures (n, 3, height, width), of another number than the cut was looked for with.
        """
        told = torch.from_numpy(self.stored(self.seen(pixels)))
        plain = self._step(pixels=pixels)
        self.size = told.nbytes // len(told)
        self.seconds = plain.seconds[0] / len(pixels), plain.seconds[1] / len(pixels)
        if plain.drawn:
            return f"something before {self.cut.name} is drawn at random while it learns"
        if not torch.equal(plain.given, self.restored(told)):
            return f"what comes before {self.cut.name} is another while it learns"
        read_elsewhere = f"{self.cut.name} is not all that reads what comes before it"
        try:
            with self.taken():
                again = self._step(told=told)
        except RuntimeError:  # a net that computes with what was left out
            return read_elsewhere
        # Sums on a GPU may be made in another order each time.
        alike = torch.equal if self.args.device.type == "cpu" else torch.allclose
        same = torch.equal(plain.logits, again.logits) and all(
            one is other if one is None or other is None else alike(one, other)
            for one, other in zip(plain.gradients, again.gradients, strict=True)
        )
        return "" if same else read_elsewhere

    def _step(self, pixels: torch.Tensor | None = None, told: torch.Tensor | None = None) -> "_Step":
        device, learning = self.args.device, [own for own in self.model.parameters() if own.requires_grad]
        shown = {"pixel_values": pixels.to(device)} if pixels is not None else {KEY: told}
        reached: list[tuple[torch.Tensor, list[torch.Tensor], float]] = []

        def at_cut(_: nn.Module, args: tuple[Any, ...], named: dict[str, Any]) -> None:
            reached.append((self._of(args, named), _random_states(device), _seconds(device)))

        hook = self.cut.module.register_forward_pre_hook(at_cut, with_kwargs=True)
        try:
            with in_precision(self.model, self.args, train=True), _buffers_as_they_are(self.model):
                torch.manual_seed(0)
                states, began = _random_states(device), _seconds(device)
                logits = self.model(**shown).logits
                gradients = torch.autograd.grad(logits.float().square().mean(), learning, allow_unused=True)
                ended = _seconds(device)
        finally:
            hook.remove()
        [(given, then, at)] = reached
        drawn = any(not torch.equal(one, other) for one, other in zip(states, then, strict=True))
        return _Step(logits.detach(), gradients, given.detach(), drawn, (at - began, ended - began))

    @property
    def words(self) -> str:
        """What they are called, and what they spare."""
        until_cut, step = self.seconds
        spared = f"{self.size / 1000:.3g} KB a photo, some {until_cut / step:.0%} of a step"
        return f"activations before {self.cut.name} ({spared})"


class _Step(NamedTuple):
    """One step of training, without its update."""

    logits: torch.Tensor
    gradients: Sequence[torch.Tensor | None]
    given: torch.Tensor  # at the cut
    drawn: bool  # whether something before the cut was drawn at random
    seconds: tuple[float, float]  # until the cut, and in all


class _Reached(Exception):
    """A picture is at the cut: what comes behind it need not run."""


def _random_states(device: torch.device) -> list[torch.Tensor]:
    return [torch.get_rng_state(), *([torch.cuda.get_rng_state(device)] if device.type == "cuda" else [])]


def _seconds(device: torch.device) -> float:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter()


@contextmanager
def _buffers_as_they_are(model: nn.Module) -> Iterator[None]:
    """Batch norms that learn count what passes within as if it had not been."""
    before = [(buffer, buffer.clone()) for buffer in model.buffers()]
    try:
        yield
    finally:
        with torch.no_grad():
            for buffer, told in before:
                buffer.copy_(told)


def held_for(
    model: PreTrainedModel,
    processor: Any,
    args: TrainingArguments,
    train: Dataset,
    evaluated: Dataset,
    *,
    opened: bool = True,
) -> tuple[Activations | None, dict[str, np.ndarray], str]:
    """The activations of the photos of a training, where the net can learn on them and it pays.

    Args:
        model: See `Activations`.
        processor: See there.
        args: See there.
        train: Rows of the training split as of `examples.of_evaluation`.
        evaluated: Those of validation.
        opened: Whether photos would be opened in every epoch without them.

    Returns:
        What computes them, and name of the split -> activations as they are kept; or None, nothing, and the reason in
        words.
    """  # fmt: skip
    if args.torch_compile or args.fsdp or args.deepspeed or args.n_gpu > 1:
        return None, {}, "the net is compiled, or laid over several devices"
    rows = range(min(len(train), _PROVEN))
    pixels = pixels_of(train, rows)[[row % len(rows) for row in range(_PROVEN)]]
    try:
        made = Activations(model, processor, args, pixels.shape[1:])
    except NoCut as error:
        return None, {}, str(error)
    wanted = {
        "train": (train, args.per_device_train_batch_size, False),
        "validation": (evaluated, args.per_device_eval_batch_size, True),
    }
    names = {split: made.kept.name(*of) for split, of in wanted.items()}
    reason = made.misses(pixels)
    if not reason:
        began = time.perf_counter()
        pixels_of(train, rows)
        opening = (time.perf_counter() - began) / len(rows) if opened else 0.0
        there = all(cache.held(name) is not None for name in names.values())
        reason = _dear(
            made.size, len(train), len(evaluated), opening + made.seconds[0], _epochs(args, len(train)), there
        )
    # Each process has measured for itself; what the first one says holds for all.
    if reason := broadcast_object_list([reason])[0]:
        return None, {}, reason
    return made, {split: made.kept.of(*of, name=names[split]) for split, of in wanted.items()}, ""


def _epochs(args: TrainingArguments, rows: int) -> float:
    if args.max_steps <= 0:
        return float(args.num_train_epochs)
    return args.max_steps * args.train_batch_size * args.gradient_accumulation_steps * args.world_size / rows


def _dear(size: int, rows: int, evaluated: int, spared: float, epochs: float, there: bool) -> str:
    """Why activations are not worth what they take, in words; empty when they are.

    Args:
        size: Bytes for a photo.
        rows: Photos of the training.
        evaluated: Photos of validation.
        spared: Seconds that a photo takes until the cut, in each epoch.
        epochs: Of the training.
        there: Whether they are kept already.
    """
    needed = size * (rows + evaluated)
    place = cache.folder()
    free = shutil.disk_usage(next(one for one in (place, *place.absolute().parents) if one.exists())).free
    room = cache.allowed() if there else min(cache.allowed(), free)
    if needed > room:
        return (
            f"activations of {rows + evaluated} photos would take {needed / 2**30:.2g} GB, and the cache {place} has "
            f"room for {room / 2**30:.2g} (HF_FASHION_CACHE_GB)"
        )
    read, write = epochs * size / _DISK, 0 if there else size / _DISK
    gained = spared * (epochs if there else epochs - 1)
    if gained > read + write:
        return ""
    return (
        f"it does not pay, with {size / 2**20:.2g} MB a photo: in {epochs:.3g} epochs some {gained * rows:.2g} s less "
        f"of computing, and {(read + write) * rows:.2g} s more at the disk"
    )
