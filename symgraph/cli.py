"""The console script ``symgraph``."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command that ``argv`` names and return the exit status: 0, or 1 where something needed is missing."""
    parser = argparse.ArgumentParser(
        prog="symgraph", description="Symbolic graphs of tensors, differentiated and compiled."
    )
    parser.add_argument(
        "--version", action="store_true", help="print the versions of symgraph and what it compiles with"
    )
    commands = parser.add_subparsers(dest="command", metavar="command")
    demo = commands.add_parser(
        "demo",
        help="train a network on handwritten digits, then fit by Newton-CG",
        description="Train a two-layer network on handwritten digits, then fit a logistic regression by Newton-CG.",
    )
    demo.add_argument("--epochs", type=_positive, help="how often the network sees the training set (30)")
    demo.add_argument("--seed", type=int, default=0, help="of the weights and the minibatches (0)")
    demo.add_argument("--threads", type=_positive, help="how many threads a call may use (all cores)")
    demo.add_argument(
        "--quiet", action="store_true", help="no progress bar (there is none in a pipe or under CI anyway)"
    )
    view = commands.add_parser(
        "view",
        help="make the viewer of a saved graph: one HTML file",
        description="Write the interactive viewer of a graph that sg.viz.json saved, as one HTML file.",
    )
    view.add_argument("graph", help="a JSON file that sg.viz.json wrote; of all stages with level='all'")
    view.add_argument("--output", "-o", metavar="FILE", help="the file to write (the name of the graph, with .html)")
    commands.add_parser(
        "device",
        help="say which GPU target 'cuda' runs on, or what is missing",
        description="Say which GPU target 'cuda' runs on; where there is none, what is missing, with exit status 1.",
    )
    arguments = parser.parse_args(argv)
    if arguments.version:
        print(versions())
        return 0
    if arguments.command is None:
        parser.print_help()
        return 0
    if arguments.command == "device":
        return _device()
    if arguments.command == "view":
        return _view(arguments.graph, arguments.output)
    from symgraph import demo as job
    from symgraph.demo.digits import MissingExtraError

    try:
        epochs = arguments.epochs if arguments.epochs is not None else job.network.EPOCHS
        job.run(epochs=epochs, seed=arguments.seed, threads=arguments.threads, quiet=arguments.quiet)
    except MissingExtraError as error:
        print(error, file=sys.stderr)
        return 1
    except BrokenPipeError:
        # Whoever read the output has gone; the interpreter must not fail again when it flushes at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except KeyboardInterrupt:
        print("\ninterrupted", file=sys.stderr)
        return 130
    return 0


def _device() -> int:
    from symgraph.errors import SymgraphError
    from symgraph.runtime.cublas import described
    from symgraph.runtime.device import require, the_device

    try:
        require("cuda")
        print(the_device().name())
        print(described(the_device()))
    except SymgraphError as error:
        print(error, file=sys.stderr)
        return 1
    return 0


def _view(path: str, output: str | None) -> int:
    from symgraph.errors import SymgraphError
    from symgraph.viz import html
    from symgraph.viz.saved import load

    target = output or os.path.splitext(path)[0] + ".html"
    try:
        html(load(path), target)
    except SymgraphError as error:
        print(error, file=sys.stderr)
        return 1
    print(target)
    return 0


def versions() -> str:
    """One line: symgraph and the packages that decide what it compiles."""
    from importlib.metadata import version

    import symgraph

    others = ", ".join(f"{name} {version(name)}" for name in ("numpy", "numba", "llvmlite", "scipy"))
    return f"symgraph {symgraph.__version__} (Python {sys.version.split()[0]}, {others})"


def _positive(text: str) -> int:
    try:
        number = int(text)
    except ValueError:
        number = 0
    if number < 1:
        raise argparse.ArgumentTypeError(f"wanted a positive whole number, got {text!r}")
    return number


if __name__ == "__main__":
    sys.exit(main())
