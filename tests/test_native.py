from __future__ import annotations

import _thread
import os
import signal
import subprocess
import sys
import threading
import time
from typing import Any

import numpy as np
import pytest

from chainrule import FormulaError, Program
from chainrule.native import Trainer, compile_system, objects
from chainrule.native.outline import outline, packed, unpacked
from native_check import check, native
from native_programs import PROGRAMS, case

CNN = """\
c[b,i:size(o,1),j:size(o,2),k] = sum[m,n,l](w[m,n,l,k] * pad(o)[b,i+m-1,j+n-1,l]) + a[k]
p[b,i,j,k] = max[m:2,n:2](relu(c[b,2*i+m,2*j+n,k]))
h[b,l] = tanh(sum[i,j,k](f[i,j,k,l] * p[b,i,j,k]))
u[b,l] = sum[k](v[k,l] * h[b,k]) + d[l]
E = mean[b](logsumexp[l](u[b,l]) - sum[l](u[b,l] * (l == t[b])))
w[m,n,l,k] = w[m,n,l,k] - 0.1 * grad(E, w)[m,n,l,k]
a[k] = a[k] - 0.1 * grad(E, a)[k]
f[i,j,k,l] = f[i,j,k,l] - 0.1 * grad(E, f)[i,j,k,l]
v[k,l] = v[k,l] - 0.1 * grad(E, v)[k,l]
d[l] = d[l] - 0.1 * grad(E, d)[l]
"""


def cnn_state(rng: np.random.Generator) -> dict[str, Any]:
    shapes = {"w": (3, 3, 2, 5), "a": (5,), "f": (3, 4, 5, 9), "v": (9, 3), "d": (3,)}
    return {t: rng.normal(size=s) * 0.3 for t, s in shapes.items()}


def cnn_data(rng: np.random.Generator, rows: int) -> dict[str, Any]:
    return {"o": rng.normal(size=(rows, 7, 9, 2)), "t": rng.integers(0, 3, rows)}


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("name", PROGRAMS)
def test_each_statement_agrees_with_the_reference(name: str, dtype: str) -> None:
    program, arrays = case(name)
    check(program, dtype, threads=2, **arrays)


@pytest.mark.parametrize("name", [n for n, (_, _, of) in PROGRAMS.items() if of is not None])
def test_each_output_alone_is_what_all_together_are(name: str) -> None:
    program, arrays = case(name)
    f = compile_system(program.system, dtype="float64", threads=2, cache=False)
    for t, expected in f(**arrays).items():
        alone = f(outputs=[t], **arrays)
        assert list(alone) == [t]
        np.testing.assert_allclose(alone[t], expected, rtol=1e-9, atol=1e-12, err_msg=t)


@pytest.mark.parametrize("rows", [0, 1, 5, 16, 37])
def test_a_training_step_for_any_batch(rows: int) -> None:
    rng = np.random.default_rng(rows)
    step = Program(CNN)
    check(step, "float64", **cnn_state(rng), **cnn_data(rng, rows))


def test_one_compilation_serves_every_batch() -> None:
    rng = np.random.default_rng(0)
    program = Program("y[b,k] = sum[c](w[c,k] * x[b,c])")
    f = compile_system(program.system, dtype="float64", cache=False)
    w = rng.normal(size=(4, 6))
    for rows in (32, 100, 47):  # fewer than 32 get code for smaller blocks
        x = rng.normal(size=(rows, 4))
        np.testing.assert_allclose(f(x=x, w=w)["y"], x @ w)
    assert len(f._codes) == 1


def train(threads: int, dtype: str = "float32", epochs: int = 1) -> tuple[Any, dict[str, Any]]:
    rng = np.random.default_rng(3)
    program = Program(CNN)
    trainer = Trainer(
        program.expanded.system, cnn_state(rng), dtype=dtype, threads=threads,
        written=program.system,
    )  # fmt: skip
    data = cnn_data(rng, 150)
    losses = [trainer.run(data, order=rng.permutation(150), batch_size=64) for _ in range(epochs)]
    return np.concatenate(losses), trainer.state()


