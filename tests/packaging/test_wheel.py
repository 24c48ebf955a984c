"""The distributions hold what they should, install outside of the checkout, and work there."""

import os
import subprocess
import sys
import sysconfig
import tarfile
import tomllib
import venv
import zipfile
from pathlib import Path, PurePath, PurePosixPath

import pytest

pytestmark = pytest.mark.packaging

CHECKOUT = Path(__file__).parents[2]
SOURCES = {"symgraph": CHECKOUT / "symgraph", "symgraph_kernels": CHECKOUT / "kernels" / "symgraph_kernels"}

# Built on nothing but the public interface: a graph, its derivative, a compiled function, and where all that came from.
PROGRAM = """
import sys
from pathlib import Path

import numpy as np

import symgraph as sg
import symgraph_kernels

x = sg.vector("x")
y = sg.sum(sg.tanh(x) * x)
f = sg.function([x], [y, sg.grad(y, x)])
value, slope = f(np.array([0.5, -1.0]))
t = np.tanh([0.5, -1.0])
np.testing.assert_allclose(value, np.sum(t * [0.5, -1.0]), rtol=1e-14)
np.testing.assert_allclose(slope, t + (1 - t * t) * [0.5, -1.0], rtol=1e-14)

folder = Path(sys.argv[1]).resolve()
for package in (sg, symgraph_kernels):
    where = Path(package.__file__).resolve()
    assert folder in where.parents, f"{where} is not in {folder}"
    assert where.with_name("py.typed").exists()
"""


def call(*command: str | os.PathLike[str], cwd: Path) -> str:
    """Run a command without the paths of this process; fail with all that it printed."""
    environment = {k: v for k, v in os.environ.items() if k not in {"PYTHONPATH", "PYTHONHOME", "VIRTUAL_ENV"}}
    done = subprocess.run(
        command, cwd=cwd, env=environment, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, check=False
    )
    if done.returncode:
        pytest.fail(f"{' '.join(map(str, command))} -> {done.returncode}\n{done.stdout}", pytrace=False)
    return done.stdout


@pytest.fixture(scope="session")
def distributions(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """The wheel and the source distribution, built from the checkout; the wheel by way of the source distribution."""
    out = tmp_path_factory.mktemp("dist")
    call(sys.executable, "-m", "build", "--no-isolation", "--outdir", out, CHECKOUT, cwd=out)
    (wheel,) = out.glob("*.whl")
    (sdist,) = out.glob("*.tar.gz")
    return wheel, sdist


def clean_environment(folder: Path) -> tuple[Path, Path]:
    """An environment that knows the dependencies of this one, but not its editable installs: python, site-packages."""
    venv.create(folder, with_pip=False, symlinks=True)
    python = folder / "bin" / "python"
    site = Path(call(python, "-c", "import sysconfig; print(sysconfig.get_path('purelib'))", cwd=folder).strip())
    # A plain line of a .pth file adds a folder to sys.path without reading the .pth files in it, so the checkout that
    # this environment may have installed in editable mode stays unknown.
    (site / "dependencies.pth").write_text(
        "\n".join(dict.fromkeys([sysconfig.get_path("purelib"), sysconfig.get_path("platlib")])) + "\n"
    )
    return python, site


def install(python: Path, *what: str | os.PathLike[str], cwd: Path) -> None:
    # The pip of this environment installs into the other: an environment with a pip of its own takes seconds to make.
    pip = (sys.executable, "-m", "pip", "--disable-pip-version-check", "--python", python, "install", "--quiet")
    call(*pip, "--no-deps", "--no-index", "--ignore-installed", *what, cwd=cwd)


def files(root: Path) -> set[str]:
    return {path.relative_to(root).as_posix() for path in root.rglob("*") if path.is_file() and not generated(path)}


def generated(path: PurePath) -> bool:
    return "__pycache__" in path.parts or path.suffix == ".pyc"


def test_wheel_holds_exactly_the_two_packages(distributions: tuple[Path, Path]) -> None:
    with zipfile.ZipFile(distributions[0]) as archive:
        names = {name for name in archive.namelist() if not name.endswith("/")}
    version = metadata_version()
    info = f"symgraph_compiler-{version}.dist-info"
    assert {PurePosixPath(name).parts[0] for name in names} == {"symgraph", "symgraph_kernels", info}
    for package, source in SOURCES.items():
        held = {str(PurePosixPath(name).relative_to(package)) for name in names if name.startswith(f"{package}/")}
        assert held == files(source)
        assert "py.typed" in held
    assert f"{info}/licenses/LICENSE" in names


def test_sdist_holds_the_sources_and_the_tests(distributions: tuple[Path, Path]) -> None:
    with tarfile.open(distributions[1]) as archive:
        names = {str(PurePosixPath(*PurePosixPath(m.name).parts[1:])) for m in archive.getmembers() if m.isfile()}
    assert {"LICENSE", "README.md", "Makefile", "pyproject.toml", "PKG-INFO", "tests/conftest.py"} <= names
    for source in SOURCES.values():
        assert {(source / name).relative_to(CHECKOUT).as_posix() for name in files(source)} <= names
    stray = {name for name in names if generated(PurePosixPath(name)) or name.startswith((".venv", "dist/", "build/"))}
    assert not stray


def test_wheel_works_outside_of_the_checkout(distributions: tuple[Path, Path], tmp_path: Path) -> None:
    python, site = clean_environment(tmp_path / "environment")
    install(python, distributions[0], cwd=tmp_path)
    call(python, "-W", "error", "-c", PROGRAM, site, cwd=tmp_path)
    assert "usage" in call(tmp_path / "environment" / "bin" / "symgraph", "--help", cwd=tmp_path).lower()


def test_editable_install_finds_both_packages(tmp_path: Path) -> None:
    python, _ = clean_environment(tmp_path / "environment")
    install(python, "--no-build-isolation", "--editable", CHECKOUT, cwd=tmp_path)
    call(python, "-W", "error", "-c", PROGRAM, CHECKOUT, cwd=tmp_path)


def metadata_version() -> str:
    version: str = tomllib.loads((CHECKOUT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["version"]
    return version
