"""Text -> lark's tree, and what to say where there is none."""

from __future__ import annotations

from functools import lru_cache

from lark import Lark, Token, Tree
from lark.exceptions import UnexpectedCharacters, UnexpectedInput, UnexpectedToken

from chainrule.errors import FormulaError
from chainrule.notation.from_latex.grammar import GRAMMAR
from chainrule.notation.from_latex.tokens import Postlex
from chainrule.notation.from_latex.vocabulary import Misread, error

_NEEDS_VALUE = ("PLUS", "TIMES", "SLASH", "STAR", "REL", "RPAR", "RSQ", "RBRACE", "COMMA", "BARR")


@lru_cache(maxsize=1)
def _lark() -> Lark:
    return Lark(GRAMMAR, parser="lalr", lexer="basic", postlex=Postlex(), propagate_positions=True)


def tree(text: str, lines: tuple[str, ...]) -> Tree[Token]:
    try:
        return _lark().parse(text)
    except Misread as m:
        width = len(m.at.value.split("\n")[0]) if m.at.end_line == m.at.line else 1
        raise error(lines, m.at, m.message, m.hint, width) from None
    except UnexpectedCharacters as e:
        c = lines[e.line - 1][e.column - 1 : e.column]
        raise error(lines, e, f"{c} means nothing in a formula", "remove it") from None
    except UnexpectedToken as e:
        raise _unexpected(e, lines) from None
    except (UnexpectedInput, RecursionError):
        raise FormulaError(
            "this cannot be read as formulas", hint="write one formula a line"
        ) from None


def _unexpected(e: UnexpectedToken, lines: tuple[str, ...]) -> FormulaError:
    token = e.token
    if token.type == "$END" and not any(x.strip() for x in lines):
        return FormulaError("there is no formula", hint="as in  y_i = 2 x_i")
    if token.type == "$END":
        last = max((k for k, x in enumerate(lines) if x.strip()), default=0)
        place = Token("END", "", line=last + 1, column=len(lines[last].rstrip()) + 1)
        return error(lines, place, "the formula ends too early", "something is missing at the end")
    shown = str(token).strip() or token.type
    hint = (
        "a value is missing before it"
        if token.type in _NEEDS_VALUE
        else ("something is missing before it, or it is one too many")
    )
    if token.type == "SEP":
        return error(lines, token, "the formula ends too early", "something is missing before this")
    if token.type in ("SUB", "SUP"):
        hint = "scripts stand behind a name or a bracket; a second index goes into the same braces"
    if token.type == "AMP":
        hint = "a row of cases is  value & condition"
    return error(lines, token, f"{shown} cannot stand here", hint, len(shown))
