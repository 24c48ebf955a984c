"""Products of tensors against NumPy's, in several dtypes, with static and with symbolic sizes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import symgraph as sg
from symgraph.errors import FormatError, RankError, SizeError


def compare(f: Callable[..., Any], g: Callable[..., Any], *arrays: Any) -> None:
    want = np.asarray(g(*arrays))
    for symbolic in (False, True):
        inputs = [
            sg.tensor(f"x{k}", dtype=a.dtype, shape=[s if s == 1 or not symbolic else f"n{s}" for s in a.shape])
            for k, a in enumerate(arrays)
        ]
        got = f(*inputs).eval(dict(zip(inputs, arrays, strict=True)), target="numpy")
        tolerance = 1e-2 if want.dtype == np.float16 else 1e-12
        np.testing.assert_allclose(got, want, rtol=tolerance, atol=tolerance, strict=True)


def draw(shape: tuple[int, ...], dtype: str = "float64") -> Any:
    return (np.random.default_rng(sum(shape)).normal(size=shape) * 3).astype(dtype)


@pytest.mark.parametrize("dtype", ["float64", "float16", "int32", "bool"])
@pytest.mark.parametrize(
    ("left", "right"),
    [
        ((3,), (3,)), ((2, 3), (3,)), ((3,), (3, 2)), ((2, 3), (3, 4)), ((5, 2, 3), (3, 4)), ((5, 2, 3), (5, 3, 4)),
        ((5, 1, 2, 3), (4, 3, 2)), ((3,), (5, 3, 2)), ((4, 5, 2, 3), (3,)), ((1, 2, 3), (5, 3, 4)), ((2, 0), (0, 3)),
        ((1, 2, 1), (1, 1, 3)),
    ],
)  # fmt: skip
def test_matmul(left: tuple[int, ...], right: tuple[int, ...], dtype: str) -> None:
    compare(sg.matmul, np.matmul, draw(left, dtype), draw(right, dtype))


@pytest.mark.parametrize(
    ("name", "left", "right"),
    [
        ("dot", (2, 3), (4, 3, 5)), ("dot", (3,), (3,)), ("dot", (), (3,)), ("inner", (2, 3), (4, 3)),
        ("outer", (2, 3), (4,)), ("vecdot", (2, 3), (3,)), ("vecdot", (4, 2, 3), (2, 3)),
        ("tensordot", (2, 3, 4), (3, 4, 5)),
    ],
)  # fmt: skip
def test_products(name: str, left: tuple[int, ...], right: tuple[int, ...]) -> None:
    if not hasattr(np, name):
        pytest.skip(f"this NumPy has no {name}")
    compare(getattr(sg, name), getattr(np, name), draw(left), draw(right))


def test_tensordot_over_given_axes() -> None:
    axes = ([0, 2], [1, 0])
    compare(
        lambda a, b: sg.tensordot(a, b, axes), lambda a, b: np.tensordot(a, b, axes), draw((2, 3, 4)), draw((4, 2, 5))
    )


@pytest.mark.parametrize("dtype", ["float64", "int16"])
@pytest.mark.parametrize(
    ("subscripts", "shapes"),
    [
        ("ij,jk->ik", [(2, 3), (3, 4)]), ("ij,jk", [(2, 3), (3, 4)]), ("ii", [(3, 3)]), ("ii->i", [(3, 3)]),
        ("ij->ji", [(2, 3)]), ("ij->", [(2, 3)]), ("ijk->j", [(2, 3, 4)]), ("i,i->i", [(3,), (3,)]),
        ("ij,kl->", [(2, 3), (4, 5)]), ("bij,bjk,bkl->bil", [(5, 2, 3), (5, 3, 4), (5, 4, 2)]), ("ba", [(2, 3)]),
        ("...ij,...jk->...ik", [(5, 2, 3), (4, 5, 3, 2)]), ("...i,i->...", [(2, 3, 4), (4,)]), ("...", [(2, 3)]),
        ("ij,ij,ij->i", [(2, 3), (2, 3), (2, 3)]), ("iij,jk->ik", [(3, 3, 2), (2, 4)]), (",i->i", [(), (3,)]),
        ("i,j,k->kji", [(2,), (3,), (4,)]), ("ij...->i...", [(2, 3, 4)]), ("ij,jj->i", [(2, 3), (3, 3)]),
        ("ab,bc,cd,da", [(2, 3), (3, 4), (4, 5), (5, 2)]), ("ij,kj->ik", [(2, 1), (4, 3)]),
        ("...i,...i->...", [(1, 3), (4, 3)]),
    ],
)  # fmt: skip
def test_einsum(subscripts: str, shapes: list[tuple[int, ...]], dtype: str) -> None:
    arrays = [draw(shape, dtype) for shape in shapes]
    compare(lambda *v: sg.einsum(subscripts, *v), lambda *v: np.einsum(subscripts, *v), *arrays)


def test_einsum_contracts_a_chain_from_its_small_end() -> None:
    a, b, v = sg.matrix("a", shape=(100, 100)), sg.matrix("b", shape=(100, 100)), sg.vector("v", shape=(100,))
    y = sg.einsum("ij,jk,k->i", a, b, v)
    assert [w.type.ndim for w in sg.get_inputs(y)] == [2, 1]


def test_errors() -> None:
    x, y = sg.tensor("x", "float32", (3, 4)), sg.tensor("y", "float32", (5, 6))
    with pytest.raises(
        SizeError, match=r"matmul: inner sizes differ: 4 and 5 :: x: float32\[3, 4\], y: float32\[5, 6\]"
    ):
        x @ y
    with pytest.raises(SizeError, match="inner sizes differ"):
        x @ np.ones((1, 2))  # a 1 does not stretch where it is summed over
    with pytest.raises(RankError, match="multiply"):
        sg.matmul(x, 2.0)
    with pytest.raises(SizeError, match="of one label differ"):
        sg.einsum("ij,jk", x, y)
    for subscripts in ("ij,jk", "ijk", "i1", "ij->ii", "ij->k", "ij->..."):
        with pytest.raises(FormatError):
            sg.einsum(subscripts, x)
