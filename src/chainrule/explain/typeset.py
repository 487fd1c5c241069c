"""An explanation as LaTeX: each number an aligned block, formula, terms, numbers, value."""

from __future__ import annotations

from chainrule.explain import numbers
from chainrule.explain.explanation import Explanation
from chainrule.explain.model import Term
from chainrule.explain.values import shown_at
from chainrule.explain.writing import known, latex, latex_with_numbers
from chainrule.expr import Access, Expr, Mul, affine
from chainrule.notation.latex import align, statement_latex

TERMS = 4  # written out of a sum
CHILDREN = 4  # of one element


def document(x: Explanation, depth: int) -> str:
    """A block for the number and one for each computed factor, down to `depth` levels."""
    seen: set[str] = set()
    blocks: list[str] = []
    level = [x]
    for k in range(depth + 1):
        following: list[Explanation] = []
        for e in level:
            if e.name not in seen and (k == 0 or e.statement is not None):
                seen.add(e.name)
                blocks.append(block(e))
                following += e.children[:CHILDREN] if k < depth else ()
        level = following
    return "\n\n".join(blocks)


def block(x: Explanation, environment: str = "align*") -> str:
    """One number: its formula with letters, with its indices, in numbers, and its value."""
    left = element_latex(x)
    if x.statement is None:
        return align([(left, numbers.latex(x.value), "")], environment)
    letters, right = statement_latex(x.statement, x.of)
    rows = [(letters, right)]
    if x.left:
        rows.append((left, latex(shown_at(x.statement.body, x.left), x.of)))
    terms = [t for p in x.parts for t in p.terms if t.value != 0 or not p.names]
    terms.sort(key=lambda t: -abs(t.value))
    count = sum(p.nonzero for p in x.parts)
    more = r" + \cdots" if count > TERMS else ""
    shown = terms[:TERMS]
    if shown:
        t = x.tensor
        values = known(x.builder.work, t)
        rows.append(("", _plus([latex(_product(u), x.of) for u in shown]) + more))
        rows.append(
            ("", _plus([latex_with_numbers(_product(u), values, x.of) for u in shown]) + more)
        )
        if len(shown) > 1:
            rows.append(("", _plus([numbers.latex(u.value) for u in shown]) + more))
    rows.append(("", numbers.latex(x.value)))
    kept = [row for k, row in enumerate(rows) if k == 0 or row[1] != rows[k - 1][1]]
    zero = sum(z.count for z in x.zeros)
    total = sum(p.count for p in x.parts)
    verb = "is" if zero == 1 else "are"
    note = f"{zero:,} of {total:,} terms {verb} 0" if zero and total > 1 else ""
    last = len(kept) - 1
    return align([(a, b, note if k == last else "") for k, (a, b) in enumerate(kept)], environment)


def element_latex(x: Explanation) -> str:
    """x_{0,2}, or ∂E/∂w_{0,0} for a cotangent."""
    return latex(Access(x.tensor, tuple(affine((), i) for i in x.index), None), x.of)


def _product(t: Term) -> Expr:
    factors = tuple(f.expr for f in t.factors)
    return factors[0] if len(factors) == 1 else Mul(factors)


def _plus(texts: list[str]) -> str:
    out = ""
    for k, t in enumerate(texts):
        sign = " - " if t.startswith("-") else " + "
        out += sign + t.removeprefix("-") if k else t
    return out
