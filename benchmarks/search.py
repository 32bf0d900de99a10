"""Exact search against faiss IndexFlatIP and usearch (exact): queries per second, recall, build time, memory.

    python benchmarks/search.py --vectors 50000
    python benchmarks/search.py --vectors 4000 --peers lancedb qdrant     # a small catalogue, in embedded databases
    python benchmarks/search.py --vectors 1000000 --rounds 7

The vectors are made, like those of encoders: points on a curved surface of 24 dimensions in 512 (two layers of a
random net over 24 numbers), in clusters of very different size (Zipf), with noise in all directions, of length 1.
Queries are new points of the same clusters. Real vectors would be better.

Each engine runs in a process of its own with the same number of threads, and one round of each follows the other. The
truth is a product in float64 of numpy; an engine whose recall is below 0.999 has no ratio. Queries per second count
CPU time, so that a busy machine does not decide; wall time stands beside it. Memory is the most that the process held
while it built and searched, without what it held after its imports and the vectors' file was mapped; pages of files
that it mapped are part of it (the kernel takes them back when others need them); what is no such page stands beside.
"""

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import lines
import numpy as np

PEERS = {
    "faiss": "faiss, exact",
    "usearch": "usearch, exact",
    "lancedb": "LanceDB, exact",
    "qdrant": "Qdrant, embedded",
}
K = 10
QUERIES = 256
BATCHES = (1, 64)
GATE = 0.999  # recall


def made(count: int, dimension: int, seed: int, of: int = 0) -> np.ndarray:
    """Vectors like those of an encoder (count, dimension) float32; the surface and the clusters depend on `of`."""
    fixed, rng = np.random.default_rng(of), np.random.default_rng(seed)
    inner, wide = 24, 256
    first = fixed.normal(size=(inner, wide)) / np.sqrt(inner)
    second = fixed.normal(size=(wide, dimension)) / np.sqrt(wide)
    centres = fixed.normal(size=(2000, inner))
    share = 1 / np.arange(1, 2001)
    parts = []
    for start in range(0, count, 100_000):
        some = min(100_000, count - start)
        which = rng.choice(2000, size=some, p=share / share.sum())
        points = centres[which] + 0.35 * rng.normal(size=(some, inner))
        vectors = np.tanh(1.5 * points @ first) @ second + 0.03 * rng.normal(size=(some, dimension))
        parts.append((vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32))
    return np.concatenate(parts)


def truth(vectors: np.ndarray, queries: np.ndarray) -> np.ndarray:
    """The K-th best score of each query (n,), in float64: what is not worse is right, also among equals."""
    best = np.full((len(queries), K), -np.inf)
    for start in range(0, len(vectors), 50_000):
        scores = queries.astype(np.float64) @ vectors[start : start + 50_000].T.astype(np.float64)
        best = -np.sort(-np.concatenate([best, scores], axis=1), axis=1)[:, :K]
    return best[:, -1]


def held() -> tuple[int, int]:
    """The most memory that this process held so far, and what of it now is no page of a file, in bytes (Linux).

    Not `ru_maxrss`, which a new process takes over from the one that started it.
    """
    told = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
    return int(told["VmHWM"].split()[0]) * 1024, int(told["RssAnon"].split()[0]) * 1024


