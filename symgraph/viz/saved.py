"""Stages as JSON, and back: what ``sg.viz.json(x, level="all")`` writes, the viewer reads."""

from __future__ import annotations

import dataclasses
import json
import os
from typing import Any, TypeVar, get_args

from symgraph import source
from symgraph.errors import PictureError
from symgraph.viz.build import Drawable, Subject
from symgraph.viz.model import Edge, Group, GroupKind, Node, NodeKind, Picture, Stage

T = TypeVar("T", Node, Edge, Group)


def all_stages(x: Drawable, title: str = "") -> dict[str, Any]:
    """Every stage of ``x`` as plain dictionaries and lists."""
    from symgraph.viz.viewer import kernel_code

    subject = Subject(x, title)
    made = [s.as_dict() for s in subject.stages]
    for s in made:
        s["picture"]["code"] = {}
    made[-1]["picture"]["code"] = kernel_code(subject.stages, subject.program)
    return {"title": subject.title, "level": "all", "stages": made}


def load(path: str | os.PathLike[str]) -> list[Stage]:
    """The stages in a file that ``sg.viz.json`` wrote: all of them, or the one picture that it has.

    Raises :class:`~symgraph.errors.PictureError` for a file that cannot be read or is something else.
    """
    name = os.fspath(path)

    def wrong(what: str) -> PictureError:
        return PictureError(
            f"view: wanted a picture that sg.viz.json wrote, but {name!r} {what}  {source.show(source.current())}"
        )

    try:
        with open(path, encoding="utf-8") as file:
            found = json.load(file)
    except OSError as error:
        raise PictureError(f"view: cannot read {name!r}: {error.strerror or error}") from error
    except (ValueError, RecursionError) as error:
        raise wrong(f"is no JSON: {error}") from error
    if isinstance(found, dict) and found.get("level") == "memory":
        raise wrong("has the memory plan, which is no graph")
    try:
        if "stages" in found:
            return [_stage(s) for s in found["stages"]]
        picture = _picture(found)
        return [Stage(picture.level, "", picture)]
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise wrong(f"has another form: {error!r}") from error


def _stage(s: dict[str, Any]) -> Stage:
    return Stage(
        _text(s["name"]),
        _text(s["about"]),
        _picture(s["picture"]),
        tuple((_text(rule), int(times)) for rule, times in s["fired"]),
        frozenset(map(_text, s["changed"])),
        tuple(map(_text, s["removed"])),
        {k: tuple(map(_text, v)) for k, v in s["rules"].items()},
    )


def _picture(p: dict[str, Any]) -> Picture:
    nodes = tuple(_made(Node, n) for n in p["nodes"])
    edges = tuple(_made(Edge, e) for e in p["edges"])
    groups = tuple(_made(Group, g) for g in p["groups"])
    ids, frames = {n.id for n in nodes}, {"": ""}
    for g in groups:
        if g.kind not in get_args(GroupKind):
            raise ValueError(f"{g.id!r} is of the kind {g.kind!r}, which there is not")
        if g.parent not in frames:
            raise ValueError(f"the group {g.parent!r} around {g.id!r} does not stand before it")
        frames[g.id] = g.parent
    if len(ids) < len(nodes) or len(frames) < len(groups) + 1:
        raise ValueError("an id is there twice")
    for e in edges:
        if e.source not in ids or e.target not in ids:
            raise ValueError(f"an edge goes from {e.source!r} to {e.target!r}, which are not both there")
    for n in nodes:
        if n.kind not in get_args(NodeKind):
            raise ValueError(f"{n.id!r} is of the kind {n.kind!r}, which there is not")
        if n.group not in frames:
            raise ValueError(f"the group {n.group!r} of {n.id!r} is not there")
    code = {name: {k: _text(v) for k, v in texts.items()} for name, texts in p["code"].items()}
    return Picture(_text(p["title"]), _text(p["level"]), nodes, edges, groups, code)


def _text(x: Any) -> str:
    if not isinstance(x, str):
        raise TypeError(f"wanted text, got {x!r}")
    return x


def _made(kind: type[T], x: dict[str, Any]) -> T:
    """A node, edge or group of its fields, each of its own type."""
    values: dict[str, Any] = {}
    for f in dataclasses.fields(kind):
        if f.name not in x:
            continue
        value = x[f.name]
        if f.type == "tuple[str, ...]":
            values[f.name] = tuple(map(_text, value))
        else:
            values[f.name] = int(value) if f.type == "int" else _text(value)
    unknown = x.keys() - {f.name for f in dataclasses.fields(kind)}
    if unknown:
        raise ValueError(f"no field is called {', '.join(sorted(unknown))}")
    return kind(**values)
