"""Whole Jacobians and what follows from them: products with an identity, as one batched graph, never a loop."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Literal

from symgraph import source
from symgraph.autodiff.arguments import Disconnected, check_floats, check_option, like, matching, several, show
from symgraph.autodiff.forward import jvp
from symgraph.autodiff.reverse import grad, vjp
from symgraph.autodiff.taylor import taylor
from symgraph.batching import vectorize
from symgraph.errors import FormatError, RankError, SizeError
from symgraph.graph import Interner, Variable, interning, toposort
from symgraph.op import apply, apply_node
from symgraph.ops.contract import Contract
from symgraph.ops.create import eye, ones_like, zeros_like
from symgraph.ops.reduce import sum as sum_over
from symgraph.ops.shape import moveaxis, reshape, transpose
from symgraph.substitute import substitute
from symgraph.types import unify


def jacobian(y: Any, x: Any, mode: str = "auto", disconnected: Disconnected = "raise") -> Any:
    """The Jacobian ``dy[i..] / dx[j..]``, of the shape ``y.shape + x.shape`` and the dtype of ``y``.

    Args:
        y: a variable of a float dtype and any shape, or a list or tuple of them.
        x: a variable of a float dtype and any shape, any variable of the graph, or a list or tuple of them.
        mode: ``"forward"`` multiplies with an identity from the right (its work grows with the size of ``x``),
            ``"reverse"`` from the left (with the size of ``y``). ``"auto"`` is forward where ``x`` is known not to be
            the larger one.
        disconnected: what to return where a ``y`` does not depend on an ``x``: ``"raise"`` an error, ``"zero"``s, or
            ``"none"`` (``None``).

    For several ``x`` the result has one block for each, in the structure of ``x``; for several ``y``, one of these for
    each, in the structure of ``y``. Sizes may be symbolic: a Jacobian is one graph, made by the ops' batching rules.

    Raises :class:`~symgraph.errors.FormatError` for another ``mode``, and what
    :func:`~symgraph.autodiff.reverse.vjp` raises.
    """
    check_option(disconnected)
    if mode not in ("auto", "forward", "reverse"):
        line = source.show(source.current())
        raise FormatError(f"jacobian: mode is 'auto', 'forward' or 'reverse', got {mode!r}  {line}")
    outputs, sources = several("jacobian: y", y), several("jacobian: x", x)
    check_floats("jacobian: y", outputs)
    check_floats("jacobian: x", sources)
    with interning(Interner([*outputs, *sources])):
        rows = [like(x, [_block(v, u, mode, disconnected) for u in sources]) for v in outputs]
    return like(y, rows)


def _block(y: Variable, x: Variable, mode: str, disconnected: Disconnected) -> Variable | None:
    """The Jacobian of one variable in another."""
    if mode == "auto":
        mode = "forward" if _at_most(x, y) else "reverse"
    seed = Variable(x.type if mode == "forward" else y.type)
    product = (jvp if mode == "forward" else vjp)(y, x, seed, disconnected=disconnected)
    if product is None:
        return None
    if seed.type.ndim == 0:
        (out,) = substitute([product], {seed: ones_like(seed)})
        return out
    out = over_basis([product], seed)[0]
    if mode == "forward":
        out = moveaxis(out, 0, -1)
    return reshape(out, (*y.type.shape, *x.type.shape))


def _at_most(x: Variable, y: Variable) -> bool:
    """Whether ``x`` is known to have no more elements than ``y``."""
    m, n = x.type.size, y.type.size
    return m == n or m == 1 or (isinstance(m, int) and isinstance(n, int) and m < n)


def over_basis(outputs: Sequence[Variable], seed: Variable) -> list[Variable]:
    """``outputs`` for each unit tensor in the place of ``seed``: a new axis in front, as long as ``seed`` has elements.

    ``seed`` has at least one axis.
    """
    size, shape = seed.type.size, seed.type.shape
    basis = reshape(eye(size, dtype=seed.type.dtype), (size, *shape))
    batched: list[Variable] = vectorize(list(outputs), {seed: basis})
    return _contracted(batched, basis)


def _contracted(outputs: Sequence[Variable], basis: Variable) -> list[Variable]:
    """``outputs`` without products that sum over ``basis``: they only rename axes of the other factor."""
    new: dict[Variable, Variable] = {}
    for node in toposort(outputs):
        inputs = [new.get(v, v) for v in node.inputs]
        made: Variable | None = None
        with source.attributed_to(node.sources, node.origin):
            if isinstance(node.op, Contract) and inputs[0] is not inputs[1]:
                a, b = inputs
                if a is basis:
                    made = _renamed(basis, node.op.lhs, b, node.op.rhs, node.op.out)
                elif b is basis:
                    made = _renamed(basis, node.op.rhs, a, node.op.lhs, node.op.out)
            if made is not None:
                new[node.outputs[0]] = made
            elif any(v in new for v in node.inputs):
                new.update(zip(node.outputs, apply_node(node.op, inputs).outputs, strict=True))
    return [new.get(v, v) for v in outputs]


def _renamed(
    basis: Variable, labels: tuple[int, ...], other: Variable, theirs: tuple[int, ...], out: tuple[int, ...]
) -> Variable | None:
    """The contraction of a basis, of axes ``labels``, with ``other``: no arithmetic for the axes summed over."""
    batch, *axes = labels
    summed = [k for k in axes if k not in out]
    if not summed or batch in theirs:
        return None
    fresh = {k: max(*labels, *theirs, *out) + 1 + i for i, k in enumerate(axes)}
    found = tuple(fresh[k] if k in summed else k for k in theirs)
    v = other
    for k, size in zip(axes, basis.type.shape[1:], strict=True):
        if k not in summed:  # this axis stays: along it, an identity of its own
            extended = (*found, fresh[k]) if k in found else (*found, k, fresh[k])
            v = apply(Contract(found, (k, fresh[k]), extended), v, eye(size, dtype=v.type.dtype))
            found = extended
    wanted = [j for k in out for j in ([fresh[s] for s in axes] if k == batch else [k])]
    v = transpose(v, [found.index(k) for k in wanted])
    sizes = dict(zip(wanted, v.type.shape, strict=True))
    return reshape(v, [basis.type.shape[0] if k == batch else sizes[k] for k in out])


def hessian(cost: Variable, wrt: Any, disconnected: Literal["raise", "zero"] = "raise") -> Any:
    """The Hessian of a scalar cost: for a variable of shape S, a variable of shape ``S + S``.

    ``cost`` is a scalar of a float dtype. For a list or tuple of variables the result has that structure twice: the
    block ``[i][j]`` holds the second derivatives in ``wrt[i]`` and ``wrt[j]``, of shape ``wrt[i].shape +
    wrt[j].shape``. It is forward mode over reverse mode, batched; where a block is zero, it is zeros.
    ``disconnected`` is about variables that the cost does not depend on, as in
    :func:`~symgraph.autodiff.reverse.grad`, whose errors it raises.
    """
    check_option(disconnected, none=False)
    targets = several("hessian: wrt", wrt)
    gradients: list[Variable] = grad(cost, targets, disconnected)
    rows = jacobian(gradients, targets, mode="forward", disconnected="zero")
    return like(wrt, [like(wrt, row) for row in rows])


def laplacian(y: Variable, x: Any, disconnected: Literal["raise", "zero"] = "raise") -> Variable:
    """The sum of the unmixed second derivatives of ``y``, the trace of its Hessian, for each element of ``y``.

    ``y`` is of a float dtype and any shape, which is the result's; ``x`` is a float variable of any shape, or several,
    whose Laplacians are added. Second derivatives along the unit tensors are pushed forward as one batch and added, so
    no Hessian is formed: memory grows with the size of ``x``, not with its square.
    """
    check_option(disconnected, none=False)
    sources = several("laplacian: x", x)
    total: Variable | None = None
    with interning(Interner(several("laplacian: y", y))):
        for v in sources:
            seed = Variable(v.type)
            slope = jvp(y, v, seed, disconnected=disconnected)
            second = jvp(slope, v, seed, disconnected="zero")
            if seed.type.ndim == 0:
                (term,) = substitute([second], {seed: ones_like(seed)})
            else:
                term = sum_over(over_basis([second], seed)[0], axis=0, dtype=y.type.dtype)
            total = term if total is None else total + term
    return zeros_like(y) if total is None else total


def ggn_vp(cost: Variable, outputs: Any, wrt: Any, v: Any) -> Any:
    """The product of the Gauss-Newton matrix with ``v``: ``Jᵀ H J v``, of the structure of ``wrt``.

    Args:
        cost: a scalar of a float dtype, a function of ``outputs``.
        outputs: the variable, or list or tuple of variables, of the graph of ``cost`` that stands between ``wrt`` and
            the cost: the outputs of a network.
        wrt: a float variable, or a list or tuple of them, on which ``outputs`` depend.
        v: for each variable of ``wrt``, a tensor of its type.

    J is the Jacobian of ``outputs`` in ``wrt``, and H the Hessian of the cost in ``outputs``; no matrix is formed. What
    the cost has of ``wrt`` beside ``outputs`` (weight decay) is not in it. Where H is positive semidefinite, as for
    squares and cross-entropies, so is the product's matrix (Schraudolph 2002, Neural Computation 14, section 3.4).
    Raises :class:`~symgraph.errors.DisconnectedError` for a ``wrt`` on which no output depends.
    """
    middle = several("ggn_vp: outputs", outputs)
    pushed = jvp(middle, wrt, v, disconnected="zero")
    curved = jvp(grad(cost, middle), middle, pushed, disconnected="zero")
    return vjp(middle, wrt, curved)


def linearize(y: Any, x: Any) -> tuple[Any, Callable[[Any], Any]]:
    """``y``, and its derivative in ``x`` as a function of the tangent: ``tangent -> dy/dx · tangent``.

    ``y`` and ``x`` are float variables, or lists or tuples of them; the function takes tensors for the structure of
    ``x`` and returns variables in the structure of ``y``. All its results share ``y``'s graph and the partial
    derivatives. Raises as :func:`~symgraph.autodiff.forward.jvp` does.
    """
    sources = several("linearize: x", x)
    seeds = [Variable(v.type) for v in sources]
    results: list[Variable] = jvp(several("linearize: y", y), sources, seeds)

    def product(tangent: Any) -> Any:
        tangents = matching("linearize: the tangent", tangent, sources, x)
        return like(y, substitute(results, dict(zip(seeds, tangents, strict=True))))

    return y, product


def derivative(y: Variable, x: Variable, n: int = 1) -> Variable:
    """The ``n``-th derivative of an elementwise function, of the type of ``y``.

    ``x`` is a scalar, and ``y`` of any shape; or they have one shape, and each element of ``y`` depends on the element
    of ``x`` at its place alone (otherwise the result is the derivative along the all-ones tensor). ``n`` is 0 or more.
    Raises :class:`~symgraph.errors.FormatError` for another ``n``, :class:`~symgraph.errors.RankError` or
    :class:`~symgraph.errors.SizeError` where shapes differ.
    """
    line = source.show(source.current())
    both: list[tuple[str, object]] = [("y", y), ("x", x)]
    for what, given in both:
        if isinstance(given, list | tuple):
            raise FormatError(f"derivative: {what} must be one variable, got a {type(given).__name__}  {line}")
    (out,), (v,) = several("derivative: y", y), several("derivative: x", x)
    if type(n) is not int or n < 0:
        raise FormatError(f"derivative: n must be an integer, 0 or more, got {n!r}  {line}")
    if v.type.ndim:
        if v.type.ndim != out.type.ndim:
            raise RankError(f"derivative: y and x must have one shape, got {show(out)} and {show(v)}  {line}")
        if any(unify(a, b) is None for a, b in zip(v.type.shape, out.type.shape, strict=True)):
            raise SizeError(f"derivative: y and x must have one shape, got {show(out)} and {show(v)}  {line}")
    result: Variable = taylor(out, v, ones_like(v), n)[n]
    return result
