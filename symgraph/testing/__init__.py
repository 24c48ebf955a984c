"""What tests of ops, derivatives and whole programs need; public, since users write ops too."""

from symgraph.testing.checks import CHECKS, check_op, samples_of
from symgraph.testing.custom import check_custom_op
from symgraph.testing.grads import Report, check_grads
from symgraph.testing.programs import Program, random_program

__all__ = ["CHECKS", "Program", "Report", "check_custom_op", "check_grads", "check_op", "random_program", "samples_of"]
