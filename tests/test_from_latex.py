r"""LaTeX is read as people typeset it, what we print reads back, and mistakes are shown.

UPDATE_GOLDENS=1 pytest tests/test_from_latex.py        writes the messages anew
"""

from __future__ import annotations

import ast
import builtins
import contextlib
import os
import random
import re
import sys
import zlib
from pathlib import Path
from typing import Any

import pytest

import chainrule as cr
from chainrule.check.latex import read_claim
from generate import program
from latex_formulas import ANSWER, BOOKS, WRONG

TESTS = Path(__file__).parent
GOLDENS = TESTS / "goldens" / "latex_errors"
CHUNK = 20


# ------------------------------------------------------------ what people typeset


@pytest.mark.parametrize(("latex", "text"), BOOKS, ids=[x for x, _ in BOOKS])
def test_formulas_as_found(latex: str, text: str) -> None:
    found = cr.Program.from_latex(latex)
    assert str(found) == str(cr.Program(text))
    assert found == cr.Program(text)


def test_the_answer_in_one_piece() -> None:
    """The formulas of the worked example, claim and update included, and what they compute."""
    p = cr.Program.from_latex(ANSWER)
    assert str(p).splitlines()[-1] == "w[m,n] = w[m,n] - η*δw[m,n]"
    plain = cr.Program("\n".join(str(p).splitlines()[:3]))
    data: dict[str, Any] = {
        "w": [[-1, 2], [3, 1]],
        "o": [[1, 2, 3], [0, 1, 0], [2, 2, 1]],
        "b": [[0, 1], [1, 0]],
        "v": [[[1, 2], [0, 1]], [[1, 1], [2, 3]]],
        "t": [1, 2],
    }
    right = plain.gradient(of="E", wrt="w").run(**data)["δw"]
    assert (p.run(**data, η=0)["δw"] == right).all()


NETWORK = cr.Program("""
x[i,j] = sum[m,n](w[m,n] * o[i+m, j+n]) + b
p[i,j] = max[a:2, c:2](x[2*i+a, 2*j+c])
h[i,j] = sigmoid(p[i,j])
u[k]   = sum[i,j](v[k,i,j] * h[i,j])
E      = 1/2 * sum[k]((t[k] - u[k])**2)
""")
CLAIMS = [
    (
        r"\frac{\partial E}{\partial w^l_{m', n'}} = \sum_{i=0}^{H-k_1} \sum_{j=0}^{W-k_2} "
        r"\frac{\partial E}{\partial x^l_{i, j}} "
        r"\frac{\partial x^l_{i, j}}{\partial w^l_{m', n'}}",
        "δw[m2:size(w,0),n2:size(w,1)] = sum[i,j](δx[i,j]*sum[m:size(w,0),n:size(w,1)]"
        "(o[i+m,j+n]*(m == m2)*(n == n2)))",
    ),
    (
        r"\frac{\partial E}{\partial w_{m,n}} = \sum_{i,j} \delta^{x}_{ij} o_{i+m,j+n}",
        "δw[m,n] = sum[i,j](δx[i,j]*o[i+m,j+n])",
    ),
    (r"\delta p_{ij} = \delta h_{ij} h_{ij} (1 - h_{ij})", "δp[i,j] = δh[i,j]*h[i,j]*(1 - h[i,j])"),
    (r"\partial E/\partial v_{k,i,j} = (u_k - t_k) h_{ij}", "δv[k,i,j] = (u[k] - t[k])*h[i,j]"),
    (
        r"\frac{\partial E}{\partial h_{i,j}} = \sum_k \frac{\partial E}{\partial u_k}"
        r"\frac{\partial u_k}{\partial h_{i,j}}",
        "δh[i:size(h,0),j:size(h,1)] = sum[k](δu[k]*sum[q:size(v,1),r:size(v,2)]"
        "(v[k,q,r]*(q == i)*(r == j)))",
    ),
    (
        r"\frac{\partial E}{\partial x_{i,j}} = \sum_{k,l} \frac{\partial E}{\partial p_{k,l}} "
        r"\frac{\partial p_{k,l}}{\partial x_{i,j}}",
        "δx[i:size(x,0),j:size(x,1)] = sum[k,l](δp[k,l]*sum[a:2,c:2]"
        "((argmax[q:2,r:2](x[2*k+q,2*l+r]) == 2*a + c)*(2*k + a == i)*(2*l + c == j)))",
    ),
]


@pytest.mark.parametrize(("latex", "text"), CLAIMS, ids=[t for _, t in CLAIMS])
def test_claims(latex: str, text: str) -> None:
    assert str(read_claim(latex, NETWORK.system)) == text


