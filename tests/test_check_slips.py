"""Three hundred mistakes made on purpose in hand-written gradients: each is named, none passes."""

from __future__ import annotations

import numpy as np
import pytest

import chainrule as cr
from chainrule.check import check
from chainrule.check.report import CheckReport
from slip_networks import NETWORKS, Network, telling

SEEDS = 3
EACH = pytest.mark.parametrize("network", NETWORKS, ids=lambda n: n.name)


def names(report: CheckReport) -> set[str]:
    also = {d.also.name for d in report.diagnosis if d.also}
    return {d.name for d in report.diagnosis} | also


def test_there_are_enough() -> None:
    assert len(NETWORKS) >= 10
    assert SEEDS * sum(len(n.slips) for n in NETWORKS) >= 300


@EACH
def test_slips_are_named(network: Network) -> None:
    """All of them: the promise is 95%, and losing one should be noticed."""
    program = cr.Program(network.text)
    for seed in range(SEEDS):
        for slip, wrt, right_names in network.cases():
            data, wrong = telling(network, slip, wrt, seed)
            report = check(wrong, program, network.of, wrt, **data)
            assert not report, f"{slip}, seed {seed}: {report}"
            assert names(report) & right_names, f"{slip}, seed {seed}: {report}"


@EACH
def test_right_gradients_pass(network: Network) -> None:
    program = cr.Program(network.text)
    for seed in range(10):
        data = network.data(np.random.default_rng(100 + seed))
        single = {name: a.astype(np.float32) for name, a in data.items()}
        right, short = network.gradient(data, ""), network.gradient(single, "")
        for wrt, value in right.items():
            assert (report := check(value, program, network.of, wrt, **data)), str(report)
            narrow = np.asarray(short[wrt], dtype=np.float32)
            assert (report := check(narrow, program, network.of, wrt, **data)), str(report)
            if seed < 2:
                digits = np.round(value, 5)
                if np.max(np.abs(value)) > 1e-3:
                    assert (report := check(digits, program, network.of, wrt, **data)), str(report)


@EACH
def test_a_tenth_of_a_percent_is_noticed(network: Network) -> None:
    program = cr.Program(network.text)
    data = network.data(np.random.default_rng(7))
    for k, (wrt, value) in enumerate(network.gradient(data, "").items()):
        value = np.array(value)
        if not value.any():
            continue
        one = value.copy()
        one.reshape(-1)[np.argmax(np.abs(one))] *= 1.001
        all_of_it = 1.001 * value
        for wrong in (one, all_of_it, all_of_it.astype(np.float32))[: 3 if k == 0 else 1]:
            assert not check(wrong, program, network.of, wrt, **data)


@EACH
def test_finite_differences_pass(network: Network) -> None:
    """A gradient-check script's output, kinks and all."""
    program = cr.Program(network.text)
    data = network.data(np.random.default_rng(11))
    wrt = next(iter(network.gradient(data, "")))
    forward = cr.Program("\n".join(s for s in network.text.splitlines() if "grad(" not in s))
    given = {name: data[name] for name in forward.inputs}
    for h in (1e-4, 1e-5, 3e-6):
        slope = np.zeros_like(given[wrt])
        for at in np.ndindex(slope.shape):
            ends = []
            for step in (h, -h):
                moved = given[wrt].copy()
                moved[at] += step
                ends.append(float(forward.run(**{**given, wrt: moved})[network.of]))
            slope[at] = (ends[0] - ends[1]) / (2 * h)
        report = check(slope, program, network.of, wrt, **data)
        assert report, f"h = {h}: {report}"


# ---------------------------------------------------------------- kinks

RELU = "E = sum[i](g[i] * relu(x[i]))"


def test_a_central_difference_on_a_kink() -> None:
    """The mean of both slopes: .5 for every h."""
    report = check([0.5], "E = sum[i](relu(x[i]))", "E", "x", x=[0.0])
    assert report
    (kink,) = report.kinks
    assert kink.place == "relu(x[0])"
    assert "not an error: kink within h" in str(report)