def test_the_bits_do_not_depend_on_the_number_of_threads(monkeypatch: Any) -> None:
    monkeypatch.setattr("chainrule.native.trainer.WORTH_THREADS", 0)
    losses, state = train(1)
    for threads in (1, 2, 3, 4, 7, 8, 16):
        again, same = train(threads)
        assert again.tobytes() == losses.tobytes()
        for t in state:
            assert same[t].tobytes() == state[t].tobytes(), (t, threads)


def test_training_is_what_steps_of_the_program_do() -> None:
    losses, state = train(2, "float64", epochs=2)
    rng = np.random.default_rng(3)
    now, data, step = cnn_state(rng), cnn_data(rng, 150), Program(CNN)
    expected = []
    for _ in range(2):
        order = rng.permutation(150)
        for k in range(0, 150, 64):  # the last batch has 22 rows
            rows = order[k : k + 64]
            out = step.run(**now, **{t: a[rows] for t, a in data.items()})
            expected.append(out["E"])
            now = {t: out[t] for t in now}
    np.testing.assert_allclose(losses, expected, rtol=1e-10)
    for t in now:
        np.testing.assert_allclose(state[t], now[t], rtol=1e-9, atol=1e-12)


def test_ties_nan_infinities_and_subnormals() -> None:
    nan, inf, tiny = np.nan, np.inf, 1e-310
    x = np.array(
        [[1, 1, 0, 1], [nan, 2, 3, nan], [-inf, -inf, -inf, -inf], [inf, 1, inf, nan], [-0.0] * 4]
    )
    text = (
        "m[i] = max[j](x[i,j])\nn[i] = min[j](x[i,j])\na[i] = argmax[j](x[i,j])\n"
        "l[i] = logsumexp[j](x[i,j])\nr[i,j] = relu(x[i,j])\nq[i,j] = maximum(x[i,j], 0)\n"
        "c[i,j] = (x[i,j] != x[i,j]) + 2*(x[i,j] >= 1)\ns[i,j] = sign(x[i,j])\nh[k] = y[k]/2"
    )
    program = Program(text)
    given = {"x": x, "y": np.array([tiny, -tiny, 3 * tiny])}
    found, expected = native(program, **given), program.run(**given)
    for t in expected:
        np.testing.assert_array_equal(found[t], expected[t], err_msg=t)
    assert found["h"][0] == tiny / 2 != 0


def test_the_gradient_of_a_tie_goes_to_the_first() -> None:
    program = Program("p[i] = max[m:2](x[2*i+m])\nE = sum[i](p[i])").gradient("E")
    found = native(program, x=np.array([1.0, 1.0, 0.0, 2.0]))
    np.testing.assert_array_equal(found["δx"], [1, 0, 0, 1])


DENSE = Program("y[b,k] = sum[c](w[c,k] * x[b,c])")


@pytest.mark.parametrize("side", [3, 80])  # small arrays are copied in, large ones are not
def test_arrays_of_any_layout_and_type(side: int) -> None:
    rng = np.random.default_rng(0)
    f = compile_system(DENSE.system, dtype="float32", cache=False)
    x = rng.normal(size=(side, side)).astype(np.float32)
    w = rng.integers(-3, 4, (side, side))
    expected = x.astype(float) @ w

    def same(x: Any, w: Any) -> None:
        np.testing.assert_allclose(f(x=x, w=w)["y"], expected, rtol=1e-4, atol=1e-4)

    same(x, w)
    same(np.asfortranarray(x), w.astype(np.int8))
    same(np.repeat(x, 2, axis=1)[:, ::2], w[::-1][::-1].astype(np.int16))
    raw = np.zeros(x.nbytes + 1, np.uint8)
    odd = raw[1:].view(np.float32).reshape(x.shape)
    odd[...] = x
    same(odd, w)
    frozen = x.copy()
    frozen.setflags(write=False)
    same(frozen, w.astype(np.float16))
    same(x.tolist(), w.astype(object))
    same(x.astype(">f4"), w.astype(">i8"))


