"""Does the suite notice?  One small fault at a time is seeded into a copy of the library.

    python scripts/mutants.py [--jobs 2] [--only PATTERN]

A mutant is killed when a test fails; it survives when all pass.  The table of faults is
mutants.txt beside this script; the result goes to docs/results/mutants.json.  Exit status 1 when
fewer than 95% are killed, 2 when a fault no longer fits the source or the suite fails without one.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
TABLE = Path(__file__).with_name("mutants.txt")
RESULT = ROOT / "docs" / "results" / "mutants.json"
# Cheapest first: a fault that one of them notices costs no more.
STEPS = (
    ["tests/test_gather.py"],
    [
        "tests/test_generated.py",
        "-k",
        f"test_generated_programs and ({' or '.join(f'[{k}]' for k in range(0, 200, 25))})",
    ],
    ["tests/worked_examples", "tests/test_errors.py"],
    ["tests/test_convolutions.py"],
    ["tests/test_generated.py"],
)


@dataclass(frozen=True)
class Mutant:
    """One replacement of text in one file; `why` explains a survivor that changes no result."""

    file: str
    old: str
    new: str
    why: str


def read_table(text: str) -> list[Mutant]:
    """Blocks of lines: `file:`, `-old`, `+new` and, for equivalent ones, `#why`."""
    out = []
    for block in re.split(r"\n\s*\n", text.strip()):
        lines = block.splitlines()
        old = "\n".join(x[1:] for x in lines if x.startswith("-"))
        new = "\n".join(x[1:] for x in lines if x.startswith("+"))
        why = " ".join(x[1:].strip() for x in lines if x.startswith("#"))
        if old:
            out.append(Mutant(lines[0].rstrip(":"), old, new, why))
    return out


def stale(m: Mutant) -> bool:
    return (ROOT / "src/chainrule" / m.file).read_text(encoding="utf-8").count(m.old) != 1


def killed_by(m: Mutant | None) -> str | None:
    """The first test that fails with the fault in place, None where all pass."""
    with tempfile.TemporaryDirectory() as folder:
        copy = Path(folder)
        for part in ("src", "tests"):
            shutil.copytree(ROOT / part, copy / part, ignore=shutil.ignore_patterns("__pycache__"))
        shutil.copy(ROOT / "pyproject.toml", copy)
        if m is not None:
            target = copy / "src/chainrule" / m.file
            text = target.read_text(encoding="utf-8")
            target.write_text(text.replace(m.old, m.new), encoding="utf-8")
        for tests in STEPS:
            command = [sys.executable, "-m", "pytest", "-x", "-q", "-p", "no:cacheprovider", *tests]
            threads = {"OPENBLAS_NUM_THREADS": "1", "PYTHONPATH": str(copy / "src")}
            try:
                run = subprocess.run(
                    command,
                    cwd=copy,
                    env=os.environ | threads,
                    capture_output=True,
                    text=True,
                    timeout=900,
                    check=False,
                )
            except subprocess.TimeoutExpired:
                return "(it never ends)"
            if run.returncode not in (0, 5):
                found = re.search(r"^(?:FAILED|ERROR) (\S+)", run.stdout, re.MULTILINE)
                return found[1] if found else run.stdout[-200:] + run.stderr[-200:]
    return None


def main() -> int:
    """Run the table; see the module's docstring."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--only", default="", help="faults whose file or text matches")
    args = parser.parse_args()
    mutants = [m for m in read_table(TABLE.read_text(encoding="utf-8")) if args.only in str(m)]
    if old := [m for m in mutants if stale(m)]:
        for m in old:
            print(f"no longer found once in {m.file}: {m.old}", file=sys.stderr)
        return 2
    with ThreadPoolExecutor(args.jobs) as pool:
        without = pool.submit(killed_by, None)
        results = []
        for m, by in zip(mutants, pool.map(killed_by, mutants), strict=True):
            results.append((m, by))
            print(f"{'killed  ' if by else 'SURVIVED'} {m.file}: {m.new.strip()[:70]}", flush=True)
    if by := without.result():
        print(f"the suite fails without any fault: {by}", file=sys.stderr)
        return 2
    killed = sum(by is not None for _, by in results)
    share = killed / len(results)
    print(f"{killed} of {len(results)} killed, {share:.1%}")
    if not args.only:
        RESULT.parent.mkdir(parents=True, exist_ok=True)
        rows = [
            {"file": m.file, "old": m.old, "new": m.new, "killed_by": by, "explanation": m.why}
            for m, by in results
        ]
        summary = {"mutants": len(results), "killed": killed, "share": share, "rows": rows}
        part = RESULT.with_suffix(".part")
        part.write_text(json.dumps(summary, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
        part.replace(RESULT)
    return 0 if share >= 0.95 else 1


if __name__ == "__main__":
    sys.exit(main())
