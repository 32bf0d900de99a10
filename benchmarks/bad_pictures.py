"""What becomes of every kind of bad picture here, and with `datasets.Image` and `convert("RGB")` alone.

    python benchmarks/bad_pictures.py                  # a table in Markdown: half a minute

The pictures are made by `tests/bad_pictures.py`. "handled" is: decoded to the right pixels, refused before the first
step with a reason in words, or reported before it, as each case wants. An exception of the bare stack comes in the
middle of an epoch and is not; a picture that it takes and should have told of is not, either.
"""

import sys
import tempfile
from collections import Counter
from pathlib import Path

import numpy as np
from datasets import Image as ImageFeature

from hf_fashion import images

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))
import bad_pictures  # the one in tests: this file runs under the name __main__

FLIPS = 500  # JPEG files with one bit changed behind the headers


def ours(case: bad_pictures.Case, path: Path) -> str:
    try:
        decoded = images.decode(path)
    except ValueError as error:
        return f"refused: {error}"
    if case.truth is None:
        return "taken"
    off = case.difference(decoded)
    if off > case.off:
        return f"wrong by up to {off} of 255"
    oddity = images.odd_shape(decoded.size)
    return f"reported: {oddity}" if oddity else "right"


def bare(case: bad_pictures.Case, path: Path) -> str:
    try:
        decoded = ImageFeature().decode_example({"bytes": None, "path": str(path)}).convert("RGB")
    except Exception as error:
        return f"crash: {type(error).__name__}"
    if case.truth is None:
        return "taken"
    off = case.difference(decoded)
    if off > case.off:
        return f"wrong by up to {off} of 255"
    return "right" if case.wanted == "right" else "taken"


def flips() -> str:
    """How many single bit flips in the pixel data of a JPEG the decoder notices; it is the same in both."""
    noise = np.random.default_rng(0).integers(0, 256, (90, 120, 3), dtype=np.uint8)
    data = bad_pictures.encoded(images.Image.fromarray(noise), "JPEG")
    whole, start = np.asarray(images.decode(data)).astype(int), data.index(b"\xff\xda") + 14
    random, told = np.random.default_rng(0), Counter[str]()
    for _ in range(FLIPS):
        flipped = bytearray(data)
        flipped[random.integers(start, len(data) - 2)] ^= 1 << int(random.integers(8))
        try:
            seen = np.asarray(images.decode(bytes(flipped)))
        except ValueError:
            told["refused"] += 1
        else:
            told["decoded, pixels changed" if np.abs(seen - whole).max() else "decoded, nothing changed"] += 1
    return ", ".join(f"{count} {outcome}" for outcome, count in told.most_common())


def main() -> None:
    totals = {"ours": Counter[str](), "bare": Counter[str]()}
    handled, cases = Counter[str](), bad_pictures.cases()
    print("| case | wanted | hf_fashion | bare stack |\n|---|---|---|---|")
    with tempfile.TemporaryDirectory() as folder:
        for case in cases:
            path = case.write(Path(folder))
            outcomes = {"ours": ours(case, path), "bare": bare(case, path)}
            for who, outcome in outcomes.items():
                totals[who][outcome.split(":")[0].split(" ")[0]] += 1
                handled[who] += outcome.startswith(case.wanted)
            print("|", " | ".join([case.name, case.wanted, *outcomes.values()]).replace("\n", " "), "|", flush=True)
    print(f"\nhandled, of {len(cases)}: {handled['ours']} here, {handled['bare']} by the bare stack")
    for who, name in (("ours", "hf_fashion"), ("bare", "bare stack")):
        print(f"{name}: " + ", ".join(f"{count} {outcome}" for outcome, count in totals[who].most_common()))
    print(f"\n{FLIPS} bit flips in the pixel data of a JPEG: {flips()}")


if __name__ == "__main__":
    main()
