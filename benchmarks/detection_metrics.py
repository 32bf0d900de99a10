"""COCO's figures of boxes: the same as pycocotools' to 1e-6, how good their intervals are, time and memory.

    OMP_NUM_THREADS=1 python benchmarks/detection_metrics.py                    # random boxes: half an hour
    OMP_NUM_THREADS=1 python benchmarks/detection_metrics.py --street FOLDER    # and the boxes of real photos, moved
    OMP_NUM_THREADS=1 python benchmarks/detection_metrics.py --only equality    # seconds

`--street` is a folder of parquet files with `objects` (bbox xywh, category, area); no photo is read. Every time is
that of a process of its own, in alternating order, from flat arrays to the twelve figures (making the libraries' dicts
counts for all); CPU time. The gate beside a ratio is the largest difference of the twelve figures to pycocotools.
Peak memory is the process's, with Python, numpy and the boxes.
"""

import argparse
import contextlib
import io
import json
import resource
import statistics
import subprocess
import sys
import time
from pathlib import Path

import lines
import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests"))

from random_boxes import random_boxes

from hf_fashion import metrics
from hf_fashion.metrics.coco import FIGURES, figures_of_draws
from hf_fashion.metrics.intervals import draw_rows
from hf_fashion.metrics.resampling import resample

GATE = 1e-6
CLASSES = 46  # as many as Fashionpedia has
ENGINES = ("pycocotools", "faster-coco-eval", "hf_fashion", "hf_fashion, intervals of 200 draws")


def figures(engine: str, predictions, references, labels: list[str]) -> list[float]:
    """The twelve figures, then AP by class; NaN where one is not defined."""
    if engine.startswith("hf_fashion"):
        draws = 200 if "200" in engine else 0
        found = metrics.detection(predictions, references, labels, n_resamples=draws)
        names = [*FIGURES, *(f"ap/{label}" for label in labels)]
        return [np.nan if found[name] is None else found[name] for name in names]
    if engine == "pycocotools":
        from pycocotools.coco import COCO
        from pycocotools.cocoeval import COCOeval
    else:
        from faster_coco_eval import COCO
        from faster_coco_eval import COCOeval_faster as COCOeval

    def made(part, **more):
        columns = {"image_id": part.image, "bbox": part.box, "category_id": part.label, **more}
        rows = zip(*(column.tolist() for column in columns.values()), strict=True)
        coco = COCO()
        coco.dataset = {
            "images": [{"id": number} for number in range(references.n_images)],
            "categories": [{"id": number, "name": name} for number, name in enumerate(labels)],
            "annotations": [dict(zip(columns, row, strict=True), id=number) for number, row in enumerate(rows, 1)],
        }
        coco.createIndex()
        return coco

    with contextlib.redirect_stdout(io.StringIO()):
        truth = made(references, area=references.area, iscrowd=references.crowd.astype(int))
        area = predictions.box[:, 2] * predictions.box[:, 3]
        said = made(predictions, area=area, score=predictions.score, iscrowd=np.zeros(len(predictions), dtype=int))
        evaluated = COCOeval(truth, said, "bbox")
        evaluated.evaluate()
        evaluated.accumulate()
        evaluated.summarize()
    by_class = evaluated.eval["precision"][:, :, :, 0, -1].mean(axis=(0, 1))
    return [np.nan if value < 0 else float(value) for value in (*evaluated.stats, *by_class)]


def street(folder: str):
    """The boxes of real photos; what is said of them are the same ones twice, moved, some with another class."""
    from datasets import load_dataset

    files = sorted(map(str, Path(folder).glob("*.parquet")))
    rows = load_dataset("parquet", data_files=files, split="train").select_columns(["objects"])
    labels = rows.features["objects"]["category"].feature.names
    objects = rows["objects"][:]
    references = metrics.Annotations.of_images(
        [{"boxes": one["bbox"], "labels": one["category"], "area": one["area"]} for one in objects]
    )
    rng = np.random.default_rng(0)
    source = np.repeat(np.arange(len(references)), 2)
    n = len(source)
    moved = rng.choice([0.02, 0.08, 0.25], (n, 1)) * rng.normal(size=(n, 4))
    box = references.box[source] + moved * np.tile(references.box[source][:, 2:], 2)
    box[:, 2:] = np.maximum(box[:, 2:], 4)
    label = np.where(rng.random(n) < 0.85, references.label[source], rng.integers(0, len(labels), n))
    score = rng.random(n).astype(np.float16)  # with ties
    return metrics.Detections(references.image[source], box, score, label), references, labels


