"""Reductions at all points of a tile in one nest of loops."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from fractions import Fraction
from functools import partial
from math import prod
from typing import Any

from llvmlite import ir

from chainrule.expr import Access, Affine, Const, Expr, Reduce, walk
from chainrule.native import mathfn
from chainrule.native.accesses import Accesses
from chainrule.native.nest import positions
from chainrule.native.points import I32, Linear, Point, Tile, Value

_PARALLEL = 8  # accumulators that hide the latency of an addition


class Reductions(Accesses):
    """Loops over bound indices, with an accumulator for each point; also across a vector."""

    def reduce(self, e: Reduce) -> None:
        """Compute a reduction at every point of the tile, in one nest of loops."""
        self.settle_invariants(e)
        if e.op == "logsumexp":
            self.logsumexp(e)
            return
        for point, value in zip(self.points(e), self.run(e, e.op, self.body_of(e)), strict=True):
            self.memo[-1][e, point] = value

    def settle_invariants(self, e: Reduce) -> None:
        """Inner reductions that the loops don't change are computed before them."""
        bound = set(e.names)

        def visit(x: Expr) -> None:
            if isinstance(x, Reduce) and not bound & set(x.free):
                for point in self.points(x):
                    self.value(x, point)
                return
            for c in x.inside:
                visit(c)

        visit(e.body)

    def body_of(self, e: Reduce) -> Callable[[Point], Value]:
        return lambda point: self.value(e.body, point)

    def logsumexp(self, e: Reduce) -> None:
        peaks = self.run(e, "max", self.body_of(e))
        infinite = ir.Constant(self.real, float("inf"))
        shifts: dict[Point, Value] = {}
        for point, peak in zip(self.points(e), peaks, strict=True):
            size = mathfn.emit(self.builder, "abs", [peak])
            finite = self.builder.fcmp_ordered("<", size, self.like(infinite, size))
            shifts[point] = self.builder.select(finite, peak, self.like(self.zero, peak))

        def shifted(point: Point) -> Value:
            x = self.value(e.body, point)
            d = self.operate("fsub", x, shifts[self.project(e, point)])
            return mathfn.emit(self.builder, "exp", [d])

        for point, total in zip(self.points(e), self.run(e, "sum", shifted), strict=True):
            log = mathfn.emit(self.builder, "log", [total])
            self.memo[-1][e, point] = self.operate("fadd", log, shifts[point])

    def run(self, e: Reduce, op: str, body: Callable[[Point], Value]) -> list[Value]:
        """The reduction's value at each of its points."""
        rule = _RULES[op]
        points = self.points(e)
        names = self.binder_order(e)
        lanes_over = self.vector_binder(e, names) if rule.identity is not None else None
        if lanes_over is not None:
            return self.across_lanes(e, op, names, lanes_over, body)
        width = self.tile.width if self.tile.vector in e.free else 0
        start = [self.start(rule, width) for _ in points]
        copies = self.copies(e, op, names, len(points))
        carried = [v for _ in range(copies) for s in start for v in s]

        def step(carried: list[Value], copy: int) -> list[Value]:
            size = len(start[0]) if start else 1
            new = list(carried)
            for k, point in enumerate(points):
                place = (copy * len(points) + k) * size
                state = carried[place : place + size]
                new[place : place + size] = self.combine(e, op, state, body, point)
            return new

        final = self.binders(e, names, carried, step, copies)
        size = len(start[0]) if start else 1
        parts = [final[k : k + size] for k in range(0, len(final), size)]
        while copies > 1:  # a fixed tree
            half = copies // 2 * len(points)
            parts = [
                [self.operate(rule.op, a[0], b[0])]
                for a, b in zip(parts[:half], parts[half:], strict=True)
            ]
            copies //= 2
        return [p[-1] for p in parts]

    def start(self, rule: _Rule, width: int) -> list[Value]:
        values = [rule.identity] if rule.identity is not None else [float("-inf"), 0.0]
        constants = [ir.Constant(self.real, v) for v in values]
        return [self.splat(c, width) for c in constants] if width else list(constants)

    def combine(
        self, e: Reduce, op: str, state: list[Value], body: Callable[[Point], Value], point: Point
    ) -> list[Value]:
        x = body(point)
        if op in ("sum", "prod"):
            return [self.operate(_RULES[op].op, state[0], x)]
        x, *state = self.matched(x, *state)
        b = self.builder
        best = state[0]
        better = b.fcmp_unordered("<" if op == "min" else ">", x, best)  # or one is NaN
        take = b.and_(better, b.fcmp_ordered("ord", best, best))  # the first NaN stays
        if op != "argmax":
            return [b.select(take, x, best)]
        number = self.like(self.float_of(self.spread_number(e, point)), x)
        return [b.select(take, x, best), b.select(take, number, state[1])]

    def spread_number(self, e: Reduce, point: Point) -> Value:
        """The row-major number of the values that the bound indices have now."""
        weight, terms = 1, []
        for name in reversed(e.names):
            terms.append((name, weight))
            weight *= self.nest.extents[name] or 1
        return self.spread(self.linear(terms, 0, point))

    def binder_order(self, e: Reduce) -> list[str]:
        """The bound indices, outermost loop first: those that end early, then as written.

        Innermost are those along which a tensor lies in memory.
        """
        trimmed = {self.methods[k][5:] for k in self.methods if self.methods[k].startswith("trim:")}
        if e.op == "argmax":
            return list(e.names)
        near = {n for a in walk(e.body) if isinstance(a, Access) and a.axes
                for n in a.axes[-1].names}  # fmt: skip
        return sorted(e.names, key=lambda n: (n not in trimmed, n in near))

    def copies(self, e: Reduce, op: str, names: list[str], points: int) -> int:
        """Accumulators per point: several where few points would leave the adders waiting."""
        n = self.nest.extents[names[-1]]
        trimmed = any(m == f"trim:{names[-1]}" for m in self.methods.values())
        rare = self.nest.plain  # not worth the code
        if op != "sum" or trimmed or n is None or n < 8 or points >= _PARALLEL or rare:
            return 1
        return 8 if points == 1 and n >= 16 else 4 if points <= 2 else 2

    def binders(
        self,
        e: Reduce,
        names: list[str],
        carried: list[Value],
        step: Callable[[list[Value], int], list[Value]],
        copies: int,
    ) -> list[Value]:
        """The loops over bound indices, around the step that combines one more value."""
        if not names:
            with self.scope():
                return step(carried, 0)
        name, *rest = names
        n = self.nest.extents[name]
        low, high = self.bounds(e, name)
        static = isinstance(low, int) and isinstance(high, int)
        outer = self.env.get(name)

        def at(value: Value | None, constant: int, carried: list[Value], copy: int) -> list[Value]:
            self.env[name] = Linear(value, constant)
            with self.scope():
                if rest:
                    return self.binders(e, rest, carried, step, copies)
                return step(carried, copy)

        if copies > 1 and not rest:
            assert n is not None
            main = n - n % copies

            def several(i: Value, carried: list[Value]) -> list[Value]:
                for copy in range(copies):
                    carried = at(i, copy, carried, copy)
                return carried

            result = self.loop(0, main, copies, carried, several)
            for k in range(main, n):
                result = at(None, k, result, k - main)
        elif static and self.unrolled(e, name, high - low, not rest, len(carried)):
            result = carried
            for k in range(low, high):
                result = at(None, k, result, 0)
        else:
            result = self.loop(low, high, 1, carried, lambda i, c: at(i, 0, c, 0))
        if outer is not None:
            self.env[name] = outer
        else:
            self.env.pop(name, None)
        return result

    def unrolled(self, e: Reduce, name: str, n: int, innermost: bool, carried: int) -> bool:
        sizes = [self.nest.extents[m] for m in e.names]
        if None not in sizes and prod(d for d in sizes if d is not None) * carried <= 32:
            return True
        return innermost and n * carried <= 160 and n <= 8

    def bounds(self, e: Reduce, name: str) -> tuple[Any, Any]:
        """The values of a bound index for which the accesses that trim it stay inside."""
        low: list[Any] = [0]
        high: list[Any] = [self.extent(name)]
        seen: set[tuple[Affine, Any]] = set()
        inside = dict.fromkeys(x for x in walk(e.body) if isinstance(x, Access))
        for access in inside:
            for k, a in enumerate(positions(access)):
                if self.methods.get((access, k)) != f"trim:{name}":
                    continue
                n = self.buffers[access.tensor].sizes[k]
                if (a, n) in seen:
                    continue
                seen.add((a, n))
                c = dict(a.terms)[name]
                rest = [(m, int(q)) for m, q in a.terms if m != name]
                at = self.linear(rest, int(a.offset), (0,) * len(self.names))
                assert n is not None
                if c > 0:  # 0 <= m + rest < n
                    low.append(self.plus(at, 0, -1))
                    high.append(self.plus(at, n, -1))
                else:  # 0 <= rest - m < n
                    low.append(self.plus(at, 1 - n, 1))
                    high.append(self.plus(at, 1, 1))
        return self.extreme(low, ">"), self.extreme(high, "<")

    def plus(self, at: Linear, n: int, sign: int) -> Any:
        """sign * at + n."""
        if at.value is None:
            return sign * at.constant + n
        constant = self.whole(sign * at.constant + n)
        return (self.builder.add if sign > 0 else self.builder.sub)(
            *((at.value, constant) if sign > 0 else (constant, at.value))
        )

    def extreme(self, values: list[Any], op: str) -> Any:
        numbers = [v for v in values if isinstance(v, int)]
        registers = [v for v in values if not isinstance(v, int)]
        best = (max(numbers) if op == ">" else min(numbers)) if numbers else None
        for r in registers:
            if best is None:
                best = r
                continue
            c = self.whole(best)
            best = self.builder.select(self.builder.icmp_signed(op, r, c), r, c)
        return best

    # ------------------------------------------------------------ vectors along a bound index

    def vector_binder(self, e: Reduce, names: list[str]) -> str | None:
        """A bound index to take a vector of values of, where no outer index is the vector."""
        n = self.nest.extents[names[-1]]
        if self.tile.vector is not None or self.wide < 2 or n is None or n < self.wide:
            return None
        if any(m == f"trim:{names[-1]}" for m in self.methods.values()):
            return None
        steps = [self._terms(self.buffers[a.tensor], positions(a)).get(names[-1], 0)
                 for a in walk(e.body) if isinstance(a, Access)
                 and all(x.whole for x in positions(a))]  # fmt: skip
        if any(s not in (0, 1) for s in steps) or 1 not in steps:
            return None
        return names[-1]

    wide: int = 1

    def across_lanes(
        self, e: Reduce, op: str, names: list[str], name: str, body: Callable[[Point], Value]
    ) -> list[Value]:
        """A reduction whose last index is walked by vectors, their lanes combined at the end."""
        rule, points, before = _RULES[op], self.points(e), self.tile
        n = self.nest.extents[name]
        assert n is not None
        assert rule.identity is not None
        identity = self.splat(ir.Constant(self.real, rule.identity), self.wide)
        outer = names[:-1]

        def combined(state: Value, point: Point) -> Value:
            return self.combine(e, op, [state], body, point)[0]

        def vectors(carried: list[Value], copy: int) -> list[Value]:
            full = n // self.wide * self.wide

            def one(at: Linear, tail: int, carried: list[Value]) -> list[Value]:
                self.tile = Tile(before.counts, name, self.wide, tail)
                self.env[name] = at
                with self.scope():
                    new = []
                    for state, point in zip(carried, points, strict=True):
                        value = self.matched(combined(state, point), identity)[0]
                        if tail:
                            value = self.builder.select(self.mask(tail), value, state)
                        new.append(value)
                self.tile = before
                return new

            carried = self.loop(0, full, self.wide, carried, lambda i, c: one(Linear(i), 0, c))
            return one(Linear(None, full), n - full, carried) if full < n else carried

        carried = self.binders(e, outer, [identity] * len(points), vectors, 1)
        return [self.across(op, v) for v in carried]

    def across(self, op: str, vector: Value) -> Value:
        """The lanes of a vector combined by halves."""
        b, width = self.builder, vector.type.count
        while width > 1:
            width //= 2
            kind = ir.VectorType(I32, width)
            low = b.shuffle_vector(vector, vector, ir.Constant(kind, list(range(width))))
            high = b.shuffle_vector(
                vector, vector, ir.Constant(kind, list(range(width, 2 * width)))
            )
            vector = self.combine(_NO_REDUCE, op, [low], partial(_same, high), ())[0]
        return b.extract_element(vector, I32(0))


@dataclass(frozen=True)
class _Rule:
    """What a reduction starts from, None where that is not one number; its instruction."""

    identity: float | None
    op: str


_RULES = {
    "sum": _Rule(0.0, "fadd"),
    "prod": _Rule(1.0, "fmul"),
    "max": _Rule(float("-inf"), ""),
    "min": _Rule(float("inf"), ""),
    "argmax": _Rule(None, ""),
}
_NO_REDUCE = Reduce("sum", (), Const(Fraction(0)))


def _same(value: Value, _: Point) -> Value:
    return value
