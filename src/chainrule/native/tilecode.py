"""What takes many instructions, as functions that all nests share which do the same.

A matrix times a tile of vectors; a square of numbers turned.  The strides are arguments, so a
program needs one function for each matrix, however many layers it has.
"""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction

from llvmlite import ir

from chainrule.native.memory import ALIGNMENT
from chainrule.native.points import FUSE, I1, I32, I64, PTR, Value, declared
from chainrule.native.toom import Matrix, applied


def function(
    module: ir.Module, matrix: Matrix, axes: int, kind: ir.Type, masked: bool
) -> ir.Function:
    """f(source, stride along each axis, target, stride of the results[, lanes to use])."""
    width = kind.count if isinstance(kind, ir.VectorType) else 0
    real = kind.element if width else kind
    numbers = "_".join(str(x).replace("/", ":") for row in matrix for x in row)
    name = f"tile{axes}.{width}{'.masked' if masked else ''}.{numbers}"
    found = module.globals.get(name)
    if found is not None:
        return found
    mask = [ir.VectorType(I1, width)] if masked else []
    f = _shared(module, name, [PTR, *[I64] * axes, PTR, I64, *mask])
    source, *strides, target, distance = f.args[: axes + 3]
    for pointer in (source, target):
        pointer.add_attribute("noalias")
    b = ir.IRBuilder(f.append_basic_block("entry"))
    align = 4 if isinstance(real, ir.FloatType) else 8
    suffix = f"v{width}f{8 * align}.p0"

    def times(stride: Value, n: int) -> Value:
        return b.mul(stride, I64(n)) if n > 1 else stride

    def moved(pointer: Value, stride: Value, n: int) -> Value:
        return b.gep(pointer, [times(stride, n)], source_etype=real) if n else pointer

    rows = [moved(source, strides[0], i) for i in range(len(matrix[0]))]

    def value(k: Sequence[int]) -> Value:
        pointer = moved(rows[k[0]], strides[-1], k[1]) if axes == 2 else rows[k[0]]
        if not masked:
            return b.load(pointer, typ=kind, align=align)
        load = declared(module, f"llvm.masked.load.{suffix}", kind, [PTR, I32, mask[0], kind])
        return b.call(load, [pointer, I32(align), f.args[-1], ir.Constant(kind, None)])

    def number(x: Fraction) -> Value:
        return ir.Constant(kind, [float(x)] * width if width else float(x))

    def line(coefficients: Sequence[Fraction], values: Sequence[Value]) -> Value:
        terms = [(c, v) for c, v in zip(coefficients, values, strict=True) if c]
        terms.sort(key=lambda term: term[0] != 1)  # what is taken as it is comes first
        (c, v), *others = terms
        total = v if c == 1 else b.fmul(v, number(c), flags=FUSE)
        for c, v in others:
            if abs(c) != 1:
                total = b.fadd(total, b.fmul(v, number(c), flags=FUSE), flags=FUSE)
            else:
                total = (b.fadd if c > 0 else b.fsub)(total, v, flags=FUSE)
        return total

    to = target
    for k, result in enumerate(applied(matrix, axes, value, line)):
        to = moved(to, distance, 1) if k else to
        if masked:
            store = declared(module, f"llvm.masked.store.{suffix}", ir.VoidType(),
                               [kind, PTR, I32, mask[0]])  # fmt: skip
            b.call(store, [result, to, I32(align), f.args[-1]])
        else:
            b.store(result, to, align=align)
    b.ret_void()
    return f


def _shared(module: ir.Module, name: str, kinds: Sequence[ir.Type]) -> ir.Function:
    """A new function that a module's nests call."""
    f = ir.Function(module, ir.FunctionType(ir.VoidType(), kinds), name)
    f.linkage = "internal"
    for attribute in ("noinline", "nounwind"):
        f.attributes.add(attribute)
    return f


def turn(module: ir.Module, kind: ir.VectorType) -> ir.Function:
    """f(source, stride, target): the columns of a square, one behind another.

    Its rows are so far apart; the target is where a line of the cache begins.
    """
    n, name = kind.count, f"turn.{kind.count}.{kind.element}"
    found = module.globals.get(name)
    if found is not None:
        return found
    f = _shared(module, name, [PTR, I64, PTR])
    source, stride, target = f.args
    b = ir.IRBuilder(f.append_basic_block("entry"))
    size = 4 if isinstance(kind.element, ir.FloatType) else 8
    square = []
    for i in range(n):
        place = b.gep(source, [b.mul(stride, I64(i))], source_etype=kind.element)
        square.append(b.load(place, typ=kind, align=size))
    for i, column in enumerate(_columns(b, square)):
        place = b.gep(target, [I64(i * n)], source_etype=kind.element)
        b.store(column, place, align=min(n * size, ALIGNMENT))
    b.ret_void()
    return f


def _columns(b: ir.IRBuilder, square: Sequence[Value]) -> Sequence[Value]:
    """The columns of a square of vectors: blocks off the diagonal change places, by halves."""
    n, step = len(square), 1
    while step < n:
        low = [j if not j & step else n + j - step for j in range(n)]
        high = [j + step if not j & step else n + j for j in range(n)]
        masks = [ir.Constant(ir.VectorType(I32, n), m) for m in (low, high)]
        turned = list(square)
        for i in range(n):
            if not i & step:
                pair = square[i], square[i + step]
                turned[i] = b.shuffle_vector(*pair, masks[0])
                turned[i + step] = b.shuffle_vector(*pair, masks[1])
        square, step = turned, step * 2
    return square
