"""chainrule: the backward pass of a convolutional network, as formulas that run."""

from chainrule.derive import Derivation, Step
from chainrule.errors import FormulaError
from chainrule.program import Program

__version__ = "0.1.0"

__all__ = ["Derivation", "FormulaError", "Program", "Step"]
