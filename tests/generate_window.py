"""Windows: convolution, pooling, dense layers, flips, strides, dilations, padding, groups.

Each axis of the source is read in a way of its own (kept, summed, slid over, reversed, ...); the
kernel indices that this leaves are sizes of a weight tensor, or are written out, `m:3`.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from generate_draft import Draft, Rejected

OPEN = {"keep": 3, "sum": 2, "window": 5, "double": 1, "flip": 1, "constant": 0.3, "group": 1,
    "stride": 0.7, "convolution": 0.7}  # fmt: skip
PADDED = {"keep": 2, "sum": 1.5, "window": 5, "double": 1, "fraction": 2, "flip": 0.5,
    "constant": 0.2, "convolution": 0.7, "group": 0.4, "outside": 0.2}  # fmt: skip


@dataclass
class Reading:
    """How the source is read: the text of each axis, and the indices this brings in."""

    name: str
    padded: bool
    parts: list[str] = field(default_factory=list)
    left: list[str] = field(default_factory=list)  # indices of the result
    fold: dict[str, int] = field(default_factory=dict)  # indices to reduce over, and their sizes
    open: set[str] = field(default_factory=set)  # of those: nothing has fixed their size yet
    sizes: dict[str, str] = field(default_factory=dict)  # sizes to write on the left
    kept: dict[str, int] = field(default_factory=dict)  # indices of the result of known size


def term(d: Draft, factor: int, index: str) -> str:
    if abs(factor) == 1:
        return index if factor > 0 else f"-{index}"
    return d.rng.choice([f"{factor}*{index}", f"{index}*{factor}"])


def affine(d: Draft, terms: list[tuple[int, str]], offset: int) -> str:
    parts = [term(d, factor, index) for factor, index in terms]
    if offset:
        parts.append(str(offset))
    text = " + ".join(d.shuffled(parts) if d.chance(0.3) else parts).replace("+ -", "- ")
    return text.replace(" ", "") if d.chance(0.7) else text


def extent(d: Draft, name: str, axis: int, value: int) -> str:
    """A size of that value, as a number or from the source's own size."""
    size, own = d.shapes[name][axis], f"size({name}, {axis})"
    if d.chance(0.3):
        return str(value)
    if value == size:
        return d.rng.choice([own, own, f"min({own}, {value + 2})", f"({own}*2)//2"])
    if value > size:
        return d.rng.choice([f"{own}+{value - size}", f"{own} + 2*{value} - {value + size}"])
    halves = [f"({own}+1)//2"] if (size + 1) // 2 == value else []
    return d.rng.choice([f"{own}-{size - value}", f"min({value}, {own})", *halves])


