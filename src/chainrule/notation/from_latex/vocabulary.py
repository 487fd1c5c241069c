"""The words that the tokens are told apart by, and how a mistake among them is said."""

from __future__ import annotations

import re
import unicodedata
from typing import Any, NoReturn

from lark import Token

from chainrule.errors import FormulaError
from chainrule.functions import FUNCTIONS, REDUCTIONS
from chainrule.notation.greek import FROM_TEX, TO_TEX

FUNCTION_WORDS = {n: n for n in FUNCTIONS if n not in ("where", "pow", "maximum", "minimum")} | {
    "ln": "log",
    "sgn": "sign",
    "logistic": "sigmoid",
    "sigm": "sigmoid",
    "swish": "silu",
    "pad": "pad",
    "size": "size",
    "max": "max",
    "min": "min",
}
REDUCTION_WORDS = {n: n for n in REDUCTIONS} | {
    "avg": "mean",
    "average": "mean",
    "lse": "logsumexp",
}
COMMANDS = {
    **dict.fromkeys(("exp", "log", "tanh", "sin", "cos"), "FUNC"),
    "ln": "FUNC",
    **dict.fromkeys(("sum", "prod"), "BIG"),
    **dict.fromkeys(("max", "min"), "MAX"),
}
DROPPED_WORDS = frozenset(
    ("if", "when", "for", "for all", "for each", "where", "and", "with", "while")
)
OTHERWISE = frozenset(("otherwise", "else", "otherwise.", "else."))
LAYOUT = frozenset(
    "align aligned alignat alignedat gather gathered equation eqnarray multline split math "
    "displaymath flalign".split()
)
OPEN = {"LPAR": "RPAR", "LSQ": "RSQ", "LBRACE": "RBRACE", "LCURL": "RCURL", "LFLOOR": "RFLOOR"}
CLOSE = frozenset(OPEN.values())
OPERATORS = frozenset(("PLUS", "MINUS", "TIMES", "SLASH", "STAR", "REL", "SUB", "SUP"))
ENDS_VALUE = (
    frozenset(
        (
            "LETTER",
            "WORD",
            "TEXT",
            "NUMBER",
            "PI",
            "INFTY",
            "TOP",
            "PRIME",
            "DOTS",
            "BARR",
            "ENDCASES",
        )
    )
    | CLOSE
)
NO_FACTOR = (  # what no factor begins with: a gap before it is no product
    OPERATORS | CLOSE | {"COMMA", "SEP", "AMP", "CROW", "BARR", "ENDCASES", "PRIME"}
)
COMMAND_HINTS = {
    "nabla": r"a gradient is written  \frac{\partial E}{\partial w}",
    "int": r"write a sum, as in  \sum_i",
    "matrix": "write the indices, as in  w_{i,j}",
    "mathbf": "a bold letter stands in braces, as in  \\mathbf{w}",
    "partial": r"as in  \frac{\partial E}{\partial w}",
    "substack": r"write the indices in one line, as in  \sum_{i,j}",
    "underset": r"write the index below the operator, as in  \max_{k}",
    "begin": "as in  \\begin{align} ... \\end{align}",
    "tan": "write  \\frac{\\sin(x)}{\\cos(x)}",
    "softmax": r"write  \frac{e^{u_k}}{\sum_l e^{u_l}}",
}
IGNORED = frozenset(("_NEWLINE", "_SIZED", "_NULL", "_SKIP", "_GAP", "_QUAD", "AMP", "_MATH"))
ENDS_LINE = frozenset(("_NEWLINE", "_ROW", "_MATH", "_END"))
SHOWN = {
    "RPAR": ")",
    "RSQ": "]",
    "RBRACE": "}",
    "RCURL": r"\}",
    "RFLOOR": r"\rfloor",
    "BARR": "|",
    "ENDCASES": r"\end{cases}",
}


class Misread(Exception):
    """A mistake among the tokens, before it is put into words with the text's line."""

    def __init__(self, at: Token, message: str, hint: str) -> None:
        super().__init__(message)
        self.at, self.message, self.hint = at, message, hint


def error(lines: tuple[str, ...], at: Any, message: str, hint: str, width: int = 1) -> FormulaError:
    """At a token, or at anything with line and column."""
    line = min(max(at.line, 1), len(lines))
    return FormulaError(
        message, line=line, column=at.column, width=width, source_line=lines[line - 1], hint=hint
    )


def fail(at: Token, message: str, hint: str) -> NoReturn:
    raise Misread(at, message, hint)


def made(kind: str, value: str, at: Token) -> Token:
    return Token.new_borrow_pos(kind, value, at)


def name_of(text: str, at: Token) -> str:
    """The name inside \\mathrm{...}: TeX's letters as letters, \\_ as _."""

    def letter(m: re.Match[str]) -> str:
        if m[1] not in FROM_TEX:
            fail(at, rf"\{m[1]} is no part of a name", "a name is made of letters and digits")
        return FROM_TEX[m[1]]

    plain = re.sub(r"\\([A-Za-z]+)\s*", letter, text.replace(r"\_", "_"))
    plain = re.sub(r"\\?[\s,~]+", "", plain.strip())
    plain = unicodedata.normalize("NFKC", re.sub(r"[-.]", "_", plain))
    if not plain.isidentifier():
        fail(
            at, f"{text.strip() or 'nothing'} is not a name", "a name is made of letters and digits"
        )
    return plain


def assigned_letters(raw: list[Token]) -> set[str]:
    """Greek letters that stand at the beginning of a formula: names, whatever they else mean."""
    found: set[str] = set()
    begins = True
    for t in raw:
        if t.type in ("_NEWLINE", "_ROW", "_MATH", "_BEGIN"):
            begins = True
        elif t.type not in IGNORED:
            if begins and t.type == "_COMMAND":
                found.add(FROM_TEX.get(t.value[1:], ""))
            elif begins and t.type == "_OTHER":
                found.add(t.value)
            begins = False
    return found & set(TO_TEX)
