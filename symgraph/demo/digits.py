"""The data: 1,797 images of handwritten digits that come with scikit-learn (UCI, Alpaydin and Kaynak 1998)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from symgraph.errors import SymgraphError


class MissingExtraError(SymgraphError, ImportError):
    """The demo needs packages that symgraph itself does not."""

    def __init__(self, package: str) -> None:
        super().__init__(
            f"symgraph demo needs {package}, which is not installed. It belongs to the optional extra 'demo':\n"
            "    pip install 'symgraph-compiler[demo]'      or, in a checkout of the sources,\n"
            "    pip install '.[demo]'                      or simply: make demo"
        )


@dataclass(frozen=True)
class Digits:
    """Images as rows of 64 pixels in 0 … 1 (float64), labels 0 … 9 (int64); a fifth is held out."""

    train_x: NDArray[np.float64]
    train_y: NDArray[np.int64]
    test_x: NDArray[np.float64]
    test_y: NDArray[np.int64]


def load(held_out: float = 0.2) -> Digits:
    """The digits, split at random but always alike.

    Raises :class:`MissingExtraError` where scikit-learn is not installed.
    """
    try:
        from sklearn.datasets import load_digits
    except ModuleNotFoundError as error:
        raise MissingExtraError("scikit-learn") from error
    images, labels = load_digits(return_X_y=True)
    order = np.random.default_rng(0).permutation(len(images))
    x = np.ascontiguousarray(images[order] / 16.0, np.float64)
    y = np.ascontiguousarray(labels[order], np.int64)
    split = len(x) - round(held_out * len(x))
    return Digits(x[:split], y[:split], x[split:], y[split:])
