"""Explanations: the right numbers, the right reasons, and text that is pleasant to follow.

UPDATE_GOLDENS=1 rewrites tests/goldens/explain/*.txt; read the difference before committing it.
"""

from __future__ import annotations

import json
import math
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner

import chainrule as cr
from chainrule.cli import cli
from chainrule.demo import DIGITS, DIGITS_UPDATE, WORKED, WORKED_UPDATE, worked_inputs
from chainrule.explain import Explanation
from explain_check import consistent, examine, shown
from generate import program

GOLDENS = Path(__file__).parent / "goldens" / "explain"
ROOT = Path(__file__).parents[1]

POOL = "p[i,j] = max[a:2,c:2](x[i+a,j+c])\nE = sum[i,j](d[i,j]*p[i,j])"
TIES = {  # from TensorFlow's pooling_ops_test.py
    "x": [[1, 0, 1, 0], [0, 1, 0, 1], [1, 0, 1, 0], [0, 1, 0, 1]],
    "d": [[11, 12, 13], [15, 16, 17], [19, 20, 21]],
}
STRIDE = "y[i:5] = sum[m](w[m]*pad(o)[2*i+m-1])\nE = sum[i](c[i]*y[i])"
STRIDED = {"w": [1, 2, 3], "o": [k / 10 for k in range(1, 11)], "c": [1, 2, 3, 4, 5]}
NORM = """
m[c] = mean[b](x[b,c])
v[c] = mean[b]((x[b,c] - m[c])**2)
h[b,c] = (x[b,c] - m[c])/sqrt(v[c] + 0.00001)
y[b,c] = g[c]*h[b,c] + a[c]
E = sum[b,c](d[b,c]*y[b,c])
"""
NORMED = {
    "x": [[3, 6, 9], [-1, 5, 4], [12, 5, 11]],
    "d": [[2, 3, 4], [-2, 0, 4], [10, 2, 4]],
    "g": [1, 1, 1],
    "a": [0, 0, 0],
}
FORK = "a = x*y\nb = a + x\nE = a*b + x"
FLATTEN = "f[(i,j)] = p[i,j]\nu = sum[q](w[q]*f[q])\nE = u**2"
FLATTENED = {"p": [[1, 2], [3, 4]], "w": [0.1, 0.2, 0.3, 0.4]}


def training() -> dict[str, Any]:
    """A batch of four small images and weights, all with few digits."""
    rng = np.random.default_rng(7)
    return {
        "o": rng.integers(0, 5, (4, 8, 8)) / 4,
        "w": rng.integers(-8, 9, (3, 3, 3)) / 8,
        "a": rng.integers(-8, 9, 3) / 8,
        "v": rng.integers(-8, 9, (4, 4, 3, 10)) / 16,
        "d": np.zeros(10),
        "t": [3, 1, 4, 1],
        "η": 0.1,
    }


TRAINING = DIGITS + DIGITS_UPDATE
CASES: dict[str, tuple[str, dict[str, Any], str, int]] = {
    "worked-gradient": (WORKED, worked_inputs(), "δw[0,0]", 2),
    "worked-forward": (WORKED, worked_inputs(), "x[0,2]", 2),
    "worked-loss": (WORKED, worked_inputs(), "E", 2),
    "worked-activation": (WORKED, worked_inputs(), "δp[0,0]", 1),
    "worked-input": (WORKED, worked_inputs(), "δo[1,2]", 1),
    "worked-bias": (WORKED, worked_inputs(), "δb", 0),
    "not-the-maximum": (WORKED, worked_inputs(), "δx[0,0]", 2),
    "ties": (POOL, TIES, "δx[1,1]", 1),
    "window": (POOL, TIES, "p[0,0]", 1),
    "overlapping-average": (POOL.replace("max", "mean"), TIES, "δx[1,1]", 1),
    "stride": (STRIDE, STRIDED, "δo[3]", 1),
    "padding": (STRIDE, STRIDED, "y[0]", 1),
    "batch": (TRAINING, training(), "δw[0,1,2]", 1),
    "loss-of-a-batch": (TRAINING, training(), "E", 1),
    "softmax": (TRAINING, training(), "δu[0,3]", 1),
    "update": (TRAINING, training(), "w[0,1,2]", 1),
    "batch-norm": (NORM, NORMED, "δx[0,0]", 2),
    "fork": (FORK, {"x": 2, "y": 3}, "δx", 2),
    "flatten": (FLATTEN, FLATTENED, "f[2]", 1),
    "flatten-gradient": (FLATTEN, FLATTENED, "δp[1,0]", 2),
    "given": (WORKED, worked_inputs(), "o[2,3]", 2),
}


