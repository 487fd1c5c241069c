"""What random programs are made of: windows, element by element, normalisations, objectives.

Each block writes one statement into a draft. `BLOCKS` has their weights.
"""

from __future__ import annotations

import re
from collections.abc import Callable

from generate_draft import Draft, Rejected
from generate_nasty import branch, entangled, idle, mask, picked, positive
from generate_window import window

SMOOTH = [
    "tanh({a})", "sigmoid({a})", "sin({a})", "cos({a})", "exp(-{a}**2)", "erf({a})", "gelu({a})",
    "silu({a})", "softplus({a})", "log(1 + {a}**2)", "sqrt({a}**2 + 1/2)", "exp({a}/4)",
    "pow(1 + {a}**2, 1/3)", "pow(1 + {a}**2, {b}/4)", "(1 + {a}**2)**-0.5", "log(sigmoid({a}))",
]  # fmt: skip
KINKED = ["relu({a})", "abs({a})", "sign({a})*{b}", "maximum({a}, {b})", "minimum({a}, {b})",
    "where({a} > {b}, {a}, 2*{b})", "({a} >= {b})*{a}", "maximum({a}, {b}, 1/2)",
    "where({a}, {b}, {a}**2)", "where({a} != 0, {b}/{a}, {b})", "minimum(maximum({a}, -1), 1)",
]  # fmt: skip
PLAIN = ["({a} + {b})", "({a} - {b})", "{a}*{b}", "{a}*({a} - {b})", "{a}**2", "{a}**3", "(-{a})",
    "({a} + {n}*{b})", "{n}*{a}", "stop({a})*{b}", "{a} - {b} - {a}*{n}", "-{a}**2", "pow({a}, 2)",
    "({a} - ({b} - {n}))", "2*(-{a})*{b}", "{a}**1", "{b}*{a}**0", "({a}*{b})**2",
]  # fmt: skip
DIVIDING = ["{a}/(1 + {b}**2)", "1/({a}**2 + 1/2)", "({a}**2 + 1)**-1", "{a}/3", "{a}/{b}*{b}/4",
    "{a}/(2 + {a}**2)/(1 + {b}**2)", "{a}/((1 + {a}**2)/(1 + {b}**2))",
]  # fmt: skip


def combine(d: Draft, leaves: list[str], depth: int) -> str:
    """A random expression over the leaves."""
    if depth == 0 or d.chance(0.1):
        return d.rng.choice(leaves)
    kind = d.pick({"plain": 5, "smooth": 2, "kinked": 2, "dividing": 1})
    if kind == "smooth":
        d.irrational()
    elif kind == "kinked":
        d.kinked()
    elif kind == "dividing":
        d.rounded()
    form: str = d.rng.choice(
        {"plain": PLAIN, "smooth": SMOOTH, "kinked": KINKED, "dividing": DIVIDING}[kind]
    )
    a, b = (f"({combine(d, leaves, depth - 1)})" for _ in range(2))
    if form == "{a}/{b}*{b}/4":
        b = f"(1 + {b}**2)"
    return form.format(a=a, b=b, n=d.number())


def leaf(d: Draft, axes: dict[str, int]) -> str:
    """An access that some of the indices suffice for."""
    kind = d.pick({"tensor": 6, "scalar": 1, "index": 1, "size": 0.3, "reduced": 1.5})
    if kind == "index":
        return d.rng.choice([*axes, "1"])
    if kind == "scalar":
        return d.input(())
    chosen = [token for token in d.shuffled(axes) if d.chance(0.6)]
    if kind == "size" and chosen:
        name = d.input(tuple(axes[token] for token in chosen))
        return f"size({name}, 0)*{access(name, chosen)}"
    if kind == "reduced":
        op = d.pick({"sum": 3, "mean": 1, "max": 1, "min": 1, "prod": 1})
        if op in ("max", "min"):
            d.kinked()
        if op == "mean":
            d.rounded()
        extra, size = d.index(), d.rng.choice([1, 2, 3])
        name = d.input((*(axes[token] for token in chosen), size))
        return f"{op}[{extra}]({access(name, [*chosen, extra])})"
    return access(d.input(tuple(axes[token] for token in chosen)), chosen)


def reads(body: str, part: str) -> bool:
    return re.search(rf"(?<!\w){re.escape(part)}(?!\w)", body) is not None


def base_name(read: str) -> str:
    return read.split("[", maxsplit=1)[0]


def access(name: str, axes: list[str]) -> str:
    return f"{name}[{', '.join(axes)}]" if axes else name


def elementwise(d: Draft) -> None:
    name = d.source([0, 1, 2, 3])
    axes = {d.index(): size for size in d.shapes[name]}
    read = access(name, [*axes])
    leaves = [read, read, *(leaf(d, axes) for _ in range(d.rng.randint(1, 2)))]
    body = combine(d, leaves, d.rng.choice([1, 1, 2, 2, 3]))
    for used in leaves:  # whatever the draw left out is an input of the program all the same
        if not reads(body, used):
            body = f"{body} + {used}"
    if not reads(body, read):
        body = f"{body} * {read}"
    d.assign(d.shuffled(axes), body)


