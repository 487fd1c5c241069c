"""What the compiler made of a program, for people: the loops as text, a table of what they do."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

from chainrule.expr import Access, Affine, Expr, Mul, Reduce, affine, bare, walk
from chainrule.native.copies import fresh
from chainrule.native.kernel import tensors_of
from chainrule.native.loops import subscript
from chainrule.native.nest import RESULT, Nest, Transform, positions, replaced
from chainrule.native.schedule import Plan
from chainrule.native.stages import Layout
from chainrule.native.tiles import main_sum
from chainrule.native.toom import Matrix
from chainrule.notation.show import expression, show_axis

_INDENT = "    "


def source(layout: Layout) -> str:
    """The loop nests as readable text, stage by stage."""
    lines: list[str] = []
    for number, stage in enumerate(layout.stages):
        lines.append(f"# stage {number}" + (", when every thread is here" if number else ""))
        if stage.samples:
            lines.append(f"for each block of {layout.block} samples, on any thread:")
            for p in stage.samples:
                lines += [_INDENT + line if line else "" for line in nest_text(p)]
        for p in stage.shared:
            lines += nest_text(p)
        lines.append("")
    for name, matrix in _matrices(layout).items():
        lines += [f"# {name}", "", *_matrix_text(matrix), ""]
    return "\n".join(lines).rstrip() + "\n"


def nest_text(p: Plan) -> list[str]:
    """One nest: its loops, then what it writes at each point of its tile."""
    lines, depth = [""], 0
    if p.nest.guards:
        sizes = " and ".join(map(expression, p.nest.guards))
        lines.append(f"{'unless' if p.nest.plain else 'if'} {sizes} are small:")
        depth = 1
    for name in p.order:
        lines.append(_INDENT * depth + _loop_text(p, name))
        depth += 1
    for i, size in _rows(p.nest).items() if p.nest.products is not None else ():
        lines.append(f"{_INDENT * depth}for {i} < {size}, {size} at once:")
        depth += 1
    for q in p.all:
        lines += [_INDENT * depth + text for text in _notes(q)]
        n = _written_out(q.nest)
        lines.append(f"{_INDENT * depth}{_target(n)} {_sign(n)} {expression(n.body)}")
    return lines


def _loop_text(p: Plan, name: str) -> str:
    n = p.nest.extents[name]
    of = "samples" if n is None else str(n)
    if name == p.vector:
        count = p.tile.get(name, 1)
        vectors = f"{count} vectors" if count > 1 else "a vector"
        return f"for {name} < {of}, {vectors} of {p.width}:"
    count = p.tile.get(name, 1)
    return f"for {name} < {of}" + (f", {count} at once:" if count > 1 else ":")


def _notes(p: Plan) -> list[str]:
    """What is done about positions outside a tensor."""
    notes: dict[str, None] = {}
    for (e, k), method in p.methods.items():
        at = show_axis(positions(e)[k])
        if method.startswith("trim:"):
            notes[f"# {method[5:]} runs only where {at} is inside {e.tensor}"] = None
        elif method == "halo":
            notes[f"# around axis {k} of {e.tensor} stand zeros, so {at} needs no test"] = None
        else:
            notes[f"# {at} is tested against axis {k} of {e.tensor}"] = None
    return list(notes)


def _target(n: Nest) -> str:
    return n.target + (f"[{','.join(map(show_axis, n.store))}]" if n.store else "")


def _sign(n: Nest) -> str:
    return "+=" if n.lane is not None or n.carry is not None else "="


# ---------------------------------------------------------------- tiles as formulas


def _written_out(n: Nest) -> Nest:
    """The nest with a formula in place of its transform."""
    t = n.transform
    if t is None:
        return n
    axes = range(len(t.axes))
    inner = [fresh(i, _taken(n)) for i in "rs"][: len(axes)]
    where = list(positions(t.source))
    for (axis, step), i in zip(t.axes, inner, strict=True):
        where[axis] = affine([*where[axis].terms, (i, step)], where[axis].offset)
    tile = Access(t.source.tensor, tuple(where), t.source.pad)
    size = len(t.matrix)

    def result(rows: Sequence[Affine]) -> Expr:
        factors = [Access(_name(t), (a, bare(i)), None)
                   for a, i in zip(rows, inner, strict=True)]  # fmt: skip
        return Reduce("sum", tuple((i, None) for i in inner), Mul((*factors, tile)))

    if n.products is not None:
        rows = _rows(n)
        number = affine([(i, size ** (len(axes) - 1 - k)) for k, i in enumerate(rows)])
        store = (*n.store[: n.products], number, *n.store[n.products + 1 :])
        return replace(n, store=store, body=result([bare(i) for i in rows]))

    def row(a: Affine, axis: int) -> Affine:
        """A result's row on one axis, from its number."""
        step = size ** (len(axes) - 1 - axis)
        names = [i for i, c in a.terms if c == step]
        return bare(names[0]) if names else affine([], 0)

    numbers = {e: positions(e)[0] for e in walk(n.body)
               if isinstance(e, Access) and e.tensor == RESULT}  # fmt: skip
    return replace(n, body=replaced(
        n.body, {e: result([row(a, k) for k in axes]) for e, a in numbers.items()}
    ))  # fmt: skip


