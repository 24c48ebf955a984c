"""What is said where target ``cuda`` cannot run: one class, which thing is missing, and what to install."""

from __future__ import annotations

import builtins
import subprocess
import sys
from typing import Any

import pytest

import symgraph as sg
from symgraph.cli import main
from symgraph.errors import MissingDeviceError
from symgraph.runtime.device import require

pytest.importorskip("cuda.bindings")
from cuda.bindings import driver as real

OK = real.CUresult.CUDA_SUCCESS


class Probe:
    """The driver of a machine that does not exist."""

    def __init__(self, **facts: Any) -> None:
        self.version, self.status, self.count, self.cc = 13050, OK, 1, (9, 0)
        self.__dict__.update(facts)

    def __getattr__(self, name: str) -> Any:
        return getattr(real, name)

    def cuDriverGetVersion(self) -> tuple[Any, int]:
        if not self.version:
            raise RuntimeError('"cuda" is an NVIDIA driver library')
        return OK, self.version

    def cuInit(self, flags: int) -> tuple[Any]:
        return (self.status,)

    def cuGetErrorString(self, status: Any) -> tuple[Any, bytes]:
        return OK, b"unknown"

    def cuDeviceGetCount(self) -> tuple[Any, int]:
        return OK, self.count

    def cuDeviceGet(self, number: int) -> tuple[Any, int]:
        return OK, number

    def cuDeviceGetAttribute(self, which: Any, device: int) -> tuple[Any, int]:
        return OK, self.cc["MINOR" in which.name]


def broken() -> None:
    raise RuntimeError("libnvJitLink.so is not found\nand more")


CASES = {
    "no driver": ({"version": 0}, r"there is no NVIDIA driver: install NVIDIA's driver 580 or later;"),
    "old driver": (
        {"version": 12040},
        r"the NVIDIA driver is too old: it has CUDA 12\.4, wanted CUDA 13\.0: install NVIDIA's driver 580 or later;",
    ),
    "no GPU": ({"status": real.CUresult.CUDA_ERROR_NO_DEVICE}, r"there is no NVIDIA GPU that the driver can use"),
    "none shown": ({"count": 0}, r"there is no NVIDIA GPU that the driver can use \(CUDA_VISIBLE_DEVICES"),
    "driver that fails": (
        {"status": real.CUresult.CUDA_ERROR_UNKNOWN},
        r"the NVIDIA driver does not start: unknown: install NVIDIA's driver 580 or later;",
    ),
    "old GPU": ({"cc": (6, 1)}, r"the GPU is too old: compute capability 6\.1, and CUDA 13 makes code for 7\.5 and la"),
}


@pytest.mark.parametrize("case", CASES)
def test_what_is_missing_is_said_when_a_function_is_made(case: str, monkeypatch: pytest.MonkeyPatch) -> None:
    facts, message = CASES[case]
    monkeypatch.setattr("cuda.bindings.driver", Probe(**facts))
    x = sg.vector("x", shape="n")
    with pytest.raises(MissingDeviceError, match=rf"^target 'cuda': {message}.*target='cpu' runs the same graph"):
        sg.function([x], x + 1, target="cuda")


def test_a_machine_that_has_everything(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("cuda.bindings.driver", Probe())
    require("cuda")


@pytest.mark.parametrize("library", ["nvvm", "nvjitlink"])
def test_the_libraries_that_make_machine_code(library: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("cuda.bindings.driver", Probe())
    monkeypatch.setattr(f"cuda.bindings.{library}.version", broken)
    with pytest.raises(
        MissingDeviceError, match=r"not installed \(libnvJitLink.so is not found\): pip install 'symgraph-compiler\[cud"
    ):
        require("cuda")


def test_bindings_that_are_not_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    plain = builtins.__import__

    def absent(name: str, *rest: Any) -> Any:
        if name == "cuda.bindings":
            raise ImportError("No module named 'cuda.bindings'")
        return plain(name, *rest)

    monkeypatch.setattr(builtins, "__import__", absent)
    with pytest.raises(
        MissingDeviceError, match=r"bindings of CUDA are not installed \(No module .*\): pip install 'symgraph-compiler"
    ):
        require("cuda")


def test_numba_without_numba_cuda(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("cuda.bindings.driver", Probe())
    monkeypatch.setitem(sys.modules, "numba_cuda", None)
    x = sg.vector("x", shape="n")
    (kernel,) = sg.lower([x], x + 1, target="cuda").kernels
    for attempt in (kernel.ptx, lambda: sg.function([x], x + 1, target="cuda")):
        with pytest.raises(
            MissingDeviceError, match=r"numba-cuda, which is not installed: pip install 'symgraph-compil"
        ):
            attempt()


def test_the_command_says_the_same_in_one_sentence(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("cuda.bindings.driver", Probe(version=0))
    assert main(["device"]) == 1
    out = capsys.readouterr()
    assert (out.out, out.err.count("\n")) == ("", 1)
    assert out.err.startswith("target 'cuda': there is no NVIDIA driver: install")


def test_benchmarks_refuse_without_a_gpu() -> None:
    if main(["device"]) == 0:
        pytest.skip("there is a GPU")
    done = subprocess.run([sys.executable, "-m", "benchmarks.gpu"], capture_output=True, text=True)
    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (1, "", 1)
    assert done.stderr.startswith("target 'cuda': there is no ")