def serve(engine: str, folder: Path, threads: int) -> None:
    """A process of one engine: builds, then searches a batch size for every line that it is sent."""
    vectors, queries = np.load(folder / "vectors.npy", mmap_mode="r"), np.load(folder / "queries.npy")
    if engine == "ours":
        import torch

        from hf_fashion import index
        from hf_fashion.index import exact, searching  # noqa: F401 (imported before the clock starts)

        torch.set_num_threads(threads)
    elif engine == "faiss":
        import faiss

        faiss.omp_set_num_threads(threads)
    elif engine == "usearch":
        from usearch.index import MetricKind, search
    elif engine == "lancedb":
        import lancedb
        import pyarrow as pa
    else:
        from qdrant_client import QdrantClient, models
    before = held()
    cpu, wall = time.process_time(), time.perf_counter()
    if engine == "ours":
        target = index.create(folder / "ours", made_by="made", dimension=vectors.shape[1])
        for start in range(0, len(vectors), 65_536):
            part = np.array(vectors[start : start + 65_536])
            target.upsert([str(number) for number in range(start, start + len(part))], part)
        target.compact()

        def find(some: np.ndarray) -> list[list[int]]:
            return [[int(one) for one in ids] for ids in target.search(some, K, columns=[]).ids]

    elif engine == "faiss":
        flat = faiss.IndexFlatIP(vectors.shape[1])
        for start in range(0, len(vectors), 65_536):
            flat.add(np.array(vectors[start : start + 65_536]))

        def find(some: np.ndarray) -> list[list[int]]:
            return flat.search(some, K)[1].tolist()

    elif engine == "lancedb":  # a table without an index is searched exactly
        flat_vectors = pa.FixedSizeListArray.from_arrays(pa.array(vectors.ravel()), vectors.shape[1])
        rows = pa.table({"id": np.arange(len(vectors)), "vector": flat_vectors})
        table = lancedb.connect(folder / "lancedb").create_table("items", rows)

        def find(some: np.ndarray) -> list[list[int]]:
            asked = table.search(some if len(some) > 1 else some[0]).distance_type("cosine").limit(K)
            found = asked.select(["id", "_distance"]).to_arrow()
            query = found["query_index"].to_numpy() if len(some) > 1 else np.zeros(len(found), dtype=int)
            return [found["id"].to_numpy()[query == one].tolist() for one in range(len(some))]

    elif engine == "qdrant":
        client = QdrantClient(":memory:")
        size = models.VectorParams(size=vectors.shape[1], distance=models.Distance.COSINE)
        client.create_collection("items", vectors_config=size)
        client.upload_collection("items", np.array(vectors), ids=range(len(vectors)))

        def find(some: np.ndarray) -> list[list[int]]:
            asked = [models.QueryRequest(query=one.tolist(), limit=K) for one in some]
            return [[point.id for point in each.points] for each in client.query_batch_points("items", asked)]

    else:
        whole = np.array(vectors)

        def find(some: np.ndarray) -> list[list[int]]:
            found = search(whole, some, K, MetricKind.IP, exact=True, threads=threads)
            return np.asarray(found.keys).reshape(len(some), -1).tolist()

    built = {"cpu": time.process_time() - cpu, "wall": time.perf_counter() - wall}
    print(json.dumps({"build": built}), flush=True)
    for line in sys.stdin:
        batch, count = json.loads(line)
        cpu, wall = time.process_time(), time.perf_counter()
        answers = [find(queries[start : start + batch]) for start in range(0, count, batch)]
        told = {
            "cpu": time.process_time() - cpu,
            "wall": time.perf_counter() - wall,
            "memory": [now - then for now, then in zip(held(), before, strict=True)],
        }
        print(json.dumps(told | {"ids": [one for answer in answers for one in answer]}), flush=True)


class Engine:
    """A process of one engine, which works when it is asked alone."""

    def __init__(self, name: str, folder: Path, threads: int) -> None:
        env = os.environ | {"OMP_NUM_THREADS": str(threads), "MKL_NUM_THREADS": str(threads)}
        command = [sys.executable, __file__, "--serve", name, "--folder", str(folder), "--threads", str(threads)]
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=env)
        self.build = self._read()["build"]

    def _read(self) -> dict[str, Any]:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            raise SystemExit("an engine ended: see above")
        told: dict[str, Any] = json.loads(line)
        return told

    def ask(self, batch: int, count: int) -> dict[str, Any]:
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps([batch, count]) + "\n")
        self._process.stdin.flush()
        return self._read()

    def close(self) -> None:
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--vectors", type=int, default=50_000)
    parser.add_argument("--dimension", type=int, default=512)
    parser.add_argument("--peers", nargs="+", choices=PEERS, default=["faiss", "usearch"])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--json", type=Path, help="Write the figures here, too.")
    parser.add_argument("--serve", choices=["ours", *PEERS], help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=Path, help="Where files are put meanwhile; default: a temporary folder.")
    args = parser.parse_args()
    if args.serve:
        serve(args.serve, args.folder, args.threads)
        return
    folder = Path(tempfile.mkdtemp(dir=args.folder))
    try:
        measure(args, folder)
    finally:
        shutil.rmtree(folder)