def normalise(d: Draft) -> None:
    """Softmax, centring, scaling: reductions inside an elementwise statement, letters reused."""
    name = d.source([1, 2, 3])
    axes = [d.index() for _ in d.shapes[name]]
    at = d.rng.randrange(len(axes))
    one = d.index()
    other = one if d.chance(0.6) else d.index()
    x, xm, xn = (access(name, [*axes[:at], t, *axes[at + 1 :]]) for t in (axes[at], one, other))
    d.rounded()
    form = d.pick({"softmax": 2, "centre": 2, "scale": 2, "standard": 2, "share": 1, "range": 1})
    if form in ("softmax", "standard"):
        d.irrational()
    if form == "range":
        d.kinked()
    body = {
        "softmax": f"exp({x}) / sum[{one}](exp({xm}))",
        "centre": f"{x} - mean[{one}]({xm})",
        "scale": f"{x} / (1 + sum[{one}]({xm}**2))",
        "standard": f"({x} - mean[{one}]({xm})) / "
        f"sqrt(1/2 + mean[{one}]({xm}**2) - mean[{other}]({xn})**2)",
        "share": f"{x}**2 / (1 + sum[{one}]({xm}**2) * prod[{other}]({xn})**2)",
        "range": f"({x} - min[{one}]({xm})) / (1 + max[{one}]({xm}) - min[{other}]({xn}))",
    }[form]
    d.assign(d.shuffled(axes) if d.chance(0.3) else axes, body)


def gram(d: Draft) -> None:
    """A tensor against itself, or against its transpose: both factors send a gradient back."""
    name = d.source([2])
    i, j, k = (d.index() for _ in range(3))
    rows, columns = d.shapes[name]
    if rows == columns and d.chance(0.5):
        form = d.rng.choice(["{x}[{i},{k}] * {x}[{k},{j}]", "{x}[{i},{k}] * {x}[{j},{i}]"])
    else:
        form = d.rng.choice(["{x}[{i},{k}] * {x}[{j},{k}]", "{x}[{k},{i}] * {x}[{k},{j}]"])
    form = form.format(x=name, i=i, j=j, k=k)
    if d.chance(0.3):
        form = f"({form} + {d.input((rows, rows))}[{i},{j}])" if f"{j},{k}]" in form else form
    d.assign([i, j], f"sum[{k}]({form})")


def diagonal(d: Draft) -> None:
    name = d.source([2, 3])
    shape = d.shapes[name]
    i, extra = d.index(), [d.index() for _ in shape[2:]]
    if shape[0] == shape[1] and d.chance(0.5):
        d.assign([i, *extra], f"{access(name, [i, i, *extra])} * {d.input((shape[0],))}[{i}]")
    elif shape[0] == shape[1] and d.chance(0.5):
        total = ", ".join([i, *extra])
        d.assign([], f"sum[{total}]({access(name, [i, i, *extra])}**2)")
    else:  # off the diagonal, along the other one, or at two speeds
        last = shape[1] - 1
        pair = d.rng.choice([[i, f"{i}+1"], [i, f"{last}-{i}"], [f"{i}+1", f"2*{i}"]])
        d.assign([i, *extra], access(name, [*pair, *extra]))


def reshape(d: Draft) -> None:
    """Axes merged into one by a tuple group, or one split; the sizes come from another tensor."""
    name = d.source([1, 2, 3])
    shape = d.shapes[name]
    axes = [d.index() for _ in shape]
    if len(shape) > 1 and d.chance(0.6):
        cut = d.rng.randrange(len(shape) - 1)
        merged = d.shuffled(axes[cut : cut + 2])
        group = f"({merged[0]},{merged[1]})"
        left = d.shuffled([*axes[:cut], group, *axes[cut + 2 :]])
        scale = f" * {d.input((shape[cut],))}[{axes[cut]}]" if d.chance(0.5) else ""
        d.assign(left, access(name, axes) + scale)
        return
    at = d.rng.randrange(len(shape))
    factor = d.rng.choice([f for f in (1, 2, 3) if shape[at] % f == 0])
    outer, inner = d.index(), d.index()
    parts = [*axes[:at], f"({outer},{inner})", *axes[at + 1 :]]
    rest = axes[:at] + axes[at + 1 :]
    known = inner if d.chance(0.6) else outer
    sizes = d.input((factor,))
    if d.chance(0.5):  # contract one of the two
        d.assign(
            [*rest, outer if known == inner else inner],
            f"sum[{known}]({sizes}[{known}] * {access(name, parts)})",
        )
    else:
        d.assign(d.shuffled([*rest, outer, inner]), f"{access(name, parts)} - {sizes}[{known}]")


