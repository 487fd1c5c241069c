"""Whether native results are right: each statement by itself, to a bound worked out for it.

A statement is evaluated in float64 on the very numbers that the native code had for the tensors
it reads.  How far the two may lie apart is measured, not assumed: what a relative change of each
of these numbers, and of each function's value, by a unit of roundoff does to the reference, times
the number of roundings.  So
no decision (a maximum, a comparison) depends on errors made in an earlier statement.
"""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np

from chainrule import Program
from chainrule.expr import (
    Access,
    Call,
    Compare,
    Const,
    Expr,
    Mul,
    Pow,
    Reduce,
    Size,
    add,
    mul,
    rebuild,
)
from chainrule.native import compile_system
from chainrule.notation.show import statement
from chainrule.ranges import numeric
from chainrule.system import Statement

SAFETY = 8.0
GROWTH = (65 / 4) ** 2  # of errors, where sums over windows are taken by tiles: docs/native.md
TRIALS = 4
ERRORS = ("ρ_0", "ρ_1")


def native(program: Program, dtype: str = "float64", threads: int = 1, **arrays: Any) -> Any:
    """The values of all of a program's tensors, helpers of its gradients included."""
    system = program.expanded.system
    f = compile_system(system, dtype=dtype, threads=threads, cache=False)
    return f(**arrays)


def check(
    program: Program, dtype: str, threads: int = 1, tiles: bool = False, **arrays: Any
) -> None:
    """Raise AssertionError where a statement's native value is off.

    With `tiles`, sums of products may be taken by tiles of windows.
    """
    given = {t: _rounded(a, dtype) for t, a in arrays.items()}
    found = native(program, dtype, threads, **given)
    compare(program, dtype, given, found, tiles)


def compare(
    program: Program, dtype: str, given: dict[str, Any], found: dict[str, Any], tiles: bool = False
) -> None:
    """The same for values that are there already."""
    system = program.expanded.system
    known = dict(given)
    for s in system.order:
        one = Program(statement(s))
        # of an updated tensor the old value is read
        reads = {t: known[t] for t in one.inputs}
        terms = _roundings(program, given, s)
        expected = one.run(**reads)[s.target]
        value = found[s.target].astype(np.float64)
        assert value.shape == expected.shape, (s.target, value.shape, expected.shape)
        eps = np.finfo(dtype).eps
        spread = np.zeros(expected.shape)
        inner = Program(statement(Statement(s.target, s.axes, _with_error(s.body))))
        for seed in range(TRIALS):
            signs = dict(zip(ERRORS, ((-1) ** seed, (-1) ** (seed // 2)), strict=True))
            off = {t: np.asarray(1 + eps * signs[t]) for t in ERRORS if t in inner.inputs}
            moved = inner.run(**_moved(reads, eps, seed), **off)[s.target]
            with np.errstate(invalid="ignore"):
                spread = np.fmax(spread, np.abs(moved - expected))
        if tiles:
            spread = np.fmax(spread, _by_tiles(s, reads, eps, expected))
        with np.errstate(invalid="ignore"):
            bound = SAFETY * terms * (spread + eps * np.abs(expected)) + np.finfo(dtype).tiny
            good = (value == expected) | (np.abs(value - expected) <= bound)
        good |= np.isnan(value) & np.isnan(expected)
        if not np.all(good):
            worst = tuple(np.argwhere(~good)[0])
            raise AssertionError(
                f"{s.target}{worst}: {value[worst]!r} is not {expected[worst]!r} "
                f"within {np.broadcast_to(bound, expected.shape)[worst]:.3g}\n{statement(s)}\n"
                f"{program}\n{ {t: np.shape(a) for t, a in given.items()} }"
            )
        if s.target not in system.updates:
            known[s.target] = found[s.target]


def _with_error(e: Expr) -> Expr:
    """e with each function's value, product and power times an error of its own, one of two.

    Where such values cancel, as in 1 - tanh(x)**2, more of it stays than an error in x leaves.
    """
    numbers = itertools.count()

    def go(e: Expr) -> Expr:
        match e:
            case Access() | Compare() | Const() | Size():  # decisions and positions are left alone
                return e
            case Reduce(op, binders, body):
                return Reduce(op, binders, go(body))
            case Call(name, args) if name in ("where", "stop"):
                return Call(name, (*args[:-2], *map(go, args[-2:])))
        made = rebuild(e, go)
        if isinstance(made, (Mul, Pow, Call)):
            return mul(made, Access(ERRORS[next(numbers) % 2], (), None))
        return made

    return go(e)


def _by_tiles(s: Statement, reads: dict[str, Any], eps: float, expected: Any) -> Any:
    """How far the bound of tiled sums lets a statement's values move.

    Each sum of products of two tensors is moved by what its largest terms, all together, allow.
    """
    sizes = numeric(Program(statement(s)).system, {t: np.shape(a) for t, a in reads.items()})
    errors: dict[str, float] = {}

    def largest(e: Access) -> float:
        a = np.abs(np.asarray(reads[e.tensor], float))
        return float(np.max(a, initial=0.0, where=np.isfinite(a)))

    def go(e: Expr) -> Expr:
        match e:
            case Access() | Compare() | Const() | Size():
                return e
            case Reduce("sum", binders, Mul(factors)):
                sizes_of = [largest(f) for f in factors if isinstance(f, Access)]
                terms = float(np.prod([sizes.extents[0][n] for n, _ in binders]))
                name = f"τ_{len(errors)}"
                errors[name] = (40 + terms) * eps * GROWTH * terms * np.prod(sizes_of)
                return add(e, Access(name, (), None))
        return rebuild(e, go)

    moved = Program(statement(Statement(s.target, s.axes, go(s.body))))
    spread = np.zeros(expected.shape)
    for sign in (1, -1) if errors else ():
        off = {t: np.asarray(sign * d) for t, d in errors.items() if t in moved.inputs}
        with np.errstate(invalid="ignore", over="ignore"):
            spread = np.fmax(spread, np.abs(moved.run(**reads, **off)[s.target] - expected))
    return spread


def _rounded(a: Any, dtype: str) -> Any:
    a = np.asarray(a)
    return a if a.dtype.kind in "biu" else a.astype(dtype).astype(np.float64)


def _roundings(program: Program, given: dict[str, Any], s: Any) -> float:
    """About how many roundings one result of a statement meets: it grows with its longest sum."""
    system = program.expanded.system
    ranges = numeric(system, {t: np.shape(given[t]) for t in system.inputs})
    sizes = ranges.extents[system.statements.index(s)]
    inner = [n for name, n in sizes.items() if name not in s.indices]
    return 4.0 + float(np.sqrt(np.prod(inner, dtype=float)))


def _moved(reads: dict[str, Any], eps: float, seed: int) -> dict[str, Any]:
    rng = np.random.default_rng(seed)
    out = {}
    for t, a in reads.items():
        a = np.asarray(a)
        if a.dtype.kind in "biu" or np.all(a == np.round(a)):
            out[t] = a  # labels are whole numbers, and stay so
        else:
            a = a.astype(np.float64)
            out[t] = a * (1 + eps * rng.choice([-1.0, 1.0], a.shape))
    return out
