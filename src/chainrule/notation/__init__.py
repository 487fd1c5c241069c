"""Text and LaTeX: the ways a System is written and read."""

from chainrule.notation.locate import located
from chainrule.notation.parse import parse, parse_expression
from chainrule.notation.show import expression, statement, text

__all__ = ["expression", "located", "parse", "parse_expression", "statement", "text"]
