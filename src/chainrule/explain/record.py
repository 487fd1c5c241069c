"""An explanation as plain lists, dicts, texts and numbers: what a page or a program is fed."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from chainrule.explain.explanation import Explanation
from chainrule.explain.model import Cell, Factor, Inner, Part, Zeros
from chainrule.explain.typeset import element_latex
from chainrule.explain.values import shown_at
from chainrule.explain.writing import latex
from chainrule.functions import Array
from chainrule.notation import statement
from chainrule.notation.latex import statement_latex

CHILDREN = 16  # of one element; the others are named
LARGE = 200_000  # elements; of a larger tensor only the shape is told


def record(x: Explanation, depth: int) -> dict[str, Any]:
    """The element with its children to `depth` levels, and every tensor of the program."""
    return {**_element(x, depth), "tensors": _tensors(x)}


def _element(x: Explanation, depth: int) -> dict[str, Any]:
    out: dict[str, Any] = {
        "name": x.name,
        "tensor": x.tensor,
        "index": list(x.index),
        "shape": list(x.shape),
        "role": x.role,
        "value": number(x.value),
        "latex": element_latex(x),
        "formula": x.formula,
        "filled": x.filled,
    }
    if x.statement is not None:
        left, right = statement_latex(x.statement, x.of)
        out["formula_latex"] = f"{left} = {right}"
        out["filled_latex"] = f"{out['latex']} = {latex(shown_at(x.statement.body, x.left), x.of)}"
    out["notes"] = list(x.notes)
    out["parts"] = [_part(p, x) for p in x.parts]
    kept = x.children[:CHILDREN] if depth > 0 else ()
    out["children"] = [_element(c, depth - 1) for c in kept]
    out["more"] = [c.name for c in x.children[len(kept) :]]
    return out


def _part(p: Part, x: Explanation) -> dict[str, Any]:
    return {
        "formula": p.formula,
        "filled": p.filled,
        "indices": [{"name": n, "size": k} for n, k in zip(p.names, p.sizes, strict=True)],
        "value": number(p.value),
        "count": p.count,
        "nonzero": p.nonzero,
        "terms": [
            {
                "indices": dict(t.indices),
                "value": number(t.value),
                "factors": [_factor(f, x) for f in t.factors],
            }
            for t in p.terms
        ],
        "rest": {"count": p.rest[0], "value": number(p.rest[1])},
        "zeros": [_zeros(z) for z in p.zeros],
        "batch": p.batch,
        "samples": [
            {"index": s.index, "value": number(s.value), "nonzero": s.nonzero} for s in p.samples
        ],
        "via": p.via,
    }


def _factor(f: Factor, x: Explanation) -> dict[str, Any]:
    return {
        "formula": f.formula,
        "name": f.name,
        "numbers": f.numbers,
        "latex": latex(f.expr, x.of),
        "value": number(f.value),
        "kind": f.kind,
        "cells": [_cell(c) for c in f.cells],
        "inner": [_inner(i) for i in f.inner],
    }


def _inner(i: Inner) -> dict[str, Any]:
    return {
        "op": i.op,
        "formula": i.formula,
        "value": number(i.value),
        "indices": list(i.names),
        "values": values(i.values) if i.values.size <= LARGE else None,
        "winner": list(i.winner),
        "winner_name": i.winner_name,
        "ties": i.ties,
        "cells": [_cell(c) for c in i.cells],
    }


def _zeros(z: Zeros) -> dict[str, Any]:
    return {
        "count": z.count,
        "reason": z.reason,
        "example": z.example,
        "share": z.share,
        "cells": [_cell(c) for c in z.cells],
    }


def _cell(c: Cell) -> dict[str, Any]:
    return {"tensor": c.tensor, "index": list(c.index), "value": number(c.value), "role": c.role}


def _tensors(x: Explanation) -> dict[str, Any]:
    work = x.builder.work
    out: dict[str, Any] = {}
    for t, array in work.after.items():
        s = work.statement(t)
        out[t] = {
            "role": "update" if t in work.system.updates else work.role(t),
            "shape": list(array.shape),
            "values": values(array) if array.size <= LARGE else None,
            "formula": statement(s) if s else "",
            "latex": " = ".join(statement_latex(s, x.of)) if s else "",
        }
        if t in work.system.updates:
            out[t]["old_values"] = values(work.before[t]) if array.size <= LARGE else None
    return out


def values(array: Array) -> Any:
    """Nested lists; what JSON has no number for becomes text."""
    if np.isfinite(array).all():
        return array.tolist()
    return _nested(array.tolist())


def _nested(x: Any) -> Any:
    return [_nested(y) for y in x] if isinstance(x, list) else number(x)


def number(x: float) -> float | str:
    """JSON has no NaN and no infinities: they are given as text."""
    return float(x) if math.isfinite(x) else str(float(x))
