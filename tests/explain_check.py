"""What every explanation must satisfy, whatever the program: it adds up, and it can be shown."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from random import Random
from typing import Any

import numpy as np

import chainrule as cr
from chainrule.explain import Explanation
from generate import Case

ELEMENTS = 3  # of each case


def examine(case: Case) -> int:
    """Explain a few random elements of a generated case, and say how many."""
    arrays: dict[str, Any] = case.floats()
    program = cr.Program(case.text)
    if case.upstream is not None:
        program = program.gradient(of=case.of, wrt=case.wrt)
        if f"δ{case.of}" in program.inputs:
            arrays[f"δ{case.of}"] = case.upstream.astype(float)
    elif not case.updated and case.seed % 2:
        program = program.gradient(of=case.of, wrt=case.wrt)
    found = program.run(**arrays)
    rng = Random(case.seed)
    names = [t for t in found if found[t].size]
    done = 0
    for t in rng.sample(names, min(ELEMENTS, len(names))):
        place = tuple(rng.randrange(n) for n in found[t].shape)
        x = program.explain(t + (str(list(place)) if place else ""), depth=1, **arrays)
        assert same(x.value, float(found[t][place])), x.name
        for e in (x, *x.children[:3]):
            consistent(e)
        shown(x)
        done += 1
    return done


def consistent(x: Explanation) -> None:
    """Terms, rest and zeros account for every term, and add up to the value."""
    if x.statement is None:
        return
    total = abs(x.value)
    for p in x.parts:
        zeros = sum(z.count for z in p.zeros)
        assert p.nonzero + zeros == p.count, (x.name, p)
        size = sum(abs(t.value) for t in p.terms) + abs(p.rest[1])
        total += size
        assert near(sum(t.value for t in p.terms) + p.rest[1], p.value, size), x.name
        if p.samples:
            assert near(sum(s.value for s in p.samples), p.value, size), x.name
            assert sum(s.nonzero for s in p.samples) == p.nonzero
        for t in p.terms:
            product = math.prod(f.value for f in t.factors)
            assert near(product, t.value, abs(t.value)) or not math.isfinite(product), (x.name, t)
        for z in p.zeros:
            assert z.reason
    assert near(sum(p.value for p in x.parts), x.value, total), x.name


def shown(x: Explanation) -> None:
    """Every view works, and the record is JSON."""
    text = str(x)
    assert text.startswith(x.name)
    assert "Vqz" not in text
    assert "Vqz" not in x.latex()
    assert x._repr_latex_().count(r"\begin") == x._repr_latex_().count(r"\end")
    assert "<details" in x._repr_html_()
    record = json.loads(json.dumps(x.to_dict(), allow_nan=False))
    assert record["name"] == x.name
    for cell in cells(record):
        tensor = record["tensors"][cell["tensor"]]
        values = np.array(tensor.get("old_values", tensor["values"]), dtype=float)
        assert same(values[tuple(cell["index"])], float(cell["value"]))


def cells(record: Any) -> Iterator[dict[str, Any]]:
    """Every cell that a record names, at any depth."""
    if isinstance(record, dict):
        yield from record.get("cells", ())
        for value in record.values():
            yield from cells(value)
    elif isinstance(record, list):
        for value in record:
            yield from cells(value)


def near(a: float, b: float, size: float) -> bool:
    return same(a, b) or abs(a - b) <= 1e-12 * size + 1e-300


def same(a: float, b: float) -> bool:
    return a == b or (math.isnan(a) and math.isnan(b))
