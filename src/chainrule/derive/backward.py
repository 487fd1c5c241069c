"""System -> its backward System: the cotangent of every tensor between an objective and `wrt`.

Statements are visited in reverse.  Each hands its cotangent to the tensors it reads (adjoint.py);
when all readers of a tensor have done so, its contributions are solved into gather form
(gather.py), added up, simplified, and become one statement  δt[...] = ...
"""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from functools import lru_cache

from chainrule.derive.adjoint import Adjoint, Contribution
from chainrule.derive.gather import Free, Gathered, gather
from chainrule.derive.record import stage
from chainrule.derive.space import Space, axis_of, here
from chainrule.derive.steps import Derivation, Stage
from chainrule.derive.tidy import fresh_letter
from chainrule.errors import FormulaError
from chainrule.expr import (
    ONE,
    Access,
    Affine,
    Const,
    Expr,
    Group,
    Size,
    add,
    bare,
)
from chainrule.simplify import simplify
from chainrule.system import LeftAxis, Problem, Statement, System


def backward(
    system: System, of: str, wrt: Sequence[str] | None, whole: System | None = None
) -> System:
    """Forward statements (updates left out) and the statements of every cotangent on the way.

    `whole` is the program that the system is part of: its other tensors have gradient 0.
    """
    work = differentiate(system, of, None if wrt is None else tuple(wrt), whole=whole)
    return System((*work.space.forward.statements, *work.space.made))


def derivation(system: System, of: str, wrt: str) -> Derivation:
    """The recorded steps from `of` back to `wrt`."""
    return Derivation(of, wrt, tuple(differentiate(system, of, (wrt,)).stages))


@lru_cache(maxsize=128)
def differentiate(
    system: System,
    of: str,
    wrt: tuple[str, ...] | None,
    taken: frozenset[str] = frozenset(),
    whole: System | None = None,
    suffix: bool = False,
) -> Backward:
    """The work itself, remembered; `taken` are names to keep off, `suffix` calls δt  δt_of."""
    return Backward(system, of, wrt, taken, whole or system, suffix)


def real_inputs(system: System) -> tuple[str, ...]:
    """The given tensors, but for integer labels."""
    return tuple(t for t in system.inputs if t in system.ranks and t not in system.labels)


