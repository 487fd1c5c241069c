"""Promises of the package as a whole."""

from __future__ import annotations

import subprocess
import sys
from importlib import metadata, resources
from pathlib import Path

import pytest

import chainrule as cr

SOURCE = Path(cr.__file__).parent


def fresh_python(code: str) -> str:
    done = subprocess.run(
        [sys.executable, "-c", f"import sys; sys.path.insert(0, {str(SOURCE.parent)!r}); {code}"],
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    return done.stdout


def test_import_is_light() -> None:
    heavy = "{'click', 'rich', 'llvmlite', 'scipy', 'hypothesis'}"
    code = f"import chainrule; print(sorted({heavy} & set(sys.modules)))"
    assert fresh_python(code) == "[]\n"


def test_import_is_quick(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # As installed packages are imported: from bytecode, which some test machines do not keep.
    monkeypatch.delenv("PYTHONDONTWRITEBYTECODE", raising=False)
    monkeypatch.setenv("PYTHONPYCACHEPREFIX", str(tmp_path))
    fresh_python("import chainrule")
    assert list(tmp_path.rglob("chainrule/program.*.pyc"))

    # Processor time, the best of five: the tests themselves keep the cores busy.
    code = "import time; t = time.process_time(); import {}; print(time.process_time() - t)"
    if min(float(fresh_python(code.format("numpy"))) for _ in range(5)) > 0.12:
        pytest.skip("this machine is slow now: NumPy alone takes more than 0.12 s")
    assert min(float(fresh_python(code.format("chainrule"))) for _ in range(5)) < 0.2


def test_the_version_is_said_once_and_agrees() -> None:
    try:
        installed = metadata.version("chainrule")
    except metadata.PackageNotFoundError:
        pytest.skip("not installed")
    assert cr.__version__ == installed


def test_the_package_ships_its_data_and_types() -> None:
    files = resources.files("chainrule")
    assert files.joinpath("py.typed").is_file()
    assert files.joinpath("data", "digits.npz").is_file()
    assert "CC BY 4.0" in files.joinpath("data", "README.md").read_text(encoding="utf-8")