def case(name: str) -> Explanation:
    text, arrays, element, depth = CASES[name]
    return cr.Program(text).explain(element, depth=depth, **arrays)


def golden(name: str, text: str) -> None:
    path = GOLDENS / name
    if os.environ.get("UPDATE_GOLDENS"):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text + "\n", encoding="utf-8")
    assert text + "\n" == path.read_text(encoding="utf-8"), f"{name}: UPDATE_GOLDENS=1 rewrites it"


@pytest.mark.parametrize("name", CASES)
def test_text(name: str) -> None:
    golden(f"{name}.txt", str(case(name)))


@pytest.mark.parametrize("name", ["worked-gradient", "worked-activation", "update", "batch-norm"])
def test_latex(name: str) -> None:
    golden(f"{name}.tex", case(name).latex())


@pytest.mark.parametrize("name", CASES)
def test_every_view_of_every_case(name: str) -> None:
    x = case(name)
    consistent(x)
    shown(x)
    for line in str(x).splitlines():
        assert line == line.rstrip()


@pytest.mark.parametrize("start", range(0, 120, 10))
def test_generated_programs(start: int) -> None:
    for seed in range(start, start + 10):
        for ties in (False, True):
            examine(program(seed, ties))


# ---------------------------------------------------------------- numbers


def test_terms_are_at_full_precision() -> None:
    x = case("worked-gradient")
    assert x.value == pytest.approx(0.044757279, abs=5e-10)
    assert [t.indices for t in x.terms] == [
        {"i": 0, "j": 2}, {"i": 3, "j": 3}, {"i": 1, "j": 1}, {"i": 2, "j": 1},
    ]  # fmt: skip
    largest = x.terms[0]
    assert [f.name for f in largest.factors] == ["δx[0,2]", "o[0,2]"]
    assert largest.value == largest.factors[0].value * largest.factors[1].value
    assert largest.factors[0].value == pytest.approx(0.068783492, abs=5e-10)  # not 0.0687835


def test_rounded_numbers_do_not_feed_products() -> None:
    """Slides that multiply a rounded 0.2 show 0.4 instead of 0.39 here."""
    text = "f = sigmoid(w[0] * x0 + w[1] * x1 + w[2])".replace("[0]", "0").replace("[1]", "1")
    text = text.replace("w[2]", "w2")
    x = cr.Program(text).explain("δw0", of="f", w0=2, x0=-1, w1=-3, x1=-2, w2=-3)
    assert x.value == pytest.approx(-0.196611933, abs=5e-10)


def test_the_rest_adds_up() -> None:
    n = 5000
    rng = np.random.default_rng(0)
    a, b = rng.normal(size=n), rng.normal(size=n)
    x = cr.Program("y = sum[i](a[i]*b[i])").explain("y", a=a, b=b)
    exact = math.fsum((a * b).tolist())
    count, rest = x.rest
    assert len(x.terms) + count == n
    assert math.fsum([*(t.value for t in x.terms), rest]) == pytest.approx(exact, abs=1e-14)
    assert [abs(t.value) for t in x.terms] == sorted((abs(t.value) for t in x.terms), reverse=True)
    assert abs(x.terms[0].value) == np.max(np.abs(a * b))
    assert "4,994 more terms" in str(x)


