"""A system as stages of nests, and the buffers between them.

A stage ends where every thread waits for the others.  In a stage, blocks of samples pass through
all of its per-sample nests one after another, so that what one nest writes is still in the core's
own cache when the next one reads it; nests without samples are shared out by results.  A sum over
the batch closes a stage: it is collected in lanes, block by block, or, where it is as large as
what it sums (a dense layer's weight gradient), computed from the whole batch in the next stage.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace

from chainrule.expr import Access
from chainrule.native.blocks import CACHE, worthwhile
from chainrule.native.copies import NEW
from chainrule.native.doubled import doubled
from chainrule.native.loops import residue_nests
from chainrule.native.memory import ALIGNMENT, Buffer, spread
from chainrule.native.nest import Nest, positions
from chainrule.native.overlap import overlapped
from chainrule.native.panels import in_panels
from chainrule.native.request import Request
from chainrule.native.rewrite import Rewriter
from chainrule.native.schedule import Plan, fused, reach, settle
from chainrule.native.shared import shared
from chainrule.native.tiles import Machine, work_of

LANES = 16
_WORTH_SPLITTING = 20_000_000  # multiply-adds of a single sample, for threads to share
_GROUP = 5 << 17  # bytes of what a group of nests alone reads: they stay in the second level


@dataclass
class Stage:
    """What runs between two meetings of the threads."""

    samples: list[Plan] = field(default_factory=list)
    shared: list[Plan] = field(default_factory=list)
    lane_bytes: int = 0  # of this stage's partial sums in a lane, one behind another


@dataclass
class Layout:
    """A program ready to be emitted."""

    stages: list[Stage]
    buffers: dict[str, Buffer]
    block: int
    machine: Machine
    results: dict[str, str]  # wanted tensor -> the buffer that holds it at the end
    objective: str | None = None
    groups: dict[str, int] = field(default_factory=dict)  # of nests -> samples at a time
    lane_bytes: int = 0

    @property
    def plans(self) -> Iterable[Plan]:
        """All nests, in running order."""
        for stage in self.stages:
            yield from stage.samples
            yield from stage.shared

    @property
    def shared_out(self) -> int:
        """The most nests of a stage that threads share out by results."""
        return max((len(stage.shared) for stage in self.stages), default=0)

    @property
    def work(self) -> tuple[int, int]:
        """Products summed, roughly: in a step, and for each row besides."""
        each = [work_of(p.nest) for p in self.plans]
        return sum(step for step, _ in each), sum(row for _, row in each)


def layout(request: Request) -> Layout:
    """Nests, stages and buffers for what is wanted."""
    builder = _Builder(request)
    nests = builder.prepared()
    for block in worthwhile(request.blocks, nests, builder):
        made = builder.build(nests, block, request.objective)
        size = sum(b.bytes(block) for b in made.buffers.values() if b.place == "block")
        if size <= CACHE:
            break
    if request.single and not request.train and made.work[1] >= _WORTH_SPLITTING:
        return layout(replace(request, batch={}))
    return made


class _Builder(Rewriter):
    """From nests to stages."""

    def prepared(self) -> list[Nest]:
        """The nests, whatever the block."""
        nests = [n for n in shared(self.aliased(self.nests())) for n in self.factored(n)]
        nests = [n for n in nests for n in self.collected(n)]
        nests = overlapped(self.inlined(nests), self)
        nests = [part for n in nests for part in residue_nests(n)]
        nests = self.rows_copied(nests)
        nests = self.fewer_products(nests) if self.winograd else nests
        nests = doubled(nests, self)
        return [part for n in nests for part in self.spread_out(n)]

    def build(self, nests: Sequence[Nest], block: int, objective: str | None) -> Layout:
        """Stages and buffers for blocks of so many samples."""
        self.block, self.buffers = block, {}
        self.results = {t: t + NEW if t in self.system.updates else t for t in self.wanted}
        plans = in_panels(self.turned([self.plan(n) for n in nests]), self)
        plans = [settle(p, self.shapes) for p in plans]
        plans = self.given_copied(self.peeled(plans))
        plans += self.copied_out(plans)
        levels = self.levels(plans)
        in_place = self.in_place(plans, levels) if self.train else set()
        if self.train:
            back = [self.copy_back(t) for t in sorted(self.system.updates - in_place)]
            levels += [max(levels) + 1] * len(back)
            plans += back
        self.place(plans, levels, in_place)
        stages = [Stage() for _ in range(max(levels, default=0) + 1)]
        for p, level in zip(plans, levels, strict=True):
            stage = stages[level]
            (stage.samples if p.nest.sample else stage.shared).append(p)
        for stage in stages:
            stage.samples = fused(stage.samples)
            stage.shared = fused(stage.shared)
        made = Layout(stages, self.buffers, self.block, self.machine, self.results, objective)
        made.lane_bytes = self.set_lanes(stages)
        made.groups = self.grouped(stages)
        return made

    def grouped(self, stages: Sequence[Stage]) -> dict[str, int]:
        """How many samples each group of nests takes at a time; what is its own needs no more."""
        groups: dict[str, list[Plan]] = {}
        for p in (p for stage in stages for p in stage.samples if p.nest.group):
            groups.setdefault(p.nest.group, []).append(p)
        taken = {}
        for group, plans in groups.items():
            targets = dict.fromkeys(p.nest.target for p in plans)
            own = [
                b
                for t in targets
                if (b := self.buffers[t]).place == "block"
                and self.only_in(group, t, stages)
                and not any(b.low)
                and not any(b.high)  # zeros that have to stay
            ]
            size = sum(b.bytes(1) for b in own)
            reads = dict.fromkeys(t for p in plans for t in p.nest.reads)
            weights = sum(b.bytes(1) for t in reads if not (b := self.buffers[t]).batched)
            # weights that are read again for each part count as much
            few = 1 if weights < _GROUP else self.block
            parts = -(-self.block // max(few, _GROUP // max(size, 1)))
            taken[group] = -(-self.block // min(self.block, parts))
            start = 0
            for b in own:
                b.place, b.rows, b.start = "group", taken[group], start
                start += -(-b.bytes(b.rows) // ALIGNMENT) * ALIGNMENT
        return taken

    def only_in(self, group: str, t: str, stages: Sequence[Stage]) -> bool:
        """Whether a tensor is made and read by a group of nests only."""
        users = [p for stage in stages for p in (*stage.samples, *stage.shared) for q in p.all
                 if t == q.nest.target or t in q.nest.reads]  # fmt: skip
        return t not in self.results.values() and all(p.nest.group == group for p in users)

    # ------------------------------------------------------------ levels and places

    def levels(self, plans: list[Plan]) -> list[int]:
        """The stage of each nest: after what it reads, in the same one only sample by sample."""
        ready: dict[str, tuple[int, bool]] = {}  # its stage, and whether it has samples
        levels: list[int] = []
        for p in plans:
            n, level = p.nest, 0
            for e in n.accesses():
                if e.tensor not in ready:
                    continue
                when, by_sample = ready[e.tensor]
                mine = by_sample and n.sample and positions(e)[0].bare == n.sample
                level = max(level, when + (0 if mine else 1))
            before = ready.get(n.target)
            if before is not None:
                level = max(level, before[0])
            ready[n.target] = level, bool(n.sample) and n.lane is None
            levels.append(level)
        # the parts of one tensor run in one stage, so that it is whole when that ends
        last = {p.nest.target: level for p, level in zip(plans, levels, strict=True)}
        levels, nests = [last[p.nest.target] for p in plans], [p.nest for p in plans]
        stop = max(levels, default=0)
        # a stage more at the end may let samples pass forward and backward in one
        tried = [self.late(nests, list(levels), end) for end in (stop, stop + 1)]
        best = min(tried, key=lambda made: len(
            {level for n, level in zip(nests, made, strict=True) if n.sample}))  # fmt: skip
        numbers = {level: k for k, level in enumerate(sorted(set(best)))}
        return [numbers[level] for level in best]

    def late(self, nests: list[Nest], levels: list[int], last: int) -> list[int]:
        """Tensors are made in the last stage that can be, near to where they are read."""
        readers: dict[str, list[tuple[int, str | None]]] = {}  # and the index on the first axis
        makers: dict[str, list[int]] = {}
        for k, n in enumerate(nests):
            makers.setdefault(n.target, []).append(k)
            for e in n.accesses():
                first = positions(e)[0].bare if e.axes else None
                readers.setdefault(e.tensor, []).append((k, first))
        for target, mine in reversed(makers.items()):
            latest = [last]
            if any(nests[k].lane for k in mine):  # not after the blocks that have what it sums
                read = {t for k in mine for t in nests[k].reads if self.has_batch(t)}
                local = [k for t in read & self.local for k in makers[t]]
                data = read.union(*(nests[k].reads for k in local))
                users = {k for t in data for k, _ in readers[t] if nests[k].sample}
                latest = [max((levels[k] for k in users.difference(mine)), default=0)]
            by_sample = self.has_batch(target) and all(nests[k].sample for k in mine)
            for k, first in readers.get(target, ()):
                if nests[k].target != target:
                    same = by_sample and first and first == nests[k].sample
                    latest.append(levels[k] if same else levels[k] - 1)
            for k in mine:
                levels[k] = max(levels[k], min(latest))
        return levels

    def copy_back(self, t: str) -> Plan:
        """An updated tensor whose old value is needed to the end is written at the end."""
        n = self.copy(t, t)
        return self.plan(replace(n, body=Access(t + NEW, n.store, None)))

    def place(self, plans: list[Plan], levels: list[int], in_place: set[str]) -> None:
        """Choose each tensor's place; give halos and whole vectors to the engine's own."""
        whole = self.needed_whole(plans, levels)
        named = {p.nest.target for p in plans} | {t for p in plans for t in p.nest.reads}
        element = self.machine.element
        for t in sorted(named):
            shape, is_int = self.shapes[t], t in self.integers
            if t.endswith(NEW) and t[:-1] in in_place:
                continue
            if t in self.inputs:
                place = "rows" if self.train and t in self.batch else "given"
            elif any(p.nest.target == t and p.nest.lane for p in plans):
                place = "lanes"
            elif not self.has_batch(t):
                place = "static"
            else:
                place = "batch" if t in whole else "block"
            self.buffers[t] = b = Buffer(t, place, shape, 8 if is_int else element, is_int)
            if t in self.local or t in self.transforms.values():
                b.plane = int(b.batched)
        for t in sorted(in_place):
            if t + NEW in named:
                self.buffers[t + NEW] = self.buffers.setdefault(
                    t, Buffer(t, "given", self.shapes[t], element)
                )
        self.add_halos(plans)
        self.give_outputs()
        self.add_padding()
        for slot, buffer in enumerate({id(b): b for b in self.buffers.values()}.values()):
            buffer.slot = slot

    def needed_whole(self, plans: list[Plan], levels: list[int]) -> set[str]:
        """Tensors with samples that are read in a later stage, or by other samples, or wanted."""
        made = {p.nest.target: level for p, level in zip(plans, levels, strict=True)}
        whole = {*self.results.values(), *(p.nest.target for p in plans if p.nest.spread)}
        for p, level in zip(plans, levels, strict=True):
            for e in p.nest.accesses():
                if self.has_batch(e.tensor):
                    mine = p.nest.sample and positions(e)[0].bare == p.nest.sample
                    if not mine or made.get(e.tensor, level) != level:
                        whole.add(e.tensor)
        return whole

    def in_place(self, plans: list[Plan], levels: list[int]) -> set[str]:
        """Updated tensors whose old values nothing reads once new ones are written."""
        safe = set()
        for t in self.system.updates:
            mine = [(p, level) for p, level in zip(plans, levels, strict=True)
                    if p.nest.target == t + NEW]  # fmt: skip
            if not mine:
                continue
            start = min(level for _, level in mine)
            if all(
                level < start or (p.nest.target == t + NEW and e.axes == p.nest.store)
                for p, level in zip(plans, levels, strict=True)
                for e in p.nest.accesses()
                if e.tensor == t
            ) and all(len(mine) == 1 or level < start for _, level in mine):
                safe.add(t)
        return safe

    def add_halos(self, plans: list[Plan]) -> None:
        for p in plans:
            for (e, k), method in p.methods.items():
                if method == "halo":
                    buffer = self.buffers[e.tensor]
                    a, n = positions(e)[k], buffer.sizes[k]
                    assert n is not None
                    low, high = reach(p.nest, a)
                    buffer.low[k] = max(buffer.low[k], -low)
                    buffer.high[k] = max(buffer.high[k], high - n + 1)

    def give_outputs(self) -> None:
        """Wanted results go straight to the caller's arrays."""
        for t, name in self.results.items():
            if name in self.buffers and not (self.train and t in self.system.updates):
                self.buffers[name].place = "given"

    def add_padding(self) -> None:
        for b in self.buffers.values():
            if b.place in ("static", "batch", "block", "lanes") and b.sizes:
                n = b.sizes[-1]
                if n is not None and not b.low[-1] and not b.high[-1]:
                    width = self.machine.width(n)
                    b.padded = spread(-(-n // width) * width if width > 1 else n, b.element)

    def set_lanes(self, stages: list[Stage]) -> int:
        """Where each stage's partial sums are in a lane; the bytes of one."""
        size, placed = 0, {}
        for stage in stages:
            start = size
            for b in (self.buffers[p.nest.target] for p in stage.samples):
                if b.place == "lanes" and id(b) not in placed:
                    placed[id(b)], b.lane_offset = b, size
                    size += -(-b.bytes(1) // ALIGNMENT) * ALIGNMENT
            stage.lane_bytes = size - start
        for b in placed.values():
            b.lane_bytes = size
        return size