@pytest.mark.parametrize(
    ("arrays", "says"),
    [
        ({"x": np.ones((2, 3)), "w": np.ones((4, 5))}, "runs over"),
        ({"x": np.ones(3), "w": np.ones((3, 5))}, "x is read with 2 indices"),
        ({"x": np.ones((2, 3))}, "missing: w"),
        ({"x": np.ones((2, 3)), "w": np.ones((3, 5)) * 1j}, "real numbers"),
        ({"x": np.ones((2, 3)), "w": [["a"]]}, "real numbers"),
    ],
)
def test_misfit_arrays_are_formula_errors(arrays: dict[str, Any], says: str) -> None:
    f = compile_system(DENSE.system, dtype="float64", cache=False)
    with pytest.raises(FormulaError, match=says):
        f(**arrays)


def test_wrong_uses_are_formula_errors() -> None:
    with pytest.raises(FormulaError, match="not int32"):
        compile_system(DENSE.system, dtype="int32")
    with pytest.raises(FormulaError, match="number of threads"):
        compile_system(DENSE.system, threads=0)
    f = compile_system(DENSE.system, cache=False)
    with pytest.raises(FormulaError, match="does not compute q"):
        f(x=np.ones((2, 3)), w=np.ones((3, 5)), outputs=["q"])
    with pytest.raises(FormulaError, match="nothing is compiled yet"):
        _ = f.source
    rng = np.random.default_rng(0)
    system = Program(CNN).expanded.system
    with pytest.raises(FormulaError, match="state lacks"):
        Trainer(system, {})
    with pytest.raises(FormulaError, match="no tensor q"):
        Trainer(system, {**cnn_state(rng), "q": 1.0})
    trainer, data = Trainer(system, cnn_state(rng), objective="E"), cnn_data(rng, 6)
    for wrong in (
        {"data": {"o": data["o"]}},
        {"data": {**data, "t": data["t"][:5]}},
        {"data": data, "order": [6]},
        {"data": data, "order": [[0]]},
        {"data": data, "batch_size": 0},
        {"data": {**data, "o": data["o"][:, :5]}},
    ):
        with pytest.raises(FormulaError):
            trainer.run(**wrong)
    assert trainer.run(data, order=[], batch_size=4).shape == (0,)
    seen: list[tuple[int, int]] = []
    trainer.run(data, batch_size=1, progress=lambda done, steps: seen.append((done, steps)))
    assert seen[-1] == (6, 6)


def test_a_look_inside() -> None:
    f = compile_system(DENSE.system, cache=False)
    f(x=np.ones((9, 40)), w=np.ones((40, 33)))
    assert "y[b,k] = sum[c](w[c,k]*x[b,c])" in f.source
    assert "define" in f.llvm
    assert "run" in f.assembly
    (row,) = f.report().rows
    assert (row.statement, row.multiply_adds) == ("y", 40 * 33)
    (row,) = f.report(x=np.ones((9, 40)), w=np.ones((40, 33))).rows
    assert row.share == 1


