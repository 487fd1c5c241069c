"""Make every slip of tests/slip_networks.py many times and count what the checker says.

python scripts/slips.py [SEEDS]      writes docs/results/check.json
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np

HOME = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(HOME / "src"), str(HOME / "tests")]

import chainrule as cr  # noqa: E402
from slip_networks import NETWORKS, Network, telling  # noqa: E402


def slips(network: Network, program: cr.Program, seeds: int) -> dict[str, int]:
    """How many slips were refused, and named rightly."""
    out = {"slips": 0, "called right": 0, "named": 0, "names given": 0}
    for seed in range(seeds):
        for slip, wrt, names in network.cases():
            data, wrong = telling(network, slip, wrt, seed)
            report = cr.check(wrong, program, network.of, wrt, **data)
            also = {d.also.name for d in report.diagnosis if d.also}
            given = {d.name for d in report.diagnosis} | also
            out["slips"] += 1
            out["called right"] += bool(report)
            out["named"] += bool(given & names)
            out["names given"] += len(given)
    return out


def right_ones(network: Network, program: cr.Program, seeds: int) -> dict[str, int]:
    """Right gradients in float64 and float32, and the same ones off by 0.1%."""
    out = {"right": 0, "right called wrong": 0, "off by 0.1%": 0, "0.1% called right": 0}
    for seed in range(seeds):
        data = network.data(np.random.default_rng(5000 + seed))
        single = {name: a.astype(np.float32) for name, a in data.items()}
        short = network.gradient(single, "")
        for wrt, value in network.gradient(data, "").items():
            for mine in (value, np.asarray(short[wrt], dtype=np.float32)):
                out["right"] += 1
                out["right called wrong"] += not cr.check(mine, program, network.of, wrt, **data)
            if seed < 2 and np.any(value):
                out["off by 0.1%"] += 1
                wrong = 1.001 * np.asarray(value)
                out["0.1% called right"] += bool(cr.check(wrong, program, network.of, wrt, **data))
    return out


def main() -> None:
    seeds = int(sys.argv[1]) if len(sys.argv) > 1 else 5
    networks: dict[str, Any] = {}
    total: dict[str, int] = {}
    for network in NETWORKS:
        program = cr.Program(network.text)
        row = slips(network, program, seeds) | right_ones(network, program, 4 * seeds)
        networks[network.name] = row
        for key, n in row.items():
            total[key] = total.get(key, 0) + n
        print(f"{network.name}: {row}", flush=True)
    result = {
        "script": "scripts/slips.py",
        "seeds": seeds,
        "total": total | {"named, share": round(total["named"] / total["slips"], 4)},
        "networks": networks,
    }
    path = HOME / "docs" / "results" / "check.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(result, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
    print(result["total"])


if __name__ == "__main__":
    main()