def measure(args: argparse.Namespace, folder: Path) -> None:
    vectors, queries = made(args.vectors, args.dimension, seed=1), made(QUERIES, args.dimension, seed=2)
    np.save(folder / "vectors.npy", vectors)
    np.save(folder / "queries.npy", queries)
    worst = truth(vectors, queries)
    names = ["ours", *args.peers]
    engines = {name: Engine(name, folder, args.threads) for name in names}
    print(f"{args.vectors} x {args.dimension}, k {K}, {args.threads} thread(s), {args.rounds} rounds")
    print(f"score of the 10th: median {np.median(worst):.3f}; CPU time; median (least to most)\n")
    print(
        f"| batch | engine | queries/s | wall queries/s | recall | times {args.peers[0]} |\n|---|---|---|---|---|---|"
    )
    memory = dict.fromkeys(names, [0, 0])
    kept: list[dict[str, Any]] = []
    for batch in BATCHES:
        count = QUERIES if batch > 1 else min(QUERIES, 32)
        for engine in engines.values():  # warm
            engine.ask(batch, batch)
        rounds: dict[str, list[dict[str, Any]]] = {name: [] for name in names}
        for number in range(args.rounds):
            for name in names if number % 2 == 0 else names[::-1]:
                rounds[name].append(engines[name].ask(batch, count))
        recall = {}
        for name, told in rounds.items():
            ids = told[0]["ids"]
            # 1e-6: what the order of a float32 sum changes.
            right = [(queries[query] @ vectors[one].T >= worst[query] - 1e-6).sum() for query, one in enumerate(ids)]
            recall[name] = float(np.mean(right)) / K
            memory[name] = [*map(max, zip(memory[name], *(one["memory"] for one in told), strict=True))]
        for peer in args.peers:
            took = [[1000 * one["cpu"] / count for one in rounds[name]] for name in (peer, "ours")]
            kept.append(
                lines.line(
                    f"exact search, {args.vectors:,} x {args.dimension}, {batch} at a time", *took,
                    unit="CPU ms a query", gate=f"recall {recall['ours']:.4f} (from {GATE} on)",
                    passed=recall["ours"] >= GATE, against=PEERS[peer],
                )
            )  # fmt: skip
        for name, told in rounds.items():
            speed = [count / one["cpu"] for one in told]
            first = [one["cpu"] for one in rounds[args.peers[0]]]
            ratio = lines.span([peer / one["cpu"] for peer, one in zip(first, told, strict=True)])
            ratio = ratio if recall[name] >= GATE else "void: recall"
            wall = lines.span([count / one["wall"] for one in told])
            print(f"| {batch} | {name} | {lines.span(speed)} | {wall} | {recall[name]:.4f} | {ratio} |")
    print("\n| engine | build, CPU s | build, wall s | memory, MB | without files, MB | on disk, MB |")
    print("|---|---|---|---|---|---|")
    disk = sum(path.stat().st_size for path in (folder / "ours").rglob("*") if path.is_file()) / 1e6
    for name, engine in engines.items():
        engine.close()
        on_disk = f"{disk:.0f}" if name == "ours" else "none"
        build = f"{engine.build['cpu']:.1f} | {engine.build['wall']:.1f}"
        most, own = memory[name]
        print(f"| {name} | {build} | {most / 1e6:.0f} | {own / 1e6:.0f} | {on_disk} |")
    if args.json:
        lines.write(args.json, kept)


if __name__ == "__main__":
    main()
