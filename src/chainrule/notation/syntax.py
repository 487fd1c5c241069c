"""Text -> Python's tree; and, where Python cannot read the text, why not, in our own words.

Python's messages change from version to version and speak of Python.  So the mistakes that
people make in formulas are found here, from characters and tokens, each by a row of a table.
"""

from __future__ import annotations

import ast
import keyword
import re
import unicodedata
import warnings
from collections.abc import Callable, Iterator
from itertools import pairwise
from typing import NamedTuple

from chainrule.errors import FormulaError
from chainrule.notation.places import Places
from chainrule.notation.words import (
    CHARACTERS,
    GO_ON_HINT,
    NESTING_HINT,
    NOT_A_SIDE,
    NUMBERS_HINT,
    SIGNS,
    STATEMENT_HINT,
    TOO_DEEP,
    word,
)

# Brackets within brackets, or expressions within expressions: Python's own limits differ between
# versions, every pass walks formulas recursively, and derivatives are deeper than what they are of.
MAX_NESTING = 64

_BINARY = frozenset(
    ("+=", "-=", "*=", "/=", "=", "*", "/", "**", "//", "%", "@", "&", "^", "<", ">")
    + ("==", "!=", "<=", ">=")
)
_UNARY = frozenset("+-~")
_OPEN, _CLOSE = "([{", ")]}"
_PAIRS = {")": "(", "]": "[", "}": "{"}


class Token(NamedTuple):
    """A word of the code; `column` from 1."""

    kind: str
    text: str
    line: int
    column: int


# What is wrong: the token to point at, how wide, a message, a hint.
Mistake = tuple[Token, int, str, str]


def python_tree(places: Places) -> ast.Module:
    """Python's tree of the code, or a FormulaError that says what is no formula in it."""
    _check_characters(places)
    tokens = list(_tokens(places.code))
    if mistake := _nesting(tokens):
        raise _error(places, mistake)
    try:
        return _parsed("\n".join(places.code))
    except (SyntaxError, ValueError, RecursionError, MemoryError) as e:
        for statement in _statements(tokens):
            if _reads(statement, places.code):
                continue
            for explain in _EXPLANATIONS:
                if mistake := explain(statement):
                    raise _error(places, mistake) from None
            if isinstance(e, SyntaxError):
                break
        raise _unexplained(places, e) from None


def _parsed(code: str) -> ast.Module:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return ast.parse(code)


def _error(places: Places, mistake: Mistake) -> FormulaError:
    token, width, message, hint = mistake
    return places.error(places.at(token.line, token.column, width), message, hint)


def _unexplained(places: Places, e: Exception) -> FormulaError:
    if isinstance(e, SyntaxError):
        line = min(max(e.lineno or 1, 1), len(places.code))
        column = min(max(e.offset or 1, 1), len(places.code[line - 1]) + 1)
        return places.error(places.at(line, column), "this is not a formula", STATEMENT_HINT)
    return places.error(places.at(1, 1), TOO_DEEP, NESTING_HINT)


# ------------------------------------------------------------ characters


def _check_characters(places: Places) -> None:
    for number, line in enumerate(places.code, 1):
        formula, *_ = line.partition("#")
        for column, c in enumerate(formula, 1):
            if not _allowed(c):
                message = f"{_shown(c)} is not a character of the language"
                raise places.error(places.at(number, column), message, _character_hint(c))


def _allowed(c: str) -> bool:
    if c.isascii():
        return " " <= c < "\x7f" and c not in "$?`"
    # xᵢ would be read as xi: Python takes letters above and below the line for plain ones
    lifted = unicodedata.decomposition(c).startswith(("<sub>", "<super>"))
    return ("x" + c).isidentifier() and not lifted


def _shown(c: str) -> str:
    if c.isprintable() and not c.isspace():
        return c
    return f"{unicodedata.name(c, 'an invisible character')} (U+{ord(c):04X})"