class Backward:
    """The work of one differentiation; `space.made` and `stages` are its results."""

    def __init__(
        self,
        system: System,
        of: str,
        wrt: tuple[str, ...] | None,
        taken: frozenset[str],
        whole: System,
        suffix: bool,
    ) -> None:
        self.suffix = suffix
        given = System(tuple(s for s in system.statements if not s.is_update) or system.statements)
        self.of = of
        _check_objective(system, of, given.statements)
        forward = _computable(given, given.needed_for([of, *(wrt or ())]))
        self.space = Space(forward, taken | system.names)
        self.forward = forward
        self.wrt = real_inputs(self.forward) if wrt is None else wrt
        for t in self.wrt:
            _check_wrt(whole, t)
            self.space.know(t, whole.ranks[t])
        self.stages: list[Stage] = []
        self.deltas: dict[str, Expr] = {}
        self.pending: dict[str, list[tuple[int, Contribution]]] = {}
        self.objective_delta = ""
        self.closed: set[str] = set()  # the cotangents that are finished
        self._run()

    def delta_of(self, t: str) -> str:
        """The name of the cotangent of one of `wrt`."""
        delta = self.deltas[t]
        return delta.tensor if isinstance(delta, Access) else self.objective_delta

    # ------------------------------------------------------------ the run

    def _run(self) -> None:
        needed = set(self.forward.needed_for([self.of]))
        order = [s for s in self.forward.order if s in needed]
        active = set(self.wrt)
        for s in order:
            if active.intersection(s.reads):
                active.add(s.target)
        self.pending = {t: [] for t in active}
        first_reader = {t: s for s in reversed(order) for t in s.reads}
        for s in reversed(order):
            if s.target in active:
                self._visit(self.forward.statements.index(s), s, frozenset(active))
            for t in self.wrt:
                if t in self.forward.inputs and first_reader.get(t) is s:
                    self._close(t)
        for t in self.wrt:
            self._close(t)

    def _visit(self, k: int, s: Statement, active: frozenset[str]) -> None:
        if s.target == self.of:
            seed = self._objective(s)
        elif not self.pending[s.target]:
            return  # nothing that the objective depends on reads it differentiably
        else:
            seed = self._close(s.target)
        if isinstance(seed, Access):
            seed = Access(seed.tensor, here(self.space.unique[k]), None)
        adjoint = Adjoint(
            active,
            lambda e, label: self.space.name(k, e, label),
            lambda binders: self.space.count(k, binders),
            lambda name: self.space.size(k, name),
        )
        u = self.space.unique[k]
        for c in adjoint.contributions(u.body, seed, u.indices):
            self.pending[c.access.tensor].append((k, c))

    def _objective(self, s: Statement) -> Expr:
        """1 for a scalar; for any other tensor its cotangent, a new input."""
        name = self._delta_name(s.target)
        if s.axes:
            self.space.taken.add(name)
            self.space.dims[name] = self.space.dims[s.target]
            self.deltas[s.target] = Access(name, here(s), None)
        else:
            self.deltas[s.target] = ONE
            self.objective_delta = name
            if s.target in self.wrt:
                self.space.append(Statement(name, (), ONE), ())
        return self.deltas[s.target]

    def _delta_name(self, t: str) -> str:
        name = f"δ{t}"
        longer = self.suffix or name in self.space.taken
        return self.space.fresh(f"{name}_{self.of}" if longer else name)

    # ------------------------------------------------------------ one cotangent

    def _close(self, t: str) -> Expr:
        """All readers of t have been visited: add up what they sent."""
        if t in self.deltas:
            return self.deltas[t]
        received = self.pending.get(t, [])
        name = self._delta_name(t)
        free = self._free_names(t, [c for _, c in received])
        parts: list[Gathered] = []
        terms: list[Expr] = []
        for k, c in received:
            if self._fits(k, c, received[0], free):
                parts.append(gather(self.space, t, k, c, free))
                terms.append(parts[-1].term)
            else:
                terms.append(self._by_itself(t, k, c, free))
        body = simplify(add(*terms))
        if not free and isinstance(body, Const) and t not in self.wrt:
            self.deltas[t] = body
            return body
        made = self._append(name, t, free, body, received)
        self.deltas[t] = Access(made.target, here(made), None)
        new = self._new_parts(made)
        self.stages.append(stage(self.space, self.of, t, made, free, parts, new))
        return self.deltas[t]

    def _new_parts(self, made: Statement) -> tuple[Statement, ...]:
        """The statements made for this cotangent, which name a part of the forward pass."""
        shown = {p for stage in self.stages for p in stage.parts}
        shown |= {s for s in self.space.made if s.target in self.closed}
        self.closed.add(made.target)
        return tuple(s for s in self.space.made if s is not made and s not in shown)

    def _append(
        self, name: str, t: str, free: Free, body: Expr, received: list[tuple[int, Contribution]]
    ) -> Statement:
        """δt[free] = body; where a group on the left cannot be sized there, in two statements."""
        axes: tuple[LeftAxis, ...] = tuple(
            ((names[0], Size(t, a)),) if len(names) == 1 else tuple((n, None) for n in names)
            for a, names in enumerate(free)
        )
        dims = self.space.dims[t]
        try:
            return self.space.append(Statement(name, axes, body), dims)
        except Problem:
            sizes: dict[str, Expr] = {}
            k, c = received[0]
            for axis, names in zip(c.access.axes, free, strict=True):
                if isinstance(axis, Group):
                    pairs = zip(axis.names, names, strict=True)
                    sizes |= {n: self.space.size(k, i) for i, n in pairs}
            flat = tuple(((n, size or sizes[n]),) for axis in axes for n, size in axis)
            flat_dims = self.space.dims_of(flat)
            fresh = self.space.fresh(f"{name}_parts")
            made = self.space.append(Statement(fresh, flat, body), flat_dims)
            read = Access(made.target, tuple(bare(n) for ((n, _),) in flat), None)
            return self.space.append(Statement(name, axes, read), dims)

    def _free_names(self, t: str, received: list[Contribution]) -> Free:
        """Index names for the axes of δt: the letters its readers use, else new ones."""
        used: set[str] = set()
        out: list[tuple[str, ...]] = []
        for a in range(len(self.space.dims[t])):
            axes = [c.access.axes[a] for c in received]
            wanted: tuple[str, ...] = ("",)
            if axes and all(isinstance(x, Group) for x in axes):
                wanted = tuple(n.rstrip("'") for n in axes[0].names)
            elif alone := [x.bare for x in axes if isinstance(x, Affine) and x.bare]:
                wanted = (alone[0].rstrip("'"),)
            names: list[str] = []
            for n in wanted:
                taken = used | set(names)
                names.append(n if n and n not in taken else fresh_letter(taken | self.space.taken))
            used.update(names)
            out.append(tuple(names))
        return tuple(out)

    def _fits(self, k: int, c: Contribution, first: tuple[int, Contribution], free: Free) -> bool:
        """Does this reader group the axes of the tensor as the free indices do?"""
        sizes, first_sizes = self.space.ranges.indices[k], self.space.ranges.indices[first[0]]
        for axis, lead, names in zip(c.access.axes, first[1].access.axes, free, strict=True):
            if isinstance(axis, Group) != (len(names) > 1):
                return False
            if isinstance(axis, Group) and isinstance(lead, Group):
                mine = [self.space.ranges.canonical(sizes[n]) for n in axis.names]
                theirs = [self.space.ranges.canonical(first_sizes[n]) for n in lead.names]
                if mine != theirs:
                    return False
        return True

    def _by_itself(self, t: str, k: int, c: Contribution, free: Free) -> Expr:
        """A reader that groups an axis as others do not: its part, a statement of its own."""
        own: list[tuple[str, ...]] = []
        taken = self.space.taken | {n for names in free for n in names}
        for axis in c.access.axes:
            names: list[str] = []
            for _ in axis.names if isinstance(axis, Group) else (0,):
                names.append(fresh_letter(taken))
                taken.add(names[-1])
            own.append(tuple(names))
        g = gather(self.space, t, k, c, tuple(own))
        name = self.space.fresh(f"{self._delta_name(t)}_part")
        made = self._append(name, t, tuple(own), g.term, [(k, c)])
        spread = [axis_of(names) for names in free]
        return Access(made.target, tuple(spread), None)


