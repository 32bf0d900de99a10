"""Encoders on the same searches of a user's own photos: what they find, what they cost, which one to adapt.

What `recipes/score.py --task retrieve --compare` records and shows. The searches are those of `searches.predict`.
"""

import contextlib
import itertools
import os
import shlex
import textwrap
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from datasets import Dataset, Features, Value, concatenate_datasets
from datasets import Image as ImageFeature
from matplotlib.figure import Figure
from PIL import Image

from hf_fashion import images, items, metrics, plots, searches
from hf_fashion.arguments import DatasetArguments
from hf_fashion.backbones.encoders import SentenceTransformer, takes_texts
from hf_fashion.backbones.sources import ENCODER_FILES, find
from hf_fashion.cards import licenses
from hf_fashion.comparison.paired import WIDTH, ends, in_words, pairs_by_item, verdicts
from hf_fashion.errors import InputError, command
from hf_fashion.protocols import Protocol
from hf_fashion.report import cell

OF_ITEMS = ("item_column", "text_column", "shared_items", "gallery", "gallery_config")
FIGURES = ("recall_at_1", "recall_at_5", "recall_at_10", "map_at_r")
TESTED = FIGURES[0]
BATCHES = (1, 32)  # photos, or texts, that are embedded at once where time is measured
THREADS = 1  # of a CPU: with more the time depends on what else the machine does
ASKED = {"image": "by a photo", "text": "by a text", "composed": "by a photo with words"}
_MEASURED, _LEAST, _SECONDS = 15, 3, 10.0  # batches, of a slow encoder as many as fit into the seconds, or the least
_MB = 1e6
_LEAST_SPAN = 0.2  # of recall: below it one search more would look like a leap
_BUSY = 1.3  # wall time over CPU time of one thread
_COLORS = ("#2f6fde", "#d9762b", "#1b7837", "#7b3294", "#8a8f99", "#b2182b", "#008080", "#5b4636")
_MARKERS = "osD^vPX*"


def refuse_nothing_common(encoders: Mapping[str, SentenceTransformer], rows: Dataset) -> None:
    """Raises InputError where the photos allow no search that all encoders can do.

    Args:
        encoders: Name -> encoder.
        rows: The photos, with `item_id` and what else they have.
    """
    blind = [name for name, encoder in encoders.items() if not takes_texts(encoder)]
    made = searches.possible(rows, len(blind) < len(encoders))
    if blind and "image" not in made:
        raise InputError(
            "--compare", expected="encoders that take texts: these photos can be found by texts alone",
            found=f"of photos alone: {', '.join(blind)}",
            fix="leave these out; or --item_column with a column that is equal for photos of one item",
        )  # fmt: skip


def gather(predictions: Mapping[str, Dataset]) -> Dataset:
    """The predictions of several encoders, as of `searches.predict`, one behind the other with a column `model`."""
    parts = []
    for name, rows in predictions.items():
        features = Features({"model": Value("string"), **rows.features})
        parts.append(Dataset.from_dict({"model": [name] * len(rows), **rows[:]}, features=features))
    return concatenate_datasets(parts)


def results(
    predictions: Mapping[str, Dataset],
    told: Mapping[str, Mapping[str, Protocol]],
    costs: Mapping[str, Mapping[str, Any]],
    *,
    shared_items: bool = False,
    seed: int = 0,
) -> dict[str, Any]:
    """What eval_results.json says: figures and pairs of each search, costs, and which encoder is to be adapted.

    Args:
        predictions: Name -> rows of one split, as of `searches.predict`.
        told: Name -> search -> its protocol.
        costs: Name -> as of `weigh` and `clock`.
        shared_items: Items are classes: the pairs are tested over photos, not over a handful of classes.
        seed: Of the bootstraps of the pairs.

    Returns:
        Of the search that stands first, the one with words where all encoders take them: `search`, `line`, `n`,
        `n_items`, `n_tested` (items, or photos, over which pairs are tested), `models` (name -> figures, best first),
        `pairs` (see `pairs_by_item`, with the differences of the other figures) and `without` (who cannot do it). The
        same of the `others`. And `costs`, `busy` (None, or a sentence), `best`, `tied` (who is not told apart from the
        best), `adapt` and `why`.
    """
    kinds = {name: {searches.kind_of(search) for search in told[name]} for name in predictions}
    common = set.intersection(*kinds.values())
    first = searches.main_search(common)
    found = {}
    for kind in sorted(set.union(*kinds.values()), key=lambda kind: (kind != first, kind)):
        of_kind = {
            name: rows.select([n for n, search in enumerate(rows["search"]) if searches.kind_of(search) == kind])
            for name, rows in predictions.items()
            if kind in kinds[name]
        }
        protocols = [one for search, one in told[next(iter(of_kind))].items() if searches.kind_of(search) == kind]
        line = " ".join(protocol.line for protocol in protocols)
        if kind == "composed":
            line += " Figures are means over the categories; pairs count each search once."
        found[kind] = _of_search(of_kind, line, shared_items, seed)
        found[kind]["without"] = [name for name in predictions if kind not in kinds[name]]
    main = found.pop(first)
    told_last = {"costs": dict(costs), "busy": _busy(costs), **_choice(main["pairs"], costs)}
    return {"search": first, **main, "others": found, **told_last}


