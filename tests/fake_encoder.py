"""An encoder that costs nothing: a fixed random map of 8 x 8 pixels, or of the letters of words."""

import zlib

import numpy as np
import torch

SIDE = 8


class Encoder(torch.nn.Module):
    """As much of `SentenceTransformer` as an index needs.

    Args:
        dimension: Numbers of a vector.
        seed: Of its weights.
        modalities: What it takes.
    """

    def __init__(self, dimension: int = 16, seed: int = 0, modalities: tuple[str, ...] = ("image", "text")) -> None:
        super().__init__()
        self.modalities = modalities
        self.layer = torch.nn.Linear(SIDE * SIDE * 3, dimension, bias=False)
        with torch.no_grad():
            self.layer.weight.normal_(generator=torch.Generator().manual_seed(seed))
        self.seen = 0  # inputs so far

    def get_embedding_dimension(self) -> int:
        return self.layer.out_features

    def encode(self, inputs, *, normalize_embeddings=False, **_):
        self.seen += len(inputs)
        pixels = torch.stack([torch.from_numpy(self._features(one)) for one in inputs])
        with torch.no_grad():
            vectors = self.layer(pixels)
        return (torch.nn.functional.normalize(vectors) if normalize_embeddings else vectors).numpy()

    def _features(self, one) -> np.ndarray:
        if isinstance(one, str):
            made = np.zeros(SIDE * SIDE * 3, dtype=np.float32)
            for word in one.split():
                made[zlib.crc32(word.encode()) % len(made)] += 1
            return made
        return np.asarray(one.resize((SIDE, SIDE)), dtype=np.float32).ravel() / 255 - 0.5


def unit(rng: np.random.Generator, count: int, dimension: int = 16) -> np.ndarray:
    """Vectors of length 1 (count, dimension) float32."""
    made = rng.normal(size=(count, dimension))
    return (made / np.linalg.norm(made, axis=1, keepdims=True)).astype(np.float32)