@pytest.mark.parametrize("latex", [latex for latex, _ in CLAIMS])
def test_true_claims_compute_the_gradient(latex: str) -> None:
    claim = read_claim(latex, NETWORK.system)
    gradient = NETWORK.gradient(of="E", wrt=["w", "v", "o"])
    data: dict[str, Any] = {
        "o": [[(3 * i + j * j) % 7 / 3 for j in range(5)] for i in range(5)],
        "w": [[0.5, -1], [2, 0.25]],
        "b": 0.1,
        "v": [[[1, 2], [0, 1]], [[1, 1], [2, 3]]],
        "t": [0.5, -1],
    }
    sized = ",".join(f"{n}:size({claim.target},{k})" for k, n in enumerate(claim.indices))
    lines = [str(gradient), f"claimed[{sized}] = {claim.body}"]
    found = cr.Program("\n".join(lines)).run(**data)
    assert abs(found["claimed"] - found[claim.target]).max() < 1e-12


@pytest.mark.parametrize(
    "latex", [r"\frac{\partial E}{\partial w_m} = \frac{\partial E}{\partial y_i}", "a = b\nc = d"]
)
def test_wrong_claims(latex: str) -> None:
    with pytest.raises(cr.FormulaError):
        read_claim(latex, NETWORK.system)


# ------------------------------------------------------------ what we print


def reads_back(p: cr.Program) -> None:
    latex = p.latex()
    again = cr.Program.from_latex(latex)
    assert again == p, f"{p}\n--\n{again}\n--\n{latex}"
    assert again.latex() == latex


def texts() -> list[str]:
    """Every program that stands in the worked examples and the networks that are tried."""
    found = []
    for file in sorted([*(TESTS / "worked_examples").glob("*.py"), TESTS / "slip_networks.py"]):
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Constant) and isinstance(node.value, str) and "=" in node.value:
                try:
                    cr.Program(node.value)
                except cr.FormulaError:
                    continue
                found.append(node.value)
    return found


def test_worked_examples_read_back() -> None:
    assert len(texts()) > 30
    for text in texts():
        p = cr.Program(text)
        reads_back(p)
        reads_back(p.expanded)
        for of in p.outputs[-2:]:
            try:
                g = p.gradient(of=of)
            except cr.FormulaError:  # an update, or nothing real to differentiate by
                continue
            reads_back(g)


@pytest.mark.parametrize("start", range(0, 300, CHUNK))
def test_generated_programs_read_back(start: int) -> None:
    for seed in range(start, start + CHUNK):
        case = program(seed)
        p = cr.Program(case.text)
        reads_back(p)
        reads_back(p.gradient(of=case.of, wrt=case.wrt))


TRAINING = """
c1[b,i:28,j:28,k] = sum[m,n,c](w1[m,n,c,k] * pad(o)[b,i+m-2,j+n-2,c]) + b1[k]
p1[b,i,j,k] = max[p:2,q:2](relu(c1[b,2*i+p,2*j+q,k]))
h1[b,l] = relu(sum[i,j,k](f1[i,j,k,l] * p1[b,i,j,k]) + g1[l])
u[b,l]  = sum[k](f3[k,l] * h1[b,k]) + g3[l]
E = mean[b](logsumexp[l](u[b,l]) - sum[l](u[b,l] * (l == t[b])))
w1[m,n,c,k] = w1[m,n,c,k] - 0.01 * grad(E, w1)[m,n,c,k]
"""


def test_a_training_step_reads_back() -> None:
    p = cr.Program(TRAINING)
    reads_back(p)
    reads_back(p.expanded)
    reads_back(p.gradient(of="E"))


NASTY = [
    "y[i] = (1/2)**x[i] + (-2)**x[i] + 2*3**x[i] + x[i]**x[i] + x[i]**(x[i] + 1)",
    "y = w1**2 + w1*w2**-1 + e**2 + e1 + pi**2 + π + δ*σ*(1 - σ) + Δ*(2 + e)",
    "y[k2] = k[2]*k2 + i0[k2] + l1[0]**2",
    "y = a/b/c + a/(b*c) + 1/a*b + 2/a + 1/3/a + a*(1/2)/(b + c)*d/(e + f)*g",
    "y = sum[i](sum[j](x[i,j])) + sum[i,j](x[i,j]) + prod[i:2](prod[j:2](x[i,j]))",
    "y = sum[a:2,b:3](x[a,b])*z + max[a](max[b](x[a,b])) + sum[a](x[a,0])**2",
    "y[i,j] = x[(i,),j] * pad(x, -inf)[(i-j)/2,i]",
    "y[row] = where(x[row] > 0, where(x[row] < 1, 1, x[row]), x_1[row])**2 + one_φ2[row]",
    "δx[i] = 2*x[i]\nδδy = sum[i](δx[i]**2)\ny = x_δ*Δw + δ_a",
    "y[i:min(3, size(x,0)),j:(size(x,1) + 1)//2] = sum[m:1 + size(x,0)](pad(x)[i+m,j-1])",
    "y[b] = logsumexp[k](u[b,k]) - sum[k](u[b,k]*(k == t[b])) + mean[k:3](abs(u[b,k]))",
    "f = g*(1 - h)\nφ = f*(1 + f)",
    "y[l] = x[l]**l*(l**2 + 1) - (a == b)**2*stop(x[l])*((a == b) == 0)",
    "y[i] = o[2*i]\ni = 0\nz = i",
    "y = exp(x)**2*(x == 1)*x**(1/2)*x**(-2)*x**-0.5 - -x",
]


