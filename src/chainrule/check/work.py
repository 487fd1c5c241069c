"""A program's forward and backward pass on the user's data, every tensor's value at hand.

Everything here runs one statement at a time, so that a changed statement costs only itself and
what depends on it.  A name with a prime, w' or E', is the value after the update statements.
"""

from __future__ import annotations

import difflib
import math
from collections.abc import Iterable, Mapping
from functools import lru_cache
from typing import Any

from chainrule.derive import expand
from chainrule.derive.backward import Backward, differentiate
from chainrule.errors import FormulaError
from chainrule.evaluate import evaluate
from chainrule.expr import Access, Expr, Grad, rebuild, walk
from chainrule.functions import Array
from chainrule.given import floats
from chainrule.notation import statement
from chainrule.notation.indices import canonical
from chainrule.program import Program
from chainrule.ranges import Ranges, Shape, numeric
from chainrule.system import Statement, System

Values = dict[str, Array]


@lru_cache(maxsize=16384)
def _prepared(s: Statement, shapes: tuple[tuple[str, Shape], ...]) -> tuple[System, Ranges]:
    system = System((s,))
    return system, numeric(system, dict(shapes))


def prepared(s: Statement, shapes: Mapping[str, Shape]) -> tuple[System, Ranges]:
    """The statement alone, with the sizes of its indices."""
    return _prepared(s, tuple((t, shapes[t]) for t in s.mentions))


def run(s: Statement, values: Mapping[str, Array]) -> Array:
    """The value of one statement; raises FormulaError where sizes do not fit."""
    system, ranges = prepared(s, {t: values[t].shape for t in s.mentions})
    return evaluate(system, ranges, {t: values[t] for t in s.mentions})[s.target]


def extents(s: Statement, values: Mapping[str, Array]) -> dict[str, int]:
    """The sizes of the statement's indices, by the names of unique(s)."""
    return prepared(s, {t: values[t].shape for t in s.mentions})[1].extents[0]


