"""The bindings of cuBLAS take what the run-time gives them: the fake that it is tested with has their signatures.

The bindings convert arguments before they look for the driver. Where there is none, the conversion is all that happens.
"""

from __future__ import annotations

import inspect
import re
from pathlib import Path
from typing import Any

import pytest

import symgraph.runtime.cublas
from tests.cuda.simulator.fake_cublas import FakeCublas, Math, Operation, PointerMode, cuBLASError

real: Any = pytest.importorskip("nvmath.bindings.cublas")
FUNCTIONS = sorted(n for n in vars(FakeCublas) if n[0] != "_" and inspect.isfunction(getattr(FakeCublas, n)))


def parameters(name: str) -> list[str]:
    """Of the real function, by the first line of its docstring: ``f(intptr_t handle, int n) -> int``."""
    found = re.match(rf"{name}\((.*?)\)", str(getattr(real, name).__doc__))
    assert found is not None
    return [p.split()[-1] for p in found[1].split(",") if p.strip()]


def test_the_fake_has_what_the_run_time_calls() -> None:
    text = Path(symgraph.runtime.cublas.__file__).read_text()
    assert set(re.findall(r"\bb\.([a-z]\w+)", text)) | set(re.findall(r"_b\.([a-z]\w+)", text)) == set(FUNCTIONS)


@pytest.mark.parametrize("name", FUNCTIONS)
def test_parameters_are_the_real_ones(name: str) -> None:
    assert list(inspect.signature(getattr(FakeCublas, name)).parameters)[1:] == parameters(name)


@pytest.mark.parametrize("fake", [Operation, PointerMode, Math])
def test_numbers_are_the_real_ones(fake: Any) -> None:
    for member in fake:
        assert int(getattr(real, fake.__name__)[member.name]) == member
    assert issubclass(real.cuBLASError, Exception)
    assert issubclass(cuBLASError, Exception)


@pytest.mark.parametrize("name", FUNCTIONS)
def test_arguments_are_converted(name: str) -> None:
    from cuda.bindings import driver

    try:
        driver.cuDriverGetVersion()
    except RuntimeError:
        small = {"transa", "transb", "mode", "type"}
        args = [1 if p in small else 2**40 for p in parameters(name)]
        with pytest.raises(RuntimeError, match="driver is not found"):
            getattr(real, name)(*args)
        if args:
            with pytest.raises(TypeError):
                getattr(real, name)(*args[:-1], "x")
            with pytest.raises(TypeError):
                getattr(real, name)(*args[:-1])
    else:
        pytest.skip("there is a driver, which would be called")
