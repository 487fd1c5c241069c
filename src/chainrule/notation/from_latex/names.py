"""Which superscripts are layers' names, and what each tensor is called in a program.

w^l, alone in the text            w       the superscript says nothing: it is dropped
x^l and x^{l-1}, x^{l+1}          x, x_prev, x_next
W^{(2)}, W^{[2]}                  W2
w^{\\mathrm{out}}, w^{\\mathrm{in}}   w_out, w_in
w^{(t+1)} = w^{(t)} - ...         w, an update (w' = w - ..., w^{new} = w^{old} - ... too)
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from chainrule.notation.from_latex.parts import (
    Label,
    Node,
    Unit,
    alone,
    kind,
    label,
    terms,
    unit,
    units,
)

_LAYERS = ("l", "L")  # the letters that name layers without parentheses around them
_SQUARES = {(x, "2") for x in ("σ", "s", "r", "R", "d", "χ")}  # σ^2 = ...: its layer is none
_NEW = ("new", "neu", "updated", "next", "+")
_OLD = ("old", "alt", "", "prev", "current")


@dataclass
class Formula:
    """A formula before it is read: left = right, with the conditions written behind it."""

    left: Node
    right: Node
    conditions: list[Node]
    bound: frozenset[str]  # every index that it binds anywhere


class Ambiguous(Exception):
    """What cannot be named without guessing."""

    def __init__(self, node: Node, message: str, hint: str) -> None:
        super().__init__(message)
        self.node, self.message, self.hint = node, message, hint


Key = tuple[str, Label, int]


class Names:
    def __init__(self, formulas: Iterable[Formula], known: Iterable[str] = ()) -> None:
        formulas = list(formulas)
        self.numbered = set(filter(None, (_numbered(f.left) for f in formulas)))
        self.raised = set(filter(None, (_raised(f.left) for f in formulas)))
        self.values = {u.letter for f in formulas for n in (f.left, f.right) for u in units(n)}
        self.values |= set(known)
        self.known = set(known)
        self.timed: set[Key] = set()
        self.updates: set[int] = set()
        for k, f in enumerate(formulas):
            if self._is_update(f):
                self.updates.add(k)
        self.keys: dict[str, dict[Key, Unit]] = {}
        for f in formulas:
            for n in (f.left, f.right):
                for u in units(n):
                    key = self.key(u, f.bound)
                    self.keys.setdefault(key[0], {}).setdefault(key, u)
        self.names: dict[Key, str] = {}
        for letter, found in self.keys.items():
            self._name(letter, found)

    def name(self, u: Unit, bound: frozenset[str]) -> str:
        """The tensor's name in the program."""
        key = self.key(u, bound)
        return self.names.get(key) or self._plain(key)

    # ------------------------------------------------------------ superscripts

    def role(self, u: Unit, sup: Node, bound: frozenset[str]) -> tuple[str, Label]:
        """What a superscript of a name is: power, layer, axis, or the tensor that δ belongs to."""
        found, in_brackets = label(sup)
        base = kind(u.base)
        if kind(alone(sup)) == "NUMBER" and (u.letter, str(alone(sup))) in self.raised:
            return "layer", Label(str(alone(sup)), number=True)
        if kind(alone(sup)) == "NUMBER" and u.letter not in ("", "e"):
            self._power(u, str(alone(sup)), sup)
        if kind(alone(sup)) == "STAR":
            raise Ambiguous(sup, "a star above a name says nothing", "call it what it is")
        if kind(alone(sup)) == "TOP" or (found == Label("T") and not in_brackets):
            raise Ambiguous(
                sup,
                "a transpose is another order of indices",
                f"write the indices, as in  {u.letter}_{{j,i}}",
            )
        if found is None:
            return "power", Label()
        if found.number:
            return "layer", found
        if u.letter == "δ" and not found.offset and found.text in self.values:
            if found.text not in _LAYERS:
                return "delta", found
        if in_brackets:
            if found.text in bound and not found.offset:
                return "axis", found
            return "layer", found
        if found.word:
            return "layer", found
        if found.text in bound or (found.text in self.values and found.text not in _LAYERS):
            if u.subs and found.text in bound and base == "LETTER":
                raise Ambiguous(
                    sup,
                    f"is ^{found.text} a power, or an index written above?",
                    rf"a power is \left({u.letter}\right)^{{{found.text}}}, an index stands below",
                )
            return "power", Label()
        if found.text in _LAYERS:
            return "layer", found
        raise Ambiguous(
            sup,
            f"is ^{found.text} a power, or the name of a layer?",
            rf"a power is \left({u.letter}\right)^{{{found.text}}}, "
            rf"a layer {u.letter}^{{({found.text})}}",
        )

    def _power(self, u: Unit, number: str, sup: Node) -> None:
        """a^1 is no power, and w^2 is none for sure beside  z^2 = ..., the second layer."""
        layers = sorted(x for x in self.raised if x not in _SQUARES)
        if number != "1" and not layers:
            return
        name = rf"\left({u.letter}\right)^{{{number}}}"
        raise Ambiguous(
            sup,
            f"is ^{number} a power, or the number of a layer"
            + (f" as in {layers[0][0]}^{layers[0][1]}?" if layers else "?"),
            f"a layer is written  {u.letter}^{{({number})}}"
            + (f", a power  {name}" if number != "1" else ""),
        )

    def key(self, u: Unit, bound: frozenset[str]) -> Key:
        letter = u.letter
        for s in u.subs:
            if self.is_suffix(u, s, bound):
                n = alone(s)
                letter += str(n) if kind(n) == "NUMBER" else f"_{n}"
        layer = Label()
        for sup in u.sups:
            role, found = self.role(u, sup, bound)
            if role == "layer":
                if layer != Label():
                    raise Ambiguous(sup, "two superscripts name a layer", "write one")
                layer = found
        key = (letter, layer, u.primes)
        return (letter, Label(), 0) if key in self.timed else key

    def is_suffix(self, u: Unit, sub: Node, bound: frozenset[str]) -> bool:
        """A subscript that is part of the name: z_{\\text{out}}, and h_1 where h_1 = ... stands."""
        n = alone(sub)
        if kind(n) == "NUMBER":
            return u.letter in self.numbered and len(u.subs) == 1
        return kind(n) == "TEXT" or (kind(n) == "WORD" and str(n) not in bound)

    # ------------------------------------------------------------ updates

    def _is_update(self, f: Formula) -> bool:
        """w^{(t+1)} = w^{(t)} - ...: both are w."""
        left = unit(f.left)
        if left is None or not left.letter:
            return False
        for _, term in terms(f.right):
            right = unit(term)
            if right is None or right.letter != left.letter:
                continue
            if list(map(str, left.subs)) != list(map(str, right.subs)):
                continue
            a, b = self.key(left, f.bound), self.key(right, f.bound)
            if a == b or not _follows(a, b):
                continue
            self.timed |= {a, b}
            return True
        return False

    # ------------------------------------------------------------ names

    def _name(self, letter: str, found: dict[Key, Unit]) -> None:
        layers = {k[1] for k in found}
        lettered = {x for x in layers if not x.number and not x.word and x.text}
        bare = {k for k in found if k[1] == Label()}
        other = {x for x in layers if x != Label()}
        timed = any(k[0] == letter for k in self.timed)
        for key, u in found.items():
            layer = key[1]
            if layer == Label() and lettered and not timed:
                raise Ambiguous(
                    u.node,
                    f"{letter} is written with a superscript and without",
                    "write it the same way everywhere",
                )
            if not layer.number and len(other) == 1 and (not bare or timed):
                name = letter
            elif layer.number or not layer.text:
                name = letter + layer.text
            elif layer.word:
                name = f"{letter}_{layer.text}"
            else:
                several = len({x.text for x in lettered}) > 1 or len(lettered) < len(other)
                name = letter + (f"_{layer.text}" if several else "") + _suffix(layer.offset)
            name += "_prime" * key[2]
            taken = next((k for k, n in self.names.items() if n == name and k != key), None)
            if taken is not None and not (timed and taken[0] == letter):
                raise Ambiguous(u.node, f"two tensors would be called {name}", "rename one of them")
            self.names[key] = name

    def _plain(self, key: Key) -> str:
        letter, layer, primes = key
        text = layer.text if layer.number else f"_{layer.text}" if layer.text else ""
        return letter + text + "_prime" * primes


def _raised(left: Node) -> tuple[str, str] | None:
    """σ and 2 of σ^2 = ..., which is a name."""
    u = unit(left)
    if u is None or len(u.sups) != 1 or kind(alone(u.sups[0])) != "NUMBER":
        return None
    return (u.letter, str(alone(u.sups[0]))) if u.letter else None


def _numbered(left: Node) -> str:
    """h of h_1 = ..."""
    u = unit(left)
    if u is None or len(u.subs) != 1 or kind(alone(u.subs[0])) != "NUMBER":
        return ""
    return u.letter


def _suffix(offset: int) -> str:
    if not offset:
        return ""
    return ("_prev" if offset < 0 else "_next") + (str(abs(offset)) if abs(offset) > 1 else "")


def _follows(a: Key, b: Key) -> bool:
    """Is a the next value of b?"""
    x, y = a[1], b[1]
    if a[2] == b[2] + 1 and x == y:
        return True
    if a[2] != b[2]:
        return False
    if x.word or y.word:
        return x.text in _NEW and y.text in _OLD
    return (
        not x.number
        and x.text == y.text
        and x.offset == y.offset + 1
        and x.text not in _LAYERS
        and bool(x.text)
    )
