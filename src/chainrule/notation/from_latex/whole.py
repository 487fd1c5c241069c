"""Formulas of whole tensors: w = w - η ∂E/∂w, each with the indices that it has elsewhere."""

from __future__ import annotations

from chainrule.expr import (
    Access,
    Affine,
    Expr,
    Grad,
    Mul,
    Reduce,
    bare,
    rebuild,
    walk,
)
from chainrule.notation.from_latex.expressions import ExpressionReader
from chainrule.notation.from_latex.parts import (
    Node,
)
from chainrule.system import Statement

_LETTERS = "ijklmnpqrsuvwabcdfgh"


class WholeReader(ExpressionReader):
    """Completes statements that were read without indices."""

    statements: list[Statement]
    places: list[Node]

    def _complete(self) -> None:
        """w = w - η ∂E/∂w: each tensor gets the indices that it has elsewhere."""
        known = self._indexed()
        for k, s in enumerate(self.statements):
            self.where = k
            bare_reads = [
                e
                for e in walk(s.body)
                if isinstance(e, (Access, Grad))
                and not e.axes
                and _named(e) in known
                and not (isinstance(e, Access) and e.pad is not None)
            ]
            if s.axes or not (bare_reads or s.target in known):
                continue
            if any(isinstance(e, Reduce) for e in walk(s.body)) and s.target not in known:
                continue
            self.statements[k] = self._whole(s, bare_reads, known)

    def _indexed(self) -> dict[str, tuple[str, ...]]:
        """Tensors that are written with indices somewhere, and letters for them."""
        known: dict[str, tuple[str, ...]] = {}
        old = self.known.statements if self.known is not None else ()
        for s in (*old, *self.statements):
            if s.axes and all(len(a) == 1 for a in s.axes):
                known[s.target] = s.indices
        for s in (*old, *self.statements):
            for e in walk(s.body):
                if isinstance(e, (Access, Grad)) and e.axes:
                    names = [a.bare if isinstance(a, Affine) else None for a in e.axes]
                    plain = tuple(n for n in names if n)
                    if len(plain) != len(e.axes) or len(set(plain)) != len(plain):
                        plain = tuple(_LETTERS[: len(e.axes)])
                        known.setdefault(_named(e), plain)
                    elif _named(e) not in known:
                        known[_named(e)] = plain
        for t in list(known):
            if not t.startswith("δ"):
                known.setdefault("δ" + t, known[t])
        return known

    def _whole(
        self, s: Statement, reads: list[Access | Grad], known: dict[str, tuple[str, ...]]
    ) -> Statement:
        names = known.get(s.target) or known[_named(reads[0])]
        inner = {n for e in walk(s.body) if isinstance(e, Reduce) for n in e.names}
        if inner.intersection(names):
            names = tuple(n for n in _LETTERS if n not in inner)[: len(names)]
        place = self.places[self.where]
        for e in reads:
            rank = len(known[_named(e)])
            if rank != len(names):
                self.fail(
                    place,
                    f"{_named(e)} has {rank} indices elsewhere, {s.target} has {len(names)}",
                    "write the indices of this formula",
                )
        whole = set(reads)
        for m in walk(s.body):
            if isinstance(m, Mul) and sum(f in whole for f in m.factors) > 1:
                if self._plain_product():
                    self.fail(
                        place,
                        "is this a product of elements, or of matrices?",
                        r"write the indices, or  \odot  for elements",
                    )
        axes = tuple(map(bare, names))

        def go(e: Expr) -> Expr:
            if e in whole and isinstance(e, Access):
                return Access(e.tensor, axes, None)
            if e in whole and isinstance(e, Grad):
                return Grad(e.of, e.wrt, axes)
            return rebuild(e, go)

        result = Statement(s.target, tuple(((n, None),) for n in names), go(s.body))
        self.spans.setdefault((self.where, result), self.span(place))
        return result

    def _plain_product(self) -> bool:
        """No sign in the text says that it is a product of elements."""
        text = "\n".join(self.lines)
        return not (r"\odot" in text or r"\circ" in text)


def _named(e: Access | Grad) -> str:
    return e.tensor if isinstance(e, Access) else e.wrt
