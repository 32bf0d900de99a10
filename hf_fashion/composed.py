"""A photo and words ask together; light, since pages that only search ask so, too."""

import numpy as np


def composed(photos: np.ndarray, texts: np.ndarray, weight: float = 0.5) -> np.ndarray:
    """What a photo and words about a change ask for: the sum of both vectors, of length 1 (Baldrati et al. 2022).

    Args:
        photos: Vectors of length 1 (n, d).
        texts: Vectors of length 1 (n, d).
        weight: Of the words, from 0 to 1.

    Returns:
        (n, d) 32-bit floats.
    """
    told = (1 - weight) * np.asarray(photos, dtype=np.float32) + weight * np.asarray(texts, dtype=np.float32)
    length = np.linalg.norm(told, axis=1, keepdims=True)
    return np.asarray(told / np.maximum(length, 1e-12), dtype=np.float32)
