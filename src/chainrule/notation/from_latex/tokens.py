"""What stands between lark's lexer and its parser: layout goes, words get their meaning.

Spacing, sizes of brackets, environments and dollar signs are taken away; the end of a formula
becomes SEP; bars are told apart by what they close; a letter or a word in front of a bracket is a
function or a name.  Brackets are matched here, so that a missing one is shown where it was opened.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator

from lark import Token

from chainrule.functions import REDUCTIONS
from chainrule.notation.from_latex.layout import Layout
from chainrule.notation.from_latex.vocabulary import (
    COMMAND_HINTS,
    COMMANDS,
    DROPPED_WORDS,
    FUNCTION_WORDS,
    OTHERWISE,
    REDUCTION_WORDS,
    fail,
    name_of,
)
from chainrule.notation.greek import FROM_TEX
from chainrule.notation.words import INSTEAD


class Postlex:
    """Given to lark; `lines` are the text's, for messages."""

    always_accept = (
        "_CAPTION _FONT _ACCENT _BEGIN _END _ARG _NULL _SIZED _SKIP _ROW _MATH _GAP _QUAD _BAR "
        "_NORM _STOP _COMMAND _LETTERS _OTHER _NEWLINE AMP"
    ).split()

    def process(self, stream: Iterator[Token]) -> Iterator[Token]:
        return iter(_Tokens(list(stream)).result())


class _Tokens(Layout):
    """Letters and words: names, functions, operators."""

    # ------------------------------------------------------------ looking around

    # ------------------------------------------------------------ one token

    # ------------------------------------------------------------ words

    def take_arg(self, t: Token) -> None:
        if t.value.endswith("min"):
            fail(t, "there is no argmin", r"write  \arg\max_k ( -u_k )")
        self.add("BIG", "argmax", t)

    def take_caption(self, t: Token) -> None:
        command, _, inside = t.value[1:-1].partition("{")
        plain = command.strip() in ("text", "textrm", "textbf", "mbox", "textit")
        spoken = " ".join(inside.split()).lower().rstrip(",")
        if plain and (spoken in OTHERWISE) and self.inside("ENDCASES"):
            self.add("OTHERWISE", spoken, t)
            return
        if plain and spoken in DROPPED_WORDS:
            if not self.open:
                self.separate(t)
            return
        name = name_of(inside, t)
        word = name.lower().replace("_", "")
        after = self.following()
        opens = after is not None and after.type in ("LPAR", "LSQ", "LCURL", "PRIME", "_BAR")
        if word in ("max", "min"):
            self.extremum(word, t)
        elif word in REDUCTION_WORDS and (
            command.startswith("operator") or (name in REDUCTIONS and not opens)
        ):
            self.add("BIG", REDUCTION_WORDS[word], t)
        elif word in FUNCTION_WORDS and (command.startswith("operator") or opens):
            self.add("FUNC", FUNCTION_WORDS[word], t)
        elif command.startswith("operator") or (opens and word in INSTEAD):
            fail(
                t,
                f"there is no function {name}",
                COMMAND_HINTS.get(word)
                or INSTEAD.get(
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
        behind = after is not None and after.type in ("LPAR", "LSQ", "LCURL", "SUB")
        if t.value.startswith(r"\mathbb") and inside == "E" and behind:
            fail(t, "an expectation cannot be read", r"write the mean,  \frac{1}{N} \sum_n x_n")
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
        known = FUNCTION_WORDS | REDUCTION_WORDS | dict.fromkeys(("sqrt", "frac"), "")
        if len(t.value) > 2 and word in known:
            has = word in COMMANDS or word in ("sqrt", "frac")
            hint = rf"write  \{word}" if has else rf"write  \operatorname{{{word}}}"
            fail(t, f"{t.value} is a product of letters here", hint)
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
            return True
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
        elif name in COMMANDS:
            if COMMANDS[name] == "MAX":
                self.extremum(name, t)
            else:
                value = {"ln": "log"}.get(name, name)
                self.add(COMMANDS[name], value, t)
        else:
            hint = COMMAND_HINTS.get(name) or INSTEAD.get(name)
            hint = hint or rf"a name of several letters is written  \mathrm{{{name}}}"
            fail(t, rf"\{name} cannot be read", hint)
