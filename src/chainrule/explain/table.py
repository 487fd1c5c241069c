"""The tables of an explanation: terms with their factors, totals, and the zeros by reason."""

from __future__ import annotations

import re
from collections.abc import Sequence

from chainrule.explain.build import added
from chainrule.explain.explanation import Explanation
from chainrule.explain.model import Factor, Part, Term, Zeros
from chainrule.explain.numbers import aligned, factor, shown
from chainrule.explain.window import inner_lines

ALL = 10  # so many terms of a sum are all shown,
TERMS = 6  # of more than that only the largest
SAMPLES = 6
REASONS = 4


def tables(x: Explanation) -> list[str]:
    """A table for every sum; single terms are added below it where there is one sum."""
    sums = [p for p in x.parts if p.names]
    others = [p for p in x.parts if not p.names]
    lines: list[str] = []
    for p in sums:
        alone = others if len(sums) == 1 else []
        label = "total" if len(x.parts) == 1 else "sum"
        lines += ["", *_table(p, label, alone, x.value), *zero_lines([p])]
        lines += workings(p.terms[:2], composite=True)
    if len(sums) > 1:
        lines += ["", *map(_single, others)]
        parts = plus([factor(settled(p)) for p in x.parts])
        lines += [f"total  {parts} = {shown(x.value)}"]
    return lines


def _table(p: Part, total: str, others: Sequence[Part], value: float) -> list[str]:
    """One row for each of the largest terms, one for the rest, and the total."""
    lines = _samples(p)
    if not p.nonzero and not others:
        return lines
    rows = p.terms[: ALL if p.nonzero <= ALL else TERMS]
    hidden = p.nonzero - len(rows)
    rest = added([p.rest[1], *(t.value for t in p.terms[len(rows) :])])
    header, cells_of = _columns(p, rows) if rows else ("", [])
    sums = [settled(p), *(q.value for q in others), *([value] if others else [])]
    numbers = [t.value for t in rows] + [rest] * bool(hidden) + sums
    results = aligned(list(map(shown, numbers)))
    if hidden:
        lines.append(f"the {len(rows)} largest of {p.nonzero:,} terms that are not 0:")
    body = [" ".join(cells) for cells in zip(*cells_of, strict=True)]
    labels = [total, *(_label(q) for q in others), "total"]
    width = max(map(len, (*body, header, *labels)))
    lines += [header] if rows else []
    for text, one in zip(body, results, strict=False):
        lines.append(f"{text.ljust(width)}  =  {one}")
    if hidden:
        more = f"{hidden:,} more term{'s' * (hidden > 1)}"
        lines.append(f"{more.rjust(width)}  =  {results[len(rows)]}")
    lines.append(" " * (width + 5) + "-" * max(map(len, results)))
    for label, last in zip(labels, results[len(results) - len(sums) :], strict=False):
        if others and label == "total":
            lines.append(" " * (width + 5) + "-" * max(map(len, results)))
        lines.append(f"{label.rjust(width)}     {last}")
    return lines


def settled(p: Part) -> float:
    """A sum as it is shown: where its terms cancel, what is left is rounding and shown as 0."""
    size = sum(abs(t.value) for t in p.terms) + abs(p.rest[1])
    return 0.0 if p.nonzero > 1 and abs(p.value) < 1e-14 * size else p.value


def _label(p: Part) -> str:
    """A single term beside a sum: its formula and its factors' values."""
    t = p.terms[0]
    numbers = product([number(f) for f in t.factors])
    plain = len(t.factors) == 1 and t.factors[0].kind == "tensor"
    return p.filled if plain or numbers == p.filled else f"{p.filled} = {numbers}"


def _columns(p: Part, rows: Sequence[Term]) -> tuple[str, list[list[str]]]:
    """The index columns and the factor columns with their multiplication signs."""
    columns: list[list[str]] = []
    titles: list[str] = []
    for n in p.names:
        name = n.rstrip("'")
        cells = [str(t.indices[n]) for t in rows]
        width = max(map(len, (*cells, name)))
        columns.append([c.rjust(width) for c in cells])
        titles.append(name.rjust(width))
    first = True
    for k, f in enumerate(rows[0].factors):
        if f.kind == "constant":
            cells = [t.factors[k].name for t in rows]
            name = ""
        else:
            cells = aligned([shown(t.factors[k].value) for t in rows])
            name = f.formula
        width = max(map(len, (*cells, name)))
        columns.append([("  " if first else "* ") + c.center(width) for c in cells])
        titles.append("  " + name.center(width))
        first = False
    return " ".join(titles), columns


