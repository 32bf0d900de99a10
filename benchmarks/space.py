"""The Space under a crowd: 50 visitors at once, and a few beside oversized pictures.

    python benchmarks/space.py
    python benchmarks/space.py --side 4000

The small Swin that ships gets a head of ten labels (its weights do not matter here) and is served by
`spaces/classify` in a process of its own; the visitors are in this one, on the same cores. A visitor uploads a photo
of the sample, waits in the queue and reads the answer, as the page does; its wait counts from the upload's start. A
visitor beside the crowd comes every second, for `--minutes` alone and for as long while `--oversized` pictures a
minute come in: a PNG of 178 megapixels in 0.5 MB, one of the largest that are taken, a file over the limit of the
page. Memory is the peak of the process.
"""

import argparse
import asyncio
import json
import os
import random
import signal
import socket
import subprocess
import sys
import tempfile
import time
from io import BytesIO
from pathlib import Path

import httpx
import numpy as np
import pyarrow.parquet as pq
from PIL import Image

import hf_fashion
from hf_fashion import backbones

APP = Path(__file__).parents[1] / "spaces" / "classify" / "app.py"
LABELS = ["dress", "hat", "longsleeve", "outwear", "pants", "shirt", "shoes", "shorts", "skirt", "t-shirt"]


def serve(folder: Path) -> tuple[subprocess.Popen, str]:
    """Starts the Space of the model in `folder`; returns it before it answers."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    settings = {"MODEL": str(folder), "GRADIO_SERVER_PORT": str(port), "GRADIO_TEMP_DIR": str(folder / "uploads")}
    settings |= {"HF_HUB_OFFLINE": "1"}
    return subprocess.Popen(
        [sys.executable, str(APP)], env=os.environ | settings, stdout=subprocess.DEVNULL
    ), f"http://127.0.0.1:{port}/gradio_api"


async def ask(client: httpx.AsyncClient, url: str, photo: bytes, name: str = "photo.jpg") -> str:
    """Uploads a photo and waits for the answer.

    Returns:
        "answer", "refused" (with a reason for the visitor), or what went wrong.
    """
    try:
        sent = await client.post(f"{url}/upload", files={"files": (name, photo)})
        if sent.status_code == 413:
            return "refused"
        file = {"path": sent.raise_for_status().json()[0], "meta": {"_type": "gradio.FileData"}}
        joined = await client.post(f"{url}/call/classify", json={"data": [file]})
        told = await client.get(f"{url}/call/classify/{joined.raise_for_status().json()['event_id']}")
        if "event: complete" in told.text:
            return "answer"
        return "refused" if "cannot be used" in told.text else told.text[-200:]
    except (httpx.HTTPError, ValueError) as error:
        return f"{type(error).__name__}: {error}"


async def timed(client: httpx.AsyncClient, url: str, photo: bytes) -> tuple[float, str]:
    start = time.perf_counter()
    told = await ask(client, url, photo)
    return time.perf_counter() - start, told


async def first_answer(url: str, photo: bytes, space: subprocess.Popen) -> float:
    """Seconds until the Space gives its first answer."""
    start = time.perf_counter()
    async with httpx.AsyncClient(timeout=60) as client:
        while await ask(client, url, photo) != "answer":
            if space.poll() is not None:
                raise SystemExit("the Space has ended: start it alone to see why")
            await asyncio.sleep(0.2)
    return time.perf_counter() - start


async def crowd(url: str, photos: list[bytes], visitors: int) -> list[tuple[float, str]]:
    """All visitors at the same moment."""
    limits = httpx.Limits(max_connections=None)
    async with httpx.AsyncClient(timeout=120, limits=limits) as client:
        return await asyncio.gather(*(timed(client, url, random.choice(photos)) for _ in range(visitors)))


async def one_by_one(
    url: str, photos: list[bytes], seconds: float, oversized: list[tuple[str, bytes]], a_minute: int
) -> tuple[list[tuple[float, str]], list[str]]:
    """A visitor every second, and beside them so many oversized pictures a minute; both kinds of answers."""
    async with httpx.AsyncClient(timeout=120) as client:
        good, bad = [], []
        start = time.perf_counter()
        sent = 0
        for second in range(int(seconds)):
            good.append(asyncio.create_task(timed(client, url, random.choice(photos))))
            while oversized and sent * 60 / a_minute <= second:
                name, picture = oversized[sent % len(oversized)]
                bad.append(asyncio.create_task(ask(client, url, picture, name)))
                sent += 1
            await asyncio.sleep(max(0.0, start + second + 1 - time.perf_counter()))
        return await asyncio.gather(*good), await asyncio.gather(*bad)


def sample_photos(side: int) -> list[bytes]:
    """The test photos of the sample as JPEG, enlarged to a longer side of so many pixels; 0: as they are."""
    table = pq.read_table(Path(hf_fashion.__file__).parent / "samples" / "photos" / "test.parquet")
    photos = [row["bytes"] for row in table["image"].to_pylist()]
    if not side:
        return photos
    enlarged = []
    for photo in photos[:8]:
        image = Image.open(BytesIO(photo))
        scale = side / max(image.size)
        buffer = BytesIO()
        image.resize((round(image.width * scale), round(image.height * scale))).save(buffer, "JPEG", quality=90)
        enlarged.append(buffer.getvalue())
    return enlarged


def oversized() -> list[tuple[str, bytes]]:
    def png(image: Image.Image) -> bytes:
        buffer = BytesIO()
        image.save(buffer, "PNG", compress_level=1)
        return buffer.getvalue()

    noise = np.random.default_rng(0).integers(0, 256, (64, 64, 4), dtype=np.uint8)
    largest = Image.fromarray(np.tile(noise, (78, 78, 1)))  # 4,992 x 4,992: under the limit, transparent
    return [
        ("bomb.png", png(Image.new("L", (13_300, 13_400)))),
        ("largest.png", png(largest)),
        ("large.jpg", b"\xff\xd8\xff" + bytes(40_000_000)),
    ]


def peak(process: subprocess.Popen) -> float:
    """The most memory that a process has held, in GB."""
    status = Path(f"/proc/{process.pid}/status").read_text(encoding="utf-8")
    return int(next(line for line in status.splitlines() if line.startswith("VmHWM")).split()[1]) / 1e6


def cpu(process: subprocess.Popen) -> float:
    """CPU seconds of a process until now."""
    times = Path(f"/proc/{process.pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()[11:13]
    return sum(map(int, times)) / os.sysconf("SC_CLK_TCK")


def row(name: str, found: str, aim: str, reached: bool) -> None:
    print(f"| {name} | {found} | {aim} | {'yes' if reached else 'no'} |", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--visitors", type=int, default=50)
    parser.add_argument("--rounds", type=int, default=3, help="crowds, one after the other")
    parser.add_argument("--minutes", type=float, default=1.0)
    parser.add_argument("--side", type=int, default=0, help="enlarge photos to so many pixels; phones make 4,000")
    parser.add_argument("--oversized", type=int, default=20, help="pictures a minute")
    args = parser.parse_args()
    random.seed(0)
    photos = sample_photos(args.side)
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place) / "model"
        model, processor = backbones.load_classifier("sample", LABELS)
        model.config.unsure_below = 0.5
        model.save_pretrained(folder)
        processor.save_pretrained(folder)
        space, url = serve(folder)
        try:
            print(f"{os.cpu_count()} cores, load {os.getloadavg()[0]:.1f} before the start\n")
            print("| what | found | aim | reached |\n|---|---|---|---|")
            start = asyncio.run(first_answer(url, photos[0], space))
            row("from the start to the first answer", f"{start:.1f} s, {cpu(space):.1f} CPU s", "", True)
            before = cpu(space)
            waits, errors = [], []
            for _ in range(args.rounds):
                for wait, told in asyncio.run(crowd(url, photos, args.visitors)):
                    waits.append(wait)
                    errors += [told] if told != "answer" else []
            p50, p95 = np.percentile(waits, (50, 95))
            row(f"{args.visitors} visitors at once, {args.rounds} times: errors", str(len(errors)), "0", not errors)
            row("their wait", f"p50 {p50:.2f}, p95 {p95:.2f}, max {max(waits):.2f} s", "p95 under 5 s", p95 < 5)
            row("the Space's CPU time a visitor", f"{(cpu(space) - before) / len(waits) * 1000:.0f} ms", "", True)
            row("memory", f"{peak(space):.2f} GB", "under 2 GB", peak(space) < 2)
            medians = []
            for pictures in ([], oversized()):
                good, bad = asyncio.run(one_by_one(url, photos, 60 * args.minutes, pictures, args.oversized))
                waits = [wait for wait, _ in good]
                errors = [told for _, told in good if told != "answer"]
                p95 = float(np.percentile(waits, 95))
                medians.append((float(np.median(waits)), p95))
                what = f"beside {args.oversized} oversized a minute" if pictures else "alone"
                row(f"a visitor a second, {what}: errors", str(len(errors)), "0", not errors)
                told = f"median {medians[-1][0]:.2f}, p95 {p95:.2f}, max {max(waits):.2f} s"
                if pictures:
                    ratio = medians[1][0] / medians[0][0], medians[1][1] / medians[0][1]
                    aim = "at most twice as long"
                    row("their wait", f"{told}: {ratio[0]:.2f} times, p95 {ratio[1]:.2f} times", aim, max(ratio) <= 2)
                    odd = [answer for answer in bad if answer not in ("answer", "refused")]
                    row(f"{len(bad)} oversized: no answer and no reason", str(len(odd)), "0", not odd)
                else:
                    row("their wait", told, "", True)
            row("memory at the end", f"{peak(space):.2f} GB", "under 2 GB", peak(space) < 2)
            for told in sorted({*errors, *odd}):
                print(json.dumps(told))
        finally:
            space.send_signal(signal.SIGTERM)
            space.wait(30)


if __name__ == "__main__":
    main()