def difference(one: list[float], other: list[float]) -> float:
    """The largest one; infinite where one is defined and the other is not."""
    a, b = np.array(one), np.array(other)
    return float(np.nanmax(np.abs(a - b))) if (np.isnan(a) == np.isnan(b)).all() else float("inf")


def passed(gap: float) -> str:
    return f"{gap:.0e}" if gap <= GATE else f"{gap:.0e} (void: above {GATE:.0e})"


def equality(folder: str | None) -> None:
    sets = {
        "random, crowds": random_boxes(300, 6, 40),
        "random, tied scores": random_boxes(300, 6, 40, ties=True, seed=1),
        "random, 100 a photo and class": random_boxes(20, 2, 150, seed=2),
    }
    if folder:
        sets["real photos, boxes moved"] = street(folder)
    print(
        "| boxes | photos | there | said | map | largest difference: figures, AP by class |\n|---|---|---|---|---|---|"
    )
    for name, (predictions, references, labels) in sets.items():
        theirs = figures("pycocotools", predictions, references, labels)
        ours = figures("hf_fashion", predictions, references, labels)
        gaps = [passed(difference(theirs[part], ours[part])) for part in (slice(12), slice(12, None))]
        counts = f"{references.n_images} | {len(references)} | {len(predictions)}"
        print(f"| {name} | {counts} | {ours[0]:.3f} | {', '.join(gaps)} |", flush=True)
    if not folder:
        print("left out: real boxes, which need --street")


def alone(engine: str, photos: int, said: int) -> None:
    """What the process of one measurement does: its time, memory and figures, as JSON."""
    boxes = random_boxes(photos, CLASSES, said)
    before = time.process_time(), time.perf_counter()
    found = figures(engine, *boxes)
    taken = time.process_time() - before[0], time.perf_counter() - before[1]
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    print(json.dumps({"cpu": taken[0], "wall": taken[1], "peak": peak, "figures": found[:12]}))


def measured(engine: str, photos: int, said: int) -> dict:
    code = f"import detection_metrics; detection_metrics.alone({engine!r}, {photos}, {said})"
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=Path(__file__).parent, check=True, capture_output=True, text=True
    )
    return json.loads(done.stdout)


def times(photos: int, said: int, rounds: int, told: Path | None = None) -> None:
    runs: dict[str, list[dict]] = {engine: [] for engine in ENGINES}
    for number in range(rounds):
        for engine in ENGINES if number % 2 else ENGINES[::-1]:
            runs[engine].append(measured(engine, photos, said))
    print(f"\n{photos} photos, {said} boxes said of each, {CLASSES} classes; {rounds} rounds")
    print("| by | CPU s, median | min to max | pycocotools takes | peak GB | difference |\n|---|---|---|---|---|---|")
    base = statistics.median(run["cpu"] for run in runs["pycocotools"])
    for engine, found in runs.items():
        cpu = [run["cpu"] for run in found]
        gap = max(difference(run["figures"], runs["pycocotools"][0]["figures"]) for run in found)
        peak, median = max(run["peak"] for run in found), statistics.median(cpu)
        print(
            f"| {engine} | {median:.1f} | {min(cpu):.1f} to {max(cpu):.1f} | {base / median:.1f}x as long "
            f"| {peak:.2f} | {passed(gap)} |"
        )
    if told:
        ours = runs["hf_fashion"]
        gap = max(difference(run["figures"], runs["pycocotools"][0]["figures"]) for run in ours)
        peer, taken = ([run["cpu"] for run in of] for of in (runs["pycocotools"], ours))
        lines.write(
            told,
            [lines.line(f"the 12 figures of COCO, {photos} photos", peer, taken, unit="CPU s", passed=gap <= GATE,
                        gate=f"differ by {gap:.0e} (up to {GATE:.0e})", against="pycocotools")],
        )  # fmt: skip