def _samples(p: Part) -> list[str]:
    """What each sample of the batch adds, the largest first."""
    if len(p.samples) < 2:
        return []
    order = sorted(p.samples, key=lambda s: -abs(s.value))
    rows = order[:SAMPLES]
    hidden = order[SAMPLES:]
    rest = added([s.value for s in hidden])
    values = aligned([shown(s.value) for s in rows] + [shown(rest)] * bool(hidden))
    name = p.batch.rstrip("'")
    labels = [f"{name}={s.index}" for s in rows]
    width = max(map(len, labels))
    most = max(len(f"{s.nonzero:,}") for s in rows)
    lines = [f"per sample ({name} counts {len(p.samples):,} samples):"]
    for label, value, s in zip(labels, values, rows, strict=False):
        what = f"{s.nonzero:>{most},} term{'s' * (s.nonzero != 1)} not 0"
        lines.append(f"  {label.ljust(width)}  {value}   {what}")
    if hidden:
        lines.append(f"  {'':{width}}  {values[-1]}   {len(hidden):,} more samples")
    return [*lines, ""]


def _single(p: Part) -> str:
    return f"{_label(p)} = {shown(p.value)}"


def zero_lines(parts: Sequence[Part]) -> list[str]:
    """12 of 16 terms are 0: ..."""
    lines: list[str] = []
    for p in parts:
        if not p.names or not p.zeros:
            continue
        count = sum(z.count for z in p.zeros)
        lead = f"{count:,} of {p.count:,} terms {'is' if count == 1 else 'are'} 0"
        if len(p.zeros) == 1:
            lines.append(f"{lead}: {because(p.zeros[0])}")
            continue
        lines.append(f"{lead}:")
        width = max(len(f"{z.count:,}") for z in p.zeros)
        for z in p.zeros[:REASONS]:
            lines.append(f"  {z.count:>{width},}  {because(z)}")
        if more := p.zeros[REASONS:]:
            count = sum(z.count for z in more)
            lines.append(f"  {count:>{width},}  for {len(more)} other reasons")
    return lines


def because(z: Zeros) -> str:
    if not z.example or z.example in z.reason:
        return z.reason
    return f"{z.reason} ({'e.g. ' if z.count > 1 else ''}{z.example})"


def ways(parts: Sequence[Part]) -> list[str]:
    """The paths on which a gradient comes back, one line each."""
    if len({p.via for p in parts if p.via}) < 2:
        return []
    values = aligned([shown(p.value) for p in parts])
    return [f"{v}  through {p.via}" for v, p in zip(values, parts, strict=True) if p.via]


def workings(terms: Sequence[Term], composite: bool = False) -> list[str]:
    """How the composite factors and the reductions of a few terms come about."""
    lines: list[str] = []
    seen: set[str] = set()
    for t in terms:
        for f in t.factors:
            if composite and f.kind == "expression" and f.name not in seen:
                seen.add(f.name)
                lines.append(" = ".join(dict.fromkeys((f.name, f.numbers, shown(f.value)))))
            for i in f.inner:
                if i.formula not in seen:
                    seen.add(i.formula)
                    lines += inner_lines(i)
    return lines


def plus(texts: Sequence[str]) -> str:
    """Terms joined by + and -."""
    out = ""
    for k, t in enumerate(texts):
        negative = _NEGATIVE.fullmatch(t)
        if negative:
            t = "-" + negative[1]
        if t.startswith("-") and k:
            out += " - " + t[1:]
        else:
            out += (" + " if k else "") + t
    return out


_NEGATIVE = re.compile(r"\(-([^()]*)\)")


def product(texts: Sequence[str]) -> str:
    """Factors joined by *; a leading -1 is a sign."""
    if len(texts) > 1 and texts[0] in ("-1", "(-1)"):
        return "-" + product([f"({t})" if t.startswith("-") else t for t in texts[1:]])
    if len(texts) == 1:
        return texts[0]
    out = ""
    for k, t in enumerate(texts):
        if k and t.startswith("1/"):
            out += t[1:]
        else:
            out += ("*" if k else "") + (f"({t})" if _loose(t) else t)
    return out


def number(f: Factor) -> str:
    return factor(f.value) if f.kind == "tensor" else f.numbers


def _loose(text: str) -> bool:
    """Does the text need brackets inside a product?"""
    depth = 0
    for k, c in enumerate(text):
        depth += (c in "([") - (c in ")]")
        if depth == 0 and (c in "+<>=" or (c == "-" and k) or (c == "!" and k)):
            if c in "+-" and text[k - 1] == "e":
                continue
            return True
    return text.startswith("-")
