"""chainrule's side of each measurement, in the same shape as the peers'."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.networks import WORKED, Network
from chainrule import Program

Array = NDArray[Any]


def trainer(
    network: Network, state: dict[str, Array], x: Array, y: Array, batch: int, threads: int
) -> Callable[[int], Array]:
    """A function that trains for so many steps, in one native call, and returns their losses."""
    return trainer_of(network.training(), state, x, y, batch, threads)


def trainer_of(
    program: Program,
    state: dict[str, Array],
    x: Array,
    y: Array,
    batch: int,
    threads: int | None = None,
) -> Callable[[int], Array]:
    """The same for a given program."""
    made = program.trainer(state, threads=threads)
    orders: dict[int, Array] = {}

    def run(steps: int) -> Array:
        order = orders.setdefault(steps, np.arange(steps * batch) % len(x))
        losses: Array = made.run({"o": x, "t": y}, order=order, batch_size=batch)
        return losses

    return run


def worked_example(arrays: dict[str, Array]) -> Callable[[int], list[float]]:
    """The 5x5 example, one step a call: the updated tensors go into the next call."""
    step = Program(WORKED).compile(threads=1)
    now = {name: arrays[name] for name in ("w", "b", "v")}
    o, t = arrays["o"], arrays["t"]
    wanted = ["E", "w", "b", "v"]

    def run(steps: int) -> list[float]:
        losses = []
        for _ in range(steps):
            out = step(outputs=wanted, o=o, t=t, **now)
            losses.append(float(out["E"]))
            for name in now:
                now[name] = out[name]
        return losses

    return run


def inference(network: Network, state: dict[str, Array], image: Array, threads: int) -> Any:
    """A function of no arguments that returns one image's outputs."""
    call = network.inference().compile(threads=threads)
    given = {"o": image[None], **state}
    wanted = ["u"]

    def run() -> Array:
        out: Array = call(outputs=wanted, **given)["u"]
        return out

    return run
