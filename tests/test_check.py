"""Published calculations, right and wrong, held against the derived ones."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

import chainrule as cr
from chainrule.check import SLIPS, CheckReport, check
from worked_examples import test_circuits as circuits
from worked_examples import test_convolution as convolution
from worked_examples import test_dense as dense
from worked_examples import test_sequence_and_norm as norm
from worked_examples.published import Example, arrays


def names(report: CheckReport) -> set[str]:
    """Every slip that is named, the second of a pair included."""
    also = {d.also.name for d in report.diagnosis if d.also}
    return {d.name for d in report.diagnosis} | also


def examples() -> Iterator[Example]:
    for module in (circuits, convolution, dense, norm):
        for value in vars(module).values():
            if isinstance(value, list) and value and isinstance(value[0], Example):
                yield from value


# ---------------------------------------------------------------- right ones pass


@pytest.mark.parametrize("example", list(examples()), ids=str)
def test_published_numbers_pass(example: Example) -> None:
    program = cr.Program(example.text)
    data = arrays(example.data)
    for name, published in example.expect.items():
        gradient = name.startswith("δ") and bool(example.of)
        target = name + "'" if name in program.inputs and not gradient else name
        of, wrt = (example.of, name[1:]) if gradient else (target, None)
        runs = program.gradient(example.of, [wrt]) if wrt else program
        given = {t: a for t, a in data.items() if wrt or t in program.inputs}
        values = published.values.reshape(runs.run(**given)[name].shape)
        report = check(values, program, of, wrt, **data)
        assert report.ok, f"{name}: {report}"
        assert not report.diagnosis


# ---------------------------------------------------------------- wrong ones are named

MAZUR = dense.STEP
START: dict[str, Any] = arrays(dense.START | dense.RATE)
POINT: dict[str, Any] = arrays(dense.START)


def test_error_after_an_update_that_was_made_one_weight_at_a_time() -> None:
    """The error after one step, .291027924, belongs to a program that updates v first."""
    report = check(0.291027924, MAZUR, "E'", **START)
    assert not report
    assert "updated weights in the backward pass" in names(report)
    assert "v' in the place of v" in report.diagnosis[0].note
    assert check(0.29102777369, MAZUR, "E'", **START)


def test_sequential_updates() -> None:
    wrong = [[0.149817639, 0.199635277], [0.249788185, 0.299576370]]
    report = check(wrong, MAZUR, "E", "w'", **START)
    assert "updated weights in the backward pass" in names(report)
    gradient = (np.asarray(START["w"]) - wrong) / 0.5
    report = check(np.round(gradient, 9), MAZUR, "E", "w", **START)
    assert not report
    assert "updated weights in the backward pass" in names(report)


def test_a_learning_rate_that_the_program_does_not_have_is_found() -> None:
    sequential = cr.Program(dense.SEQUENTIAL).run(**START)["w"]
    gradient = (np.asarray(START["w"]) - sequential) / 0.5
    report = check(gradient, dense.FORWARD, "E", "w", **POINT)
    (found,) = [d for d in report.diagnosis if d.name == "updated weights in the backward pass"]
    assert "learning rate of 0.5" in found.note


SOFTMAX = dense.OTHERS[0]


def test_a_wrong_logit_is_the_first_wrong_step() -> None:
    """z4 = .185 should be .157; the rest follows from it."""
    report = check(
        0.579,
        SOFTMAX.text,
        "L",
        **arrays(SOFTMAX.data),
        a=[0.426, 0.5],
        u=[0.428, 0.185],
        y=[0.561, 0.439],
    )
    assert not report
    assert "first wrong step is u, at u[1]" in report.summary
    assert [s.ok for s in report.steps] == [True, False, False]
    assert [s.follows for s in report.steps] == [True, False, True]
    assert any("none of the known slips" in note for note in report.notes)


def test_two_swapped_formulas() -> None:
    """∂L/∂w8 and ∂L/∂w9 exchanged: the matrix is transposed."""
    right = [[-0.184203557, -0.216426176], [0.184203557, 0.216426176]]
    assert check(right, SOFTMAX.text, "L", "V", **arrays(SOFTMAX.data))
    report = check(np.transpose(right), SOFTMAX.text, "L", "V", **arrays(SOFTMAX.data))
    assert not report
    assert "transposed" in names(report)


def test_a_step_in_the_wrong_direction() -> None:
    """The rewritten copy of the example prints 1.995 for 2.005."""
    text = dense.RASHID + "w[j] = w[j] - 0.1 * grad(E, w)[j]"
    data = arrays(dense.RASHID_DATA)
    report = check([1.995, 2.994], text, "E", "w'", **data)
    assert not report
    assert "sign" in names(report)
    assert check([2.005, 3.006], text, "E", "w'", **data)


def test_batch_normalisation_without_its_paths() -> None:
    data = arrays(
        {
            "x": [[1, 2, 3], [3, 4, 5]],
            "δy": [[-1, 0, 1], [1, 2, -1]],
            "γ": [1, 1, 1],
            "β": [0, 0, 0],
            "ε": 0,
        }
    )
    report = check([[-0.5, 0, 0.5], [0.5, 1, -0.5]], norm.BATCH_NORM, "y", "x", **data)
    assert not report
    assert names(report) == {"a path left out"}
    assert "var" in report.diagnosis[0].note
    assert "μ" in report.diagnosis[0].note
    assert check(np.zeros((2, 3)), norm.BATCH_NORM, "y", "x", **data)


MAX = "m = max[i](x[i])"


@pytest.mark.parametrize(
    ("candidate", "name"),
    [
        ([0, 1, 1, 1], "δ to every tied maximum"),
        ([0, 1 / 3, 1 / 3, 1 / 3], "δ split between tied maxima"),
        ([0, 0, 0, 1], "δ to the last tied maximum"),
        ([0, 0, 0, 0], "δ to no tied maximum"),
    ],
)
def test_ties(candidate: list[float], name: str) -> None:
    report = check(candidate, MAX, "m", "x", x=[1, 2, 2, 2])
    assert not report
    assert name in names(report)
    assert check([0, 1, 0, 0], MAX, "m", "x", x=[1, 2, 2, 2])


def test_tied_pooling() -> None:
    text = "p[i,j] = max[a:2,c:2](x[i+a,j+c])"
    data = {
        "x": [[1, 0, 1, 0], [0, 1, 0, 1], [1, 0, 1, 0], [0, 1, 0, 1]],
        "δp": np.array([[11, 12, 13], [15, 16, 17], [19, 20, 21]]),
    }
    every = [11, 0, 25, 0, 0, 54, 0, 30, 34, 0, 74, 0, 0, 39, 0, 21]
    split = [5.5, 0, 12.5, 0, 0, 27, 0, 15, 17, 0, 37, 0, 0, 19.5, 0, 10.5]
    for wrong, name in ((every, "δ to every tied maximum"), (split, "δ split between tied maxima")):
        assert name in names(check(np.reshape(wrong, (4, 4)), text, "p", "x", **data))
    first = [11, 0, 25, 0, 0, 31, 0, 17, 19, 0, 41, 0, 0, 0, 0, 0]
    assert check(np.reshape(first, (4, 4)), text, "p", "x", **data)


def test_a_mean_cannot_see_a_flipped_kernel_and_entries_can() -> None:
    """The conv_backward exercise: mean(dA) is the same to the last digit with W flipped."""
    rng = np.random.RandomState(1)
    x, w, bias = rng.randn(10, 4, 4, 3), rng.randn(2, 2, 3, 8), rng.randn(1, 1, 1, 8)
    text = """
    z[n,i:4,j:4,k] = sum[a,b,c](w[a,b,c,k] * pad(x)[n,2*i+a-2,2*j+b-2,c]) + bias[k]
    """
    data = {"x": x, "w": w, "bias": bias.reshape(8)}
    program = cr.Program(text)
    data["δz"] = program.run(**data)["z"]
    right = program.gradient("z", ["x"]).run(**data)["δx"]
    flipped = program.gradient("z", ["x"]).run(**{**data, "w": w[::-1, ::-1]})["δx"]
    assert np.isclose(right.mean(), 1.4524377775388075)
    assert np.isclose(flipped.mean(), right.mean(), rtol=1e-12)
    assert check(right, text, "z", "x", **data)
    report = check(flipped, text, "z", "x", **data)
    assert not report
    assert "kernel not flipped" in names(report)


def test_padding_in_total_taken_for_padding_per_side() -> None:
    text = """
    y[n,f,i:2,j:2] = sum[c,a,b](w[f,c,a,b] * pad(x)[n,c,2*i+a-1,2*j+b-1]) + bias[f]
    """
    data = {
        "x": np.linspace(-0.1, 0.5, 96).reshape(2, 3, 4, 4),
        "w": np.linspace(-0.2, 0.3, 144).reshape(3, 3, 4, 4),
        "bias": np.linspace(-0.1, 0.2, 3),
    }
    assert check(cr.Program(text).run(**data)["y"], text, "y", **data)
    wide = np.pad(data["x"], ((0, 0), (0, 0), (2, 2), (2, 2)))
    wrong = np.zeros((2, 3, 3, 3))
    for i in range(3):
        for j in range(3):
            part = wide[:, :, 2 * i : 2 * i + 4, 2 * j : 2 * j + 4]
            wrong[:, :, i, j] = np.einsum("fcab,ncab->nf", data["w"], part) + data["bias"]
    assert np.isclose(wrong.reshape(-1)[0], -0.0739286, atol=1e-6)
    report = check(wrong, text, "y", **data)
    assert not report
    assert "padding" in names(report)


NEURON = "f = sigmoid(sum[j](w[j] * x[j]) + b)"
NEURON_DATA = {"w": [2, -3], "x": [-1, -2], "b": -3}


def test_a_local_gradient_that_was_rounded_before_it_was_used() -> None:
    """0.2 * 2 = 0.4 where 0.1966 * 2 = 0.39."""
    assert check([0.39, -0.59], NEURON, "f", "x", **NEURON_DATA)
    report = check([0.4, -0.6], NEURON, "f", "x", **NEURON_DATA)
    assert not report
    assert names(report) == {"rounded intermediate values"}
    assert "0.2 for 0.19661193" in str(report) or "f*(1 - f)" in str(report)


# ---------------------------------------------------------------- the first question


QUESTION = convolution.NET
ANSWER = arrays(convolution.DATA | {"δu": convolution.DELTA_U})


def test_digits_that_were_kept() -> None:
    deltas = [[0.0364182, 0.068628], [0.04675125, -0.06818625]]
    report = check(deltas, QUESTION, "u", "p", **ANSWER)
    assert not report
    assert report.summary.startswith(
        "δp agrees to 2 digits, as if h had been rounded to 2 decimals"
    )
    assert "0.58 for 0.576689978" in report.summary
    assert check(deltas, QUESTION, "u", "p", **ANSWER, h=[[0.58, 0.57], [0.65, 0.55]])


def test_published_kernel_gradient() -> None:
    """From an h of two decimals, and deltas cut to four."""
    published = [[0.044606, 0.094061], [0.011262, 0.068288]]
    steps = {"h": [[0.58, 0.57], [0.65, 0.55]], "δp": [[0.0364, 0.0686], [0.0467, -0.0681]]}
    report = check(published, QUESTION, "u", "w", steps=steps, **ANSWER)
    assert report
    assert "follows from your own numbers" in report.summary
    report = check(published, QUESTION, "u", "w", **ANSWER)
    (found,) = report.diagnosis
    assert found.note.startswith("h rounded to 2 decimals")
    assert found.also is not None
    assert found.also.note == "δp cut to 4 decimals"


def test_the_rotation_that_was_forgotten() -> None:
    wrong = [[0.003165, 0.036585], [0.051292, 0.048061]]
    steps = {"δp": [[0.0364, 0.0686], [0.0467, -0.0681]]}
    report = check(wrong, QUESTION, "u", "w", steps=steps, **ANSWER)
    assert not report
    assert "kernel not flipped" in names(report)


# ---------------------------------------------------------------- the report


def test_report_has_all_that_a_page_needs() -> None:
    program = cr.Program(dense.FORWARD)
    right = program.gradient("E", ["w"]).run(**POINT)["δw"]
    report = check(-right, program, "E", "w", **POINT)
    data = json.loads(json.dumps(report.to_dict()))
    assert data["ok"] is False
    assert data["diagnosis"][0]["name"] in {s.name for s in SLIPS}
    assert data["worst"] == list(report.worst)
    assert "<pre>" in report._repr_html_()
    assert "δw[" in str(report)
    assert "enters at" in str(report)
    assert report.max_error == pytest.approx(2 * np.abs(right).max())


def test_a_function_is_called_with_what_it_names() -> None:
    report = check(lambda x, d_net_h: np.outer(d_net_h, x), dense.FORWARD, "E", "w", **POINT)
    assert report
    with pytest.raises(cr.FormulaError, match="asks for nothing"):
        check(lambda nothing: nothing, dense.FORWARD, "E", "w", **POINT)


def test_mistakes_in_what_is_given() -> None:
    with pytest.raises(cr.FormulaError, match="missing: x"):
        check(1.0, MAX, "m", "x")
    with pytest.raises(cr.FormulaError, match="no tensor z"):
        check([1.0], MAX, "m", "x", x=[1.0], z=3)
    with pytest.raises(cr.FormulaError, match="no computed tensor q"):
        check(1.0, MAX, "q", x=[1.0])
    with pytest.raises(cr.FormulaError, match="not an array of real numbers"):
        check("δx[i] = 1" and [1j], MAX, "m", "x", x=[1.0])


def test_nothing_is_named_that_does_not_fit() -> None:
    rng = np.random.default_rng(3)
    report = check(rng.normal(size=(2, 2)), dense.FORWARD, "E", "w", **POINT)
    assert not report
    assert report.diagnosis == ()
    assert "none of the known slips" in str(report)


def test_a_step_of_another_shape() -> None:
    report = check([2.0, 4.0], "h[i] = 2*x[i]\nE = sum[i](h[i]**2)", "E", "x", x=[1, 2], h=[2.0])
    assert "the first wrong step is h, by its shape" in str(report)
    assert "h: WRONG; its shape is (1,), it should be (2,)" in str(report)


def test_a_function_that_returns_nothing() -> None:
    with pytest.raises(cr.FormulaError, match="the candidate is None"):
        check(lambda x: None, "E = sum[i](x[i]**2)", "E", "x", x=[1, 2])


def test_single_and_half_precision_are_called_so() -> None:
    x = np.array([0.3, 1.2, 2.7])
    for dtype in (np.float32, np.float16):
        report = check((2 * x).astype(dtype), "E = sum[i](x[i]**2)", "E", "x", x=x)
        assert report.summary.endswith(f"rounding error of {np.dtype(dtype)}")


def test_nan_and_infinity_are_wrong() -> None:
    right = cr.Program(dense.FORWARD).gradient("E", ["w"]).run(**POINT)["δw"]
    for value in (np.nan, np.inf):
        bad = right.copy()
        bad[1, 0] = value
        report = check(bad, dense.FORWARD, "E", "w", **POINT)
        assert not report
        assert report.worst == (1, 0)