def memory(photos: int, said: int) -> None:
    print(f"\n{photos} photos, {said} boxes said of each: {photos * said:,} boxes")
    print("| by | peak GB | CPU s | difference |\n|---|---|---|---|")
    runs = {engine: measured(engine, photos, said) for engine in ENGINES[1:]}
    for engine, run in runs.items():
        gap = passed(difference(run["figures"], runs["faster-coco-eval"]["figures"]))
        print(f"| {engine} | {run['peak']:.2f} | {run['cpu']:.0f} | {gap} to faster-coco-eval |")


def coverage(repetitions: int, many: int = 4000) -> None:
    """How often an interval from some photos holds the figure of all that they are drawn from.

    The detector is made up, and surer where it is right. `ours` is the percentile interval, that of a mean over
    classes shifted to the figure; `pivotal` is the percentile one mirrored at the figure.
    """
    said, truth, labels = random_boxes(many, 9, 15)
    right = metrics.assign_errors(said, truth).kind == -1
    said.score = np.random.default_rng(0).normal(size=len(said)) + 2 * right
    whole = figures_of_draws(resample(said, truth, len(labels), np.ones((1, many))), labels)
    print(f"\n{repetitions} times some of {many} photos, {len(labels) - 1} classes; how often it holds the truth")
    print("| photos | figure | of all | of some: too high by | ours | plain | pivotal | width |\n" + "|---" * 8 + "|")
    for photos in (80, 175):
        rows: dict[str, list[list[float]]] = {"map": [], "map_50": [], "mar_100": [], "ap/<label>": []}
        for number in range(repetitions):
            drawn = np.random.default_rng(number).choice(many, photos, replace=False)
            place = np.full(many, -1)
            place[drawn] = np.arange(photos)
            some, there = said[place[said.image] >= 0], truth[place[truth.image] >= 0]
            some.image, there.image, there.n_images = place[some.image], place[there.image], photos
            weights = draw_rows(photos, 100, number)
            draws = figures_of_draws(resample(some, there, len(labels), weights), labels)
            for name in (*list(rows)[:3], *(f"ap/{label}" for label in labels[:-1])):
                value, true = draws[name][0], whole[name][0]
                low, high = np.nanpercentile(draws[name][1:], [2.5, 97.5])
                shift = value - np.nanmean(draws[name][1:]) if name in metrics.MEANS else 0.0
                ends = [(low + shift, high + shift), (low, high), (2 * value - high, 2 * value - low)]
                held = [float(one <= true <= other) for one, other in ends]
                rows["ap/<label>" if "/" in name else name].append([true, value - true, *held, high - low])
        for name, found in rows.items():
            true, bias, *held, width = np.mean(found, axis=0)
            told = " | ".join(f"{share:.2f}" for share in held)
            print(f"| {photos} | {name} | {true:.3f} | {bias:+.3f} | {told} | {width:.3f} |", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--street", help="Folder of parquet files with boxes of real photos.")
    parser.add_argument("--only", choices=["equality", "coverage", "times", "memory"])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--repetitions", type=int, default=200, help="Of the simulation of intervals.")
    parser.add_argument("--photos", type=int, default=5000, help="Of the times.")
    parser.add_argument("--said", type=int, default=100, help="Boxes that are said of a photo, on average.")
    parser.add_argument("--json", type=Path, help="Write the line of the times here, too.")
    args = parser.parse_args()
    if args.only in (None, "equality"):
        equality(args.street)
    if args.only in (None, "coverage"):
        coverage(args.repetitions)
    if args.only in (None, "times"):
        times(args.photos, args.said, args.rounds, args.json)
    if args.only in (None, "memory"):
        memory(20_000, 100)


if __name__ == "__main__":
    main()
