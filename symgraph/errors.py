"""Errors: one class per cause. Each message says what was wanted, what came, and the user's own line."""

from __future__ import annotations


class SymgraphError(Exception):
    """Base of every error that symgraph raises on purpose."""


class DTypeError(SymgraphError, TypeError):
    """An operand has a dtype that the operation does not take, or cannot be converted to the wanted one."""


class RankError(SymgraphError, ValueError):
    """An operand has the wrong number of axes, or an axis does not exist."""


class SizeError(SymgraphError, ValueError):
    """Sizes contradict each other, or contradict a named dimension."""


class IndexRangeError(SymgraphError, IndexError):
    """An index lies outside the axis that it indexes."""


class SymbolicValueError(SymgraphError, TypeError):
    """The number behind a symbolic variable was asked for (``bool(x)``, ``float(x)``, ``np.asarray(x)``)."""


class MissingInputError(SymgraphError, TypeError):
    """A graph needs the value of an input that was not given."""


class UnknownInputError(SymgraphError, TypeError):
    """A value was given for something that is not an input of the function."""


class AmbiguousNameError(SymgraphError, TypeError):
    """Two inputs, or two operations, of one name, and the name was used to tell them apart."""


class UpdateError(SymgraphError, TypeError):
    """An update whose target is not a shared variable, or whose type differs from the target's."""


class CycleError(SymgraphError, ValueError):
    """The graph contains a cycle."""


class CostError(SymgraphError, TypeError):
    """The quantity to differentiate is not a real scalar."""


class DisconnectedError(SymgraphError, ValueError):
    """The cost does not depend on a variable that its gradient was asked for."""


class NotDifferentiableError(SymgraphError, TypeError):
    """The derivative of an operation is undefined; the message names the operation and why."""


class RuleError(SymgraphError, TypeError):
    """A derivative, batching or rewrite rule returned the wrong number or type of results."""


class HostError(SymgraphError, RuntimeError):
    """A user's function raised, or did not compile, where a program ran it: the original exception is the cause."""


class MissingDeviceError(SymgraphError, RuntimeError):
    """A target that cannot run here: no GPU, no driver, too old a driver, or a package that is not installed."""


class DeviceError(SymgraphError, RuntimeError):
    """A GPU refused or failed what a call asked of it: out of memory, for one."""


class CheckError(SymgraphError, AssertionError):
    """Checked mode found a pass or a kernel that changed the meaning of a graph."""


class NonFiniteError(SymgraphError, FloatingPointError):
    """``check="nan"`` found a nan, or an infinity made of finite values."""


class ParseError(SymgraphError, ValueError):
    """Text is not a printed graph."""


class FormatError(SymgraphError, ValueError):
    """An option has a value that is not among those it takes."""


class PictureError(SymgraphError, ValueError):
    """What was given cannot be drawn, or not as it stands: it is no graph, or it has too many boxes."""
