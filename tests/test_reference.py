"""Every public name says what it is, and stands in the reference once."""

from __future__ import annotations

import inspect
import re
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

import symgraph as sg
from symgraph import errors, testing, viz
from symgraph.runtime import lowered, profile, summary, trace

PAGES = Path(__file__).parents[1] / "docs" / "reference"
DATA = {"DTYPES", "OPS", "CHECKS", "Drawable"}  # plain values and types: Python keeps no docstring of theirs
CLASSES = (
    sg.Variable, sg.Constant, sg.SharedVariable, sg.Apply, sg.Graph, sg.Function, sg.Op, sg.CustomOp, sg.Cost,
    sg.Lowering, sg.TensorType, sg.Dim, sg.Sample, lowered.LoweredKernel, profile.Profile, profile.StepTime,
    profile.Roof, trace.Values, trace.Value, summary.Summary, testing.Report, testing.Program,
)  # fmt: skip


def first_sentence(thing: Any) -> str:
    """The first sentence of the docstring; empty where there is none of its own."""
    doc = inspect.getdoc(thing) or ""
    if not isinstance(thing, type | ModuleType) and doc == inspect.getdoc(type(thing)) and not callable(thing):
        return ""
    found = re.match(r"(?s)\S.{8,}?[.:;](\s|$)|\S.{8,}?\]$", doc)
    return found.group() if found else ""


@pytest.mark.parametrize("module", [sg, testing, viz], ids=lambda m: m.__name__)
def test_every_public_name_has_a_docstring_that_begins_with_a_sentence(module: ModuleType) -> None:
    names = [name for name in module.__all__ if name not in DATA]
    assert not [name for name in names if not first_sentence(getattr(module, name))]


@pytest.mark.parametrize("cls", CLASSES, ids=lambda c: c.__name__)
def test_every_public_member_of_a_class_has_a_docstring(cls: type) -> None:
    members = {name: member for c in reversed(cls.__mro__[:-1]) for name, member in vars(c).items()}
    told = [
        name
        for name, member in members.items()
        if not name.startswith("_") and isinstance(member, property) | inspect.isfunction(member)
    ]
    assert not [name for name in told if not inspect.getdoc(getattr(cls, name))]


def test_every_error_has_a_docstring() -> None:
    found = [e for e in vars(errors).values() if isinstance(e, type) and issubclass(e, Exception)]
    assert len(found) > 10
    assert not [e.__name__ for e in found if not first_sentence(e)]


@pytest.mark.parametrize("module", [sg, testing, viz], ids=lambda m: m.__name__)
def test_the_reference_has_every_public_name_once(module: ModuleType) -> None:
    listed: list[str] = []
    for page in PAGES.glob("*.rst"):
        scope = "symgraph"
        for line in page.read_text(encoding="utf-8").splitlines():
            if found := re.match(r"\.\. currentmodule:: (\S+)", line):
                scope = found[1]
            if found := re.match(r"\.\. (?:auto(?:function|class|data|module)|py:data):: ([\w.]+)", line):
                name = found[1]
                listed.append(name if name.startswith("symgraph.") else f"{scope}.{name}")
    assert sorted(set(listed)) == sorted(listed)
    there = set(listed) | {"symgraph.errors", "symgraph.testing", "symgraph.viz"}
    assert not [name for name in module.__all__ if f"{module.__name__}.{name}" not in there]
