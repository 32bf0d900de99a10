"""A net whose first stages are frozen, ten epochs: the bare Trainer runs them in each, ours once.

    python benchmarks/partial.py --dataset clothing --photos 64    # a folder that `data.load` reads; else the sample
    python benchmarks/partial.py --nets vit-s:11 swin-tiny:3 --epochs 5 --rounds 3

Peer: `transformers.Trainer` on the photos of a `datasets.Dataset`, opened and prepared by the checkpoint's image
processor in each epoch, the first stages frozen and in eval mode. Ours: the same Trainer, settings and order of rows,
on the activations behind these stages (`training.activations`). Each side runs in a process of its own, in alternating
order, whole trainings: opening photos, proving the cut, computing, writing and reading activations are part of ours.
Gate: all weights of the net are the same to the bit, or the ratio is void. `again` is a second training on the
activations that are there, with another learning rate, as in a sweep. `half` is ours in bfloat16, for nets
of which the recipe takes it by itself, against the peer in full precision; its gate is the accuracy on the photos of
validation and test, measured in full precision: within 0.2 points. Timm's nets are drawn at random:
the time of a step does not depend on their weights.
"""

import argparse
import contextlib
import hashlib
from pathlib import Path

import lines
import trainings

SIDES = ("peer", "ours", "again", "half")
HALF = ("vit-s", "swin-tiny", "convnext-tiny")  # nets that the recipe trains in bfloat16 where a CPU has it
# Name: what it is called, and a checkpoint; a timm architecture is drawn at random, which needs no network.
NETS = {
    "vit-s": ("ViT-S", "timm/vit_small_patch16_224"),
    "swin-tiny": ("Swin-T", "timm/swin_tiny_patch4_window7_224"),
    "convnext-tiny": ("ConvNeXt-T", "timm/convnext_tiny"),
    "resnet50": ("ResNet-50", "timm/resnet50"),
    "efficientnet-lite0": ("EfficientNet-Lite0", "efficientnet-lite0"),
}


def train(side: str, net: str, args: argparse.Namespace) -> None:
    """One training; prints what it took, and a hash of the net."""
    import torch
    from transformers import Trainer, default_data_collator, set_seed

    from hf_fashion import backbones, checks, data
    from hf_fashion.tasks import classify
    from hf_fashion.training import activations
    from hf_fashion.training.losses import classification_loss

    torch.set_num_threads(1)
    dataset, report = data.load(args.dataset, classify.COLUMNS)
    checks.check(dataset, report)
    rows = dataset["train"].shuffle(seed=0).select(range(min(args.photos, len(dataset["train"]))))
    few = dataset["validation"].select(range(1))  # neither side is measured on photos here
    set_seed(0)
    name, _, stages = net.partition(":")
    checkpoint = NETS[name][1]
    model, processor = backbones.load_classifier(
        checkpoint, rows.features["label"].names, from_scratch=checkpoint.startswith("timm/")
    )
    backbones.freeze(model, f"stages:{stages}")
    model = model.to(memory_format=torch.channels_last)
    rate = 3e-4 if side == "again" else 1e-4
    settings = trainings.settings(args.folder, epochs=args.epochs, rate=rate, bf16=side == "half")
    prepared = classify.prepare(rows, processor)
    start = trainings.clock()
    held, seen = None, {}
    if side != "peer":
        held, seen, reason = activations.held_for(
            model, processor, settings, prepared, classify.prepare(few, processor)
        )
        if held is None:
            raise SystemExit(f"{net}: {reason}")
    trainer = Trainer(
        model=model, args=settings, data_collator=default_data_collator, compute_loss_func=classification_loss(),
        train_dataset=classify.prepare(rows, processor, features=seen["train"]) if seen else prepared,
    )  # fmt: skip
    with contextlib.nullcontext() if held is None else held.taken(trainer):
        trainer.train()
    told = trainings.taken(start)
    weights = hashlib.blake2b()
    for value in model.state_dict().values():
        weights.update(value.contiguous().numpy().tobytes())
    size = seen["train"].nbytes / len(rows) if seen else 0
    told |= {"net": weights.hexdigest(), "photos": len(rows), "bytes": size}
    if name in HALF and side in ("peer", "half"):
        told |= trainings.accuracy(trainer, processor, dataset)
    trainings.tell(told)


def measured(net: str, args: argparse.Namespace) -> list[dict]:
    name, _, stages = net.partition(":")
    sides = [side for side in SIDES if side != "half" or name in HALF]
    words = ["--nets", net, *trainings.words_of(args, "dataset", "photos", "epochs")]
    told = trainings.rounds(sides, words, args.rounds)
    same = all(one["net"] == other["net"] for one, other in zip(told["peer"], told["ours"], strict=True))
    title = f"{NETS[name][0]}, {stages} stages frozen, {args.epochs} epochs"
    photos, size = told["peer"][0]["photos"], told["ours"][0]["bytes"]
    print(f"{title}, {photos} photos, {args.rounds} rounds, one thread; {size / 1000:.0f} KB a photo are kept")
    exact = f"all weights the same to the bit: {'yes' if same else 'no'}"
    gates = dict.fromkeys(("ours", "again"), (same, exact))
    print(exact)
    if "half" in sides:
        gates["half"] = trainings.close(told)
        print(f"in bfloat16: {gates['half'][1]}")
    trainings.show(told, gates)
    names = {"ours": title, "again": f"{title}, again on what was kept", "half": f"{title}, in bfloat16"}
    return trainings.told_lines(told, gates, names, "Trainer, the frozen stages in each step")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--nets", nargs="+", default=["vit-s:9", "vit-s:11", "efficientnet-lite0:5"],
                        help=f"NAME:STAGES; names are {', '.join(NETS)}.")  # fmt: skip
    parser.add_argument("--dataset", default="sample")
    parser.add_argument("--photos", type=int, default=64)
    parser.add_argument("--epochs", type=int, default=10)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--json", type=Path, help="Write the figures here, too.")
    parser.add_argument("--side", choices=SIDES, help=argparse.SUPPRESS)
    parser.add_argument("--folder", help=argparse.SUPPRESS)
    args = parser.parse_args()
    for net in args.nets:
        name, _, stages = net.partition(":")
        if name not in NETS or not stages.isdecimal():
            raise SystemExit(f"--nets {net}: expected NAME:STAGES, as vit-s:9, with NAME of {', '.join(NETS)}")
    if args.side:
        train(args.side, args.nets[0], args)
        return
    told = [line for net in args.nets for line in measured(net, args)]
    if args.json:
        lines.write(args.json, told)


if __name__ == "__main__":
    main()