def test_samples_come_first_in_a_batch() -> None:
    x = case("batch")
    (part,) = x.parts
    assert part.batch == "b"
    assert sum(s.value for s in part.samples) == pytest.approx(x.value, abs=1e-14)
    text = str(x)
    assert text.index("per sample (b counts 4 samples)") < text.index("largest of")


def test_a_position_is_no_sample() -> None:
    assert case("worked-bias").parts[0].batch == ""


def test_nan_and_infinity_are_shown() -> None:
    x = cr.Program("y = sum[i](a[i]/b[i])").explain("y", a=[1, 0, 1], b=[0, 0, 2])
    assert math.isnan(x.value)
    assert "nan" in str(x)
    assert json.loads(json.dumps(x.to_dict(), allow_nan=False))["value"] == "nan"


def test_the_branch_not_taken_is_not_looked_at() -> None:
    p = cr.Program("y[i] = where(a[i] != 0, sqrt(a[i]), 0)\nE = sum[i](y[i])")
    x = p.explain("δa[1]", a=[4, 0])
    assert x.value == 0
    assert p.explain("δa[0]", a=[4, 0]).value == 0.25


# ---------------------------------------------------------------- reasons


def reasons(x: Explanation) -> dict[str, int]:
    return {z.reason: z.count for z in x.zeros}


def test_zeros_are_counted_by_reason() -> None:
    assert reasons(case("worked-gradient")) == {"δx[i,j] = 0, not the maximum of its window": 12}
    found = case("batch")
    text = " ".join(reasons(found))
    for reason in ("relu off", "not the maximum of its window", "outside o: pad gives 0"):
        assert reason in text
    assert sum(z.count for z in found.zeros) + found.parts[0].nonzero == 256


def test_no_output_between_strides() -> None:
    x = case("stride")
    assert reasons(x) == {"no output there: (4-m)/2 is not whole": 1}
    assert x.zeros[0].example == "1.5 for m=1"


def test_an_input_that_no_window_reads() -> None:
    p = cr.Program("y[i] = w*o[2*i]\nE = sum[i](y[i])")
    x = p.explain("δo[1]", w=3, o=[1, 2, 3, 4])
    assert x.value == 0
    assert "no window reads it" in str(x)


def test_a_relu_that_is_off_is_named_from_further_away() -> None:
    p = cr.Program("c[i] = w*o[i] - 1\nr[i] = relu(c[i])\nE = sum[i](d[i]*r[i])")
    x = p.explain("δw", w=0.5, o=[1, 1.5, 3], d=[1, 1, 1])
    assert x.zeros[0].count == 2
    assert x.zeros[0].reason == "δc[i] = 0, relu off"
    assert x.zeros[0].example == "δc[0]: c[0] = -0.5 is not > 0"
    assert x.zeros[0].share == "2 of the 3 entries of δc are 0: relu off"


