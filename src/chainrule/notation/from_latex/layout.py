"""Layout and brackets: spacing goes, ends of formulas become SEP, brackets are matched.

A missing bracket is shown where it was opened; bars are told apart by what they close.
"""

from __future__ import annotations

from lark import Token

from chainrule.notation.from_latex.vocabulary import (
    CLOSE,
    COMMAND_HINTS,
    ENDS_LINE,
    ENDS_VALUE,
    IGNORED,
    LAYOUT,
    NO_FACTOR,
    OPEN,
    OPERATORS,
    SHOWN,
    assigned_letters,
    fail,
    made,
)


class Layout:
    """Takes lexer's tokens one by one to `out`; a token whose kind begins with _ has its method."""

    def __init__(self, raw: list[Token]) -> None:
        self.raw = raw
        self.out: list[Token] = []
        self.open: list[tuple[str, Token]] = []  # what would close it, and what opened it
        self.layout = 0  # inside how many environments and displays
        self.k = 0
        self.places = 0  # arguments of \frac that are still to come
        self.assigned = assigned_letters(raw)

    def result(self) -> list[Token]:
        while self.k < len(self.raw):
            t = self.raw[self.k]
            self.k += 1
            self.take(t)
        if self.open:
            wanted, opened = self.open[-1]
            name = opened.value.strip()
            fail(opened, f"{name} is never closed", f"add  {SHOWN.get(wanted, wanted)}")
        while self.out and self.out[-1].type == "SEP":
            self.out.pop()
        if not self.out and self.raw:
            fail(self.raw[0], "there is no formula", r"as in  y_i = 2 x_i")
        return self.out

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
        if self.last == "SPACE" and kind in NO_FACTOR:
            self.out.pop()
        self.out.append(made(kind, value, at))

    def take(self, t: Token) -> None:
        method = getattr(self, "take" + t.type.lower(), None) if t.type.startswith("_") else None
        if method is not None:
            method(t)
        elif t.type in OPEN:
            self.open.append((OPEN[t.type], t))
            self.add(t.type, t.value, t)
        elif t.type in CLOSE:
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
            fail(t, f"{a} is closed by {b}", f"write  {SHOWN.get(wanted, wanted)}")

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
            (x for x in self.raw[self.k :] if x.type not in IGNORED), None
        )  # does the formula go on?
        goes_on = after is not None and after.type in ("PLUS", "MINUS", "TIMES", "SLASH", "STAR")
        if not goes_on and self.last not in OPERATORS:
            self.separate(t)

    def take_newline(self, t: Token) -> None:
        """A line that has no = of its own goes on with the formula before it."""
        if not self.layout and not self.open and self.says_something():
            self.end_of_line(t)

    def says_something(self) -> bool:
        """Is there a comparison, outside brackets and not first, in the line that begins here?"""
        depth, first = 0, True
        for t in self.raw[self.k :]:
            if t.type in ENDS_LINE and not first:
                return False
            if t.type in IGNORED:
                continue
            depth += (t.type in OPEN) - (t.type in CLOSE)
            if t.type == "REL" and depth == 0:
                return not first
            first = False
        return False

    def take_math(self, t: Token) -> None:
        self.layout += {r"\[": 1, r"\]": -1, r"\(": 1, r"\)": -1}.get(t.value, 0)
        if self.open:
            wanted, opened = self.open[-1]
            name = opened.value.strip()
            fail(opened, f"{name} is never closed", f"add  {SHOWN.get(wanted, wanted)}")
        self.end_of_line(t)

    def take_gap(self, t: Token) -> None:
        if self.last in ENDS_VALUE:
            self.out.append(made("SPACE", t.value, t))

    def take_quad(self, t: Token) -> None:
        after = self.following()
        if not self.open and after is not None and after.type not in OPERATORS:
            if self.last in ENDS_VALUE or self.last == "SPACE":
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
        elif name in LAYOUT:
            self.layout += 1
            self.separate(t)
        else:
            fail(
                t,
                f"{name} cannot be read",
                COMMAND_HINTS["matrix"]
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
            fail(opened, f"{name} is never closed", f"add  {SHOWN.get(wanted, wanted)}")
        else:
            self.layout = max(0, self.layout - 1)
            self.separate(t)

    def take_bar(self, t: Token) -> None:
        if self.inside("BARR") and self.last not in OPERATORS:
            self.open.pop()
            self.add("BARR", t.value, t)
        else:
            self.open.append(("BARR", t))
            self.add("BARL", t.value, t)

    def take_norm(self, t: Token) -> None:
        fail(t, "a norm cannot be read", r"write it out, as in  \sqrt{\sum_i x_i^2}")
