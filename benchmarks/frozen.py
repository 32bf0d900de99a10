"""A head on a frozen backbone, ten epochs: the bare Trainer runs the backbone in each, ours once.

    python benchmarks/frozen.py --dataset clothing --photos 256     # a folder that `data.load` reads; else the sample
    python benchmarks/frozen.py --model runs/mine --rounds 7

Peer: `transformers.Trainer` on the photos of a `datasets.Dataset`, opened and prepared by the checkpoint's image
processor in each epoch, the backbone frozen and in eval mode. Ours: the same Trainer, settings and order of rows, on
features (`training.features`). Each side runs in a process of its own, in alternating order; hashing and writing are
part of ours. Gate: the head's weights are the same to the bit, or the ratio is void. `again` is a second training on
the features that are there, with another learning rate, as in a sweep. `half` is ours in bfloat16 (the recipe's
`--bf16 True`, which it takes by itself for nets where that was measured to help), against the peer in full precision;
its gate is the accuracy on the photos of validation and test, measured in full precision: within 0.2 points.
"""

import argparse
import contextlib
import hashlib
from pathlib import Path

import lines
import trainings

SIDES = ("peer", "ours", "again", "half")


def train(side: str, args: argparse.Namespace) -> None:
    """One training; prints what it took, and a hash of the head."""
    import torch
    from transformers import Trainer, default_data_collator, set_seed

    from hf_fashion import backbones, checks, data
    from hf_fashion.tasks import classify
    from hf_fashion.training import features
    from hf_fashion.training.losses import classification_loss

    torch.set_num_threads(1)
    dataset, report = data.load(args.dataset, classify.COLUMNS)
    checks.check(dataset, report)
    rows = dataset["train"].shuffle(seed=0).select(range(min(args.photos, len(dataset["train"]))))
    set_seed(0)
    names = rows.features["label"].names
    net, processor = backbones.load_classifier(args.model, names, freeze="backbone", from_scratch=args.from_scratch)
    net = net.to(memory_format=torch.channels_last)
    rate = 3e-3 if side == "again" else 1e-3
    settings = trainings.settings(args.folder, epochs=args.epochs, rate=rate, bf16=side == "half")
    prepared = classify.prepare(rows, processor)
    start = trainings.clock()
    held, seen = None, None
    if side != "peer":
        held = features.Features(net, processor, settings)
        seen = held.kept.of(prepared, 32, in_order=False)
    trainer = Trainer(
        model=net, args=settings, data_collator=default_data_collator, compute_loss_func=classification_loss(),
        train_dataset=prepared if seen is None else classify.prepare(rows, processor, features=seen),
    )  # fmt: skip
    with contextlib.nullcontext() if held is None else held.taken(trainer):
        trainer.train()
    told = trainings.taken(start)
    [head] = backbones.freezing.head_layers(net)
    weights = b"".join(value.numpy().tobytes() for value in head.state_dict().values())
    told |= {"head": hashlib.blake2b(weights).hexdigest(), "photos": len(rows)}
    if side in ("peer", "half"):
        told |= trainings.accuracy(trainer, processor, dataset)
    trainings.tell(told)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="efficientnet-lite0")
    parser.add_argument("--from_scratch", action="store_true", help="Weights at random, where none can be had.")
    parser.add_argument("--dataset", default="sample")
    parser.add_argument("--photos", type=int, default=256)
    parser.add_argument("--epochs", type=int, default=10)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--json", type=Path, help="Write the figures here, too.")
    parser.add_argument("--side", choices=SIDES, help=argparse.SUPPRESS)
    parser.add_argument("--folder", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.side:
        train(args.side, args)
        return
    words = trainings.words_of(args, "model", "dataset", "photos", "epochs")
    told = trainings.rounds(SIDES, words + ["--from_scratch"] * args.from_scratch, args.rounds)
    same = all(one["head"] == other["head"] for one, other in zip(told["peer"], told["ours"], strict=True))
    print(f"{args.model}, {told['peer'][0]['photos']} photos, {args.epochs} epochs, {args.rounds} rounds, one thread")
    exact = f"head weights the same to the bit: {'yes' if same else 'no'}"
    gates = {"ours": (same, exact), "again": (same, exact), "half": trainings.close(told)}
    print(f"{exact}\nin bfloat16: {gates['half'][1]}")
    trainings.show(told, gates)
    if args.json:
        net = "ViT-S" if "vit_small" in args.model else args.model
        names = {
            "ours": "head on a frozen backbone", "again": "the same again, on its features",
            "half": "head on features in bfloat16",
        }  # fmt: skip
        names = {side: f"{name}, {net}, {args.epochs} epochs" for side, name in names.items()}
        lines.write(args.json, trainings.told_lines(told, gates, names, "Trainer, the backbone in each step"))


if __name__ == "__main__":
    main()