def _character_hint(c: str) -> str:
    if c in CHARACTERS:
        return CHARACTERS[c]
    if c.isspace():
        return "write an ordinary space"
    if unicodedata.decomposition(c).startswith("<sub>"):
        return "an index stands in brackets, as in  x[i]"
    if unicodedata.decomposition(c).startswith("<super>"):
        return "a power is written **, as in  x**n"
    return "remove the character" if not c.isprintable() else "names are made of letters and digits"


# ------------------------------------------------------------ tokens

_TOKEN = re.compile(
    r"""(?P<space>[\s\\]+) | (?P<comment>\#.*)
    | (?P<number>(?:[0-9][0-9_]*\.?[0-9_]*|\.[0-9][0-9_]*)(?:[eE][+-]?[0-9]+)?)
    | (?P<name>[^\W\d]\w*)
    | (?P<string>'[^']*'|"[^"]*")
    | (?P<sign>\.\.\.|===|&&|\|\||:=|=<|=>|<>|->|\*\*|//|[-+*/%@&^<>=!]=|.)""",
    re.VERBOSE,
)


def _tokens(code: tuple[str, ...]) -> Iterator[Token]:
    for number, line in enumerate(code, 1):
        for found in _TOKEN.finditer(line):
            if found.lastgroup not in ("space", "comment"):
                yield Token(found.lastgroup or "", found.group(), number, found.start() + 1)


def _statements(tokens: list[Token]) -> Iterator[list[Token]]:
    """The tokens of each statement: a line, and those that its open brackets reach into."""
    current: list[Token] = []
    depth = 0
    for t in tokens:
        if current and depth <= 0 and t.line > current[-1].line:
            yield current
            current, depth = [], 0
        current.append(t)
        depth += (t.text in _OPEN) - (t.text in _CLOSE)
    if current:
        yield current


def _reads(statement: list[Token], code: tuple[str, ...]) -> bool:
    """Can Python read this statement by itself?"""
    first, last = statement[0].line, statement[-1].line
    try:
        _parsed("\n".join(code[first - 1 : last]))
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return False
    return True


# ------------------------------------------------------------ what can be wrong with a statement


def _nesting(tokens: list[Token]) -> Mistake | None:
    depth = 0
    for t in tokens:
        depth += (t.text in _OPEN) - (t.text in _CLOSE)
        if depth > MAX_NESTING:
            return t, 1, TOO_DEEP, NESTING_HINT
    return None


def _indented(tokens: list[Token]) -> Mistake | None:
    first = tokens[0]
    if first.column == 1:
        return None
    if first.text in _BINARY or first.text in _UNARY:
        return first, len(first.text), f"a statement cannot begin with {first.text}", GO_ON_HINT
    return (
        first,
        len(first.text),
        "this line is indented",
        "every statement begins at the left margin",
    )


def _quotes(tokens: list[Token]) -> Mistake | None:
    for before, t in zip([None, *tokens], tokens, strict=False):
        touches = before is not None and _touch(before, t) and _ends_value(before)
        if t.text in ("'", '"') or (t.kind == "string" and touches):
            hint = "primes are not part of a name: call it w2 or w_new"
            return t, 1, f"{t.text[0]} is not a character of the language", hint
    return None


def _brackets(tokens: list[Token]) -> Mistake | None:
    stack: list[Token] = []
    for t in tokens:
        if t.text in _OPEN and t.kind == "sign":
            stack.append(t)
        elif t.text in _CLOSE and t.kind == "sign":
            if not stack:
                return (
                    t,
                    1,
                    f"{t.text} closes nothing",
                    f"remove it, or open it with {_PAIRS[t.text]}",
                )
            if stack[-1].text != _PAIRS[t.text]:
                wanted = _CLOSE[_OPEN.index(stack[-1].text)]
                return t, 1, f"{stack[-1].text} is closed by {t.text}", f"write  {wanted}"
            stack.pop()
    if stack:
        wanted = _CLOSE[_OPEN.index(stack[-1].text)]
        return stack[-1], 1, f"{stack[-1].text} is never closed", f"add the {wanted}"
    return None