def test_a_kink_near_by() -> None:
    """At -1e-6 with h = 1e-4 the quotient is .495."""
    x, h = np.array([-1e-6, 0.7, -0.4]), 1e-4
    g = np.array([1.0, 2.3, 0.9])
    slope = g * (np.maximum(x + h, 0) - np.maximum(x - h, 0)) / (2 * h)
    assert slope[0] == pytest.approx(0.495)
    report = check(slope, RELU, "E", "x", x=x, g=g)
    assert report
    assert [k.index for k in report.kinks] == [(0,)]
    assert report.kinks[0].value == pytest.approx(-1e-6)


def test_three_tied_maxima_by_central_differences() -> None:
    report = check([0.5, 0.5, 0.5], "m = max[i](x[i])", "m", "x", x=[2.0, 2.0, 2.0])
    assert report
    assert len(report.kinks) == 3


def test_a_kink_is_no_excuse_for_another_entry() -> None:
    report = check([0.5, 2.0, 0.9], RELU, "E", "x", x=[0.0, 0.7, 0.4], g=[1.0, 2.3, 0.9])
    assert not report


def test_differences_of_float32_numbers() -> None:
    x = np.array([0.31, -0.77, 1.42, 0.58])
    h = 1e-4

    def loss(x: np.ndarray) -> np.float32:
        return np.sum(np.sin(x.astype(np.float32) * np.float32(3)) + 4, dtype=np.float32)

    slope = np.array([(loss(x + h * e) - loss(x - h * e)) / np.float32(2 * h) for e in np.eye(4)])
    report = check(slope, "E = sum[i](sin(3*x[i]) + 4)", "E", "x", x=x)
    assert not report
    assert names(report) == {"float32 differences"}


def test_a_step_that_is_too_large() -> None:
    x, h = np.array([0.31, -0.77, 1.42, 0.58]), 0.1
    slope = (np.sin(3 * (x + h)) - np.sin(3 * (x - h))) / (2 * h)
    report = check(slope, "E = sum[i](sin(3*x[i]))", "E", "x", x=x)
    assert not report
    assert names(report) == {"step too large"}


def test_a_step_that_is_too_small() -> None:
    x = np.array([0.31, -0.77, 1.42, 0.58])

    def slope(h: float) -> np.ndarray:
        total = [np.sum(np.sin(3 * (x + d))) for d in h * np.concatenate([np.eye(4), -np.eye(4)])]
        return (np.array(total[:4]) - np.array(total[4:])) / (2 * h)

    report = check(slope(1e-12), "E = sum[i](sin(3*x[i]))", "E", "x", x=x)
    assert not report
    assert names(report) == {"step too small"}
    assert "h = 1e-12" in str(report)
    report = check(slope(1e-6), "E = sum[i](sin(3*x[i]))", "E", "x", x=x)
    assert report
    assert "or less" in str(report)  # rounding hides the step itself


@pytest.mark.parametrize("zeros", [[0.0, 0.0, 0.0], [0, -0.0, 0]])
def test_nothing_says_nothing(zeros: list[float]) -> None:
    report = check(zeros, "E = sum[i](w[i]*x[i]*x[i])", "E", "x", x=[0.3, 1.2, 2], w=[1, 2, 3])
    assert not report
    assert not report.diagnosis
    assert "every number of yours is 0" in str(report)


def test_an_array_of_integers() -> None:
    mine = np.array([0.6, 4.8, 12.0]).astype(int)
    report = check(mine, "E = sum[i](w[i]*x[i]*x[i])", "E", "x", x=[0.3, 1.2, 2], w=[1, 2, 3])
    assert names(report) == {"whole numbers"}


# ---------------------------------------------------------------- two slips at once


def test_two_slips_at_once() -> None:
    network = next(n for n in NETWORKS if n.name == "two dense layers")
    data = network.data(np.random.default_rng(5))
    twice = 3 * network.gradient(data, "no slope")["w"]
    report = check(twice, network.text, "E", "w", **data)
    assert not report
    assert {"activation derivative missing", "constant factor"} <= names(report) or {
        "activation derivative missing",
        "sum for mean",
    } <= names(report)