def test_several_python_threads_at_once(monkeypatch: Any) -> None:
    monkeypatch.setattr("chainrule.native.compile.WORTH_THREADS", 0)
    f = compile_system(DENSE.system, dtype="float64", threads=2, cache=False)
    rng = np.random.default_rng(0)
    wrong: list[int] = []

    def work(rows: int) -> None:
        x, w = rng.normal(size=(rows, 30)), rng.normal(size=(30, 20))
        for _ in range(20):
            if not np.allclose(f(x=x, w=w)["y"], x @ w):
                wrong.append(rows)

    workers = [threading.Thread(target=work, args=(rows,)) for rows in (5, 5, 17, 40)]
    for w in workers:
        w.start()
    for w in workers:
        w.join()
    assert not wrong


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
def test_after_a_fork() -> None:
    code = (
        "import os, numpy as np\n"
        "import chainrule.native.compile as c\n"
        "from chainrule import Program\n"
        "c.WORTH_THREADS = 0\n"
        "p = Program('y[b,k] = sum[c](w[c,k] * x[b,c])')\n"
        "f = c.compile_system(p.system, threads=2, cache=False)\n"
        "a = dict(x=np.ones((9, 4)), w=np.ones((4, 3)))\n"
        "f(**a)\n"
        "child = os.fork()\n"
        "ok = (f(**a)['y'] == 4).all()\n"
        "if child == 0: os._exit(0 if ok else 3)\n"
        "assert ok and os.waitpid(child, 0)[1] == 0\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)


def test_an_interrupt_waits_for_the_compiler(monkeypatch: Any) -> None:
    """A process that ended while LLVM is at work would crash."""
    working: list[str] = []
    real, before = objects._object_code, sys.getswitchinterval()

    def slow(text: str) -> bytes:
        working.append(text)
        _thread.interrupt_main()
        time.sleep(0.3)
        made = real(text)
        working.pop()
        return made

    monkeypatch.setattr(objects, "_object_code", slow)
    handler = signal.signal(signal.SIGINT, signal.default_int_handler)
    f = Program("y[i] = 2*x[i]").compile(cache=False)
    try:
        with pytest.raises(KeyboardInterrupt):
            f(x=np.ones(3))
    finally:
        signal.signal(signal.SIGINT, handler)
    assert not working
    assert sys.getswitchinterval() == before
    monkeypatch.undo()
    assert f(x=np.ones(3))["y"].tolist() == [2, 2, 2]


def test_a_thread_compiles_after_the_main_one_has_ended() -> None:
    code = (
        "import threading, numpy as np, chainrule as cr\n"
        "def work():\n"
        "    threading.main_thread().join()\n"
        "    p = cr.Program('y[b]=sum[l](w[l]*x[b,l])')\n"
        "    print(p.compile(cache=False)(w=np.ones(3), x=np.ones((2, 3)))['y'])\n"
        "threading.Thread(target=work).start()\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False
    )
    assert done.stdout.strip() == "[3. 3.]", done.stderr


@pytest.mark.skipif(os.uname().machine != "x86_64", reason="names a processor of this kind")
@pytest.mark.parametrize("cpu", ["x86-64", "x86-64-v3"])
def test_on_lesser_processors(cpu: str) -> None:
    code = (
        "import numpy as np, test_native as t\n"
        "from native_check import check\n"
        "rng = np.random.default_rng(0)\n"
        "step = t.Program(t.CNN)\n"
        "check(step, 'float32', **t.cnn_state(rng), **t.cnn_data(rng, 5))\n"
    )
    environment = {**os.environ, "CHAINRULE_CPU": cpu}
    here = os.path.dirname(__file__)
    subprocess.run([sys.executable, "-c", code], check=True, timeout=120, env=environment, cwd=here)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_copies_against_the_grain_of_memory(dtype: str) -> None:
    rng = np.random.default_rng(0)
    f = compile_system(
        Program("y[j,i] = x[i,j]\nz[j,i,k] = q[i,k,j]").system, dtype=dtype, cache=False
    )
    for n, m in ((16, 16), (33, 47), (5, 40), (40, 5)):
        x, q = rng.normal(size=(n, m)).astype(dtype), rng.normal(size=(n, 3, m)).astype(dtype)
        found = f(x=x, q=q)
        np.testing.assert_array_equal(found["y"], x.T)
        np.testing.assert_array_equal(found["z"], q.transpose(2, 0, 1))


def test_code_comes_back_from_the_cache(tmp_path: Any, monkeypatch: Any) -> None:
    monkeypatch.setenv("CHAINRULE_CACHE", str(tmp_path))
    rng = np.random.default_rng(0)
    given = {"x": rng.normal(size=(9, 4)), "w": rng.normal(size=(4, 3))}
    first = compile_system(DENSE.system)(**given)["y"]
    assert len([p for p in tmp_path.rglob("*") if p.is_file()]) == 1

    with monkeypatch.context() as m:

        def never(*_: Any) -> Any:
            raise AssertionError("made again")

        m.setattr("chainrule.native.runtime.compiled", never)
        m.setattr("chainrule.native.runtime.layout", never)
        f = compile_system(DENSE.system)
        assert f(**given)["y"].tobytes() == first.tobytes()
    assert "for b" in f.source  # laid out when somebody asks
    compile_system(DENSE.system, winograd=False)(**given)
    compile_system(DENSE.system)(**{**given, "w": np.ones((4, 5))})
    assert len([p for p in tmp_path.rglob("*") if p.is_file()]) == 3


def test_there_is_work_for_many_threads() -> None:
    """The 3x3 taps of a wide layer are too few for many threads to share; its channels are not."""
    p = Program("y[b,i:4,j:4,k] = sum[m,n,c](w[m,n,c,k] * pad(x)[b,i+m-1,j+n-1,c])")
    p = p.gradient(of="y", wrt=["w"])
    rng = np.random.default_rng(0)
    shapes = {"x": (2, 4, 4, 384), "w": (3, 3, 384, 512), "δy": (2, 4, 4, 512)}
    f = p.compile(cache=False)
    f(outputs=["δw"], **{t: rng.normal(size=shapes[t]) for t in p.inputs})
    (n,) = (q for q in f._code.layout.plans if q.nest.target == "δw")
    assert n.nest.sample is None
    assert n.shared_loop is not None
    assert n.order[0] != n.shared_loop
    assert (n.units(n.shared_loop) or 0) >= 8


def test_threads_that_help_each_other_do_everything_once() -> None:
    """Layers large enough that threads take their parts in chunks, and each other's."""
    p = Program(
        "h[b,k] = tanh(sum[i](w[i,k] * x[b,i]))\n"
        "E = mean[b](sum[l]((sum[k](v[k,l] * h[b,k]) - t[b,l])**2))\n"
        "w[i,k] = w[i,k] - 0.01*grad(E, w)[i,k]\n"
        "v[k,l] = v[k,l] - 0.01*grad(E, v)[k,l]"
    )
    rng = np.random.default_rng(0)
    state = {"w": rng.normal(size=(150, 333)) / 12, "v": rng.normal(size=(333, 40)) / 18}
    data = {"x": rng.normal(size=(120, 150)), "t": rng.normal(size=(120, 40))}
    made = set()
    for threads in (1, 2, 3, 4, 7, 8, 16):
        trainer = p.trainer(state, dtype="float64", threads=threads, cache=False)
        losses = [trainer.run(data, batch_size=50) for _ in range(4)]
        made.add(b"".join(a.tobytes() for a in (*losses, *trainer.state().values())))
    assert len(made) == 1
    w, v = (a.copy() for a in state.values())
    for rows in 4 * [slice(0, 50), slice(50, 100), slice(100, 120)]:
        x, t = data["x"][rows], data["t"][rows]
        h = np.tanh(x @ w)
        d = 2 * (h @ v - t) / len(x)
        w, v = w - 0.01 * x.T @ ((d @ v.T) * (1 - h**2)), v - 0.01 * h.T @ d
    np.testing.assert_allclose(trainer.state()["w"], w, rtol=1e-10, atol=1e-12)
    np.testing.assert_allclose(trainer.state()["v"], v, rtol=1e-10, atol=1e-12)


def test_an_outline_comes_back_as_it_was() -> None:
    rng = np.random.default_rng(0)
    program = Program(CNN)
    trainer = Trainer(program.expanded.system, cnn_state(rng), written=program.system, cache=False)
    trainer.run(cnn_data(rng, 64))
    (instance,) = trainer._instances.values()
    kept, objects = unpacked(packed(instance.outline, [b"code", b"", b"more"]))
    assert objects == [b"code", b"", b"more"]
    assert kept == instance.outline == outline(instance.code.layout)
    owners = [{t for t in o.buffers if o.buffers[t] is o.buffers["w"]}
              for o in (kept, instance.outline)]  # fmt: skip
    assert owners[0] == owners[1] != {"w"}  # the new weights are in the old ones' place


@pytest.mark.skipif(os.name != "posix", reason="sends a signal to itself")
def test_an_interrupt_in_the_middle_of_training(monkeypatch: Any) -> None:
    monkeypatch.setattr("chainrule.native.trainer.WORTH_THREADS", 0)
    rng = np.random.default_rng(0)
    program = Program(CNN)
    trainer = Trainer(program.expanded.system, cnn_state(rng), threads=2, written=program.system)
    data = cnn_data(rng, 64)
    trainer.run(data)
    order = np.zeros(3_000_000, int)
    handler = signal.signal(signal.SIGINT, signal.default_int_handler)  # may have been ignored
    threading.Timer(0.2, lambda: os.kill(os.getpid(), signal.SIGINT)).start()
    try:
        with pytest.raises(KeyboardInterrupt):
            trainer.run(data, order=order)
    finally:
        signal.signal(signal.SIGINT, handler)
    assert np.isfinite(trainer.run(data)).all()
