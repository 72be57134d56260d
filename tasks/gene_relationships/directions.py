"""Gene vectors brought to length one, so that a product is the similarity of two genes: their cosine."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Directions:
    """Genes that have a vector, and where it points.

    Similarity is the cosine of the vectors as the model gives them: they are not centred, since every similarity of
    two genes would then depend on which others are looked at.

    Parameters
    ----------
    names
        Unicode (n,), distinct.
    unit
        float64 (n, d), rows of length one.
    """

    names: np.ndarray
    unit: np.ndarray

    @classmethod
    def of(cls, names: np.ndarray, vectors: np.ndarray) -> Directions:
        """Of vectors (n, d); a row that holds a NaN, or zeros only, is no vector."""
        wide = np.asarray(vectors, np.float64)
        length = np.linalg.norm(wide, axis=1)
        has = np.isfinite(length) & (length > 0)
        return cls(np.asarray(names)[has], wide[has] / length[has, None])

    def __len__(self) -> int:
        return len(self.names)

    def shuffled(self, seed: int) -> Directions:
        """Vectors exchanged among the genes: what is left is not what the vectors say."""
        return Directions(self.names, self.unit[np.random.default_rng([seed, 71]).permutation(len(self))])
