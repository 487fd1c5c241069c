"""chainrule: the backward pass of a convolutional network, as formulas that run."""

from typing import TYPE_CHECKING, Any

from chainrule.errors import FormulaError
from chainrule.program import Program

__version__ = "0.1.0"

__all__ = ["CheckReport", "Derivation", "FormulaError", "Program", "Step", "check"]

if TYPE_CHECKING:
    from chainrule.check import CheckReport, check
    from chainrule.derive import Derivation, Step

_LATER = {
    "CheckReport": "chainrule.check",
    "check": "chainrule.check",
    "Derivation": "chainrule.derive",
    "Step": "chainrule.derive",
}


def __getattr__(name: str) -> Any:
    """What is imported at its first use, so that `import chainrule` stays fast."""
    if name in _LATER:
        import importlib

        return getattr(importlib.import_module(_LATER[name]), name)
    raise AttributeError(f"module 'chainrule' has no attribute {name!r}")
