"""`chainrule check` as a user meets it, and `cr.check` as a name."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

import chainrule as cr
from chainrule.cli import cli

TEXT = """
x[i,j] = sum[m,n](w[m,n] * o[i+m, j+n]) + b
E = 1/2 * sum[i,j](x[i,j]**2)
w[m,n] = w[m,n] - η * grad(E, w)[m,n]
"""


@pytest.fixture
def files(tmp_path: Path) -> Path:
    rng = np.random.default_rng(0)
    data = {"o": rng.normal(size=(4, 4)), "w": rng.normal(size=(2, 2)), "b": np.array(0.5)}
    right = cr.Program(TEXT).gradient("E", ["w"]).run(**data)
    (tmp_path / "net.txt").write_text(TEXT, encoding="utf-8")
    np.savez(tmp_path / "x.npz", **data)
    np.savez(tmp_path / "steps.npz", **data, x=right["x"] + 1, other=np.zeros(3))
    np.save(tmp_path / "right.npy", right["δw"])
    np.save(tmp_path / "wrong.npy", -right["δw"])
    return tmp_path


def run(files: Path, *arguments: str) -> tuple[int, str]:
    paths = [str(files / a) if (files / a).exists() else a for a in arguments]
    done = CliRunner().invoke(cli, ["check", *paths])
    return done.exit_code, done.output


def test_right(files: Path) -> None:
    status, output = run(
        files, "net.txt", "--wrt", "w", "--gradient", "right.npy", "--data", "x.npz"
    )
    assert status == 0
    assert output.startswith("ok: δw agrees")


def test_wrong(files: Path) -> None:
    status, output = run(
        files, "net.txt", "--wrt", "w", "--gradient", "wrong.npy", "--data", "x.npz", "--of", "E"
    )
    assert status == 1
    assert "WRONG" in output
    assert "sign" in output


def test_intermediate_results_in_the_data_are_checked(files: Path) -> None:
    status, output = run(
        files, "net.txt", "--wrt", "w", "--gradient", "right.npy", "--data", "steps.npz"
    )
    assert status == 1
    assert "the first wrong step is x" in output


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("net.txt", "--wrt", "q", "--gradient", "right.npy", "--data", "x.npz"), "no tensor q"),
        (("net.txt", "--wrt", "w", "--gradient", "none.npy", "--data", "x.npz"), "cannot read"),
        (("net.txt", "--wrt", "w", "--gradient", "x.npz", "--data", "x.npz"), "holds 3 arrays"),
        (("net.txt", "--wrt", "w", "--gradient", "net.txt", "--data", "x.npz"), "is no array"),
    ],
)
def test_mistakes(files: Path, arguments: tuple[str, ...], message: str) -> None:
    status, output = run(files, *arguments)
    assert status == 2
    assert message in output


def test_the_status_of_the_process(files: Path) -> None:
    command = [sys.executable, "-m", "chainrule", "check", str(files / "net.txt"), "--wrt", "w"]
    command += ["--data", str(files / "x.npz"), "--gradient"]
    for name, status in (("right.npy", 0), ("wrong.npy", 1), ("none.npy", 2)):
        done = subprocess.run([*command, str(files / name)], capture_output=True, check=False)
        assert done.returncode == status
        assert b"Traceback" not in done.stderr


def test_check_is_a_function_however_it_is_imported() -> None:

    assert cr.check([2.0], "E = x[0]**2", "E", "x", x=[1.0])
    assert isinstance(cr.check(1.0, "E = x[0]**2", x=[1.0]), cr.CheckReport)
    with pytest.raises(AttributeError, match="no attribute 'chekc'"):
        cr.chekc  # noqa: B018