def _of_search(predictions: Mapping[str, Dataset], line: str, shared_items: bool, seed: int) -> dict[str, Any]:
    rows = next(iter(predictions.values())).with_format(None)
    asked = [list(rows[column]) for column in ("search", "query", "text")]
    for name, others in predictions.items():
        if [list(others.with_format(None)[column]) for column in ("search", "query", "text")] != asked:
            raise ValueError(f"{name} was asked other queries than {next(iter(predictions))}")
    of_items = None if shared_items else list(rows["item_id"])
    each = of_items or [str(number) for number in range(len(rows))]
    values = {
        name: metrics.query_figures(others.with_format(None)["ranks"], searches.KS)
        for name, others in predictions.items()
    }
    pairs = pairs_by_item({name: of_query[TESTED] > 0 for name, of_query in values.items()}, of_items, seed=seed)
    for pair in pairs:
        for figure in FIGURES[1:]:
            a, b = (values[pair[side]][figure] for side in "ab")
            apart = metrics.difference_by_item(a, b, each, seed=seed)
            pair |= {f"{figure}_{name}": value for name, value in zip(_ENDS, apart, strict=True)}
    order = [pairs[0]["a"], *(pair["b"] for pair in pairs if pair["a"] == pairs[0]["a"])] if pairs else [*predictions]
    figures = {name: searches.evaluate(predictions[name], shared_items=shared_items) for name in order}
    of_one = {name: next(iter(of_split.values())) for name, of_split in figures.items()}
    sizes = {"n": len(rows), "n_items": len(set(rows["item_id"])), "n_tested": len(set(each))}
    return {"line": line, **sizes, "models": of_one, "pairs": pairs}


_ENDS = ("difference", "difference_low", "difference_high")


