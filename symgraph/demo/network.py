"""A network of two layers, trained on minibatches: gradients are graphs, and the optimizer's state is updates."""

from __future__ import annotations

import time
from dataclasses import dataclass

import numpy as np

import symgraph as sg
from symgraph.demo.digits import Digits
from symgraph.runtime.progress import Silent

HIDDEN, EPOCHS, BATCH = 128, 30, 32
RATE, MOMENTUM, DECAY = 0.05, 0.9, 1e-4


@dataclass(frozen=True)
class Network:
    """The compiled functions, and the seconds that it took to write and differentiate their graphs."""

    step: sg.Function
    evaluate: sg.Function
    seconds: float


@dataclass(frozen=True)
class Epoch:
    """Mean training loss over an epoch, and the accuracy on held-out images after it."""

    number: int
    loss: float
    accuracy: float


@dataclass(frozen=True)
class Trained:
    """The course of the training."""

    history: list[Epoch]
    steps: int
    seconds: float

    @property
    def accuracy(self) -> float:
        """On the held-out images, at the end."""
        return self.history[-1].accuracy


def build(seed: int = 0, threads: int | None = None) -> Network:
    """Build, differentiate and compile: one function for a training step, one for the evaluation."""
    start = time.perf_counter()
    rng = np.random.default_rng(seed + 1)

    def weights(rows: int, columns: int, name: str) -> sg.SharedVariable:
        # Uniform, of the variance that keeps activations and gradients alike (Glorot and Bengio 2010, eq. 16).
        bound = np.sqrt(6 / (rows + columns))
        return sg.shared(rng.uniform(-bound, bound, (rows, columns)).astype(np.float32), name)

    x = sg.matrix("x", dtype="float32", shape=("batch", 64))
    y = sg.vector("y", dtype="int64", shape=("batch",))
    W1, b1 = weights(64, HIDDEN, "W1"), sg.shared(np.zeros(HIDDEN, np.float32), "b1")
    W2, b2 = weights(HIDDEN, 10, "W2"), sg.shared(np.zeros(10, np.float32), "b2")
    parameters = [W1, b1, W2, b2]

    logits = sg.tanh(x @ W1 + b1) @ W2 + b2
    log_p = sg.log_softmax(logits, axis=1)
    loss = -sg.mean(sg.take_along_axis(log_p, y[:, None], axis=1))
    cost = loss + DECAY * (sg.sum(W1**2) + sg.sum(W2**2))

    updates: dict[sg.SharedVariable, sg.Variable] = {}
    for p, gradient in zip(parameters, sg.grad(cost, parameters), strict=True):
        velocity = sg.shared(np.zeros_like(p.get_value()), f"velocity of {p.name}")
        updates[velocity] = MOMENTUM * velocity - RATE * gradient
        updates[p] = p + updates[velocity]
    accuracy = sg.mean(sg.equal(sg.argmax(logits, axis=1), y))
    seconds = time.perf_counter() - start
    return Network(
        step=sg.function([x, y], loss, updates=updates, name="step", threads=threads),
        evaluate=sg.function([x, y], [loss, accuracy], name="evaluate", threads=threads),
        seconds=seconds,
    )


def train(model: Network, data: Digits, epochs: int = EPOCHS, seed: int = 0, progress: bool = False) -> Trained:
    """Run the training; the last minibatch of an epoch is smaller, which the compiled step takes as it comes."""
    rng = np.random.default_rng(seed + 2)
    train_x, test_x = data.train_x.astype(np.float32), data.test_x.astype(np.float32)
    history: list[Epoch] = []
    start = time.perf_counter()
    steps = 0
    with sg.progress(total=epochs, text="training") if progress else Silent() as bar:
        for number in range(1, epochs + 1):
            order = rng.permutation(len(train_x))
            total = 0.0
            for rows in np.split(order, range(BATCH, len(order), BATCH)):
                total += len(rows) * float(model.step(train_x[rows], data.train_y[rows]))
                steps += 1
            accuracy = float(model.evaluate(test_x, data.test_y)[1])
            history.append(Epoch(number, total / len(order), accuracy))
            bar.set_postfix(loss=f"{history[-1].loss:.4f}", held_out=f"{accuracy:.4f}")
            bar.update()
    return Trained(history, steps, time.perf_counter() - start)