class Work:
    """What is checked: `target`, one of `statements`; `values` has every tensor.

    forward, made    the forward pass, and the statements of its derivative
    after            the updates and the forward pass behind them, all names with primes
    deltas           tensor -> the name of its cotangent
    by_target        the statements to compute with: `named` but for what the user gives
    """

    def __init__(self, p: Program, of: str, wrt: str | None, given: Mapping[str, Any]) -> None:
        self.program, self.of, self.wrt = p, canonical(of), canonical(wrt) if wrt else None
        kept = tuple(s for s in p.system.statements if not s.is_update)
        self.forward = expand(System(kept)) if kept else p.system
        self.updates = tuple(s for s in p.system.statements if s.is_update)
        self.objective = self._objective()
        self.backward = self._differentiate(self.objective)
        self.made = tuple(self.backward.space.made) if self.backward else ()
        self.deltas = self._deltas()
        self.after = self._after()
        self.order = in_order((*self.forward.statements, *self.made, *self.after))
        self.named = {s.target: s for s in self.order}
        self.by_target = self.named
        self.target = self._target()
        self.values = self._values(given)
        self.shapes = {t: a.shape for t, a in self.values.items()}
        self.path = needed_for(self.order, self.target)

    def _objective(self) -> str:
        """What is differentiated: `of`, or what the update of w asks the gradient of, for w'."""
        of = self.of.rstrip("'")
        if of in self.forward.outputs:
            return of
        bodies = [s.body for s in self.updates if s.target == of]
        grads = [e.of for body in bodies for e in walk(body) if isinstance(e, Grad)]
        if not bodies:
            raise FormulaError(
                f"there is no computed tensor {of}", hint=near(of, self.forward.outputs)
            )
        return grads[0] if grads else ""

    def _differentiate(self, of: str) -> Backward | None:
        wanted: list[str] = []
        if self.wrt and not self.wrt.endswith("'"):
            wanted.append(self.wrt)
        for s in self.updates:
            for e in walk(s.body):
                if isinstance(e, Grad) and e.of == of and e.wrt not in wanted:
                    wanted.append(e.wrt)
        if not wanted or not of:
            return None
        return differentiate(self.forward, of, tuple(wanted))

    def _deltas(self) -> dict[str, str]:
        if self.backward is None:
            return {}
        known = self.backward.deltas
        names = {t: d.tensor for t, d in known.items() if isinstance(d, Access)}
        for t in self.backward.wrt:
            names[t] = self.backward.delta_of(t)
        return names

    def _target(self) -> str:
        if self.wrt is None:
            name = self.of
        elif self.wrt.endswith("'"):
            name = self.wrt
        else:
            name = self.deltas[self.wrt]
        if name not in self.by_target:
            hint = near(name, self.by_target)
            raise FormulaError(f"this program does not compute {name}", hint=hint)
        return name

    # ------------------------------------------------------------ after the update

    def _after(self) -> tuple[Statement, ...]:
        renamed: dict[str, str] = {}
        out: list[Statement] = []
        for s in self.updates:
            body = self._with_deltas(s.body)
            if body is not None:
                renamed[s.target] = s.target + "'"
                out.append(Statement(s.target + "'", s.axes, body))
        for s in self.forward.order:
            if any(t in renamed for t in s.reads):
                new = Statement(s.target + "'", s.axes, renamed_tensors(s.body, renamed))
                renamed[s.target] = s.target + "'"
                out.append(new)
        return tuple(out)

    def _with_deltas(self, e: Expr) -> Expr | None:
        """An update's body with grad(E, w) read as δw; None where it asks for another's."""
        grads = [g for g in walk(e) if isinstance(g, Grad)]
        if any(g.of != self.objective or g.wrt not in self.deltas for g in grads):
            return None

        def go(x: Expr) -> Expr:
            if isinstance(x, Grad):
                return Access(self.deltas[x.wrt], x.axes, None)
            return rebuild(x, go)

        return go(e)

    # ------------------------------------------------------------ values

    def _values(self, given: Mapping[str, Any]) -> Values:
        values = {canonical(t): as_floats(t, a) for t, a in given.items()}
        path = needed_for(self.order, self.target)
        computed = set(self.by_target)
        needed = dict.fromkeys(t for s in path for t in s.mentions if t not in computed)
        if missing := [t for t in needed if t not in values]:
            raise FormulaError(
                f"missing: {', '.join(missing)}", hint=f"the check needs {', '.join(needed)}"
            )
        known = {t for s in self.order for t in s.mentions} | set(self.program.inputs)
        for t in values:
            if t not in known and t != "δ" + self.of:
                raise FormulaError(f"this program has no tensor {t}", hint=near(t, known))
        if self.backward is not None:  # so that a mistake is shown in the text as it was written
            if all(t in values for t in self.forward.inputs):
                numeric(self.forward, {t: a.shape for t, a in values.items() if t in known})
        for s in self.order:
            if all(t in values for t in s.mentions):
                try:
                    values[s.target] = run(s, values)
                except FormulaError:
                    if s in path:
                        raise
        return values

    def cost(self) -> int:
        """Roughly the multiply-adds that the target takes: a thousand runs may be too many."""
        return sum(math.prod(extents(s, self.values).values()) for s in self.path)

    def text(self, target: str) -> str:
        """The statement of a tensor, as text."""
        s = self.named.get(target)
        return statement(s) if s is not None else target


def as_floats(name: str, a: Any) -> Array:
    """A float64 array in row-major order; raises FormulaError where it holds no real numbers."""
    try:
        return floats(name, a)
    except FormulaError as e:
        message = f"{name} is not an array of real numbers: {e.message}"
        raise FormulaError(message, hint=e.hint) from None


def renamed_tensors(e: Expr, names: Mapping[str, str]) -> Expr:
    """e reading other tensors."""

    def go(x: Expr) -> Expr:
        if isinstance(x, Access) and x.tensor in names:
            return Access(names[x.tensor], x.axes, None if x.pad is None else go(x.pad))
        return rebuild(x, go)

    return go(e)


def in_order(statements: Iterable[Statement]) -> tuple[Statement, ...]:
    """The statements so that each comes after what it reads; raises Problem on a cycle."""
    return System(tuple(statements)).order


def needed_for(order: Iterable[Statement], target: str) -> tuple[Statement, ...]:
    """The statements, in running order, that computing the target takes."""
    wanted, kept = {target}, []
    for s in reversed(tuple(order)):
        if s.target in wanted:
            kept.append(s)
            wanted.update(s.mentions)
    return tuple(reversed(kept))


def near(name: str, known: Iterable[str]) -> str:
    """A hint: the name that was probably meant."""
    known = list(known)
    match = difflib.get_close_matches(name, known, 1)
    return f"did you mean {match[0]}?" if match else "known: " + ", ".join(known)