def read_axis(d: Draft, r: Reading, axis: int) -> None:
    size = d.shapes[r.name][axis]
    kinds = {"keep": 2.0, "sum": 1.0} if size == 0 else PADDED if r.padded else OPEN
    kind = d.pick(kinds)
    i = d.index()
    if kind in ("keep", "sum"):
        r.parts.append(i)
        if kind == "keep":
            r.left.append(i)
            r.kept[i] = size
        else:
            r.fold[i] = size
        return
    if kind == "outside":  # never inside: the padding and nothing else
        r.parts.append(d.rng.choice(["-1", str(size), str(size + 2)]))
        return
    if kind == "constant":
        r.parts.append(str(d.rng.randrange(size)))
        return
    if kind == "group":
        factor = d.rng.choice([f for f in (1, 2, 3, 4) if size % f == 0])
        outer, inner = i, d.index()
        r.parts.append(f"({outer},{inner})")
        for token, count in ((outer, size // factor), (inner, factor)):
            if d.chance(0.5):
                r.fold[token] = count
                r.open.add(token)
            else:
                r.left.append(token)
                r.kept[token] = count
                r.sizes[token] = str(count)
        return
    stride, dilation, offset = (d.rng.choice(c) for c in ([1, 1, 2, 3], [1, 1, 2, 3], [0, 0, 1]))
    kernels = [d.rng.choice([1, 2, 2, 3])] if kind in ("window", "convolution", "fraction") else []
    kernels = [2, d.rng.choice([1, 2])] if kind == "double" else kernels
    if kind == "flip" and d.chance(0.5):
        kernels = [2]
    tokens = [d.index() for _ in kernels]
    r.left.append(i)
    for token, count in zip(tokens, kernels, strict=True):
        r.fold[token] = count
        r.open.add(token)
    reach = sum(count - 1 for count in kernels)
    if r.padded:
        offset = -d.rng.choice([0, 1, 1, 2])
        if not tokens and offset == 0:
            offset = 1
        r.sizes[i] = extent(d, r.name, axis, max(1, size + d.rng.choice([-2, -1, 0, 0, 1, 2])))
    if kind == "window":
        r.parts.append(affine(d, [(stride, i), *((dilation, t) for t in tokens)], offset))
    elif kind == "double":
        second = d.rng.choice([1, 1, 2])
        terms = [(stride, i), (1, tokens[0]), (second, tokens[1])]
        r.parts.append(affine(d, terms, offset))
    elif kind == "convolution":  # the kernel reversed, as mathematics has it
        terms = [(stride, i), (-dilation, tokens[0])]
        r.parts.append(affine(d, terms, dilation * reach + offset))
    elif kind == "flip":
        terms = [(-d.rng.choice([1, 1, 2]), i), *((-1, t) for t in tokens)]
        r.parts.append(affine(d, terms, size - 1))
    elif kind == "stride":
        r.parts.append(affine(d, [(max(2, stride), i)], offset))
    else:  # fraction, as a transposed convolution has it
        divisor = d.rng.choice([2, 2, 3])
        terms = [(1, i), (-dilation, tokens[0])]
        inner = affine(d, terms, d.rng.choice([0, 0, 1, -1]))
        r.parts.append(f"({inner})/{divisor}")


def again(d: Draft, r: Reading, fill: str) -> str:
    """The source read a second time: the same window a step on, or the same place."""
    parts = list(r.parts)
    at = d.rng.randrange(len(parts))
    bare = parts[at] in r.kept or parts[at] in r.fold or "," in parts[at]
    if r.padded and not bare and "⟧" in parts[at] and "/" not in parts[at] and d.chance(0.7):
        parts[at] = d.rng.choice([f"{parts[at]}+1", f"{parts[at]}-1"])
    return source(r, parts, fill)


def source(r: Reading, parts: list[str], fill: str) -> str:
    head = f"pad({r.name}{fill})" if r.padded else r.name
    return f"{head}[{', '.join(parts)}]" if parts else r.name


def weight(d: Draft, r: Reading, new: dict[str, int]) -> str:
    """A weight over some of the indices; what it does not fix keeps a size written out."""
    chosen = {t: n for t, n in r.fold.items() if d.chance(0.85 if t in r.open else 0.6)}
    chosen |= {t: n for t, n in r.kept.items() if d.chance(0.2)} | new
    order = d.shuffled(chosen)
    name = d.input(tuple(chosen[t] for t in order))
    parts = []
    for token in order:
        if token in r.open and d.chance(0.12):  # the weight itself read backwards
            parts.append(f"{chosen[token] - 1}-{token}")
        else:
            parts.append(token)
            r.open.discard(token)
            r.sizes.pop(token, None) if token not in r.left else None
    return f"{name}[{', '.join(parts)}]" if parts else name


def weight_of(d: Draft, axes: dict[str, int]) -> str:
    """A new tensor over some of the indices."""
    chosen = {t: n for t, n in axes.items() if d.chance(0.7)}
    name = d.input(tuple(chosen.values()))
    return f"{name}[{', '.join(chosen)}]" if chosen else name


def guard(d: Draft, r: Reading) -> str:
    tokens = [*r.left, *r.fold, "1"]
    a, b = d.rng.choice(tokens), d.rng.choice(tokens)
    sign = d.rng.choice(["<=", "<", "==", "!=", ">", ">="])
    return d.rng.choice([f"({a} {sign} {b})", f"({a} + {b} {sign} 2)", f"(2*{a} {sign} {b} + 1)"])


def product(d: Draft, x: str, w: str, r: Reading) -> str:
    fill = ""
    forms = {"{w} * {x}": 8, "{x} * {w}": 4, "({x} - {w})**2": 1, "{w} * {x} * {y}": 1.5,
        "{w} * {x}**2": 0.7, "{x} * {w} * {g}": 1, "where({g}, {w} * {x}, {x})": 0.6,
        "{w} * relu({x})": 0.7, "{w} * tanh({x})": 0.7, "maximum({x}, {w})": 0.5,
        "{w} * stop({x}) * {y}": 0.4, "{w} * {x} + {y}": 0.6, "{w} * ({x} - {y})": 0.6,
        "{w} * {x} / (1 + {y}**2)": 0.4, "abs({w} - {x})": 0.4, "{w}**2 * {x} * {i}": 0.4,
    }  # fmt: skip
    form = d.pick(forms)
    if any(word in form for word in ("relu", "maximum", "abs")):
        d.kinked()
    if "tanh" in form:
        d.irrational()
    if " / " in form:
        d.rounded()
    i = d.rng.choice([*r.left, *r.fold, "2"])
    return form.format(w=w, x=x, y=again(d, r, fill), g=guard(d, r), i=i)


def window(d: Draft) -> None:
    name = d.source([1, 1, 2, 2, 3, 3, 4])
    r = Reading(name, d.chance(0.35))
    for axis in range(len(d.shapes[name])):
        read_axis(d, r, axis)
    repeats = [t for t in r.fold if d.chance(0.25)] if r.fold else []
    op = d.pick({"sum": 10, "mean": 1.5, "max": 2.5, "min": 1, "prod": 0.8, "logsumexp": 1,
                 "argmax": 0.3})  # fmt: skip
    if op in ("max", "min", "argmax"):
        d.kinked()
    if op == "mean":
        d.rounded()
    if op == "logsumexp":
        d.irrational()
    fill = ""
    if r.padded and d.chance(0.3):
        fill = {"max": ", -inf", "min": ", inf"}.get(op, d.rng.choice([", 1/2", ", -2", ", 0"]))
    x = source(r, r.parts, fill)
    new = {d.index(): d.rng.choice([1, 2, 3])} if d.chance(0.3) else {}
    if (op in ("sum", "prod", "mean") or d.chance(0.4)) and "inf" not in fill:
        body = product(d, x, weight(d, r, new), r)
    else:
        body, new = x, {}
    if r.fold:
        binders = [t + (f":{r.fold[t]}" if t in r.open else "") for t in d.shuffled(r.fold)]
        cut = d.rng.randrange(1, len(binders)) if len(binders) > 1 and repeats else len(binders)
        body = f"{op}[{', '.join(binders[:cut])}]({body})"
        if binders[cut:]:
            outer = d.pick({"sum": 4, "max": 1, "mean": 1})
            d.kinked() if outer == "max" else d.rounded() if outer == "mean" else None
            body = f"{outer}[{', '.join(binders[cut:])}]({body})"
    elif op in ("max", "min", "mean", "argmax", "logsumexp", "prod"):
        raise Rejected  # nothing to reduce over: the flags above would lie
    left = d.shuffled([*r.left, *new]) if d.chance(0.3) else [*r.left, *new]
    if d.chance(0.4):
        biased = {t: n for t, n in {**r.kept, **new}.items() if d.chance(0.5)}
        bias = d.input(tuple(biased.values()))
        body += d.rng.choice([" + ", " - "]) + bias + (f"[{', '.join(biased)}]" if biased else "")
    if d.chance(0.25):
        wrap = d.rng.choice(["relu({})", "sigmoid({})", "tanh({})", "1/2*({})", "({})**2"])
        d.kinked() if wrap == "relu({})" else None
        d.irrational() if wrap in ("sigmoid({})", "tanh({})") else None
        body = wrap.format(body)
    plain = [t for t in left if t not in r.sizes]
    if len(plain) > 1 and d.chance(0.15):  # two axes of the result made one
        a, b = d.rng.sample(plain, 2)
        left = [f"({a},{b})" if t == a else t for t in left if t != b]
    d.assign([f"{t}:{r.sizes[t]}" if t in r.sizes else t for t in left], body)