def _rows(n: Nest) -> dict[str, int]:
    """Indices for a tile's products, one for each axis, and how many values they have."""
    t = n.transform
    names = "pq"[: len(t.axes)] if t else ""
    return {fresh(i, _taken(n)): len(t.matrix) for i in names if t}


def _taken(n: Nest) -> set[str]:
    return {*n.extents, *n.reads, n.target}


def _name(t: Transform) -> str:
    """A matrix's name with its size: one letter serves several."""
    return t.name + subscript(len(t.matrix)) + subscript(len(t.matrix[0]))


def _matrices(layout: Layout) -> dict[str, Matrix]:
    found = (q.nest.transform for p in layout.plans for q in p.all)
    return {_name(t): t.matrix for t in found if t is not None}


def _matrix_text(matrix: Matrix) -> list[str]:
    width = max(len(str(x)) for row in matrix for x in row)
    return [_INDENT + "  ".join(str(x).rjust(width) for x in row) for row in matrix]


# ---------------------------------------------------------------- the table


@dataclass(frozen=True)
class Row:
    """One nest's line of the table.

    multiply_adds  of one sample, or of the step for a nest that has no samples
    bytes          that its tensors take, those with samples by one of them
    share          of the time, when it was measured
    """

    statement: str
    stage: int
    nest: str
    tile: str
    multiply_adds: int
    bytes: int
    share: float | None


@dataclass(frozen=True)
class Report:
    """The table; printing it shows it, `rows` holds its values."""

    rows: tuple[Row, ...]

    def __str__(self) -> str:
        head = ("statement", "stage", "loops", "tile", "multiply-adds", "bytes", "time")
        body = [
            (r.statement, str(r.stage), r.nest, r.tile, f"{r.multiply_adds:,}", f"{r.bytes:,}",
             "" if r.share is None else f"{100 * r.share:.1f}%")
            for r in self.rows
        ]  # fmt: skip
        widths = [max(map(len, column)) for column in zip(head, *body, strict=True)]
        return "\n".join(
            "  ".join(_pad(c, w, k) for k, (c, w) in enumerate(zip(line, widths, strict=True)))
            for line in (head, *body)
        )


def _pad(cell: str, width: int, column: int) -> str:
    return cell.ljust(width) if column in (0, 2, 3) else cell.rjust(width)


def report(layout: Layout, cycles: Sequence[int] | None = None) -> Report:
    """A row for each nest; `cycles` are those measured in each."""
    total = sum(cycles) if cycles else 0
    rows = []
    number = 0
    for k, stage in enumerate(layout.stages):
        for p in (*stage.samples, *stage.shared):
            share = cycles[number] / total if cycles and total else None
            rows.append(_row(layout, p, k, share))
            number += 1
    return Report(tuple(rows))


def _row(layout: Layout, p: Plan, stage: int, share: float | None) -> Row:
    targets = list(dict.fromkeys(q.nest.target for q in p.all))
    return Row(
        ", ".join(targets), stage, ",".join(p.order), _tile_text(p),
        sum(multiply_adds(q.nest) for q in p.all),
        sum(b.bytes(1) for b in tensors_of(layout, p)), share,
    )  # fmt: skip


def _tile_text(p: Plan) -> str:
    parts = [f"{n}:{c}" for n, c in p.tile.items() if n != p.vector and c > 1]
    if p.vector:
        count = p.tile.get(p.vector, 1)
        parts.append(f"{p.vector}:{f'{count}x' if count > 1 else ''}{p.width}")
    return " ".join(parts) or "1"


def multiply_adds(n: Nest) -> int:
    """Products that one sample, or the step, adds up; 0 where nothing is summed."""
    work = main_sum(n, None, 1)
    if work is None or not any(isinstance(e, Access) for r in walk(n.body)
                               if isinstance(r, Reduce) for e in walk(r.body)):  # fmt: skip
        return 0
    steps = math.prod(n.extents[i] or 1 for e in walk(n.body)
                      if isinstance(e, Reduce) and e.op == "sum" for i in e.names)  # fmt: skip
    return steps * math.prod(n.extents[i] or 1 for i in n.loops)