def _choice(pairs: Sequence[Mapping[str, Any]], costs: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """The best; who ties with it; and of these the lightest, which is to be adapted."""
    best = pairs[0]["a"]
    tied = [pair["b"] for pair in pairs if pair["a"] == best and pair["tie"]]
    lightest = min([best, *tied], key=lambda name: costs[name]["parameters"])  # of equals the one that finds more
    if not tied:
        others = [pair["b"] for pair in pairs if pair["a"] == best]
        why = f"{best} finds more than {_listed(others)}, and by more than chance"
    else:
        why = f"a tie between {_listed([best, *tied])}: none of these has fewer parameters than {lightest} "
        why += f"({costs[lightest]['parameters']:,})"
    return {"best": best, "tied": tied, "adapt": lightest, "why": f"{why}."}


def _listed(names: Sequence[str]) -> str:
    return " and ".join(filter(None, [", ".join(names[:-1]), names[-1]]))


def costs(
    encoders: Mapping[str, SentenceTransformer], models: Mapping[str, str], rows: Dataset, *,
    limits: images.Limits = images.LIMITS, seed: int = 0,
) -> dict[str, dict[str, Any]]:  # fmt: skip
    """What each encoder takes, of the disk, of memory and of time, with photos and texts of a split.

    Args:
        encoders: Name -> encoder.
        models: Name -> as it was given to `load_encoder`.
        rows: The photos; some are drawn.
        limits: See `images.decode`.
        seed: Of the draw.

    Returns:
        Name -> what `weigh` and `clock` say.
    """
    drawn = np.random.default_rng(seed).permutation(len(rows))[: max(BATCHES)]
    plain = (
        rows.with_format(None).select(drawn).select_columns(["image"]).cast_column("image", ImageFeature(decode=False))
    )
    photos = [images.decode(photo, limits=limits) for photo in plain["image"]]
    texts = sorted(set(items.texts_of(rows)))
    np.random.default_rng(seed).shuffle(texts)
    spent = clock(encoders, photos, texts[: max(BATCHES)])
    return {name: {**weigh(models[name], encoder), **spent[name]} for name, encoder in encoders.items()}


def weigh(model: str, encoder: SentenceTransformer) -> dict[str, Any]:
    """What an encoder takes on the disk and in memory: megabytes are 10^6 bytes.

    Args:
        model: As it was given to `load_encoder`.
        encoder: What that gave.

    Returns:
        `saved` (by sentence-transformers), `takes_texts`, `weights_mb` (the safetensors files of its folder, with a
        classifier's head where it has one), `parameters`, `dimension`, and `vector_kb` and `million_mb`: of one vector
        and of a million, in 32-bit floats as an exact index holds them.
    """
    folder = find(model, None, ENCODER_FILES)
    saved = (folder / "modules.json").is_file()
    files = [*(folder.rglob if saved else folder.glob)("model*.safetensors")]
    # A checkpoint beside an encoder is of another step; where a net lies whole beside its parts, it is read whole.
    files = [file for file in files if not _of_checkpoint(file.relative_to(folder))]
    files = [
        file for file in files if file.name == "model.safetensors" or file.parent / "model.safetensors" not in files
    ]
    dimension = int(encoder.get_embedding_dimension() or 0)
    return {
        "saved": saved,
        "takes_texts": takes_texts(encoder),
        "weights_mb": sum(file.stat().st_size for file in files) / _MB,
        "parameters": sum(one.numel() for one in encoder.parameters()),
        "dimension": dimension,
        "vector_kb": 4 * dimension / 1000,
        "million_mb": 4 * dimension * 1_000_000 / _MB,
    }


def _of_checkpoint(path: Path) -> bool:
    return any(part.startswith("checkpoint-") for part in path.parts)


def clock(
    encoders: Mapping[str, SentenceTransformer], photos: Sequence[Image.Image], texts: Sequence[str]
) -> dict[str, dict[str, Any]]:
    """How long a photo, and a text, takes: from the decoded photo, or the words, to the vector.

    Encoders take turns, batch by batch, so that whatever else the machine does meets all of them. Before the first
    batch that counts each has done one of that size. A CPU uses `THREADS` threads; with a GPU the CPU's time is what
    prepares the photos.

    Args:
        encoders: Name -> encoder.
        photos: Of the size that is usual here; so many as there are, in turns.
        texts: Likewise; none where texts are not searched by.

    Returns:
        Name -> `device`, in words, and `photo` and `text` (None where it takes no texts, or there are none) -> batch
        size ("1", "32") -> `ms` and `cpu_ms` of one photo or text, wall and CPU time, medians over batches; the
        quartiles of both (`ms_low`, `ms_high`, ...); `batches`, how many.
    """
    told: dict[str, dict[str, Any]] = {
        name: {"device": _device(encoder), "photo": {}, "text": None} for name, encoder in encoders.items()
    }
    readers = {name: encoder for name, encoder in encoders.items() if takes_texts(encoder)}
    jobs: list[tuple[str, Mapping[str, SentenceTransformer], Sequence[Any]]] = [("photo", encoders, photos)]
    if texts and readers:
        jobs.append(("text", readers, texts))
    with _threads(THREADS):
        for (what, of_job, inputs), size in itertools.product(jobs, BATCHES):
            for name, spent in _rounds(of_job, inputs, size).items():
                of_name = told[name][what] = told[name][what] or {}
                of_size = of_name[str(size)] = {"batches": len(spent)}
                for key, values in zip(("ms", "cpu_ms"), 1000 * np.array(spent).T / size, strict=True):
                    low, middle, high = map(float, np.percentile(values, [25, 50, 75]))
                    of_size |= {key: middle, f"{key}_low": low, f"{key}_high": high}
    return told


def _rounds(
    encoders: Mapping[str, SentenceTransformer], inputs: Sequence[Any], size: int
) -> dict[str, list[tuple[float, float]]]:
    """Name -> seconds of each batch, wall and CPU."""
    spent: dict[str, list[tuple[float, float]]] = {name: [] for name in encoders}
    for number in range(-1, _MEASURED):
        batch = [inputs[(max(number, 0) * size + place) % len(inputs)] for place in range(size)]
        for name, encoder in encoders.items():
            if len(spent[name]) >= _LEAST and sum(wall for wall, _ in spent[name]) > _SECONDS:
                continue
            start = time.perf_counter(), time.process_time()
            encoder.encode(batch, batch_size=size, normalize_embeddings=True, show_progress_bar=False)
            if number >= 0:
                spent[name].append((time.perf_counter() - start[0], time.process_time() - start[1]))
    return spent


@contextlib.contextmanager
def _threads(count: int) -> Iterator[None]:
    """So many threads for torch, and one for what cuts texts into tokens."""
    before, tokens = torch.get_num_threads(), os.environ.get("TOKENIZERS_PARALLELISM")
    torch.set_num_threads(count)
    os.environ["TOKENIZERS_PARALLELISM"] = "false"
    try:
        yield
    finally:
        torch.set_num_threads(before)
        if tokens is None:
            del os.environ["TOKENIZERS_PARALLELISM"]
        else:
            os.environ["TOKENIZERS_PARALLELISM"] = tokens


def _device(encoder: SentenceTransformer) -> str:
    device = encoder.device
    if device.type == "cuda":
        return f"{torch.cuda.get_device_name(device)}, and {THREADS} CPU thread"
    return f"{device.type}, {THREADS} thread"


def asks(described: Mapping[str, Any]) -> dict[str, str]:
    """`asks`: what a licence asks of who uses the model, in words, by its id alone."""
    found = licenses.conditions(str(described["license"]))
    if found is None:
        return {"asks": "not known here: find out"}
    return {"asks": "; ".join(licenses.CONDITIONS[one] for one in found) or "nothing"}


def adapt(
    compared: Mapping[str, Any], model: str, rows: Dataset, settings: Mapping[str, Any], known: bool = False
) -> str:
    """The command that trains the encoder to be adapted on the photos that it was compared on.

    Args:
        compared: As of `results`.
        model: That encoder, as it was typed.
        rows: The photos.
        settings: Those of the comparison; what says which photos is carried over.
        known: It has learned from this dataset.
    """
    told = {name: settings[name] for name in (*DatasetArguments.__dataclass_fields__, *OF_ITEMS) if name in settings}
    cost = compared["costs"][compared["adapt"]]
    if cost["saved"] and not cost["takes_texts"] and items.texts_of(rows):
        told["match"] = "image"  # it has its modules, and none for texts
    tokens = [token for name, value in ({"model": model} | told).items() for token in (f"--{name}", str(value))]
    after = "\n        (it has learned from this dataset already: that goes on)" if known else ""
    return f"adapt:  {command('retrieve')} {shlex.join(tokens)}{after}"


def summary(compared: Mapping[str, Any], described: Mapping[str, Mapping[str, Any]]) -> str:
    """What a comparison ends with: a table a search with its verdicts, a table of costs, and the choice.

    Args:
        compared: As of `results`.
        described: Name -> as of `backbones.describe`.
    """
    parts = []
    for kind, told in {compared["search"]: compared, **compared["others"]}.items():
        rows = [["model", "recall@1", "95 % interval", "@5", "@10", "mAP@R"]]
        for name, figures in told["models"].items():
            first, *others = (f"{figures[figure]:.3f}" for figure in FIGURES)
            rows.append([cell(name, WIDTH), first, in_words(figures, TESTED), *others])
        lines = [f"Searches {ASKED[kind]}. {told['line']}", *_table(rows, left=(0, 2)), *verdicts(told["pairs"])]
        lines += [f"{cell(name, WIDTH)}: not measured, it takes no texts" for name in told["without"]]
        parts.append("\n".join(lines))
    rows = [["model", "ms a photo", "in 32s", "CPU ms", "ms a text", "in 32s", "CPU ms", "weights MB", "parameters",
             "numbers", "MB a million", "licence"]]  # fmt: skip
    for name, cost in compared["costs"].items():
        times = []
        for spent in (cost["photo"], cost["text"]):
            told_ms = spent and (spent["1"]["ms"], spent["32"]["ms"], spent["32"]["cpu_ms"])
            times += [f"{ms:.1f}" for ms in told_ms] if told_ms else ["–"] * 3
        rows.append([
            cell(name, WIDTH), *times, f"{cost['weights_mb']:.1f}", f"{cost['parameters'] / 1e6:.1f} M",
            str(cost["dimension"]), f"{cost['million_mb']:,.0f}", str(described[name]["license"]),
        ])  # fmt: skip
    device = next(iter(compared["costs"].values()))["device"]
    lines = [f"Costs; time on {device}.", *_table(rows, left=(0, 11))]
    parts.append("\n".join([*lines, *filter(None, [compared["busy"]])]))
    return "\n\n".join([*parts, compared["why"]])


def _busy(costs: Mapping[str, Mapping[str, Any]]) -> str | None:
    """A sentence where a CPU had other things to do while time was measured."""
    spent = [cost["photo"]["32"] for cost in costs.values() if timed_by(cost) == "cpu_ms"]
    most = max((one["ms"] / one["cpu_ms"] for one in spent if one["cpu_ms"]), default=1.0)
    return f"The machine was busy: wall time is up to {most:.1f} times CPU time." if most > _BUSY else None


def timed_by(cost: Mapping[str, Any]) -> str:
    """By which of its times encoders are compared: `cpu_ms` where one thread does it all, `ms` where a GPU does."""
    return "cpu_ms" if cost["device"].startswith("cpu") else "ms"


def _table(rows: Sequence[Sequence[str]], left: Sequence[int]) -> list[str]:
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    return [
        "  ".join(
            text.ljust(width) if column in left else text.rjust(width)
            for column, (text, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in rows
    ]


def figures(compared: Mapping[str, Any], split: str = "test") -> dict[str, Figure]:
    """`comparison` (recall at 1, and how far each is behind the best) and `recall_and_time` of `results`."""
    models, best = compared["models"], compared["best"]
    behind = {pair["b"]: pair for pair in compared["pairs"] if pair["a"] == best}
    title = f"searches {ASKED[compared['search']]}, {split} split, n = {compared['n']}"
    table = plots.comparison(
        list(models), [ends(told, TESTED) for told in models.values()], [behind.get(name) for name in models],
        ["finds most" if name == best else "" for name in models], TESTED, title,
    )  # fmt: skip
    return {"comparison": table, "recall_and_time": _recall_and_time(compared, split)}


def _recall_and_time(compared: Mapping[str, Any], split: str) -> Figure:
    """Recall at 1 against milliseconds a photo, a panel a search; the bars are the interval and the quartiles."""
    shown = {compared["search"]: compared, **compared["others"]}
    names = list(compared["models"])
    height = 3.9 + 0.24 * len(names)
    figure = Figure(figsize=(max(6.4, 4.6 * len(shown)), height), layout="constrained")
    panels = figure.subplots(1, len(shown), sharex=True, squeeze=False)[0]
    times = {name: compared["costs"][name]["photo"]["32"] for name in names}
    by = timed_by(next(iter(compared["costs"].values())))
    spread = [times[name][by] for name in names]
    for axes, (kind, told) in zip(panels, shown.items(), strict=True):
        for number, name in enumerate(names):
            if name not in told["models"]:
                continue
            value, low, high = ends(told["models"][name], TESTED)
            ms = times[name]
            axes.errorbar(
                ms[by], value, xerr=[[ms[by] - ms[f"{by}_low"]], [ms[f"{by}_high"] - ms[by]]],
                yerr=None if low is None or high is None else [[value - low], [high - value]],
                color=_COLORS[number % len(_COLORS)], marker=_MARKERS[number % len(_MARKERS)], markersize=8,
                capsize=4, linewidth=1.6,
            )  # fmt: skip
        axes.set_title(f"Searches {ASKED[kind]}, n = {told['n']}", loc="left", fontsize="medium")
        axes.set_ylabel("recall at 1, 95 % interval")
        axes.margins(y=0.1)
        low, high = axes.get_ylim()
        more = max(0.0, _LEAST_SPAN - (high - low)) / 2
        axes.set_ylim(max(-0.02, low - more), min(1.02, high + more))
        axes.set_xlabel(f"{'CPU ' * (by == 'cpu_ms')}milliseconds a photo in batches of 32, quartiles")
        if max(spread) > 8 * min(spread):
            axes.set_xscale("log")
            axes.xaxis.set_major_formatter("{x:g}")
        else:
            axes.set_xlim(0, 1.15 * max(times[name][f"{by}_high"] for name in names))
        axes.grid(color="#e6e8ec")
        axes.set_axisbelow(True)
        axes.spines[["top", "right"]].set_visible(False)
    handles = [
        panels[0].plot([], [], linestyle="", color=_COLORS[number % len(_COLORS)], markersize=8,
                       marker=_MARKERS[number % len(_MARKERS)])[0]
        for number in range(len(names))
    ]  # fmt: skip
    weights = {name: compared["costs"][name]["weights_mb"] for name in names}
    labels = [f"{cell(name, 60)}: {weights[name]:.1f} MB of weights".replace("$", r"\$") for name in names]
    figure.legend(handles, labels, loc="outside lower left", frameon=False)
    title = f"What is found, and how fast ({split} split): up and to the left is better"
    figure.suptitle(textwrap.fill(title, int(figure.get_figwidth() / plots.LETTER)), x=0.01, ha="left")
    return figure
