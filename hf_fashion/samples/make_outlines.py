"""Tells the garments of the sample photos from their backgrounds, for the scenes of `hf_fashion.samples.scenes`.

    python hf_fashion/samples/make_outlines.py --output hf_fashion/samples/photos/outlines.parquet

No net and no annotation: the frame of a photo is taken for background, and what its colours do not explain is the
garment. Photos of which that cannot be told are left out (54 of 400).
"""

import argparse
from pathlib import Path

import numpy as np
from datasets import Dataset, Features, Image, Value
from PIL import Image as PILImage
from PIL import ImageFilter
from scipy import ndimage
from sklearn.mixture import GaussianMixture
from tqdm.auto import tqdm

WIDTH = 96  # pixels at which a photo is looked at
SHARE = (0.12, 0.8)  # of the photo that a garment takes, or its outline was not found
TOUCHES = 0.3  # of the frame that it may touch
FILLS = 0.4  # of its box that it must fill: what is less is shreds


def outline(photo: PILImage.Image) -> np.ndarray | None:
    """Which pixels of a small copy of a photo are the garment (height, width); None where that cannot be told.

    The frame of the photo is taken for background; what its colours do not explain is the garment, where it is one
    piece of a sensible size.
    """
    small = photo.filter(ImageFilter.GaussianBlur(1.5))
    small = small.resize((WIDTH, max(1, round(WIDTH * photo.height / photo.width))))
    pixels = np.asarray(small, dtype=np.float64) / 255
    height, width = pixels.shape[:2]
    edge = max(2, round(0.06 * min(height, width)))
    frame = np.ones((height, width), dtype=bool)
    frame[edge:-edge, edge:-edge] = False
    background = GaussianMixture(3, random_state=0, reg_covar=1e-3, max_iter=100, tol=1e-2).fit(pixels[frame])
    fit = background.score_samples(pixels.reshape(-1, 3)).reshape(height, width)
    mask = fit < np.percentile(fit[frame], 6)
    mask = ndimage.binary_fill_holes(ndimage.binary_closing(ndimage.binary_opening(mask), iterations=2))
    parts, count = ndimage.label(mask)
    if not count:
        return None
    largest = parts == 1 + int(np.argmax(ndimage.sum(mask, parts, range(1, count + 1))))
    share, touches = largest.mean(), (largest & frame).sum() / frame.sum()
    [box] = ndimage.find_objects(largest.astype(int))
    right = SHARE[0] < share < SHARE[1] and touches < TOUCHES and largest[box].mean() > FILLS
    return largest if right else None


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--photos", type=Path, default=Path(__file__).parent / "photos")
    parser.add_argument("--output", type=Path, required=True)
    args = parser.parse_args()
    rows = []
    for split in ("train", "validation", "test"):
        photos = Dataset.from_parquet(str(args.photos / f"{split}.parquet"))
        for row, example in enumerate(tqdm(photos, desc=split, unit="photo")):
            mask = outline(example["image"].convert("RGB"))
            if mask is not None:
                rows.append({"split": split, "row": row, "outline": PILImage.fromarray(mask)})
        print(f"{split}: {sum(entry['split'] == split for entry in rows)} of {len(photos)}")
    features = Features({"split": Value("string"), "row": Value("int32"), "outline": Image()})
    Dataset.from_list(rows, features=features).to_parquet(args.output)


if __name__ == "__main__":
    main()
