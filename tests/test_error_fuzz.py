"""Random edits of right programs: whatever comes out is a program or a FormulaError."""

from __future__ import annotations

import contextlib
import random
import re
import zlib
from typing import Any

import numpy as np
import pytest

import chainrule as cr

SEEDS = 60
EDITS_PER_SEED = 25

GOOD = {
    "convolution": """x[i,j] = sum[m,n](w[m,n] * o[i+m, j+n]) + b
p[i,j] = max[a:2, c:2](x[2*i+a, 2*j+c])
h[i,j] = sigmoid(p[i,j])
E = 1/2 * sum[i,j]((t[i,j] - h[i,j])**2)
w[m,n] = w[m,n] - 0.1 * grad(E, w)[m,n]""",
    "padding": """y[i:size(x,0)] = sum[m](o3[m] * pad(x)[i+m-1])
z[p:size(y,0)] = sum[m](o2[m] * pad(y, -1)[(p-m)/2])
L = mean[i](where(y[i] > 0, y[i], stop(z[i])))""",
    "labels": """u[b,k] = sum[l](f[k,l] * s[b,l]) + g[k]
E = mean[b](logsumexp[k](u[b,k]) - sum[k](u[b,k] * (k == t[b])))
f[k,l] = f[k,l] - η * grad(E, f)[k,l]""",
    "groups": """q[(i,j)] = relu(r[i,j])
v[i:2,j] = q[(i,j)] * maximum(r[i,j], 1/3)
S = prod[i](exp(-v[i,0])) + argmax[i,j](v[i,j]) + pi""",
}
SHAPES: dict[str, tuple[int, ...]] = {
    "o": (5, 5),
    "w": (2, 2),
    "b": (),
    "t": (2, 2),
    "x": (4,),
    "f": (3, 4),
    "s": (2, 4),
    "g": (3,),
    "η": (),
    "r": (2, 3),
    "o2": (2,),
    "o3": (3,),
}
TOKEN = re.compile(r"\w+|\*\*|[<>=!]=|\s+|.", re.DOTALL)
REPLACEMENTS = [
    *"()[],:+-*/=<>.^@%|'#;~!&{}\\\n\t",
    *["**", "==", "<=", "//", "0", "1", "2", "-1", "0.5", "1e3", "1/2", "i", "j", "k", "m", "b"],
    *["x", "w", "y", "E", "δE", "d_E", "sum", "max", "mean", "argmax", "logsumexp", "pad", "size"],
    *["grad", "where", "exp", "log", "stop", "pi", "inf", "if", "for", "lambda", "not", "None"],
    *["True", "(i,j)", "[i]", "i:2", "i:size(x,0)", "grad(E, w)", "×", "²", "\0", "é", "..."],
]


def edited(rng: random.Random, text: str) -> str:
    tokens = TOKEN.findall(text)
    for _ in range(rng.choice((1, 1, 1, 2, 3))):
        here, there = rng.randrange(len(tokens)), rng.randrange(len(tokens))
        match rng.randrange(5):
            case 0:
                tokens[here] = ""
            case 1:
                tokens[here], tokens[there] = tokens[there], tokens[here]
            case 2:
                tokens[here] = rng.choice(REPLACEMENTS)
            case 3:
                tokens.insert(here, rng.choice(REPLACEMENTS))
            case _:
                tokens.insert(here, tokens[there])
    return "".join(tokens)


def exercise(program: cr.Program, rng: random.Random) -> None:
    """Everything a program can be asked, on arrays that may or may not suit it."""
    assert cr.Program(str(program)) == program
    program.latex()
    data: dict[str, Any] = {
        name: np.arange(float(np.prod(SHAPES.get(name, (2,))))).reshape(SHAPES.get(name, (2,)))
        for name in program.inputs
    }
    of = rng.choice(program.outputs)
    wrt = rng.choice([*program.inputs, *program.outputs])
    attempts = [
        lambda: program.shapes(**{name: np.shape(value) for name, value in data.items()}),
        lambda: program.run(**data),
        lambda: program.run(**data, exact=True),
        lambda: program.gradient(of=of, wrt=[wrt]).run(**data),
        lambda: str(program.derivation(of=of, wrt=wrt)),
    ]
    for attempt in attempts:
        with contextlib.suppress(cr.FormulaError):
            attempt()


@pytest.mark.parametrize("name", GOOD)
def test_the_programs_are_good(name: str) -> None:
    program = cr.Program(GOOD[name])
    shapes = SHAPES | ({"t": (2,)} if name == "labels" else {})
    assert program.shapes(**{i: shapes[i] for i in program.inputs})


@pytest.mark.parametrize("seed", range(SEEDS))
@pytest.mark.parametrize("name", GOOD)
@pytest.mark.filterwarnings("ignore::RuntimeWarning")
def test_edits_raise_formula_errors_only(name: str, seed: int) -> None:
    rng = random.Random(zlib.crc32(f"{name} {seed}".encode()))
    for _ in range(EDITS_PER_SEED):
        text = edited(rng, GOOD[name])
        try:
            with contextlib.suppress(cr.FormulaError):
                exercise(cr.Program(text), rng)
        except Exception as e:
            raise AssertionError(f"{type(e).__name__} from:\n{text}") from e
