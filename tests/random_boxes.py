"""Boxes made by a random generator: some right, some near, some of another class, some anywhere."""

import numpy as np

from hf_fashion import metrics


def random_boxes(
    photos: int = 40, classes: int = 4, said: int = 10, crowds: bool = True, ties: bool = False, seed: int = 0
) -> tuple[metrics.Detections, metrics.Annotations, list[str]]:
    """Detections, annotations and labels; of the last class there is no annotation, and some photos have none."""
    rng = np.random.default_rng(seed)
    image = np.repeat(np.arange(photos), rng.poisson(3, photos))
    sides = np.exp(rng.uniform(np.log(8), np.log(250), (len(image), 2)))
    box = np.concatenate([rng.uniform(0, 300, sides.shape), sides], axis=1)
    label = rng.integers(0, classes - 1, len(image))
    area = np.where(rng.random(len(image)) < 0.5, np.nan, 0.7 * sides.prod(axis=1))
    crowd = rng.random(len(image)) < 0.1 if crowds else None
    references = metrics.Annotations(image, box, label, photos, area, crowd)

    source = rng.integers(0, len(image), said * photos)
    n = len(source)
    shift = rng.choice([0, 0.05, 0.2], (n, 1)) * rng.normal(size=(n, 4))
    near = box[source] + shift * np.tile(sides[source], 2)
    near[:, 2:] = np.maximum(near[:, 2:], 1)
    far = np.concatenate([rng.uniform(0, 300, (n, 2)), rng.uniform(5, 200, (n, 2))], axis=1)
    is_near = rng.random(n) < 0.6
    score = rng.permutation(n) / n
    predictions = metrics.Detections(
        np.where(is_near, image[source], rng.integers(0, photos, n)),
        np.where(is_near[:, None], near, far),
        score.round(2) if ties else score,
        np.where(rng.random(n) < 0.8, label[source], rng.integers(0, classes, n)),
    )
    return predictions, references, [f"c{number}" for number in range(classes)]
