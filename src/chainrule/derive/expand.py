"""grad(E, w)[...] in a program -> the statements that compute it."""

from __future__ import annotations

from functools import lru_cache

from chainrule.derive.backward import Backward, differentiate
from chainrule.errors import FormulaError
from chainrule.expr import Access, Expr, Grad, Node, rebuild, walk
from chainrule.notation import located
from chainrule.system import Problem, Statement, System


@lru_cache(maxsize=128)
def expand(system: System, plain_of: str | None = None) -> System:
    """The System with every grad written out; raises FormulaError that points at a wrong one.

    The cotangents of the objective `plain_of` (by default the only one there is) are called δt,
    those of any other objective E are called δt_E.
    """
    original = system
    objectives = {g.of for g in _grads(system)}
    if plain_of is None and len(objectives) == 1:
        (plain_of,) = objectives
    while grads := _grads(system):
        plain = System(tuple(s for s in system.statements if _is_plain(system, s)))
        of = next(g.of for g in grads if g.of in plain.outputs)
        wanted = tuple(dict.fromkeys(g.wrt for g in grads if g.of == of))
        try:
            work = differentiate(plain, of, wanted, system.names, suffix=of != plain_of)
        except FormulaError as e:
            raise _at_grad(e, original, of, wanted) from None
        system = _with_gradients(system, of, work)
    return system


def _grads(system: System) -> list[Grad]:
    return [e for s in system.statements for e in walk(s.body) if isinstance(e, Grad)]


def _is_plain(system: System, s: Statement) -> bool:
    """No update, and no gradient in it or in anything it depends on."""
    if s.is_update:
        return False
    needed = system.needed_for([s.target])
    return not any(isinstance(e, Grad) for n in needed for e in walk(n.body))


def _with_gradients(system: System, of: str, work: Backward) -> System:
    def go(e: Expr) -> Expr:
        if isinstance(e, Grad) and e.of == of:
            return Access(work.delta_of(e.wrt), e.axes, None)
        return rebuild(e, go)

    out: list[Statement] = []
    placed = False
    for s in system.statements:
        new = Statement(s.target, s.axes, go(s.body))
        if new is not s and not placed:
            out += work.space.made
            placed = True
        out.append(new)
    return System(tuple(out))


def _at_grad(e: FormulaError, system: System, of: str, wanted: tuple[str, ...]) -> FormulaError:
    """The error of a differentiation, pointing at the grad that asked for it."""
    for t in wanted:
        for k, s in enumerate(system.statements):
            for x in walk(s.body):
                if isinstance(x, Grad) and x.of == of and x.wrt == t and t in e.message:
                    node: Node = x
                    return located(Problem(e.message, k, node, e.hint), system)
    return e