BLOCKS: dict[str, tuple[float, Callable[[Draft], None]]] = {
    "window": (5, window),
    "elementwise": (2.5, elementwise),
    "normalise": (1, normalise),
    "gram": (0.5, gram),
    "diagonal": (0.4, diagonal),
    "reshape": (0.8, reshape),
    "entangled": (0.6, entangled),
    "picked": (0.8, picked),
    "idle": (0.4, idle),
    "mask": (0.4, mask),
    "branch": (0.7, branch),
    "positive": (0.6, positive),
}


def objective(d: Draft) -> str:
    """A scalar of the newest tensor."""
    name = next(n for n in reversed(d.shapes) if n not in d.kinds)
    shape = d.shapes[name]
    axes = {d.index(): size for size in shape}
    x, over = access(name, [*axes]), ", ".join(d.shuffled(axes))
    goal = next((n for n in "ELJ" if n not in d.shapes), "Q")
    if not shape:
        return d.assign([], d.rng.choice(["2*{x}", "{x}**2", "{x} - 1"]).format(x=x), goal)
    form = d.pick({"sum": 2, "square": 3, "mean": 2, "weighted": 3, "labels": 2, "max": 0.7,
                   "prod": 0.4, "logsumexp": 0.7, "nested": 1})  # fmt: skip
    if form == "labels" and len(shape) >= 1:
        return labelled(d, name, goal)
    target = access(d.input(shape), [*axes]) if form in ("square", "weighted") else ""
    if form in ("mean", "nested"):
        d.rounded()
    if form == "max":
        d.kinked()
    if form == "logsumexp":
        d.irrational()
    inner = ", ".join([*axes][1:])
    body = {
        "sum": f"sum[{over}]({x})",
        "square": f"1/2 * sum[{over}](({target} - {x})**2)",
        "mean": f"mean[{over}]({x}**2)",
        "weighted": f"sum[{over}]({target} * {x})",
        "max": f"max[{over}]({x})",
        "prod": f"prod[{over}]({x})",
        "logsumexp": f"logsumexp[{over}]({x})",
        "nested": f"mean[{next(iter(axes))}]("
        + (f"sum[{inner}]({x}**2)" if inner else f"{x}**3")
        + ")",
    }[form]
    return d.assign([], body, goal)


def labelled(d: Draft, name: str, goal: str) -> str:
    """Softmax cross-entropy as the books' code has it, one label for each row."""
    shape = d.shapes[name]
    *rows, last = (d.index() for _ in shape)
    if not shape[-1]:
        raise Rejected
    labels = d.input(shape[:-1], str(shape[-1]))
    other = last if d.chance(0.5) else d.index()
    d.irrational()
    x, picked = access(name, [*rows, last]), access(name, [*rows, other])
    chosen = f"({other} == {access(labels, rows)})"
    body = f"logsumexp[{last}]({x}) - sum[{other}]({picked} * {chosen})"
    if not rows:
        return d.assign([], body, goal)
    return d.assign([], f"{d.rng.choice(['sum', 'mean'])}[{', '.join(rows)}]({body})", goal)


def updates(d: Draft, goal: str) -> tuple[str, list[str]]:
    """A step of gradient descent for some inputs, or a scalar made of gradients."""
    reals = [n for n, kind in d.kinds.items() if kind == "real"]
    if not reals:
        return goal, []
    if d.chance(0.4):
        name = d.rng.choice([*reals, *(n for n in d.shapes if n not in d.kinds and n != goal)])
        axes = [d.index() for _ in d.shapes[name]]
        slope = access(f"grad({goal}, {name})", axes)
        fold = f"sum[{', '.join(axes)}]({slope}**2)" if axes else f"{slope}**2"
        if d.chance(0.3) and "G2" not in d.shapes:  # a second objective, and how the two agree
            last = access(name, [d.index() for _ in axes])
            inner = re.findall(r"⟦\d+⟧", last)
            d.assign([], f"sum[{', '.join(inner)}](2*{last}**3)" if inner else f"{last}**3", "L2")
            fold = fold.replace("**2", f"*{slope.replace(f'grad({goal},', 'grad(L2,')}")
        return d.assign([], fold, "G"), []
    chosen = d.rng.sample(reals, d.rng.randint(1, min(2, len(reals))))
    for name in chosen:
        axes = [d.index() for _ in d.shapes[name]]
        read = access(name, axes)
        slope = access(f"grad({goal}, {name})", axes)
        step = slope
        if d.chance(0.25):  # momentum: an input that the loss does not read, updated too
            speed = access(d.input(d.shapes[name]), axes)
            if base_name(speed) in chosen or base_name(speed) in d.updated:
                raise Rejected
            step = f"(0.5*{speed} + {slope})"
            d.update(base_name(speed), f"{speed} = {step[1:-1]}")
        d.update(name, f"{read} = {read} - {d.number()} * {step}")
    return goal, d.updated
