"""Programs as machine code.

compile_system   a system as a function of arrays
Trainer          many steps of a training program in one native call
"""

from chainrule.native.compile import Compiled, compile_system
from chainrule.native.trainer import Trainer

__all__ = ["Compiled", "Trainer", "compile_system"]
