"""Explanation: one element of one tensor, its terms and factors, in turn down to the data."""

from __future__ import annotations

from functools import cached_property
from typing import Any

from chainrule.explain.build import Builder, all_cells
from chainrule.explain.model import Cell, Inner, Part, Term, Zeros, element_name
from chainrule.explain.notes import notes
from chainrule.explain.values import Place, shown_at
from chainrule.explain.writing import formula
from chainrule.notation import statement
from chainrule.system import Statement


class Explanation:
    """Why one number is what it is.

    name, value      which number, in full precision
    formula          the statement that computes it, filled: the same at this element
    terms            the products that are not 0, largest first: .indices .factors .value
    zeros            the others, counted by reason: .count .reason .example
    notes            conventions that matter to this number
    children         the explanations of the computed numbers among the factors

    str() shows it, with its children down to `depth` levels; so do .latex() and a notebook.
    .to_dict() is all of it as plain lists, dicts and numbers.
    """

    def __init__(
        self, builder: Builder, tensor: str, index: Place, depth: int, of: str | None = None
    ) -> None:
        self.builder = builder  # the numbers behind it, shared by all its children
        self.tensor, self.index, self.depth = tensor, index, depth
        self.of = of
        self._root = True

    # ------------------------------------------------------------ what it is

    @property
    def name(self) -> str:
        """The element, as in δw[0,0]."""
        return element_name(self.tensor, self.index)

    @cached_property
    def value(self) -> float:
        """The number itself."""
        work = self.builder.work
        return float((work.after if self._root else work.before)[self.tensor][self.index])

    @property
    def shape(self) -> Place:
        """The shape of the whole tensor."""
        return tuple(self.builder.work.before[self.tensor].shape)

    @property
    def role(self) -> str:
        """Where it comes from: given, forward, backward, helper or update."""
        return "update" if self.is_update else self.builder.work.role(self.tensor)

    @property
    def is_update(self) -> bool:
        """Is this the new value of a tensor that the program updates?"""
        return self._root and self.tensor in self.builder.work.system.updates

    @cached_property
    def statement(self) -> Statement | None:
        """The statement that computes it; None for data."""
        if self.tensor in self.builder.work.system.updates and not self._root:
            return None
        return self.builder.work.statement(self.tensor)

    # ------------------------------------------------------------ how it comes about

    @cached_property
    def formula(self) -> str:
        """The statement, with letters; "" for data."""
        return statement(self.statement) if self.statement else ""

    @cached_property
    def filled(self) -> str:
        """The statement at this element: the indices on its left are numbers."""
        if self.statement is None:
            return ""
        body = shown_at(self.statement.body, self.left)
        return f"{self.name} = {formula(body)}"

    @cached_property
    def left(self) -> dict[str, int]:
        """The values of the indices on the left of the formula."""
        return self.builder.work.left(self.tensor, self.index) if self.statement else {}

    @cached_property
    def parts(self) -> tuple[Part, ...]:
        """The terms of the formula's outermost sum: sums over indices, or single products."""
        return self.builder.parts(self.tensor, self.index) if self.statement else ()

    @property
    def terms(self) -> tuple[Term, ...]:
        """The products that are not 0, largest first (of very many the largest hundred)."""
        found = [t for p in self.parts for t in p.terms if t.value != 0]
        return tuple(sorted(found, key=lambda t: -abs(t.value)))

    @property
    def rest(self) -> tuple[int, float]:
        """How many more terms are not 0, and what they add up to."""
        return sum(p.rest[0] for p in self.parts), sum(p.rest[1] for p in self.parts)

    @property
    def zeros(self) -> tuple[Zeros, ...]:
        """The terms that are 0, counted by reason."""
        return tuple(z for p in self.parts for z in p.zeros)

    @cached_property
    def inner(self) -> tuple[Inner, ...]:
        """The windows, softmax sums and the like among the factors of its terms."""
        return tuple(i for p in self.parts for t in p.terms for f in t.factors for i in f.inner)

    @cached_property
    def notes(self) -> tuple[str, ...]:
        """The conventions that matter to this number."""
        return notes(self.builder, self)

    @cached_property
    def cells(self) -> tuple[Cell, ...]:
        """The elements that its terms read, those of the largest term first."""
        terms = self.terms or [t for p in self.parts for t in p.terms]
        found = [c for t in terms for f in t.factors for c in all_cells(f)]
        if not terms:
            found = [c for z in self.zeros for c in z.cells]
        return tuple(dict.fromkeys(found))

    @cached_property
    def children(self) -> tuple[Explanation, ...]:
        """Its factors that are themselves computed, explained; () where all is data."""
        computed = [c for c in self.cells if c.role != "given"]
        return tuple(self._child(c) for c in computed)

    def _child(self, c: Cell) -> Explanation:
        child = Explanation(self.builder, c.tensor, c.index, self.depth, self.of)
        child._root = False
        return child

    # ------------------------------------------------------------ views

    def __str__(self) -> str:
        from chainrule.explain.text import render

        return render(self, self.depth)

    def __repr__(self) -> str:
        return f"<Explanation {self.name} = {self.value!r}>"

    def latex(self) -> str:
        """One `align*` block for the number and one for each of its factors, down to `depth`."""
        from chainrule.explain.typeset import document

        return document(self, self.depth)

    def to_dict(self, depth: int | None = None) -> dict[str, Any]:
        """Everything as JSON-able values: this number, its terms and children down to `depth`
        levels, and every tensor of the program with its shape, values and formula."""
        from chainrule.explain.record import record

        return record(self, self.depth if depth is None else depth)

    def _repr_latex_(self) -> str:
        from chainrule.explain.typeset import block

        return "$$\n" + block(self, "aligned") + "\n$$"

    def _repr_html_(self) -> str:
        from chainrule.explain.html import page

        return page(self, self.depth)
