"""Claims: proved where they are true, refuted with a small example where they are not."""

from __future__ import annotations

import numpy as np
import pytest

import chainrule as cr
from chainrule.check import check

CNN = """
x[i,j] = sum[m,n](w[m,n] * o[i+m, j+n]) + b
p[i,j] = max[a:2, c:2](x[2*i+a, 2*j+c])
h[i,j] = sigmoid(p[i,j])
u[k]   = sum[i,j](v[k,i,j] * h[i,j])
E      = 1/2 * sum[k]((t[k] - u[k])**2)
"""
SOFTMAX = """
y[b,k] = sum[i](x[b,i] * w[i,k]) + c[k]
E = mean[b](logsumexp[l](y[b,l]) - sum[l](y[b,l] * (l == t[b])))
"""
DENSE = """
z[j] = sum[i](w[j,i] * x[i])
r[j] = relu(z[j])
E = sum[j](r[j]**2)
"""

PROVED = [
    (CNN, "δw[m,n] = sum[i,j](δx[i,j]*o[i+m,j+n])"),
    (CNN, "δw[a,b] = sum[p,q](o[a+p,b+q]*d_x[p,q])"),
    (CNN, "∂E/∂w[m,n] = sum[i,j](δx[i,j]*o[m+i,n+j])"),
    (CNN, "δo[p,q] = sum[m,n](w[m,n]*pad(δx)[p-m,q-n])"),
    (CNN, "δp[i,j] = δh[i,j]*(h[i,j] - h[i,j]**2)"),
    (CNN, "δp[i,j] = sum[k]((u[k]-t[k])*v[k,i,j])*h[i,j]*(1-h[i,j])"),
    (CNN, "δb = sum[i,j](δx[i,j])"),
    (CNN, "δv[k,i,j] = -(t[k]-u[k])*h[i,j]"),
    (SOFTMAX, "δw[i,k] = sum[n](x[n,i]*δy[n,k])"),
    (SOFTMAX, "δy[b,l] = (exp(y[b,l]-logsumexp[k](y[b,k])) - (t[b] == l))/size(x,0)"),
    (SOFTMAX, "δc[k] = mean[b](exp(y[b,k]-logsumexp[l](y[b,l])) - (t[b] == k))"),
    (DENSE, "δw[j,i] = 2*relu(z[j])*(0 < z[j])*x[i]"),
]
TRUE = [
    (CNN, "δo[p,q] = sum[i:size(x,0),j:size(x,1)](δx[i,j]*pad(w)[p-i,q-j])", "exact fractions"),
    (SOFTMAX, "δy[b,l] = (exp(y[b,l])/sum[k](exp(y[b,k])) - (l == t[b]))/size(y,0)", "random"),
    (DENSE, "δz[j] = 2*r[j]", "random"),
]
FALSE = [
    (CNN, "δw[m,n] = sum[i,j](δx[i,j]*o[i+n,j+m])", "transposed"),
    (CNN, "δo[p,q] = sum[m,n](w[m,n]*pad(δx)[p+m,q+n])", "kernel not flipped"),
    (CNN, "δp[i,j] = δh[i,j]*p[i,j]*(1-p[i,j])", "activation derivative at the wrong value"),
    (CNN, "δp[i,j] = δh[i,j]", "activation derivative missing"),
    (CNN, "δu[k] = t[k]-u[k]", "target - output"),
    (CNN, "δu[k] = 2*(u[k]-t[k])", "doubled"),
    (SOFTMAX, "δy[b,l] = exp(y[b,l]-logsumexp[k](y[b,k])) - (t[b] == l)", "sum for mean"),
    (SOFTMAX, "δw[i,k] = x[0,i]*δy[0,k]", "not summed"),
    (DENSE, "δz[j] = 2*δr[j]*(z[j] > 0)", "doubled"),
    (DENSE, "δw[j,i] = 1.001*δz[j]*x[i]", "constant factor"),
]


@pytest.mark.parametrize(("text", "claim"), PROVED)
def test_proved(text: str, claim: str) -> None:
    report = check(claim, text)
    assert report, str(report)
    assert report.proof.startswith("by normal form")


@pytest.mark.parametrize(("text", "claim", "how"), TRUE)
def test_true_and_not_proved(text: str, claim: str, how: str) -> None:
    report = check(claim, text)
    assert report, str(report)
    assert how in report.proof
    assert "this is no proof" in report.summary


@pytest.mark.parametrize(("text", "claim", "name"), FALSE)
def test_refuted(text: str, claim: str, name: str) -> None:
    report = check(claim, text)
    assert not report
    assert name in {d.name for d in report.diagnosis}, str(report)
    assert "smallest example found" in report.example
    assert "the claim gives" in report.example
    assert report.max_error > 0


def test_a_claim_that_only_fits_some_shapes() -> None:
    report = check(
        "δx[i] = sum[j](w[i,j]*δz[j])", "z[j] = sum[i](w[j,i]*x[i])\nE = sum[j](z[j]**2)"
    )
    assert not report


def test_arrays_give_the_shapes() -> None:
    rng = np.random.default_rng(1)
    data = {"x": rng.normal(size=3), "w": rng.normal(size=(4, 3))}
    assert check("δw[j,i] = 2*r[j]*x[i]", DENSE, **data)
    assert not check("δw[j,i] = r[j]*x[i]", DENSE, **data)


def test_claims_that_cannot_be_read() -> None:
    with pytest.raises(cr.FormulaError, match="line 1"):
        check("δw[m,n] = sum[i,j](δx[i,j]*o[i+m,j+n]", CNN)
    with pytest.raises(cr.FormulaError, match="the claim reads q"):
        check("δb = sum[i](q[i])", CNN)
    with pytest.raises(cr.FormulaError, match="does not compute"):
        check("δq[i] = u[i]", CNN)


@pytest.mark.skipif(not hasattr(cr.Program, "from_latex"), reason="no LaTeX reader yet")
def test_a_claim_in_latex() -> None:
    claim = r"\frac{\partial E}{\partial b} = \sum_{i,j} \frac{\partial E}{\partial x_{i,j}}"
    assert check(claim, CNN)


def test_a_claim_that_reads_outside_says_where() -> None:
    network = "x[i] = sum[m](w[m]*o[i+m])\nE = 1/2*sum[i]((t[i] - x[i])**2)"
    for claim in (
        "δo[p] = sum[m](w[m]*δx[p-m])",
        r"\frac{\partial E}{\partial w_m} = \sum_{i=1}^{N} \frac{\partial E}{\partial x_i} o_{i+m}",
    ):
        report = cr.check(claim, network)
        assert not report
        assert "leaves" in report.example
        assert "through pad" in report.example
        assert "not a character" not in str(report)


def test_a_claim_of_nothing_names_no_slip() -> None:
    assert not cr.check("δw[m] = 0", "E = sum[m](w[m]*w[m]*o[m])").diagnosis