@pytest.mark.parametrize("text", NASTY)
def test_what_looks_alike_reads_back(text: str) -> None:
    reads_back(cr.Program(text))


def test_the_objective_of_a_gradient_is_known_again() -> None:
    g = NETWORK.gradient(of="E", wrt="w")
    assert r"\frac{\partial E}{\partial w_{m,n}} &=" in g.latex()
    of_x = NETWORK.gradient(of="x", wrt="w")
    assert r"\partial x" not in of_x.latex()
    assert r"\delta w_{m,n} &= \sum_{i,j} \delta x_{i,j}" in of_x.latex()
    twice = g.gradient(of="δw", wrt="o")
    reads_back(twice)
    assert r"\partial" not in twice.latex()


# ------------------------------------------------------------ mistakes


def unmarked(latex: str) -> str:
    return latex.replace("«", "")


@pytest.mark.parametrize("name", WRONG)
def test_message(name: str) -> None:
    latex = WRONG[name]
    with pytest.raises(cr.FormulaError) as caught:
        cr.Program.from_latex(unmarked(latex))
    e = caught.value
    found = f"{unmarked(latex)}\n{'-' * 60}\n{e}\n"
    golden = GOLDENS / f"{name}.txt"
    if os.environ.get("UPDATE_GOLDENS"):
        golden.parent.mkdir(parents=True, exist_ok=True)
        golden.write_text(found, encoding="utf-8")
    assert found == golden.read_text(encoding="utf-8")
    assert e.hint
    before, marked, _ = latex.partition("«")
    if marked:
        place = (before.count("\n") + 1, len(before) - before.rfind("\n"))
        assert (e.line, e.column) == place, str(e)


def test_every_golden_has_its_formula() -> None:
    assert {p.stem for p in GOLDENS.glob("*.txt")} == set(WRONG)


def test_errors_of_later_stages_point_into_the_latex() -> None:
    p = cr.Program.from_latex("y_i = 2 x_i \\\\\nz_i = y_i + \\frac{1}{2} k_{i}")
    with pytest.raises(cr.FormulaError) as caught:
        p.shapes(x=(3,), k=(4,))
    assert caught.value.line == 2
    assert r"\frac{1}{2} k_{i}" in str(caught.value)


def test_without_the_parser_library(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [m for m in sys.modules if m.startswith("chainrule.notation.from_latex.")]:
        monkeypatch.delitem(sys.modules, name)
    package = sys.modules["chainrule.notation.from_latex"]
    monkeypatch.delattr(package, "reader", raising=False)
    real = builtins.__import__

    def missing(name: str, *rest: Any) -> Any:
        if name == "lark" or name.startswith("lark."):
            raise ModuleNotFoundError("No module named 'lark'", name="lark")
        return real(name, *rest)

    monkeypatch.setattr(builtins, "__import__", missing)
    with pytest.raises(cr.FormulaError, match=r"chainrule\[latex\]"):
        cr.Program.from_latex("y = x")


TOKEN = re.compile(r"\\[A-Za-z]+|\\.|\w|\s+|.", re.DOTALL)
PIECES = [
    *"()[]{}_^&|$',.;:=<>+-*/!~%0123ijklxwEe\\\n",
    *[r"\\", r"\frac", r"\sum", r"\sum_i", r"\max", r"\left(", r"\right)", r"\partial", r"\delta"],
    *[r"\sigma", r"\text{if}", r"\mathrm{a}", r"\begin{cases}", r"\end{cases}", r"\quad", r"\,"],
    *["^{(t+1)}", "^l", "^{l-1}", "_{i,j}", "^2", "^{-1}", r"\infty", r"\pi", r"\sqrt", "∑", "é"],
    *[
        r"\operatorname{size}",
        r"\operatorname{pad}",
        r"\neq",
        r"\in",
        r"\dots",
        r"\hat",
        "10^{999}",
    ],
]


@pytest.mark.parametrize("seed", range(12))
def test_edits_raise_formula_errors_only(seed: int) -> None:
    rng = random.Random(zlib.crc32(f"latex {seed}".encode()))
    good = [latex for latex, _ in BOOKS] + [ANSWER, NETWORK.gradient(of="E", wrt="o").latex()]
    for _ in range(60):
        tokens = TOKEN.findall(rng.choice(good))
        for _ in range(rng.choice((1, 1, 2, 3))):
            here, there = rng.randrange(len(tokens)), rng.randrange(len(tokens))
            match rng.randrange(4):
                case 0:
                    tokens[here] = ""
                case 1:
                    tokens[here], tokens[there] = tokens[there], tokens[here]
                case 2:
                    tokens[here] = rng.choice(PIECES)
                case _:
                    tokens.insert(here, rng.choice(PIECES))
        latex = "".join(tokens)
        try:
            with contextlib.suppress(cr.FormulaError):
                p = cr.Program.from_latex(latex)
                assert cr.Program(str(p)) == p
        except Exception as e:
            raise AssertionError(f"{type(e).__name__} from:\n{latex}") from e
