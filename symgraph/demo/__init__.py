"""``symgraph demo``: the main job from end to end, on the handwritten digits that scikit-learn ships.

It is written as a user would write it, on the public interface: :mod:`~symgraph.demo.network` trains by gradients,
:mod:`~symgraph.demo.newton` by Hessian-vector products, and :mod:`~symgraph.demo.report` says what was built.
"""

from __future__ import annotations

import time
from dataclasses import dataclass

from symgraph.demo import network, newton, report
from symgraph.demo.digits import load
from symgraph.runtime.function import Function


@dataclass(frozen=True)
class Result:
    """What the demo reached: held-out accuracies of both models, and the course of Newton's method."""

    network: network.Trained
    regression: newton.Fitted
    seconds: dict[str, float]


def run(epochs: int = network.EPOCHS, seed: int = 0, threads: int | None = None, quiet: bool = False) -> Result:
    """Train the network, fit the regression, and print what happened.

    Args:
        epochs: how often the network sees the training set.
        seed: of the weights and of the order of the minibatches.
        threads: as in :func:`symgraph.function`.
        quiet: no progress bar, whatever the terminal.

    Raises :class:`~symgraph.demo.digits.MissingExtraError` where scikit-learn is not installed.
    """
    start = time.perf_counter()
    data = load()
    seconds = {"load the data": time.perf_counter() - start}
    print(f"Handwritten digits: {len(data.train_x)} to learn from, {len(data.test_x)} held out, 64 pixels each.")

    report.heading("A network of two layers, minibatches of 32, momentum")
    model = network.build(seed, threads)
    print(report.built(model.step))
    trained = network.train(model, data, epochs, seed, progress=not quiet)
    print()
    print(report.memory(model.step))
    print()
    print(report.history(trained))

    report.heading("Logistic regression by Newton-CG: Hessian-vector products are the gradient of a gradient")
    objective = newton.build(data, threads)
    print(report.built(objective.hessian_product))
    fitted = newton.fit(objective, data)
    print()
    print(report.newton_steps(fitted))

    report.heading("Seconds")
    functions: list[Function] = [model.step, model.evaluate, objective.value_and_gradient, objective.hessian_product]
    stages = {
        "build and differentiate the graphs": model.seconds + objective.seconds + report.stage(functions, "build"),
        "optimize them": report.stage(functions, "optimize"),
        "fuse and lower": report.stage(functions, "fuse and lower"),
        "compile (or load from the cache on disk)": report.stage(functions, "compile"),
        f"run: {trained.steps} steps of the network": trained.seconds,
        f"run: {len(fitted.steps)} steps of Newton's method": fitted.seconds,
    }
    seconds |= stages
    print(report.times(stages))
    print()
    print(f"Held-out accuracy: network {trained.accuracy:.4f}, logistic regression {fitted.accuracy:.4f}")
    return Result(trained, fitted, seconds)