def test_reasons_of_a_slice(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of a tensor with very many terms only the part that is read is looked into."""
    whole = reasons(case("batch"))
    monkeypatch.setattr("chainrule.explain.zeros._LARGE", 1500)
    assert reasons(case("batch")) == whole
    monkeypatch.setattr("chainrule.explain.zeros._LARGE", 10)
    assert sum(reasons(case("batch")).values()) == sum(whole.values())


def test_a_loss_has_many_children_and_is_shown_at_once() -> None:
    x = cr.Program("y[i] = a[i]*a[i]\nE = sum[i](y[i])").explain("E", a=np.arange(3000))
    started = time.perf_counter()
    assert len(str(x).splitlines()) < 60
    assert time.perf_counter() - started < 10


def test_a_bracket_that_is_false() -> None:
    x = cr.Program("y = sum[l](u[l]*(l == t))").explain("y", u=[1, 2, 3], t=1)
    assert reasons(x) == {"l == t is false": 2}
    assert x.zeros[0].example == "0 is not == 1"


def test_a_factor_of_the_data_that_is_zero() -> None:
    x = cr.Program("y = sum[i](a[i]*b[i])").explain("y", a=[1, 0, 3], b=[1, 1, 0])
    assert reasons(x) == {"a[i] is 0": 1, "b[i] is 0": 1}


def test_ties() -> None:
    x = case("window")
    assert x.inner[0].ties == 2
    assert "tie: 2 equal maxima, first taken" in str(x)
    p = cr.Program("p = max[i](x[i])\nE = d*p")
    assert "tie: 3 equal maxima, first taken" in str(p.explain("p", x=[1, 2, 2, 2], d=1))
    assert "tie: 3 equal maxima, first taken" in str(p.explain("δx[2]", x=[1, 2, 2, 2], d=1))


# ---------------------------------------------------------------- conventions


@pytest.mark.parametrize(
    ("name", "note"),
    [
        ("worked-forward", "cross-correlation: o is read at i+m, nothing is flipped"),
        ("worked-input", "rotating the kernel by 180°"),
        ("padding", "padding of o, per side: 1 before and 0 after"),
        ("update", "every value on the right is the old one"),
        ("loss-of-a-batch", "the mean divides by N = 4"),
        ("loss-of-a-batch", "log is the natural logarithm"),
        ("softmax", "1/4 comes from the mean"),
        ("worked-bias", "tied: one b is added at all 16 values of i, j"),
        ("worked-activation", "sigmoid' = h*(1 - h), at its value h"),
        ("fork", "x is used in 3 places"),
        ("flatten", "position 2 is (i,j) = (1,0): 2*1 + 0 = 2"),
        ("ties", "tie: 2 equal maxima"),
    ],
)
def test_conventions_are_on_screen(name: str, note: str) -> None:
    x = case(name)
    assert any(note in n for n in x.notes), x.notes
    assert note in str(x)


def test_paths_of_a_fork_are_named() -> None:
    assert {p.via: p.value for p in case("fork").parts} == {"E": 1, "b": 6, "a": 42}
    assert [p.via for p in case("batch-norm").parts] == ["h", "v", "m"]


# ---------------------------------------------------------------- what can be asked


def test_children_lead_down_to_the_data() -> None:
    x = case("worked-gradient")
    seen = set()
    level: list[Explanation] = [x]
    while level:
        seen.update(e.name for e in level)
        level = [c for e in level for c in e.children if c.name not in seen]
    assert {"δx[0,2]", "δp[0,1]", "h[0,1]", "p[0,1]", "x[0,2]", "δh[0,1]", "u[0]"} <= seen
    assert not any(name.startswith(("o[", "w[", "v[")) for name in seen)


def test_a_gradient_program_a_forward_program_and_a_step_agree() -> None:
    arrays = worked_inputs()
    forward = cr.Program(WORKED)
    g = forward.gradient(of="E", wrt=["w", "b"])
    step = cr.Program(WORKED + WORKED_UPDATE)
    values = [
        forward.explain("δw[1,0]", **arrays),
        forward.explain("d_w[ 1, 0 ]", **arrays),
        g.explain("δw[1,0]", **arrays),
        step.explain("δw[1,0]", **arrays, η=0.5),
    ]
    assert len({x.value for x in values}) == 1
    assert g.explain("δo[1,1]", **arrays).value == forward.explain("δo[1,1]", **arrays).value
    new = step.explain("w[1,0]", **arrays, η=0.5)
    assert new.value == arrays["w"][1, 0] - 0.5 * values[0].value
    assert "after the step" in str(new)
    assert forward.explain("δE", **arrays).value == 1


def test_arrays_that_do_not_matter_may_be_left_out() -> None:
    arrays = worked_inputs()
    p = cr.Program(WORKED)
    x = p.explain("x[0,2]", **{t: arrays[t] for t in ("o", "w", "b")})
    assert x.value == pytest.approx(0.2652)
    with pytest.raises(cr.FormulaError, match="missing"):
        p.explain("u[0]", **{t: arrays[t] for t in ("o", "w", "b")})


def test_a_vector_jacobian_product() -> None:
    g = cr.Program("y[i] = w*x[i]").gradient(of="y", wrt="w")
    x = g.explain("δw", w=2, x=[1, 2], δy=[10, 1])
    assert x.value == 12


def test_the_record_has_all_that_a_page_needs() -> None:
    record = case("worked-gradient").to_dict()
    json.dumps(record, allow_nan=False)
    assert set(record["tensors"]) >= {"o", "w", "x", "p", "h", "E", "δx", "δw", "argmax_p"}
    assert record["tensors"]["δw"]["shape"] == [2, 2]
    assert record["tensors"]["δw"]["values"][0][0] == record["value"]
    assert record["tensors"]["x"]["role"] == "forward"
    assert r"\sum" in record["tensors"]["x"]["latex"]
    factor = record["parts"][0]["terms"][0]["factors"][0]
    (cell,) = factor["cells"]
    assert cell == {
        "tensor": "δx", "index": [0, 2], "value": factor["value"], "role": "backward",
    }  # fmt: skip
    assert record["parts"][0]["zeros"][0]["count"] == 12
    assert record["children"][0]["name"] == "δx[0,2]"
    assert record["children"][0]["children"][0]["children"] == []
    assert r"\frac{\partial E}{\partial w" in record["latex"]


def test_the_record_of_a_large_network_stays_small() -> None:
    x = cr.Program(TRAINING).explain("E", **training())
    assert len(json.dumps(x.to_dict(depth=6))) < 30_000_000


# ---------------------------------------------------------------- mistakes


@pytest.mark.parametrize(
    ("element", "message"),
    [
        ("δw[2,0]", r"index 2 is outside δw: δw has the shape \[2, 2\]"),
        ("x[0]", r"x is asked for with 1 index, but x has the shape \[4, 4\]"),
        ("E[0]", "E is asked for with 1 index, but E is a scalar"),
        ("x", r"x is asked for with no index"),
        ("x[0,-1]", "index -1 is negative"),
        ("x[0,i]", "index i is no number"),
        ("x[0,]", "index left out is no number"),
        ("x[]", "the brackets are empty"),
        ("x[0,0", "cannot read"),
        ("", "cannot read"),
        ("2*x[0,0]", "cannot read"),
        ("q[0]", "this program has no tensor q"),
        ("δq", "this program has no tensor δq"),
    ],
)
def test_mistakes(element: str, message: str) -> None:
    with pytest.raises(cr.FormulaError, match=message):
        cr.Program(WORKED).explain(element, **worked_inputs())


def test_a_mistake_is_pointed_at() -> None:
    with pytest.raises(cr.FormulaError) as error:
        cr.Program(WORKED).explain("x[0, -1]", **worked_inputs())
    assert (error.value.line, error.value.column) == (1, 6)
    assert "     ^^" in str(error.value)


def test_which_scalar() -> None:
    p = cr.Program("E = sum[i](a[i])\nF = sum[i](a[i]**2)")
    with pytest.raises(cr.FormulaError, match="2 scalars to differentiate: E, F"):
        p.explain("δa[0]", a=[1, 2])
    assert p.explain("δa[1]", of="F", a=[1, 2]).value == 4
    with pytest.raises(cr.FormulaError, match="no scalar to differentiate"):
        cr.Program("y[i] = 2*a[i]").explain("δa[0]", a=[1])


def test_labels_have_no_gradient() -> None:
    with pytest.raises(cr.FormulaError, match="holds integers"):
        cr.Program(TRAINING).explain("δt[0]", **training())


# ------------------------------------------------------------ the command, the questions


@pytest.fixture
def files(tmp_path: Path) -> list[str]:
    (tmp_path / "net.txt").write_text(WORKED, encoding="utf-8")
    np.savez(tmp_path / "x.npz", **worked_inputs())
    return [str(tmp_path / "net.txt"), "--data", str(tmp_path / "x.npz")]


def test_command(files: list[str]) -> None:
    file, *data = files
    done = CliRunner().invoke(cli, ["explain", file, "δw[0,0]", *data, "--depth", "2"])
    assert done.exit_code == 0
    assert done.output == str(case("worked-gradient")) + "\n"
    done = CliRunner().invoke(cli, ["explain", file, "δp[0,0]", *data, "--depth", "1", "--latex"])
    assert done.output == case("worked-activation").latex() + "\n"
    done = CliRunner().invoke(cli, ["explain", file, "δw[0,0]", *data, "--of", "E", "--depth", "0"])
    assert done.exit_code == 0


@pytest.mark.parametrize("element", ["x[9,9]", "x[", "nothing", "δw"])
def test_command_mistakes(files: list[str], element: str) -> None:
    file, *data = files
    done = CliRunner().invoke(cli, ["explain", file, element, *data])
    assert done.exit_code == 2
    assert "Traceback" not in done.output


def test_questions_show_what_their_examples_print() -> None:
    script = ROOT / "scripts" / "write_questions.py"
    environment = {**os.environ, "PYTHONPATH": str(ROOT / "src"), "PYTHONIOENCODING": "utf-8"}
    check = [] if os.environ.get("UPDATE_GOLDENS") else ["--check"]
    done = subprocess.run(
        [sys.executable, str(script), *check],
        capture_output=True,
        encoding="utf-8",
        env=environment,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr


SHOWN = {  # what each question must have on screen
    1: ["δw[m,n] = sum[i,j](δx[i,j]*o[i+m,j+n])", "12 of 16 terms are 0", "not the maximum"],
    2: ["rotating the kernel by 180°", "mean 111.1", "w[1-i,1-j]"],
    3: ["[2]", "tie: 3 equal maxima, first taken", "7"],
    4: ["δb[c] = sum[n,i,j](δx[n,c,i,j])", "tied: one b[1]", "all 8", "untied"],
    5: ["is not whole", "no window reads it", "0.5 for m=1"],
    6: ["outside δx", "per side: 1 before and 1 after", "0 before and 1 after"],
    7: ["summed m,n,c", "summed k,m,n", "summed i,j", "= 32", "= 36"],
    8: ["kink within h, not an error", "numeric 0.5000", "numeric 0.4950", "z = 0 is not > 0"],
    9: ["float32", "float64", "agrees", "relative error"],
    10: ["0.1495*0.57669*0.42331", "= 0.0364957"],
    11: ["δa*a*(1 - a)", "a - t", "w - η*δw", "with the wrong sign", "E before"],
    12: ["= -0.371468", "through s", "natural logarithm"],
    13: ["2/4*(8 - 1)", "comes from the mean", "4 times as large"],
    14: ["-1.4", "= -0.6", "is in 2 windows", "is in 4 windows"],
    15: ["(i,j) = (1,0): 2*1 + 0 = 2", "δf[2]"],
    16: ["0.291027774", "0.291027924", "every value on the right is the old one"],
    17: ["relu off", "20 of the 27 entries of δc are 0", "4 - 4"],
    18: ["δz[1] = 0.327133", "h[1] = 0.905148"],
    19: ["through a", "through b", "through E", "used in 3 places"],
    20: ["through h", "through v", "through m", "0.0359584"],
}


@pytest.mark.parametrize("number", SHOWN)
def test_every_question_shows_what_it_must(number: int) -> None:
    document = (ROOT / "docs" / "questions.md").read_text(encoding="utf-8")
    section = document.split(f"\n## {number}. ")[1].split("\n## ")[0]
    for text in SHOWN[number]:
        assert text in section, text
    assert "](http" in section
