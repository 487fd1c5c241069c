"""Blocks for what networks seldom do and a derivation must still get right.

Two indices tangled over two axes, Iverson brackets that pick entries, indices that nothing reads,
masks by an integer tensor, reductions inside a branch.
"""

from __future__ import annotations

from generate_draft import Draft, Rejected
from generate_window import affine, extent, weight_of

BRACKETS = ["({a} == {b})", "({a} == {b} + 1)", "(2*{a} == {b})", "({a} + {b} == 2)",
    "({a} == 2 - {b})", "(2*{a} + 1 == 3*{b})", "({a} <= {b})", "({a} != {b})",
    "({a} == {b})*({a} != 1)", "({b} == ({a} + 1)/2)", "(1 - ({a} == {b}))", "({a} - {b} >= -1)",
    "({a} > 0)*({b} < 2)",
]  # fmt: skip


def entangled(d: Draft) -> None:
    """Two axes read by mixtures of the same indices: a system of equations to solve backwards."""
    name = d.source([2, 2, 3])
    shape = d.shapes[name]
    if 0 in shape:
        raise Rejected
    i, m = d.index(), d.index()
    sizes = {i: d.rng.choice([2, 3]), m: d.rng.choice([2, 3])}
    padded = d.chance(0.6)
    kept, parts = [], []
    for axis in range(len(shape)):
        if axis == 2:
            kept.append(d.index())
            parts.append(kept[0])
            continue
        a, b = d.rng.choice([(1, 1), (1, -1), (2, 1), (-1, 1), (1, 2), (2, -1), (1, 0), (-1, -1)])
        low = min(0, a) * (sizes[i] - 1) + min(0, b) * (sizes[m] - 1)
        offset = d.rng.choice([-low, -low, -low + 1, -low - 1]) if padded else -low
        terms = [(a, i), (b, m)] if b else [(a, i)]
        if terms == [(1, i)] and not offset:
            offset = 1  # a bare index would have to run over the whole axis
        parts.append(affine(d, terms, offset))
    read = f"{f'pad({name})' if padded else name}[{', '.join(parts)}]"
    rows, columns = f"{i}:{sizes[i]}", f"{m}:{sizes[m]}"
    form = d.pick({"both": 2, "sum": 4, "max": 1, "square": 1})
    if form == "max":
        d.kinked()
    scale = weight_of(d, {i: sizes[i], m: sizes[m]})
    if form == "both":
        d.assign([*d.shuffled([rows, columns]), *kept], f"{scale} * {read}")
    else:
        op = "max" if form == "max" else "sum"
        body = f"{read}**2 * {scale}" if form == "square" else f"{read} * {scale}"
        d.assign([rows, *kept], f"{op}[{columns}]({body})")


def picked(d: Draft) -> None:
    """Entries chosen by an Iverson bracket: a Kronecker delta the user wrote."""
    name = d.source([1, 2])
    axes = [d.index() for _ in d.shapes[name]]
    if 0 in d.shapes[name]:
        raise Rejected
    read = f"{name}[{', '.join(axes)}]"
    new = d.index()
    size = extent(d, name, len(axes) - 1, d.rng.choice([1, 2, 3, 4]))
    bracket = d.rng.choice(BRACKETS).format(a=axes[-1], b=new)
    body = d.rng.choice(["{x} * {g}", "{g} * {x}", "{x} * {g} * {n}", "where({g}, {x}, {n})",
        "({x} + {n}) * {g}", "{x}**2 * {g} - {g}", "{g} / (1 + {x}**2)", "{x}**{g}"])  # fmt: skip
    if "/" in body or "/" in bracket:
        d.rounded()
    other = d.rng.choice([new, axes[0], "2", "(-1/2)"])
    op = d.pick({"sum": 5, "max": 1, "prod": 0.5, "mean": 0.5})
    d.kinked() if op == "max" else d.rounded() if op == "mean" else None
    folded = d.shuffled(axes) if d.chance(0.4) else axes[-1:]
    left = [t for t in axes if t not in folded]
    d.assign(
        [*left, f"{new}:{size}"],
        f"{op}[{', '.join(folded)}]({body.format(x=read, g=bracket, n=other)})",
    )


def idle(d: Draft) -> None:
    """Indices that the body does not read: a sum multiplies, a maximum ties with itself."""
    name = d.source([0, 1, 2])
    axes = [d.index() for _ in d.shapes[name]]
    read = f"{name}[{', '.join(axes)}]" if axes else name
    extra = d.index()
    op = d.pick({"sum": 3, "mean": 1, "prod": 1, "max": 1, "logsumexp": 0.5, "argmax": 0.2})
    if op in ("max", "argmax"):
        d.kinked()
    if op == "mean":
        d.rounded()
    if op == "logsumexp":
        d.irrational()
    body = d.rng.choice(["{x}", "{x} + {m}", "{x} * {m}", "{m} - {x}**2", "{x} * ({m} == 1)"])
    count = d.rng.choice(["1", "2", "3", f"size({name}, 0)" if axes else "2"])
    left = list(axes)
    if d.chance(0.3):
        left.append(f"{d.index()}:2")  # an axis of equal rows
    d.assign(d.shuffled(left), f"{op}[{extra}:{count}]({body.format(x=read, m=extra)}) - {read}/2")


