"""The command line as a user meets it: exit status, streams, files, and never a traceback."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

from chainrule import cli as cli_module
from chainrule.cli import cli

CONVOLUTION = """\
x[i,j] = sum[m,n](w[m,n] * o[i+m, j+n]) + b
E = 1/2 * sum[i,j](x[i,j]**2)
"""


def chainrule(
    *arguments: str | Path, stdin: str | bytes = "", **environment: str
) -> subprocess.CompletedProcess[str]:
    source = str(Path(cli_module.__file__).parents[1])
    done = subprocess.run(
        [sys.executable, "-m", "chainrule", *map(str, arguments)],
        input=stdin if isinstance(stdin, bytes) else stdin.encode(),
        capture_output=True,
        env={**os.environ, "PYTHONPATH": source, "PYTHONIOENCODING": "utf-8", **environment},
        check=False,
        timeout=120,
    )
    assert b"Traceback" not in done.stdout + done.stderr
    return subprocess.CompletedProcess(
        done.args, done.returncode, done.stdout.decode(), done.stderr.decode()
    )


@pytest.fixture
def program(tmp_path: Path) -> Path:
    path = tmp_path / "conv.txt"
    path.write_text(CONVOLUTION, encoding="utf-8")
    return path


@pytest.fixture
def data(tmp_path: Path) -> Path:
    path = tmp_path / "x.npz"
    np.savez(path, o=np.arange(9.0).reshape(3, 3), w=np.ones((2, 2)), b=np.array(0.5), other=1)
    return path


def failed(*arguments: str | Path, stdin: str | bytes = "") -> str:
    """Run a command that must fail with status 2, and return its one message."""
    done = chainrule(*arguments, stdin=stdin)
    assert done.returncode == 2, done
    assert done.stdout == ""
    return done.stderr


def test_version_and_help() -> None:
    assert chainrule("--version").stdout.strip() == "chainrule, version 0.1.0"
    for name in ("derive", "run", "demo"):
        assert name in chainrule("--help").stdout
        assert chainrule(name, "--help").returncode == 0


def test_derive_shows_every_real_input(program: Path) -> None:
    done = chainrule("derive", program)
    assert (done.returncode, done.stderr) == (0, "")
    for title in ("∂E/∂w", "∂E/∂o", "∂E/∂b"):
        assert title in done.stdout
    assert "δw[m,n] = sum[i,j](δx[i,j]*o[i+m,j+n])" in done.stdout


def test_derive_reads_standard_input() -> None:
    done = chainrule("derive", "-", "--wrt", "w", stdin=CONVOLUTION)
    assert done.returncode == 0
    assert "∂E/∂w" in done.stdout
    assert "∂E/∂o" not in done.stdout


def test_derive_latex(program: Path) -> None:
    done = chainrule("derive", program, "--wrt", "w", "--latex")
    assert done.returncode == 0
    assert r"\frac{\partial E}{\partial w_{m,n}}" in done.stdout


def test_derive_of_a_tensor(program: Path) -> None:
    done = chainrule("derive", program, "--of", "x", "--wrt", "w")
    assert done.returncode == 0
    assert "∂x[i,j]/∂w[m,n]" in done.stdout


@pytest.mark.parametrize(
    ("text", "of"),
    [
        ("E = sum[i](a[i]**2)", "E"),
        ("E = sum[i](a[i]**2)\nF = 2*E", "F"),
        ("E = sum[i](a[i]**2)\nF = sum[i](a[i])\na[i] = a[i] - grad(E, a)[i]", "E"),
    ],
)
def test_the_objective_is_found(text: str, of: str) -> None:
    assert f"∂{of}/∂a" in chainrule("derive", "-", stdin=text).stdout


def test_derive_asks_which_scalar() -> None:
    message = failed("derive", "-", stdin="E = sum[i](a[i])\nF = sum[i](a[i]**2)")
    assert "E, F" in message
    assert "--of E" in message


def test_derive_without_a_scalar() -> None:
    assert "--of y" in failed("derive", "-", stdin="y[i] = a[i]**2")


def test_a_formula_error_names_the_file_and_the_place(tmp_path: Path) -> None:
    path = tmp_path / "wrong.txt"
    path.write_text("y[i] = a[i\n", encoding="utf-8")
    message = failed("derive", path)
    assert str(path) in message
    assert "line 1" in message
    assert "^" in message


@pytest.mark.parametrize("stdin", ["", "# nothing but a comment\n", b"\xff\xfe\x00", "(" * 5000])
def test_odd_texts(stdin: str | bytes) -> None:
    assert failed("derive", "-", stdin=stdin).startswith("Error: ")


def test_files_that_cannot_be_read(tmp_path: Path, program: Path) -> None:
    assert "no such file" in failed("derive", tmp_path / "none.txt")
    assert "is a directory" in failed("derive", tmp_path)
    assert "no such file" in failed("run", program, "--data", tmp_path / "none.npz")
    assert "is a directory" in failed("run", program, "--data", tmp_path)


def test_unknown_names(program: Path) -> None:
    assert "nosuch" in failed("derive", program, "--wrt", "nosuch")
    assert "nosuch" in failed("derive", program, "--of", "nosuch")


def test_usage_mistakes(program: Path) -> None:
    assert "--data" in failed("run", program)
    assert "nosuch" in failed("nosuch")


def test_run_prints_a_table(program: Path, data: Path) -> None:
    done = chainrule("run", program, "--data", data)
    assert (done.returncode, done.stderr) == (0, "")
    lines = [line.split(maxsplit=2) for line in done.stdout.splitlines()]
    assert lines[1] == ["x", "2x2", "[[ 8.5 12.5]"]
    assert lines[-1] == ["E", "scalar", "624.5"]
    assert "\x1b" not in done.stdout


def test_run_writes_arrays(program: Path, data: Path, tmp_path: Path) -> None:
    out = tmp_path / "y.npz"
    out.write_bytes(b"old")
    done = chainrule("run", program, "--data", data, "--out", out)
    assert (done.returncode, done.stderr) == (0, "")
    with np.load(out) as written:
        assert written["x"].tolist() == [[8.5, 12.5], [20.5, 24.5]]
        assert written["E"] == 624.5
    assert sorted(p.name for p in tmp_path.iterdir()) == ["conv.txt", "x.npz", "y.npz"]


def test_written_names_may_be_anything(tmp_path: Path, data: Path) -> None:
    out = tmp_path / "y.npz"
    text = "file[i,j] = 2*o[i,j]\nδq[i,j] = file[i,j] + 1"
    assert chainrule("run", "-", "--data", data, "--out", out, stdin=text).returncode == 0
    with np.load(out) as written:
        assert written["file"][1, 1] == 8
        assert written["δq"][1, 1] == 9
    text = "y = sum[i,j](d_q[i,j])"
    said = failed("run", "-", "--data", data, stdin=text)
    assert "42" not in said.replace(str(data), "")  # a folder may have any number in its name
    done = chainrule("run", "-", "--data", out, stdin=text)
    assert "81" in done.stdout


def test_outputs_that_cannot_be_written(program: Path, data: Path, tmp_path: Path) -> None:
    for out in (tmp_path, tmp_path / "none" / "y.npz", Path("/dev/null")):
        assert f"cannot write {out}" in failed("run", program, "--data", data, "--out", out)
    assert Path("/dev/null").is_char_device()


def test_data_that_does_not_fit(program: Path, tmp_path: Path) -> None:
    def with_data(name: str = "bad.npz", **arrays: object) -> str:
        path = tmp_path / name
        np.savez(path, **arrays)  # type: ignore[arg-type]
        return failed("run", program, "--data", path)

    o, w, b = np.ones((3, 3)), np.ones((2, 2)), np.array(0.0)
    assert "lacks w, b; it holds o" in with_data(o=o)
    assert "it holds nothing" in with_data()
    assert "array w has type" in with_data(o=o, w=np.array([["a", "b"]]), b=b)
    assert "array w cannot be read" in with_data(o=o, w=np.array([[None]]), b=b)
    assert "complex" in with_data(o=o, w=w * 1j, b=b)
    assert "conv.txt" in with_data(o=o, w=np.ones(2), b=b)
    assert "conv.txt" in with_data(o=o, w=np.ones((4, 4)), b=b)


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04 and no more", b"text", b"\x93NUMPY\x01"])
def test_files_that_are_no_npz(program: Path, tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "bad.npz"
    path.write_bytes(content)
    assert "is not an .npz file" in failed("run", program, "--data", path)


def test_a_damaged_npz(program: Path, data: Path) -> None:
    content = bytearray(data.read_bytes())
    middle = content.index(b"NUMPY") + 130
    content[middle : middle + 8] = b"\xff" * 8
    data.write_bytes(content)
    assert "cannot be read" in failed("run", program, "--data", data)


def test_a_single_array_is_no_npz(program: Path, tmp_path: Path) -> None:
    path = tmp_path / "x.npy"
    np.save(path, np.ones(3))
    assert "one array without a name" in failed("run", program, "--data", path)


def test_a_closed_pipe_ends_quietly(program: Path) -> None:
    reading, writing = os.pipe()
    os.close(reading)
    done = subprocess.run(
        [sys.executable, "-m", "chainrule", "derive", str(program)],
        stdout=writing,
        stderr=subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": str(Path(cli_module.__file__).parents[1])},
        check=False,
        timeout=60,
    )
    os.close(writing)
    assert (done.returncode, done.stderr) == (0, b"")


@pytest.mark.skipif(os.name == "nt", reason="needs a shell")
def test_without_standard_output(program: Path) -> None:
    done = subprocess.run(
        f"{sys.executable} -m chainrule derive {program} >&-",
        shell=True,
        stderr=subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": str(Path(cli_module.__file__).parents[1])},
        check=False,
        timeout=60,
    )
    assert (done.returncode, done.stderr) == (0, b"")


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
def test_a_full_disk_is_one_message(program: Path) -> None:
    with open("/dev/full", "wb") as full:
        done = subprocess.run(
            [sys.executable, "-m", "chainrule", "derive", str(program)],
            stdout=full,
            stderr=subprocess.PIPE,
            env={**os.environ, "PYTHONPATH": str(Path(cli_module.__file__).parents[1])},
            check=False,
            timeout=60,
        )
    assert done.returncode == 2
    assert b"no space left" in done.stderr
    assert b"Traceback" not in done.stderr


@pytest.mark.skipif(os.name == "nt", reason="signals")
def test_an_interrupt_ends_with_130() -> None:
    handler = signal.getsignal(signal.SIGINT)  # in a job in the background, to ignore it
    signal.signal(signal.SIGINT, signal.default_int_handler)
    process = subprocess.Popen(
        [sys.executable, "-m", "chainrule", "demo"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env={
            **os.environ,
            "PYTHONPATH": str(Path(cli_module.__file__).parents[1]),
            "CHAINRULE_CACHE": "off",  # it takes longer so
        },
    )
    signal.signal(signal.SIGINT, handler)
    assert process.stdout is not None
    process.stdout.read(1)  # the demo is running
    time.sleep(0.1)
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 130
    assert b"Traceback" not in errors


def test_a_terminal_without_greek(program: Path) -> None:
    done = chainrule("derive", program, PYTHONIOENCODING="ascii")
    assert done.returncode == 0
    assert r"\u03b4w" in done.stdout


def test_a_fault_of_our_own_is_no_traceback(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], program: Path
) -> None:
    def broken(_: object) -> str:
        raise TypeError("oops")

    monkeypatch.setattr(cli_module, "objective", broken)
    with pytest.raises(SystemExit) as ended:
        cli_module.main(["derive", str(program)])
    assert ended.value.code == 1
    assert "TypeError: oops" in capsys.readouterr().err


def test_commands_run_in_process(program: Path, data: Path) -> None:
    result = CliRunner().invoke(cli, ["run", str(program), "--data", str(data)])
    assert (result.exit_code, result.exception) == (0, None)
