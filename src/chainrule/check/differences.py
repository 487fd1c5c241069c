"""Finite differences as candidates: their own error, and kinks inside their step.

A difference quotient is recognised by making it again.  Where its step carries a relu or a maximum
from one branch to another it is no approximation of the slope, and no error either.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction

import numpy as np

from chainrule.check.estimate import spread
from chainrule.check.judge import Judge
from chainrule.check.report import Kink, entry_text
from chainrule.check.slopes import kink_convention, on_the_way, ties
from chainrule.check.variants import Variant, _Lazy, numbers, spots
from chainrule.check.work import Work, extents, needed_for, run
from chainrule.errors import FormulaError
from chainrule.expr import Affine, Call, Compare, Expr, Reduce, add, const, neg, substitute, tensors
from chainrule.functions import Array
from chainrule.system import Statement

STEPS = tuple(float(f"{m}e-{k}") for k in range(1, 10) for m in (1, 5))
_LONGEST = ("central", 0.1)
_COARSE = 2e-4
_CLEAR = 2e-5  # of the largest entry: a quotient with more noise than this proves nothing
# most kinks are hit by accident: in a few entries among many good ones
_NEAR, _FEW, _TIED = 0.05, 64, 4
_WORTH = 5_000_000  # multiply-adds for one quotient
_MOST = 400  # entries: two runs of the forward pass each


@dataclass(frozen=True)
class Difference:
    """scheme    "central", "forward" or "backward", and `step` its h
    value     the difference quotient, made again
    kinks     entries whose step crosses a kink
    noise     its rounding error
    """

    scheme: str
    step: float
    value: Array
    kinks: tuple[Kink, ...]
    noise: float


@dataclass(frozen=True)
class Site:
    """A place with branches.

    s        computes what decides: its sign, or the number of the winner
    source   what has the branches
    table    of a maximum: all that it chooses from, on the last axis
    """

    s: Statement
    source: Expr
    table: Statement | None

    @property
    def winner(self) -> bool:
        return self.table is not None


class Differences:
    """Difference quotients of the objective by `wrt`."""

    def __init__(self, work: Work) -> None:
        self.work = work
        self.x = work.values[work.wrt or ""]
        self.sites = list(_sites(work))
        self.base = self._at(None, 0.0)
        path = needed_for(work.forward.order, work.of)
        of_error = spread(path, work.values)
        self.error = 4 * float(np.sum(np.abs(self._weight()) * of_error))
        self.memo: dict[tuple[int, float], tuple[float, tuple[Array, ...]]] = {}

    def _weight(self) -> Array:
        of = self.work.of
        if self.work.values[of].ndim == 0:
            return np.array(1.0)
        return self.work.values[self.work.deltas.get(of, "δ" + of)]

    def _at(self, k: int | None, h: float) -> tuple[float, tuple[Array, ...]]:
        """The objective, and the branch of every site, with entry k moved by h."""
        x = self.x.copy()
        if k is not None:
            x.reshape(-1)[k] += h
        given = {self.work.wrt or "": x}
        extra = {site.s.target: site.s for site in self.sites}
        lazy = _Lazy(self.work, Variant("", "", extra, given=given))
        with np.errstate(all="ignore"):
            out = float(np.sum(self._weight() * lazy.value(self.work.of)))
            deciding = tuple(lazy.value(site.s.target) for site in self.sites)
        return out, deciding

    def moved(self, k: int, h: float) -> tuple[float, tuple[Array, ...]]:
        if (k, h) not in self.memo:
            self.memo[k, h] = self._at(k, h)
        return self.memo[k, h]

    def noise(self, scheme: str, h: float) -> float:
        """The rounding error of a quotient."""
        return self.error / (h if scheme == "central" else h / 2)

    def entry(
        self, k: int, scheme: str, h: float, relative: str = ""
    ) -> tuple[float, tuple[Array, ...], tuple[Array, ...]]:
        """One entry of a quotient, and the branches at both its ends."""
        size = abs(float(self.x.reshape(-1)[k]))
        step = h * {"": 1.0, "scaled": max(1.0, size), "relative": size or 1.0}[relative]
        up = 0.0 if scheme == "backward" else step
        down = 0.0 if scheme == "forward" else -step
        high = self.moved(k, up) if up else self.base
        low = self.moved(k, down) if down else self.base
        return (high[0] - low[0]) / (up - down), high[1], low[1]

    def matches(self, judge: Judge, scheme: str, h: float, relative: str = "") -> bool:
        """Is the candidate this quotient?  Most are not, and show it in their first entry."""
        noise = self.noise(scheme, h)
        size = max(float(np.max(np.abs(judge.right))), float(np.max(np.abs(judge.value))))
        if noise > _CLEAR * size:
            return False
        mine, right = judge.value.reshape(-1), judge.right.reshape(-1)
        allowed = noise + 4 * judge.tolerance.reshape(-1)
        for k in range(mine.size):
            q = self.entry(k, scheme, h, relative)[0]
            if not abs(mine[k] - q) <= allowed[k] + 4e-3 * abs(q - right[k]):
                return False
        return True

    def quotient(self, scheme: str, h: float, relative: str = "") -> Difference:
        out = np.zeros(self.x.size)
        kinks: list[Kink] = []
        for k in range(self.x.size):
            out[k], high, low = self.entry(k, scheme, h, relative)
            kinks += self._crossed(k, h, high, low)
        noise = self.noise(scheme, h)
        return Difference(scheme, h, out.reshape(self.x.shape), tuple(kinks), noise)

    def _crossed(
        self, k: int, h: float, high: tuple[Array, ...], low: tuple[Array, ...]
    ) -> Iterator[Kink]:
        index = tuple(int(i) for i in np.unravel_index(k, self.x.shape))
        for site, b, up, down in zip(self.sites, self.base[1], high, low, strict=True):
            if site.winner:
                changed = (up != b) | (down != b)
            else:
                changed = (np.sign(up) != np.sign(b)) | (np.sign(down) != np.sign(b))
            if changed.any():
                at = tuple(int(i) for i in np.argwhere(changed)[0])
                value = float(b[at])
                yield Kink(index, self._place(site, at), value, h)
                return

    def _place(self, site: Site, at: tuple[int, ...]) -> str:
        values = {n: Affine((), Fraction(k)) for n, k in zip(site.s.indices, at, strict=True)}
        try:
            return str(substitute(site.source, values))
        except ValueError:
            return f"{site.source} {entry_text('', at)}"

    def near_kink(self) -> bool:
        """Is any place so near a kink that a small step could cross it?"""
        for site, b in zip(self.sites, self.base[1], strict=True):
            gap = np.abs(b)
            if site.table is not None:
                every = run(site.table, self.work.values)
                gap = _margin(every.reshape(*b.shape, -1))
            if gap.size and np.min(gap) <= _NEAR:
                return True
        return False


def _margin(values: Array) -> Array:
    """By how much each winner is ahead; the last axis is what is reduced."""
    if values.shape[-1] < 2:
        return np.array([np.inf])
    best = np.sort(values, axis=-1)
    return np.asarray(best[..., -1] - best[..., -2])


def _sites(work: Work) -> Iterator[Site]:
    n = 0
    for s in on_the_way(work):
        sizes = extents(s, work.values)
        for e, _ in spots(s.body, brackets=True):
            decides = _decides(e)
            if decides is None or not tensors(decides):
                continue
            axes = tuple(((i, const(sizes[i])),) for i in decides.free)
            table = None
            if isinstance(decides, Reduce):
                bound = tuple((i, const(sizes[i])) for i in decides.names)
                table = Statement(f"table{n}°", (*axes, *((b,) for b in bound)), decides.body)
            yield Site(Statement(f"kink{n}°", axes, decides), e, table)
            n += 1


def _decides(e: Expr) -> Expr | None:
    """What a node's branch depends on: its sign, or for a maximum the winner's number."""
    match e:
        case Call("relu" | "abs" | "sign", (a,)):
            return a
        case Call("maximum" | "minimum", (a, b)):
            return add(a, neg(b))
        case Call("where", (c, _, _)):
            return None if isinstance(c, Compare) else c
        case Compare(_, a, b):
            return add(a, neg(b))
        case Reduce("max", binders, body):
            return Reduce("argmax", binders, body)
        case Reduce("min", binders, body):
            return Reduce("argmax", binders, neg(body))
    return None


def recognised(work: Work, judge: Judge) -> Difference | None:
    """The difference quotient that the candidate is, if it is one."""
    if work.backward is None or work.wrt not in work.forward.inputs or not judge.same_shape:
        return None
    if work.target != work.deltas.get(work.wrt or "") or judge.value.size > _MOST:
        return None
    if work.cost() * judge.value.size > _WORTH:
        return None
    try:
        d = Differences(work)
    except (FormulaError, KeyError):
        return None
    size = max(float(np.max(np.abs(judge.right), initial=0.0)), 1e-300)
    with np.errstate(invalid="ignore"):
        gap = np.abs(judge.value - judge.right)
    if not np.all(np.isfinite(gap)):
        return None
    close = float(np.median(gap)) <= 0.05 * size
    if not close and (judge.value.size > _FEW or not d.near_kink()):
        return None
    # what is far off must at least be explained by a kink within the longest step
    kinks = {k.index for k in d.quotient(*_LONGEST).kinks}
    smooth = _without(kinks, gap.shape)
    if np.any(gap[smooth] > 0.05 * size):
        return None
    coarse = float(np.max(gap[smooth], initial=0.0)) > _COARSE * size
    for attempt in _attempts(d, judge, coarse):
        if not d.matches(judge, *attempt):
            continue
        q = d.quotient(*attempt)
        if _tied_by_hand(work, judge, q):
            return None
        if not _by_hand(judge, q):
            return q
    return None


def _without(kinks: set[tuple[int, ...]], shape: tuple[int, ...]) -> Array:
    """True for the entries that are not among the kinks."""
    return np.array([i not in kinks for i in np.ndindex(*shape)], dtype=bool).reshape(shape)


def _tied_by_hand(work: Work, judge: Judge, q: Difference) -> bool:
    """Many entries at ties, and no trace of rounding in them: another tie rule, not a quotient."""
    if len({k.index for k in q.kinks}) <= _TIED:
        return False
    allowed = 1e-14 * float(np.max(np.abs(q.value), initial=0.0))
    for v in (*ties(work), *kink_convention(work)):
        value = numbers(work, v)
        if value is not None and np.all(np.abs(judge.value - value) <= allowed):
            return True
    return False


def _by_hand(judge: Judge, q: Difference) -> bool:
    """Too exact for a difference quotient: a formula, with a mistake or another tie rule in it.

    A one-sided quotient at a tie is what "δ to every maximum" gives, and a central one may be what
    "split" gives; the quotient's own error, elsewhere, is what tells them apart.
    """
    differs = judge.differs()
    smooth = _without({k.index for k in q.kinks}, differs.shape)
    if not differs[smooth].any():
        return q.scheme != "central" or bool(judge.right[smooth].any())
    exact = smooth & ~differs & (judge.right != 0)
    return bool(exact.sum() * 2 > differs.size)


def _attempts(d: Differences, judge: Judge, coarse: bool) -> Iterator[tuple[str, float, str]]:
    """Quotients to compare with: first the step that fits, then those that people take."""
    for scheme, order in (("central", 2), ("forward", 1), ("backward", 1)):
        q = d.quotient(scheme, 1e-3)
        lead = (q.value - judge.right) / q.step**order
        use = _without({k.index for k in q.kinks}, lead.shape)
        weight = float(np.sum(lead[use] ** 2))
        if weight > 0 and use.sum() > 2:
            power = float(np.sum(lead[use] * (judge.value - judge.right)[use])) / weight
            h = power ** (1 / order) if power > 0 else 0.0
            if 1e-9 < h < 0.5:
                yield scheme, float(f"{h:.2g}"), ""
                yield scheme, h, ""
    for scheme in ("central", "forward", "backward"):
        for h in STEPS[:6] if coarse else STEPS:
            yield scheme, h, ""
    if coarse:  # no short step is that far off
        return
    for relative in ("scaled", "relative"):
        for h in STEPS[::2]:
            yield "central", h, relative
