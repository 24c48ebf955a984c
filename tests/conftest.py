"""What every test shares: a cache folder of the session's own, deterministic hypothesis runs, and golden files."""

import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from difflib import unified_diff
from pathlib import Path

import hypothesis
import pytest

# The same examples on every run: a red suite is red for everyone. To look for new counterexamples:
# pytest --hypothesis-profile=explore
hypothesis.settings.register_profile("fixed", derandomize=True, deadline=None, database=None, print_blob=True)
hypothesis.settings.register_profile("explore", deadline=None, max_examples=1000, print_blob=True)
hypothesis.settings.load_profile("fixed")

_CACHE = pytest.StashKey[str]()


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--update-golden", action="store_true", help="write golden files instead of comparing with them")


def pytest_configure(config: pytest.Config) -> None:
    # In the environment, before any test module is imported: xdist's workers and the processes that tests start inherit
    # it, so one session compiles a kernel once and never reads what another version of the code left behind.
    if not hasattr(config, "workerinput"):
        config.stash[_CACHE] = os.environ["SYMGRAPH_CACHE_DIR"] = tempfile.mkdtemp(prefix="symgraph-tests-")


def pytest_unconfigure(config: pytest.Config) -> None:
    if (folder := config.stash.get(_CACHE, None)) is not None:
        shutil.rmtree(folder, ignore_errors=True)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if isinstance(item, pytest.Function) and "golden" in item.fixturenames:
            item.add_marker("golden")


@pytest.fixture(autouse=True, scope="session")
def own_products() -> Iterator[None]:
    """Whether cuBLAS is installed changes no test: those of cuBLAS ask for it."""
    from symgraph.runtime import cublas

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(cublas, "missing", lambda: "it is not wanted in tests")
        yield


@pytest.fixture
def golden(request: pytest.FixtureRequest) -> Callable[[str, str], None]:
    """`golden(name, text)` compares `text` with the file `golden/<name>` beside the test, or writes it there.

    The file is written under `pytest --update-golden` (`make golden`); read the difference before you commit it.
    """
    folder = request.path.parent / "golden"
    update: bool = request.config.getoption("--update-golden")

    def compare(name: str, text: str) -> None:
        path = folder / name
        text = text if text.endswith("\n") else text + "\n"
        stored = path.read_text(encoding="utf-8") if path.exists() else None
        if stored == text:
            return
        if update:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text, encoding="utf-8")
        elif stored is None:
            pytest.fail(f"no golden file {_shown(path)}: write it with `make golden`", pytrace=False)
        else:
            difference = unified_diff(stored.splitlines(), text.splitlines(), "golden", "now", lineterm="")
            pytest.fail("\n".join([f"{_shown(path)} differs:", *difference]), pytrace=False)

    return compare


def _shown(path: Path) -> Path:
    return path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path
