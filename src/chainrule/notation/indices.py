"""What stands in brackets: index names with their sizes, affine axes, groups."""

from __future__ import annotations

import ast
from fractions import Fraction

from chainrule.expr import (
    Affine,
    Axis,
    Binder,
    Call,
    Expr,
    Group,
    Size,
    add,
    affine,
    const,
    mul,
    neg,
)
from chainrule.functions import RESERVED
from chainrule.notation.places import Places
from chainrule.notation.words import NUMBERS_HINT

ALIASES = {"Σ": "sum"}
MAX_AXES = 32  # as many as every NumPy has
GROUP_HINT = "write the indices of the group, as in  (i,j)"
_AFFINE_HINT = "an index is a sum of index names times whole numbers, as in  2*i+m-1"
_SPLIT_HINT = "to repeat or split an axis, use a group, as in  y[(i,a:2)] = x[i]"
_SIZE_HINT = (
    "a size is made of whole numbers, + - * //, min(...) and size(t, 0), "
    "the number of elements on axis 0 of t"
)


def canonical(name: str) -> str:
    """δt for d_t, which is accepted wherever δt is."""
    return "δ" + canonical(name[2:]) if name.startswith("d_") and len(name) > 2 else name


def items(node: ast.expr) -> list[ast.expr]:
    return list(node.elts) if isinstance(node, ast.Tuple) else [node]


