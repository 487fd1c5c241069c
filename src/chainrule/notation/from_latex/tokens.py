"""What stands between lark's lexer and its parser: layout goes, words get their meaning.

Spacing, sizes of brackets, environments and dollar signs are taken away; the end of a formula
becomes SEP; bars are told apart by what they close; a letter or a word in front of a bracket is a
function or a name.  Brackets are matched here, so that a missing one is shown where it was opened.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator
from typing import Any, NoReturn

from lark import Token

from chainrule.errors import FormulaError
from chainrule.functions import FUNCTIONS, REDUCTIONS
from chainrule.notation.greek import FROM_TEX, TO_TEX
from chainrule.notation.words import INSTEAD

_FUNCTION_WORDS = {n: n for n in FUNCTIONS if n not in ("where", "pow", "maximum", "minimum")} | {
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
_REDUCTION_WORDS = {n: n for n in REDUCTIONS} | {
    "avg": "mean",
    "average": "mean",
    "lse": "logsumexp",
}
_COMMANDS = {
    **dict.fromkeys(("exp", "log", "tanh", "sin", "cos"), "FUNC"),
    "ln": "FUNC",
    **dict.fromkeys(("sum", "prod"), "BIG"),
    **dict.fromkeys(("max", "min"), "MAX"),
}
_DROPPED_WORDS = frozenset(
    ("if", "when", "for", "for all", "for each", "where", "and", "with", "while")
)
_OTHERWISE = frozenset(("otherwise", "else", "otherwise.", "else."))
_LAYOUT = frozenset(
    "align aligned alignat alignedat gather gathered equation eqnarray multline split math "
    "displaymath flalign".split()
)
_OPEN = {"LPAR": "RPAR", "LSQ": "RSQ", "LBRACE": "RBRACE", "LCURL": "RCURL", "LFLOOR": "RFLOOR"}
_CLOSE = frozenset(_OPEN.values())
_OPERATORS = frozenset(("PLUS", "MINUS", "TIMES", "SLASH", "STAR", "REL", "SUB", "SUP"))
_ENDS_VALUE = (
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
    | _CLOSE
)
_NO_FACTOR = (  # what no factor begins with: a gap before it is no product
    _OPERATORS | _CLOSE | {"COMMA", "SEP", "AMP", "CROW", "BARR", "ENDCASES", "PRIME"}
)
_COMMAND_HINTS = {
    "nabla": r"a gradient is written  \frac{\partial E}{\partial w}",
    "int": r"write a sum, as in  \sum_i",
    "matrix": "write the indices, as in  w_{i,j}",
    "mathbf": "a bold letter stands in braces, as in  \\mathbf{w}",
    "partial": r"as in  \frac{\partial E}{\partial w}",
    "substack": r"write the indices in one line, as in  \sum_{i,j}",
    "underset": r"write the index below the operator, as in  \max_{k}",
    "begin": "as in  \\begin{align} ... \\end{align}",
    "tan": "write  \\frac{\\sin(x)}{\\cos(x)}",
    "softmax": INSTEAD["softmax"],
}


class Postlex:
    """Given to lark; `lines` are the text's, for messages."""

    always_accept = (
        "_CAPTION _FONT _ACCENT _BEGIN _END _ARG _NULL _SIZED _SKIP _ROW _MATH _GAP _QUAD _BAR "
        "_NORM _STOP _COMMAND _LETTERS _OTHER _NEWLINE AMP"
    ).split()

    def process(self, stream: Iterator[Token]) -> Iterator[Token]:
        return iter(_Tokens(list(stream)).result())


def error(lines: tuple[str, ...], at: Any, message: str, hint: str, width: int = 1) -> FormulaError:
    """At a token, or at anything with line and column."""
    line = min(max(at.line, 1), len(lines))
    return FormulaError(
        message, line=line, column=at.column, width=width, source_line=lines[line - 1], hint=hint
    )


class Misread(Exception):
    """A mistake among the tokens, before it is put into words with the text's line."""

    def __init__(self, at: Token, message: str, hint: str) -> None:
        super().__init__(message)
        self.at, self.message, self.hint = at, message, hint


def fail(at: Token, message: str, hint: str) -> NoReturn:
    raise Misread(at, message, hint)


def made(kind: str, value: str, at: Token) -> Token:
    return Token.new_borrow_pos(kind, value, at)