def mask(d: Draft) -> None:
    """Rows of different lengths: an integer tensor says how much of each row counts."""
    name = d.source([2, 3])
    shape = d.shapes[name]
    if 0 in shape:
        raise Rejected
    axes = [d.index() for _ in shape]
    lengths = f"{d.input(shape[:1], str(shape[1] + 1))}[{axes[0]}]"
    read = f"{name}[{', '.join(axes)}]"
    bracket = d.rng.choice(["({j} < {t})", "({j} <= {t} - 1)", "({t} > {j})", "({j} != {t})",
        "({t} == {j} + 1)", "({t} >= 2*{j})"]).format(j=axes[1], t=lengths)  # fmt: skip
    form = d.rng.choice(["sum", "share", "keep", "where"])
    if form == "sum":
        d.assign([axes[0], *axes[2:]], f"sum[{axes[1]}]({read} * {bracket})")
    elif form == "share":
        d.rounded()
        total = f"1 + sum[{axes[1]}]({bracket})"
        d.assign([axes[0], *axes[2:]], f"sum[{axes[1]}]({bracket} * {read}**2) / ({total})")
    elif form == "keep":
        d.assign(axes, f"{read} * {bracket}")
    else:
        d.assign(axes, f"where({bracket}, {read}**2, 1/2*{read})")


def positive(d: Draft) -> None:
    """Functions that only positive numbers have."""
    name = d.source([0, 1, 2])
    shape = d.shapes[name]
    axes = [d.index() for _ in shape]
    kept = [(t, n) for t, n in zip(axes, shape, strict=True) if d.chance(0.7)]
    other = d.input(tuple(n for _, n in kept), "positive")
    x = f"{name}[{', '.join(axes)}]" if axes else name
    v = f"{other}[{', '.join(t for t, _ in kept)}]" if kept else other
    form = d.rng.choice([
        "{x}*log({v})", "{x}/sqrt({v})", "{x}/{v}", "{v}**({x}/4)", "{v}**-0.5*{x}",
        "{v}**(1/2) - {x}", "1/{v} - {x}/{v}**2", "pow({v}, 3/2)/(1 + {x}**2)", "{x}/{v}/{v}",
        "sqrt({v})*sqrt({v})*{x}", "log({v} + {x}**2)", "{x}*(1/{v})**2", "{x}*{v}**-1",
        "exp(log({v})/2)*{x}", "{x}/({v}/(1 + {x}**2))", "-{x}/-{v}"])  # fmt: skip
    d.rounded()
    if any(word in form for word in ("log", "sqrt", "/4", "0.5", "(1/2)", "3/2")):
        d.irrational()
    d.assign(d.shuffled(axes), form.format(x=x, v=v))


def branch(d: Draft) -> None:
    """Reductions inside a branch, a condition, an exponent."""
    name = d.source([1, 2])
    axes = [d.index() for _ in d.shapes[name]]
    if 0 in d.shapes[name]:
        raise Rejected
    x = f"{name}[{', '.join(axes)}]"
    inner = d.index()
    xm = f"{name}[{', '.join([*axes[:-1], inner])}]"
    w = weight_of(d, {axes[-1]: d.shapes[name][-1]})
    form = d.rng.choice(
        [
            "where({i} > 0, sum[{m}]({xm} * ({m} < {i})), {x})",
            "where(sum[{m}]({xm}) > 0, {w}*{x}, {x} - {w})",
            "maximum(mean[{m}]({xm}), {x}) * {w}",
            "{w} * max[{m}]({xm} - {x})",
            "sum[{m}](relu({x} - {xm} + 1) * ({m} != {i})) * {w}",
            "{w} * sum[{m}](sum[{n}:2]({xm} * {n}) * ({m} <= {i}))",
            "prod[{m}](1/2 + {xm} * ({m} == {i})) + {w}",
            "{w} * ({x} == max[{m}]({xm}))",
            "{w} * {x} * (argmax[{m}]({xm}) == {i})",
            "{w}**2 * (1 + {x}**2)**{i}",
            "stop(max[{m}]({xm})) * {x} - {w}",
            "where({x} > 1, sum[{m}](where({m} == {i}, {w}/{x}, {xm})), {x}**2)",
        ]
    )
    if any(word in form for word in ("max", "relu", "> 1", ") > 0")):
        d.kinked()
    if "mean" in form or "/{x}" in form:
        d.rounded()
    body = form.format(x=x, xm=xm, w=w, i=axes[-1], m=inner, n=d.index())
    if "{w}" not in form:
        body += f" + {w}"
    d.assign(axes, body)