class IndexReader(Places):
    """Reads brackets, with the scopes that say which names are indices."""

    def __init__(self, lines: tuple[str, ...], code: tuple[str, ...], shift: int) -> None:
        super().__init__(lines, code, shift)
        self.scope: list[set[str]] = []
        self.bound_somewhere: set[str] = set()

    # -------------------------------------------------------- names

    def is_index(self, name: str) -> bool:
        return any(canonical(name) in names for names in self.scope)

    def tensor_name(self, node: ast.Name) -> str:
        if node.id in RESERVED or node.id in ALIASES:
            self.fail(node, f"{node.id} is a word of the language", "choose another tensor name")
        return canonical(node.id)

    def index_name(self, node: ast.Name) -> str:
        if self.is_index(node.id):
            return canonical(node.id)
        self.refuse_lost_index(node)
        self.fail(
            node,
            f"{node.id} is not an index here: nothing binds it",
            f"bind it on the left side or in a reduction, as in  sum[{node.id}](...)",
        )

    def refuse_lost_index(self, node: ast.Name) -> None:
        if node.id in self.bound_somewhere:
            self.fail(
                node,
                f"index {node.id} is used outside the reduction that binds it",
                "move it inside the brackets of the reduction, or rename one of the two",
            )

    # -------------------------------------------------------- indices where they are bound

    def binder(self, node: ast.expr, tensor: str = "y") -> Binder:
        """An index name, perhaps with its size; `tensor` is the one that is assigned."""
        size = None
        if isinstance(node, ast.Slice):
            if node.lower is None or node.upper is None or node.step is not None:
                self.fail(
                    node,
                    "an index with its size is a name, a colon and the size",
                    f"as in  {tensor}[i:28] = ...",
                )
            size = self.size_expression(node.upper)
            self.remember(size, node.upper)
            node = node.lower
        if isinstance(node, ast.Constant):
            self.fail(
                node,
                f"a new index is a bare name, not {self.segment(node)}",
                f"one element is chosen on the right, as in  {tensor}[i:28] = where(i == 0, a, b)",
            )
        if not isinstance(node, ast.Name):
            self.fail(
                node,
                f"a new index is a bare name, not {self.segment(node)}",
                f"shift on the right side instead, as in  {tensor}[i] = pad(x)[i-1]",
            )
        if node.id in RESERVED:
            self.fail(node, f"{node.id} is a word of the language", "choose another index name")
        return canonical(node.id), size

    def size_expression(self, node: ast.expr) -> Expr:
        """Numbers, size(t, axis), + - * // and min(...)."""
        match node:
            case ast.Constant(value=int(v)) if not isinstance(v, bool):
                return const(v)
            case ast.BinOp(left=a, op=op, right=b):
                x, y = self.size_expression(a), self.size_expression(b)
                match op:
                    case ast.Add():
                        return add(x, y)
                    case ast.Sub():
                        return add(x, neg(y))
                    case ast.Mult():
                        return mul(x, y)
                    case ast.FloorDiv():
                        return Call("//", (x, y))
            case ast.UnaryOp(op=ast.USub(), operand=a):
                return neg(self.size_expression(a))
            case ast.Call(func=ast.Name(id="min"), args=args, keywords=[]) if args:
                return Call("min", tuple(self.size_expression(a) for a in args))
            case ast.Call(func=ast.Name(id="size")):
                return self.size(node)
        self.fail(node, f"{self.segment(node)} is not a size", _SIZE_HINT)

    def size(self, node: ast.Call) -> Size:
        match node.args:
            case [ast.Name() as t, ast.Constant(value=int(k))] if k >= 0 and not node.keywords:
                result = Size(self.tensor_name(t), k)
                self.remember(result, node)
                return result
        self.fail(
            node,
            "size takes a tensor and the number of an axis, counted from 0",
            "as in  size(o, 0)",
        )

    # -------------------------------------------------------- indices where they are used

    def axis_items(self, node: ast.expr) -> list[ast.expr]:
        """The axes in brackets.  x[(i,j)] is one axis: Python's tree hides its parentheses."""
        if isinstance(node, ast.Tuple) and self.parenthesised(node):
            return [node]
        found = items(node)
        if len(found) > MAX_AXES:
            self.fail(
                node,
                f"{len(found)} axes are more than a tensor can have",
                f"a tensor has at most {MAX_AXES} axes",
            )
        return found

    def parenthesised(self, node: ast.Tuple) -> bool:
        if node.end_lineno is None or node.end_col_offset is None:
            return False
        line, start = self.position(node.lineno, node.col_offset)
        last, end = self.position(node.end_lineno, node.end_col_offset)
        text = "\n".join([*self.code[line - 1 : last - 1], self.code[last - 1][:end]])[start:]
        if not text.startswith("("):
            return False
        depth = 0
        for k, c in enumerate(text):
            depth += (c == "(") - (c == ")")
            if depth == 0:
                return k == len(text) - 1
        return False

    def axes(self, node: ast.expr, tensor: str, *, fractions: bool) -> tuple[Axis, ...]:
        return tuple(self.axis(item, tensor, fractions) for item in self.axis_items(node))

    def axis(self, node: ast.expr, tensor: str, fractions: bool) -> Axis:
        if isinstance(node, ast.Tuple):
            if not node.elts:
                self.fail(node, "this group is empty", GROUP_HINT)
            names = []
            for x in node.elts:
                if not isinstance(x, ast.Name):
                    self.fail(x, "a group is made of bare index names", "as in  (i,j)")
                names.append(self.index_name(x))
            return Group(tuple(names))
        if isinstance(node, ast.Slice):
            self.fail(
                node,
                "an index gets its size where it is bound, not where it is used",
                "on the left side, x[i:28] = ..., or in a reduction, sum[m:5](...)",
            )
        result = self.affine(node, tensor)
        if not fractions and not result.whole:
            whole = "is not" if not result.terms else "is not always"
            self.fail(
                node,
                f"{self.segment(node)} {whole} a whole number",
                f"behind pad an index may be a fraction, as in  pad({tensor})[(p-m)/2]",
            )
        return result

    def affine(self, node: ast.expr, tensor: str) -> Affine:
        """A sum of index names times numbers; `tensor` is the one that is read."""
        match node:
            case ast.Constant(value=int(v)) if not isinstance(v, bool):
                return affine((), v)
            case ast.Constant(value=float()):
                return affine((), self.decimal(node))
            case ast.Name():
                return affine([(self.index_name(node), 1)])
            case ast.UnaryOp(op=ast.USub(), operand=a):
                return self.affine(a, tensor).times(Fraction(-1))
            case ast.UnaryOp(op=ast.UAdd(), operand=a):
                return self.affine(a, tensor)
            case ast.BinOp(left=a, op=ast.Add() | ast.Sub() as op, right=b):
                x, y = self.affine(a, tensor), self.affine(b, tensor)
                y = y if isinstance(op, ast.Add) else y.times(Fraction(-1))
                return affine([*x.terms, *y.terms], x.offset + y.offset)
            case ast.BinOp(left=a, op=ast.Mult() | ast.Div() as op, right=b):
                x, y = self.affine(a, tensor), self.affine(b, tensor)
                if isinstance(op, ast.Div):
                    if not y.terms and y.offset:
                        return x.times(1 / y.offset)
                elif not x.terms:
                    return y.times(x.offset)
                elif not y.terms:
                    return x.times(y.offset)
        self.fail(
            node,
            f"{self.segment(node)} is not an affine index",
            self.affine_hint(node, tensor),
        )

    def affine_hint(self, node: ast.expr, tensor: str) -> str:
        match node:
            case ast.Subscript():
                place = self.segment(node)
                other = "k" if not self.is_index("k") else "l"
                return (
                    "to look a value up, sum over its place: "
                    f"sum[{other}]({tensor}[{other}] * ({other} == {place}))"
                )
            case ast.BinOp(op=ast.FloorDiv() | ast.Mod()):
                return _SPLIT_HINT
        return _AFFINE_HINT

    def decimal(self, node: ast.expr) -> Fraction:
        """The literal exactly as written: 0.1 is 1/10."""
        text = self.segment(node).replace("_", "")
        digits, _, exponent = text.lower().partition("e")
        if len(digits) > 1000:
            self.fail(node, "this number has too many digits", NUMBERS_HINT)
        if len(exponent) > 5 or abs(int(exponent or 0)) > 330:
            self.fail(
                node,
                f"{text} is beyond the range of float64",
                "numbers reach from 5e-324 to 1.8e308; more than that is inf",
            )
        return Fraction(text)