class _Tokens:
    def __init__(self, raw: list[Token]) -> None:
        self.raw = raw
        self.out: list[Token] = []
        self.open: list[tuple[str, Token]] = []  # what would close it, and what opened it
        self.layout = 0  # inside how many environments and displays
        self.k = 0
        self.places = 0  # arguments of \frac that are still to come
        self.assigned = _assigned(raw)

    def result(self) -> list[Token]:
        while self.k < len(self.raw):
            t = self.raw[self.k]
            self.k += 1
            self.take(t)
        if self.open:
            wanted, opened = self.open[-1]
            name = opened.value.strip()
            fail(opened, f"{name} is never closed", f"add  {_SHOWN.get(wanted, wanted)}")
        while self.out and self.out[-1].type == "SEP":
            self.out.pop()
        if not self.out and self.raw:
            fail(self.raw[0], "there is no formula", r"as in  y_i = 2 x_i")
        return self.out

    # ------------------------------------------------------------ looking around

    def following(self) -> Token | None:
        """The next token that means something; a gap means that no function is applied."""
        for t in self.raw[self.k :]:
            if t.type not in ("_NEWLINE", "_SIZED", "_NULL", "_SKIP"):
                return t
        return None

    @property
    def last(self) -> str:
        return self.out[-1].type if self.out else "SEP"

    def inside(self, kind: str) -> bool:
        return bool(self.open) and self.open[-1][0] == kind

    def add(self, kind: str, value: str, at: Token) -> None:
        self.places = max(0, self.places - 1)
        if self.last == "SPACE" and kind in _NO_FACTOR:
            self.out.pop()
        self.out.append(made(kind, value, at))

    # ------------------------------------------------------------ one token

    def take(self, t: Token) -> None:
        method = getattr(self, "take" + t.type.lower(), None) if t.type.startswith("_") else None
        if method is not None:
            method(t)
        elif t.type in _OPEN:
            self.open.append((_OPEN[t.type], t))
            self.add(t.type, t.value, t)
        elif t.type in _CLOSE:
            self.close(t.type, t)
            self.add(t.type, t.value, t)
        elif t.type == "NUMBER":
            self.number(t)
        elif t.type == "COMMA":
            if self.open and not self.inside("ENDCASES"):
                self.add("COMMA", t.value, t)
            elif not self.open:
                self.separate(t)
        elif t.type == "AMP":
            if self.inside("ENDCASES"):
                self.add("AMP", t.value, t)
        elif t.type == "PI" and (f := self.following()) is not None and f.type == "SUB":
            self.add("LETTER", "π", t)
        elif t.type == "FRAC":
            self.add("FRAC", t.value, t)
            self.places = 2
        else:
            self.add(t.type, t.value, t)

    def close(self, kind: str, t: Token) -> None:
        if not self.open:
            fail(t, f"{t.value} closes nothing", "remove it, or open it before")
        wanted, opened = self.open.pop()
        if wanted != kind:
            a, b = opened.value.strip(), t.value.strip()
            fail(t, f"{a} is closed by {b}", f"write  {_SHOWN.get(wanted, wanted)}")

    def number(self, t: Token) -> None:
        """\\frac12 takes one digit each; x_12 would be x_1 2."""
        if len(t.value) > 1 and self.last in ("SUB", "SUP"):
            sign = self.out[-1].value
            fail(t, f"{sign}{t.value} reaches its first digit only", f"write  {sign}{{{t.value}}}")
        rest = t.value
        while self.places and rest and self.last != "LBRACE":
            self.add("NUMBER", rest[0], t)
            rest = rest[1:]
        if rest:
            self.add("NUMBER", rest, t)

    def separate(self, t: Token) -> None:
        if self.last not in ("SEP",) and not self.open:
            self.add("SEP", t.value, t)

    def take_row(self, t: Token) -> None:
        if self.inside("ENDCASES"):
            self.add("CROW", t.value, t)
        elif not self.open:
            self.end_of_line(t)

    def end_of_line(self, t: Token) -> None:
        after = next(
            (x for x in self.raw[self.k :] if x.type not in _IGNORED), None
        )  # does the formula go on?
        goes_on = after is not None and after.type in ("PLUS", "MINUS", "TIMES", "SLASH", "STAR")
        if not goes_on and self.last not in _OPERATORS:
            self.separate(t)

    def take_newline(self, t: Token) -> None:
        if not self.layout and not self.open:
            after = next((x for x in self.raw[self.k :] if x.type not in _IGNORED), None)
            if after is None or after.type != "REL":
                self.end_of_line(t)

    def take_math(self, t: Token) -> None:
        self.layout += {r"\[": 1, r"\]": -1, r"\(": 1, r"\)": -1}.get(t.value, 0)
        if self.open:
            wanted, opened = self.open[-1]
            name = opened.value.strip()
            fail(opened, f"{name} is never closed", f"add  {_SHOWN.get(wanted, wanted)}")
        self.end_of_line(t)

    def take_gap(self, t: Token) -> None:
        if self.last in _ENDS_VALUE:
            self.out.append(made("SPACE", t.value, t))

    def take_quad(self, t: Token) -> None:
        after = self.following()
        if not self.open and after is not None and after.type not in _OPERATORS:
            if self.last in _ENDS_VALUE or self.last == "SPACE":
                self.separate(t)

    def take_sized(self, t: Token) -> None:
        pass

    def take_null(self, t: Token) -> None:
        pass

    def take_skip(self, t: Token) -> None:
        pass

    def take_stop(self, t: Token) -> None:
        after = self.following()
        ends = after is None or after.type in ("_ROW", "_NEWLINE", "_MATH", "_END", "_QUAD")
        if t.value == ";" or ends or self.raw[self.k].type == "_NEWLINE":
            self.separate(t)
        else:
            fail(t, "a full stop means nothing here", r"a product is written  \cdot")

    def take_begin(self, t: Token) -> None:
        name = t.value[t.value.index("{") + 1 : -1].strip().rstrip("*")
        if name == "cases" or name == "dcases":
            self.open.append(("ENDCASES", t))
            self.add("CASES", t.value, t)
        elif name in _LAYOUT:
            self.layout += 1
            self.separate(t)
        else:
            fail(
                t,
                f"{name} cannot be read",
                _COMMAND_HINTS["matrix"]
                if "matrix" in name
                else "formulas stand in align, gather, equation or cases",
            )

    def take_end(self, t: Token) -> None:
        name = t.value[t.value.index("{") + 1 : -1].strip().rstrip("*")
        if name in ("cases", "dcases"):
            self.close("ENDCASES", t)
            while self.last == "CROW":
                self.out.pop()
            self.add("ENDCASES", t.value, t)
        elif self.open:
            wanted, opened = self.open[-1]
            name = opened.value.strip()
            fail(opened, f"{name} is never closed", f"add  {_SHOWN.get(wanted, wanted)}")
        else:
            self.layout = max(0, self.layout - 1)
            self.separate(t)

    def take_bar(self, t: Token) -> None:
        if self.inside("BARR") and self.last not in _OPERATORS:
            self.open.pop()
            self.add("BARR", t.value, t)
        else:
            self.open.append(("BARR", t))
            self.add("BARL", t.value, t)

    def take_norm(self, t: Token) -> None:
        fail(t, "a norm cannot be read", r"write it out, as in  \sqrt{\sum_i x_i^2}")

    # ------------------------------------------------------------ words

    def take_arg(self, t: Token) -> None:
        if t.value.endswith("min"):
            fail(t, "there is no argmin", r"write  \arg\max_k ( -u_k )")
        self.add("BIG", "argmax", t)

    def take_caption(self, t: Token) -> None:
        command, _, inside = t.value[1:-1].partition("{")
        plain = command.strip() in ("text", "textrm", "textbf", "mbox", "textit")
        spoken = " ".join(inside.split()).lower().rstrip(",")
        if plain and (spoken in _OTHERWISE) and self.inside("ENDCASES"):
            self.add("OTHERWISE", spoken, t)
            return
        if plain and spoken in _DROPPED_WORDS:
            if not self.open:
                self.separate(t)
            return
        name = name_of(inside, t)
        word = name.lower().replace("_", "")
        after = self.following()
        opens = after is not None and after.type in ("LPAR", "LSQ", "LCURL", "PRIME", "_BAR")
        if word in ("max", "min"):
            self.extremum(word, t)
        elif word in _REDUCTION_WORDS and (
            command.startswith("operator") or (name in REDUCTIONS and not opens)
        ):
            self.add("BIG", _REDUCTION_WORDS[word], t)
        elif word in _FUNCTION_WORDS and (command.startswith("operator") or opens):
            self.add("FUNC", _FUNCTION_WORDS[word], t)
        elif command.startswith("operator") or (opens and word in INSTEAD):
            fail(
                t,
                f"there is no function {name}",
                INSTEAD.get(
                    word,
                    "the functions are exp, log, "
                    r"\sigma, relu, tanh, sqrt, ...; a name stands in \mathrm{...}",
                ),
            )
        else:
            self.add("TEXT" if plain else "WORD", name, t)

    def extremum(self, word: str, t: Token) -> None:
        """\\max_i takes an expression, \\max(a, b) two values."""
        after = self.following()
        kind = "BIG" if after is not None and after.type == "SUB" else "FUNC"
        self.add(kind, word, t)

    def take_font(self, t: Token) -> None:
        inside = t.value.partition(re.match(r"\\[a-z]+", t.value)[0])[2].strip(" {}")  # type: ignore[index]
        after = self.following()
        if inside in ("1", "I", "\\mathbb") or (inside == "1"):
            if after is not None and after.type in ("LPAR", "LSQ", "LCURL"):
                return  # the brackets alone say it
            if after is not None and after.type == "SUB" and inside == "1":
                self.k = self.raw.index(after, self.k) + 1
                return
        name = name_of(inside, t)
        self.add("LETTER" if len(name) == 1 else "WORD", name, t)

    def take_accent(self, t: Token) -> None:
        accent = re.match(r"\\(wide|over)?([a-z]+)", t.value)
        assert accent is not None
        inside = t.value[accent.end() :].strip(" {}")
        suffix = {"line": "bar"}.get(accent[2], accent[2])
        self.add("WORD", f"{name_of(inside, t)}_{suffix}", t)

    def take_letters(self, t: Token) -> None:
        if len(t.value) > 1 and self.last in ("SUB", "SUP"):
            sign = self.out[-1].value
            fail(t, f"{sign}{t.value} reaches its first letter only", f"write  {sign}{{{t.value}}}")
        word = t.value.lower()
        nested = any(x[1].type == "LBRACE" for x in self.open)
        if len(t.value) > 2 and word in _FUNCTION_WORDS | _REDUCTION_WORDS | {
            "sqrt": "",
            "frac": "",
        }:
            fail(
                t,
                f"{t.value} is a product of letters here",
                rf"write  \operatorname{{{word}}}"
                if word not in ("sqrt", "frac", "sum", "prod")
                else f"write  \\{word}",
            )
        if len(t.value) > 2 and not nested:
            fail(
                t,
                f"{t.value} is a product of letters here",
                rf"a name is written  \mathrm{{{t.value}}}, a product  " + r" \, ".join(t.value),
            )
        column = t.column or 1
        for k, c in enumerate(t.value):
            token = Token("LETTER", c, t.start_pos, t.line, column + k, t.line, column + k + 1)
            self.add("LETTER", c, token)

    def take_other(self, t: Token) -> None:
        self.letter(unicodedata.normalize("NFKC", t.value), t)

    def letter(self, c: str, t: Token) -> None:
        """A Greek letter, or any other that is not Latin."""
        after = self.following()
        kind = after.type if after is not None else ""
        if c == "σ" and c not in self.assigned and kind in ("LPAR", "PRIME", "LSQ"):
            self.add("FUNC", "sigmoid", t)
        elif c in "δΔ" and self.starts_name():
            self.add("PREFIX", c, t)
        elif c == "∂":
            self.add("PARTIAL", c, t)
        elif c == "Σ" and kind == "SUB" and c not in self.assigned and t.value == "∑":
            self.add("BIG", "sum", t)
        else:
            self.add("LETTER", c, t)

    def starts_name(self) -> bool:
        """Does a name follow directly, so that δ is part of it?"""
        t = self.raw[self.k] if self.k < len(self.raw) else None
        if t is None:
            return False
        if t.type in ("_LETTERS", "_OTHER", "_FONT", "_ACCENT"):
            return str(t.value) != "d"
        if t.type == "_CAPTION":
            return str(t.value).startswith((r"\mathrm", r"\text", r"\mathit"))
        return t.type == "PI" or (t.type == "_COMMAND" and t.value[1:] in FROM_TEX)

    def take_command(self, t: Token) -> None:
        name = t.value[1:]
        if name in FROM_TEX:
            self.letter(FROM_TEX[name], t)
        elif name == "partial":
            self.add("PARTIAL", t.value, t)
        elif name == "sigmoid" or name == "relu" or name == "ReLU":
            self.add("FUNC", name.lower(), t)
        elif name in _COMMANDS:
            if _COMMANDS[name] == "MAX":
                self.extremum(name, t)
            else:
                value = {"ln": "log"}.get(name, name)
                self.add(_COMMANDS[name], value, t)
        else:
            hint = _COMMAND_HINTS.get(name) or INSTEAD.get(name)
            hint = hint or rf"a name of several letters is written  \mathrm{{{name}}}"
            fail(t, rf"\{name} cannot be read", hint)


_IGNORED = frozenset(("_NEWLINE", "_SIZED", "_NULL", "_SKIP", "_GAP", "_QUAD", "AMP", "_MATH"))
_SHOWN = {
    "RPAR": ")",
    "RSQ": "]",
    "RBRACE": "}",
    "RCURL": r"\}",
    "RFLOOR": r"\rfloor",
    "BARR": "|",
    "ENDCASES": r"\end{cases}",
}


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


def _assigned(raw: list[Token]) -> set[str]:
    """Greek letters that stand at the beginning of a formula: names, whatever they else mean."""
    found: set[str] = set()
    begins = True
    for t in raw:
        if t.type in ("_NEWLINE", "_ROW", "_MATH", "_BEGIN"):
            begins = True
        elif t.type not in _IGNORED:
            if begins and t.type == "_COMMAND":
                found.add(FROM_TEX.get(t.value[1:], ""))
            elif begins and t.type == "_OTHER":
                found.add(t.value)
            begins = False
    return found - {""} & set(TO_TEX)
