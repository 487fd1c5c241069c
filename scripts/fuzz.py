"""Try the library on many random programs, and say what went wrong and on which.

    python scripts/fuzz.py --cases 100000 --jobs 2     writes docs/results/fuzz.json
    python scripts/fuzz.py --seed 1234 [--ties]        one case, shown

Each program's text must survive printing and parsing; its values must be the oracle's; its
gradient must be the oracle's exact one and, where no kink is near, the central difference. Every
fourth case has data that ties. Exit 1 if anything fails.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import platform
import subprocess
import sys
import time
from collections import Counter
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT / "src"), str(ROOT / "tests")]
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

import numpy as np  # noqa: E402

from generate import Case, program  # noqa: E402
from generated_check import check  # noqa: E402

CHUNK = 200
SHOWN = 50  # failures kept in full


def ties(seed: int) -> bool:
    return seed % 4 == 3


def kinds(case: Case) -> Counter[str]:
    shapes = [array.shape for array in case.arrays.values()]
    return Counter(
        {
            "ties": case.ties,
            "exact fractions": case.rational,
            "central differences": case.smooth and case.upstream is None,
            "vector-Jacobian products": case.upstream is not None,
            "updates": bool(case.updated),
            "gradients of gradients": case.of == "G",
            "empty tensors": any(0 in shape for shape in shapes),
            "statements": len(case.text.splitlines()),
        }
    )


def attempt(seeds: range) -> tuple[Counter[str], list[dict[str, Any]]]:
    seen: Counter[str] = Counter()
    failures = []
    for seed in seeds:
        case = program(seed, ties(seed))
        seen += kinds(case)
        try:
            check(case)
        except AssertionError as error:
            message = str(error)
            failures.append({"seed": seed, "text": case.text, "message": message[:4000]})
    return seen, failures


def fuzz(first: int, cases: int, jobs: int, out: Path) -> dict[str, Any]:
    """Run them all; what is known so far is written as it comes, for a run takes an hour."""
    stop = first + cases
    chunks = [range(at, min(at + CHUNK, stop)) for at in range(first, stop, CHUNK)]
    version = commit()
    seen: Counter[str] = Counter()
    failures: list[dict[str, Any]] = []
    started = time.monotonic()
    result: dict[str, Any] = {}
    with multiprocessing.get_context("spawn").Pool(jobs) as pool:
        for done, (kinds_seen, failed) in enumerate(pool.imap(attempt, chunks), 1):
            seen += kinds_seen
            failures += failed
            failures.sort(key=lambda failure: len(failure["text"]))
            last = chunks[done - 1].stop - 1
            result = {
                "cases": last - first + 1,
                "first seed": first,
                "last seed": last,
                "failures": len(failures),
                "of these": dict(sorted(seen.items())),
                "seconds": round(time.monotonic() - started),
                "jobs": jobs,
                "date": datetime.now(timezone.utc).date().isoformat(),
                "commit": version,
                "python": platform.python_version(),
                "numpy": np.__version__,
                "failed": failures[:SHOWN],
            }
            write(out, result)
            progress = f"{last - first + 1} of {cases}, {len(failures)} failures"
            print(f"\r{progress}, {result['seconds']} s", end="", file=sys.stderr, flush=True)
    print(file=sys.stderr)
    return result


def commit() -> str:
    """The commit of the library that was tried; a + says that src/ had changes on top."""
    git = ["git", "-C", str(ROOT)]
    try:
        head = subprocess.run(
            [*git, "rev-parse", "--short", "HEAD"], check=False, capture_output=True, text=True
        )
        edits = subprocess.run(
            [*git, "status", "--short", "src"], check=False, capture_output=True, text=True
        )
    except OSError:
        return "unknown"
    return head.stdout.strip() + "+" * bool(edits.stdout.strip())


def write(out: Path, result: dict[str, Any]) -> None:
    out.parent.mkdir(parents=True, exist_ok=True)
    part = out.with_suffix(".part")
    part.write_text(json.dumps(result, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
    part.replace(out)


def main() -> int:
    parser = argparse.ArgumentParser(description="Random programs against the oracle.")
    parser.add_argument("--cases", type=int, default=10_000)
    parser.add_argument("--first", type=int, default=0, help="the first seed")
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--out", type=Path, default=ROOT / "docs" / "results" / "fuzz.json")
    parser.add_argument("--seed", type=int, help="show and try this one case only")
    parser.add_argument("--ties", action="store_true", help="with --seed: the case with ties")
    options = parser.parse_args()
    if options.seed is not None:
        case = program(options.seed, options.ties)
        print(case.text, case.of, case.wrt, case.arrays, sep="\n")
        check(case)
        return 0
    result = fuzz(options.first, options.cases, options.jobs, options.out)
    for failure in result["failed"][:5]:
        print(failure["message"], end="\n\n")
    print(f"{result['cases']} programs, {result['failures']} failures; see {options.out}")
    return 1 if result["failures"] else 0


if __name__ == "__main__":
    sys.exit(main())
