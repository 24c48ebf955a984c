"""Print the lowest versions that pyproject.toml admits for the run-time and demo dependencies, as pip constraints."""

import platform
import re
import tomllib
from pathlib import Path


def lowest(requirements: list[str]) -> list[str]:
    """`name>=1.2` becomes `name==1.2`; a requirement without exactly that form is an error."""
    pins = []
    for requirement in requirements:
        match = re.fullmatch(r"([A-Za-z0-9._-]+)>=([0-9.]+)", requirement)
        if match is None:
            raise SystemExit(f"lowest.py: wanted `name>=version`, got `{requirement}`")
        pins.append(f"{match[1]}=={match[2]}")
    return pins


def main() -> None:
    # NumPy 2.0 and SciPy 1.13 have wheels for no later Python than 3.12, Numba 0.62 for none later than 3.13.
    if platform.python_version_tuple()[:2] != ("3", "11"):
        raise SystemExit("The lowest versions are tested on Python 3.11: make lowest PYTHON=python3.11")
    project = tomllib.loads((Path(__file__).parent.parent / "pyproject.toml").read_text())["project"]
    print("\n".join(lowest(project["dependencies"] + project["optional-dependencies"]["demo"])))


if __name__ == "__main__":
    main()
