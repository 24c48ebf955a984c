"""The demo: a short run reaches what the long one must, says what it did, and a missing extra is said clearly."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import numpy as np
import pytest

from symgraph import cli, demo
from symgraph.demo import digits, network, newton, report

pytest.importorskip("sklearn")


def test_the_digits_are_split_alike_every_time() -> None:
    data = digits.load()
    assert data.train_x.shape == (1438, 64)
    assert data.test_x.shape == (359, 64)
    assert data.train_x.min() == 0
    assert data.train_x.max() == 1
    assert np.array_equal(digits.load().test_y, data.test_y)
    assert np.all(np.bincount(data.test_y, minlength=10) > 20)


def test_the_network_learns_and_does_so_again() -> None:
    data = digits.load()
    first, second = (network.train(network.build(threads=1), data, epochs=6) for _ in range(2))
    assert first.steps == 6 * 45
    assert first.accuracy >= 0.97
    assert [(e.loss, e.accuracy) for e in first.history] == [(e.loss, e.accuracy) for e in second.history]


def test_newton_converges_superlinearly_to_a_stationary_point() -> None:
    data = digits.load()
    fitted = newton.fit(newton.build(data, threads=1), data)
    assert len(fitted.steps) < 30
    assert fitted.gradient < 1e-6
    assert all(a.value > b.value for a, b in zip(fitted.steps, fitted.steps[1:], strict=False))
    assert fitted.gradient < fitted.steps[-1].gradient / 50
    assert fitted.accuracy > 0.95


def test_hessian_products_are_those_of_the_formula() -> None:
    rng = np.random.default_rng(0)
    x, y = rng.uniform(0, 1, (40, 64)), rng.integers(0, 10, 40)
    objective = newton.build(digits.Digits(x, y, x, y), threads=1)
    t, v = rng.normal(size=650) / 10, rng.normal(size=650)
    z = x @ t[:640].reshape(64, 10) + t[640:]
    p = np.exp(z - z.max(1, keepdims=True))
    p /= p.sum(1, keepdims=True)
    u = x @ v[:640].reshape(64, 10) + v[640:]
    s = p * (u - (p * u).sum(1, keepdims=True)) / len(x)
    wanted = np.concatenate([(x.T @ s).ravel(), s.sum(0)]) + newton.PENALTY * v
    np.testing.assert_allclose(objective.hessian_product(t, v), wanted, rtol=1e-10, atol=1e-14)


def test_conjugate_gradients() -> None:
    rng = np.random.default_rng(0)
    A = rng.normal(size=(8, 8))
    A, b = A @ A.T + np.eye(8), rng.normal(size=8)
    x, products = newton.conjugate_gradients(lambda v: A @ v, b, 1e-10)
    np.testing.assert_allclose(A @ x, b, atol=1e-9)
    assert products <= 12


def test_what_is_printed(capsys: pytest.CaptureFixture[str]) -> None:
    result = demo.run(epochs=2, threads=1)
    out, err = capsys.readouterr()
    assert err == ""  # no bar where nobody watches
    for wanted in (
        "1438 to learn from, 359 held out",
        "nodes before",
        "canonicalize",
        "distinct kernels",
        "one arena of",
        "held-out accuracy",
        "gradient / first",
        "compile (or load from the cache on disk)",
        "run: 90 steps of the network",
    ):
        assert wanted in out, wanted
    assert result.network.steps == 90
    assert result.seconds["load the data"] > 0


def test_the_arena_is_smaller_than_what_it_replaces() -> None:
    model = network.build(threads=1)
    assert report.memory(model.step) == "  not called yet"
    model.step(np.zeros((5, 64), np.float32), np.zeros(5, np.int64))
    model.step(np.zeros((32, 64), np.float32), np.zeros(32, np.int64))
    text = report.memory(model.step)
    assert "batch 32" in text
    arena, apart, every = (int(n.replace(",", "")) for n in re.findall(r"\d+,[\d,]*\d", text))
    assert arena < apart < every


# -- the console script ------------------------------------------------------------------------------------------------


def test_a_missing_extra_is_named(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    for name in [m for m in sys.modules if m.partition(".")[0] == "sklearn"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "sklearn", None)
    assert cli.main(["demo", "--epochs", "1", "--threads", "1"]) == 1
    err = capsys.readouterr().err
    assert "needs scikit-learn" in err
    assert "pip install 'symgraph-compiler[demo]'" in err
    assert "Traceback" not in err


def test_arguments(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main([]) == 0
    assert "demo" in capsys.readouterr().out
    for wrong in (["demo", "--epochs", "0"], ["demo", "--threads", "two"], ["nothing"]):
        with pytest.raises(SystemExit) as caught:
            cli.main(wrong)
        assert caught.value.code == 2


def test_version(capsys: pytest.CaptureFixture[str]) -> None:
    try:
        wanted = version("symgraph-compiler")
    except PackageNotFoundError:
        pytest.skip("symgraph is not installed here")
    assert cli.main(["--version"]) == 0
    assert capsys.readouterr().out.startswith(f"symgraph {wanted} (Python 3.")


def test_output_that_nobody_reads_any_more() -> None:
    root = Path(__file__).parent.parent
    code = "import sys; from symgraph.cli import main; sys.exit(main(['demo', '--epochs', '1']))"
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(root), str(root / "kernels")])}
    reader, writer = os.pipe()
    os.close(reader)
    try:
        done = subprocess.run(
            [sys.executable, "-u", "-c", code],
            stdout=writer,
            stderr=subprocess.PIPE,
            text=True,
            env=environment,
            timeout=120,
        )
    finally:
        os.close(writer)
    assert done.returncode == 1
    assert done.stderr == ""