def _computable(system: System, needed: Sequence[Statement]) -> System:
    """The statements that can run on the arrays that the needed ones take."""
    known = set(System(tuple(needed)).inputs)
    kept = set()
    for s in system.order:
        if known.issuperset(s.mentions):
            known.add(s.target)
            kept.add(s)
    return System(tuple(s for s in system.statements if s in kept))


def _check_objective(system: System, of: str, forward: Sequence[Statement]) -> None:
    computed = [s.target for s in forward]
    if of in computed:
        return
    if of in system.outputs:
        raise FormulaError(
            f"{of} is updated by this program, so it has no gradient of its own",
            hint=f"differentiate what a statement computes: {', '.join(computed)}",
        )
    if of in system.inputs:
        raise FormulaError(
            f"{of} is given, not computed, so it has no gradient of its own",
            hint=f"differentiate what a statement computes: {', '.join(computed)}",
        )
    raise FormulaError(f"this program computes no tensor {of}", hint=_did_you_mean(of, computed))


def _check_wrt(forward: System, t: str) -> None:
    if t not in forward.ranks:
        if t in forward.inputs:
            raise FormulaError(
                f"only the size of {t} is read, so its gradient is 0, of a shape that is not known",
                hint=f"leave {t} out",
            )
        known = [n for n in forward.ranks if not n.startswith("δ")]
        raise FormulaError(f"this program has no tensor {t}", hint=_did_you_mean(t, known))
    if t in forward.labels:
        raise FormulaError(
            f"{t} holds integers (it is compared with an index), so it has no gradient",
            hint="ask for the gradient of a real tensor",
        )


def _did_you_mean(name: str, known: Sequence[str]) -> str:
    lower = {t.lower(): t for t in known}  # X may be x
    near = difflib.get_close_matches(name.lower(), lower, 1)
    return f"did you mean {lower[near[0]]}?" if near else f"choose one of {', '.join(known)}"
