"""How well takes fit their settings: each is predicted from all others, by a Gaussian process.

Takes are rows of features, settings rows of numbers from 0 to 1. It knows nothing of audio.

Source: C. Rasmussen, C. Williams, "Gaussian Processes for Machine Learning" (2006), section 5.4.2:
predictions that leave one out, from one inverse.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

COMPONENTS = 8
_LENGTHS = (0.4, 0.8, 1.6, 4.0)
_NOISES = (1e-4, 1e-2, 0.1, 1.0)
_MEAN = 100.0
"""Variance of what all takes have in common, in those of a component: it is not known."""
_PREDICTABLE = 0.3
"""Of a component's variance that the others must explain before it counts."""
_FLOOR = 1e-3
"""Of a component's variance: numbers are not more exact than that."""


@dataclass(frozen=True)
class Components:
    """The main ways in which takes differ.

    Args:
        values: of variance 1 each.
        sizes: dB that a value of 1 means, RMS over all features.

    Shape:
        values `[N, d]`, sizes `[d]`
    """

    values: np.ndarray
    sizes: np.ndarray


def components(features: np.ndarray, least: float) -> Components:
    """The principal components.

    Args:
        features: in dB.
        least: RMS in dB that a component must have.

    Shape:
        features `[N, F]`
    """
    centred = features - features.mean(axis=0)
    left, sizes, _ = np.linalg.svd(centred, full_matrices=False)
    rms = sizes / np.sqrt(max(1, features.size))
    kept = np.flatnonzero(rms >= least)[: min(COMPONENTS, max(1, len(features) // 3))]
    return Components(left[:, kept] * np.sqrt(len(features)), rms[kept])


class Settings:
    """The settings of all takes, and what they let predict.

    Shape:
        vectors `[N, n]`
    """

    def __init__(self, vectors: np.ndarray) -> None:
        self.vectors = vectors
        square = np.square(vectors[:, None] - vectors[None]).sum(axis=2)
        one = np.eye(len(vectors))
        self._inverses = [
            np.linalg.inv(_MEAN + length**2 * np.exp(-square / (2 * length**2)) + noise * one)
            for length in _LENGTHS
            for noise in _NOISES
        ]

    def fit(self, values: np.ndarray) -> Fit:
        """How well these values follow the settings.

        Shape:
            values `[N, d]`
        """
        chosen = []
        for column in values.T:
            probable = [_evidence(inverse, column) for inverse in self._inverses]
            chosen.append(self._inverses[int(np.argmax(probable))])
        return Fit(values, chosen)

    def without(self, number: int) -> Settings:
        """Of the other takes."""
        return Settings(np.delete(self.vectors, number, axis=0))


class Fit:
    """Every take against what the others let expect.

    Args:
        values: the components.
        inverses: of the covariances of all takes, one a component.

    Shape:
        values `[N, d]`
    """

    def __init__(self, values: np.ndarray, inverses: list[np.ndarray]) -> None:
        self.values, self._inverses = values, inverses
        self.errors = np.stack(
            [_errors(inv, y) for inv, y in zip(inverses, values.T, strict=True)], axis=1
        )
        """What is left of each value without its prediction. `[N, d]`"""

    @property
    def evidence(self) -> float:
        """Log probability of each take given the others, all together."""
        return self.evidence_of(self.values)

    def evidence_of(self, values: np.ndarray) -> float:
        """Of other values under the same covariances. Shape: `[N, d]`"""
        pairs = zip(self._inverses, values.T, strict=True)
        return sum(_evidence(inverse, column) for inverse, column in pairs)

    @property
    def explained(self) -> np.ndarray:
        """The part of the variance of each component that the others explain. `[d]`"""
        total = np.square(self.values - self.values.mean(axis=0)).mean(axis=0)
        return 1 - np.square(self.errors).mean(axis=0) / np.maximum(total, 1e-12)

    def scores(self) -> np.ndarray:
        """How far each take is off, in typical distances: of the component in which it is off the
        most, of those that can be predicted. `[N]`"""
        rows = [np.zeros(len(self.values))]
        for inverse, error in zip(self._inverses, self.errors.T, strict=True):
            off = np.abs(error) * np.sqrt(np.diag(inverse))
            usual = 1.4826 * float(np.median(off))
            kept = np.minimum(np.abs(error), 3 * usual / np.sqrt(np.diag(inverse)))
            if np.mean(kept**2) < 1 - _PREDICTABLE:
                rows.append(off / max(usual, _FLOOR))
        return np.max(rows, axis=0)


def _errors(inverse: np.ndarray, column: np.ndarray) -> np.ndarray:
    return inverse @ column / np.diag(inverse)


def _evidence(inverse: np.ndarray, column: np.ndarray) -> float:
    """With the scale that suits best."""
    precision = np.diag(inverse)
    scale = float(np.mean(np.square(inverse @ column) / precision)) + _FLOOR**2
    return 0.5 * float(np.log(precision).sum() - len(column) * np.log(scale))
