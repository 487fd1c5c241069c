"""Differentiation: a System in, its backward System out, every step recorded."""

from chainrule.derive.backward import (
    backward,
    derivation,
    differentiate,
    real_inputs,
)
from chainrule.derive.expand import expand
from chainrule.derive.local import written_out
from chainrule.derive.steps import Derivation, Stage, Step

__all__ = [
    "Derivation",
    "Stage",
    "Step",
    "backward",
    "derivation",
    "differentiate",
    "expand",
    "real_inputs",
    "written_out",
]
