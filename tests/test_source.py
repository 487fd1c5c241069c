"""What f.source shows is what is computed: its loops and formulas are taken literally."""

from __future__ import annotations

import itertools
import re
from fractions import Fraction
from typing import Any

import numpy as np
import pytest

from chainrule import Program

CHANNELS, SIZE = 16, 12
LETTERS = str.maketrans("▫ʷ²₀₁₂₃₄₅₆ₜ", "BWQ0123456t")  # Python takes some of them for one


class Zeros(dict[Any, float]):
    """A tensor by positions; outside stands 0."""

    def __missing__(self, place: Any) -> float:
        return 0.0


@pytest.mark.parametrize("places", ["i", "ij"])
def test_tiles_of_windows(places: str) -> None:
    taps = "mn"[: len(places)]
    size = ",".join(f"{i}:{SIZE}" for i in places)
    window = ",".join(f"{m}:3" for m in taps)
    shift = ",".join(f"{i}+{m}-1" for i, m in zip(places, taps, strict=True))
    p = Program(f"x[b,{size},k] = sum[{window},c](w[{','.join(taps)},c,k] * pad(o)[b,{shift},c])")
    rng = np.random.default_rng(0)
    image = [SIZE] * len(places)
    o = rng.normal(size=(16, *image, CHANNELS))
    w = rng.normal(size=(*[3] * len(places), CHANNELS, CHANNELS))
    f = p.compile(dtype="float64", cache=False)
    expected = f(o=o, w=w)["x"][0]
    for source, right in ((f.source, True), (f.source.replace("17/4", "15/4"), False)):
        found = literally(source, {"o": o[:1], "w": w})["x"]
        assert len(found) == expected.size
        values = [found[(0, *place)] for place in np.ndindex(expected.shape)]
        assert np.allclose(values, expected.ravel(), rtol=0, atol=1e-12) == right


def literally(source: str, arrays: dict[str, Any]) -> dict[str, Zeros]:
    """What a source's loops make of the first sample, where all is small; sums of squares apart."""
    names = {t: Zeros(np.ndenumerate(a)) for t, a in arrays.items()}
    text, *tables = re.split(r"\n# (?=[ABG])", source.translate(LETTERS))
    for name, _, *rows in (t.rstrip().split("\n") for t in tables):
        matrix = [[float(Fraction(x)) for x in row.split()] for row in rows]
        names[name] = Zeros(np.ndenumerate(np.array(matrix)))
    loops: list[tuple[int, str, int]] = []
    for line in text.split("\n"):
        depth = len(line) - len(line.lstrip())
        if line.strip():
            loops = [x for x in loops if x[0] < depth]
        if loop := re.match(r" *for (\w+) < (\w+)", line):
            loops.append((depth, loop[1], 1 if loop[2] == "samples" else int(loop[2])))
        elif line.lstrip().startswith("unless"):
            loops.append((depth, "_", 0))
        elif " = " in line and all(n for *_, n in loops) and not re.match(r" *\w+Q\W", line):
            run(line.strip(), names, {name: n for _, name, n in loops})
    return names


def run(line: str, names: dict[str, Zeros], loops: dict[str, int]) -> None:
    """One statement at all of its points."""
    target, place, right = re.fullmatch(r"(\w+)\[(.*?)\] = (.*)", line).groups()  # type: ignore[union-attr]
    right = re.sub(r"pad\((\w+)\)", r"\1", right)
    if total := re.fullmatch(r"sum\[([\w,]+)\](.*)", right):
        columns = re.search(r"[ABG]\d(\d)\[", right)
        n = int(columns[1]) if columns else CHANNELS
        over = " ".join(f"for {i} in range({n})" for i in total[1].split(","))
        right = f"sum({total[2]} {over})"
    value, where = compile(right, "right", "eval"), compile(f"({place},)", "left", "eval")
    made = names.setdefault(target, Zeros())
    for values in itertools.product(*map(range, loops.values())):
        env = {**names, **dict(zip(loops, values, strict=True))}
        made[eval(where, env)] = eval(value, env)