def _words(tokens: list[Token]) -> Mistake | None:
    for t in tokens:
        if keyword.iskeyword(t.text) and t.text not in ("True", "False", "None"):
            message, hint = word(t.text)
            return t, len(t.text), message, hint
    return None


def _left_side(tokens: list[Token]) -> Mistake | None:
    """Something that has a value, but is no name with indices, on the left of the first =."""
    depth = 0
    for k, t in enumerate(tokens):
        depth += (t.text in _OPEN) - (t.text in _CLOSE)
        if t.text == "=" and depth == 0:
            left = tokens[:k]
            break
    else:
        return None
    if not left or left[0].line != left[-1].line:
        return None
    width = left[-1].column + len(left[-1].text) - left[0].column
    try:
        tree = ast.parse(" ".join(x.text for x in left), mode="eval").body
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return None
    if isinstance(tree, (ast.Name, ast.Subscript, ast.Attribute)):
        return None
    return left[0], width, NOT_A_SIDE, STATEMENT_HINT


def _signs(tokens: list[Token]) -> Mistake | None:
    for t in tokens:
        if t.text in SIGNS:
            return t, len(t.text), *SIGNS[t.text]
    return None


def _numbers(tokens: list[Token]) -> Mistake | None:
    for t in tokens:
        if t.kind == "number" and len(t.text) > 1000:
            return t, len(t.text), "this number has too many digits", NUMBERS_HINT
        if t.kind == "number" and re.match(r"0[0-9_]*[1-9]", t.text) and t.text.isdecimal():
            return t, len(t.text), f"{t.text} begins with a zero", f"write  {t.text.lstrip('0')}"
    return None


def _operators(tokens: list[Token]) -> Mistake | None:
    """An operator with nothing before or behind it."""
    for before, t in zip([None, *tokens], tokens, strict=False):
        b = "" if before is None else before.text
        if before is None and t.text in _BINARY:
            return t, len(t.text), f"nothing stands before {t.text}", GO_ON_HINT
        if b == "[" and t.text == "]":
            return t, 1, "the brackets hold no index", "a scalar has none: x = ..."
        opened = b != "" and b in _OPEN + ","
        leaves_open = b in _BINARY or b in _UNARY or opened
        takes_left = t.text in _BINARY or t.text == "," or (t.text in _CLOSE and not opened)
        if leaves_open and takes_left:
            hint = "a value is missing there, or one of the two is too many"
            return t, len(t.text), f"nothing stands between {b} and {t.text}", hint
    last = tokens[-1]
    if last.text in _BINARY or last.text in _UNARY:
        past = last._replace(column=last.column + len(last.text))
        return (
            past,
            1,
            f"nothing follows {last.text}",
            GO_ON_HINT if last.text != "=" else STATEMENT_HINT,
        )
    return None


def _side_by_side(tokens: list[Token]) -> Mistake | None:
    for a, b in pairwise(tokens):
        if _ends_value(a) and b.kind in ("number", "name", "string"):
            glued = a.kind == "number" and _touch(a, b)  # 2x: point at the 2
            message = f"{a.text} and {b.text} stand side by side"
            if not glued and a.kind == "sign":
                message = "two values stand side by side"
            spot = a if glued else b
            return spot, len(spot.text), message, "a product is written with *"
    return None


def _ends_value(t: Token) -> bool:
    return t.kind in ("number", "name", "string") or (t.kind == "sign" and t.text in _CLOSE)


def _touch(a: Token, b: Token) -> bool:
    return a.line == b.line and a.column + len(a.text) == b.column


_EXPLANATIONS: tuple[Callable[[list[Token]], Mistake | None], ...] = (
    _quotes,
    _brackets,
    _indented,
    _words,
    _signs,
    _left_side,
    _numbers,
    _operators,
    _side_by_side,
)
