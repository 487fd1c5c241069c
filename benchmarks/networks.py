"""The networks of the table, as chainrule texts and as the layers the peers build them from."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from chainrule import Program

Array = NDArray[np.float32]
LEARNING_RATE = 0.01

# A layer of the peers' models: ("conv", channels, kernel, padding), ("pool", 2), ("relu",),
# ("flatten",), ("dense", width).
Layer = tuple[str, ...] | tuple[str, int] | tuple[str, int, int, int]


@dataclass(frozen=True)
class Network:
    """One network.

    forward     formulas from o (channels last) to u, one line a layer
    image       the shape of one sample
    layers      the same network for the peers
    """

    name: str
    forward: str
    image: tuple[int, ...]
    layers: tuple[Layer, ...]

    @property
    def classes(self) -> int:
        """The width of the last layer."""
        return int(self.layers[-1][1])

    def parameters(self) -> dict[str, tuple[int, ...]]:
        """The shape of each weight and bias, in order of use: w1, b1, w2, ... g2."""
        shapes: dict[str, tuple[int, ...]] = {}
        shape, convs, denses = self.image, 0, 0
        for kind, *given in self.layers:
            if kind == "conv":
                channels, kernel, padding = (int(n) for n in given)
                convs += 1
                shapes[f"w{convs}"] = (kernel, kernel, shape[2], channels)
                shapes[f"b{convs}"] = (channels,)
                side = shape[0] + 2 * padding - kernel + 1
                shape = (side, side, channels)
            elif kind == "pool":
                shape = (shape[0] // 2, shape[1] // 2, shape[2])
            elif kind == "dense":
                denses += 1
                shapes[f"f{denses}"] = (*shape, int(given[0]))
                shapes[f"g{denses}"] = (int(given[0]),)
                shape = (int(given[0]),)
        return shapes

    def multiply_adds(self) -> int:
        """Of one sample's training step: forward, weight gradients, input gradients.

        The first layer needs no input gradient.  Only what the formulas ask is counted.
        """
        total, shape, first = 0, self.image, True
        for kind, *given in self.layers:
            if kind == "conv":
                channels, kernel, padding = (int(n) for n in given)
                side = shape[0] + 2 * padding - kernel + 1
                # taps that fall on padding are no work
                inside = sum(
                    min(side, shape[0] + padding - k) - max(0, padding - k) for k in range(kernel)
                )
                work = inside * inside * shape[2] * channels
                shape = (side, side, channels)
            elif kind == "pool":
                shape = (shape[0] // 2, shape[1] // 2, shape[2])
                continue
            elif kind == "dense":
                work = math.prod(shape) * int(given[0])
                shape = (int(given[0]),)
            else:
                continue
            total += work * (2 if first else 3)
            first = False
        return total

    def inference(self) -> Program:
        """The forward pass alone."""
        return Program(self.forward)

    def training(self) -> Program:
        """Forward, softmax cross-entropy, backward and one step of gradient descent."""
        lines = [self.forward.strip(), LOSS]
        for name, shape in self.parameters().items():
            at = ",".join("abcdefgh"[: len(shape)])
            lines.append(f"{name}[{at}] = {name}[{at}] - {LEARNING_RATE} * grad(E, {name})[{at}]")
        return Program("\n".join(lines))

    def state(self, seed: int = 0) -> dict[str, Array]:
        """Initial values: normal, scaled by the number of terms in a sum (He et al., 2015)."""
        draw = np.random.default_rng(seed)
        return {
            name: (draw.normal(size=shape) * math.sqrt(2 / math.prod(shape[:-1]))).astype("f4")
            if len(shape) > 1
            else np.zeros(shape, "f4")
            for name, shape in self.parameters().items()
        }

    def data(self, samples: int, seed: int = 1) -> tuple[Array, NDArray[np.int64]]:
        """Images of noise and random labels: speed does not depend on what is in them."""
        draw = np.random.default_rng(seed)
        images = draw.normal(size=(samples, *self.image)).astype("f4")
        return images, draw.integers(0, self.classes, samples)


LOSS = "E = mean[b](logsumexp[l](u[b,l]) - sum[l](u[b,l] * (l == t[b])))"

LENET = """
c1[b,i:28,j:28,k] = sum[m,n,c](w1[m,n,c,k] * pad(o)[b,i+m-2,j+n-2,c]) + b1[k]
p1[b,i,j,k] = max[p:2,q:2](relu(c1[b,2*i+p,2*j+q,k]))
c2[b,i,j,k] = sum[m,n,c](w2[m,n,c,k] * p1[b,i+m,j+n,c]) + b2[k]
p2[b,i,j,k] = max[p:2,q:2](relu(c2[b,2*i+p,2*j+q,k]))
h1[b,l] = relu(sum[i,j,k](f1[i,j,k,l] * p2[b,i,j,k]) + g1[l])
h2[b,l] = relu(sum[k](f2[k,l] * h1[b,k]) + g2[l])
u[b,l] = sum[k](f3[k,l] * h2[b,k]) + g3[l]
"""

MNIST_SMALL = """
c1[b,i,j,k] = sum[m,n,c](w1[m,n,c,k] * o[b,i+m,j+n,c]) + b1[k]
p1[b,i,j,k] = max[p:2,q:2](relu(c1[b,2*i+p,2*j+q,k]))
c2[b,i,j,k] = sum[m,n,c](w2[m,n,c,k] * p1[b,i+m,j+n,c]) + b2[k]
p2[b,i,j,k] = max[p:2,q:2](relu(c2[b,2*i+p,2*j+q,k]))
u[b,l] = sum[i,j,k](f1[i,j,k,l] * p2[b,i,j,k]) + g1[l]
"""

MNIST_KERAS = """
c1[b,i,j,k] = relu(sum[m,n,c](w1[m,n,c,k] * o[b,i+m,j+n,c]) + b1[k])
c2[b,i,j,k] = sum[m,n,c](w2[m,n,c,k] * c1[b,i+m,j+n,c]) + b2[k]
p2[b,i,j,k] = max[p:2,q:2](relu(c2[b,2*i+p,2*j+q,k]))
h1[b,l] = relu(sum[i,j,k](f1[i,j,k,l] * p2[b,i,j,k]) + g1[l])
u[b,l] = sum[k](f2[k,l] * h1[b,k]) + g2[l]
"""

CIFAR_VGG = """
c1[b,i:32,j:32,k] = relu(sum[m,n,c](w1[m,n,c,k] * pad(o)[b,i+m-1,j+n-1,c]) + b1[k])
c2[b,i:32,j:32,k] = sum[m,n,c](w2[m,n,c,k] * pad(c1)[b,i+m-1,j+n-1,c]) + b2[k]
p2[b,i,j,k] = max[p:2,q:2](relu(c2[b,2*i+p,2*j+q,k]))
c3[b,i:16,j:16,k] = relu(sum[m,n,c](w3[m,n,c,k] * pad(p2)[b,i+m-1,j+n-1,c]) + b3[k])
c4[b,i:16,j:16,k] = sum[m,n,c](w4[m,n,c,k] * pad(c3)[b,i+m-1,j+n-1,c]) + b4[k]
p4[b,i,j,k] = max[p:2,q:2](relu(c4[b,2*i+p,2*j+q,k]))
h1[b,l] = relu(sum[i,j,k](f1[i,j,k,l] * p4[b,i,j,k]) + g1[l])
u[b,l] = sum[k](f2[k,l] * h1[b,k]) + g2[l]
"""

MLP = """
h1[b,l] = relu(sum[i](f1[i,l] * o[b,i]) + g1[l])
h2[b,l] = relu(sum[i](f2[i,l] * h1[b,i]) + g2[l])
u[b,l] = sum[i](f3[i,l] * h2[b,i]) + g3[l]
"""

_RELU, _POOL, _FLAT = ("relu",), ("pool", 2), ("flatten",)

NETWORKS: dict[str, Network] = {
    n.name: n
    for n in (
        Network(
            "lenet",
            LENET,
            (28, 28, 1),
            (
                *(("conv", 6, 5, 2), _RELU, _POOL),
                *(("conv", 16, 5, 0), _RELU, _POOL, _FLAT),
                *(("dense", 120), _RELU, ("dense", 84), _RELU, ("dense", 10)),
            ),
        ),
        Network(
            "mnist-small",
            MNIST_SMALL,
            (28, 28, 1),
            (
                *(("conv", 32, 3, 0), _RELU, _POOL),
                *(("conv", 64, 3, 0), _RELU, _POOL, _FLAT),
                ("dense", 10),
            ),
        ),
        Network(
            "mnist-keras",
            MNIST_KERAS,
            (28, 28, 1),
            (
                *(("conv", 32, 3, 0), _RELU),
                *(("conv", 64, 3, 0), _RELU, _POOL, _FLAT),
                *(("dense", 128), _RELU, ("dense", 10)),
            ),
        ),
        Network(
            "cifar-vgg",
            CIFAR_VGG,
            (32, 32, 3),
            (
                *(("conv", 32, 3, 1), _RELU, ("conv", 32, 3, 1), _RELU, _POOL),
                *(("conv", 64, 3, 1), _RELU, ("conv", 64, 3, 1), _RELU, _POOL, _FLAT),
                *(("dense", 128), _RELU, ("dense", 10)),
            ),
        ),
        Network(
            "mlp",
            MLP,
            (784,),
            (("dense", 256), _RELU, ("dense", 128), _RELU, ("dense", 10)),
        ),
    )
}

# The worked example of the documentation: one 5x5 sample, one step, called from Python each time.
WORKED = """
x[i,j] = sum[m,n](w[m,n] * o[i+m, j+n]) + b
p[i,j] = max[a:2, c:2](x[2*i+a, 2*j+c])
h[i,j] = sigmoid(p[i,j])
u[k] = sum[i,j](v[k,i,j] * h[i,j])
E = 1/2 * sum[k]((t[k] - u[k])**2)
w[m,n] = w[m,n] - 0.01 * grad(E, w)[m,n]
b = b - 0.01 * grad(E, b)
v[k,i,j] = v[k,i,j] - 0.01 * grad(E, v)[k,i,j]
"""


def worked_arrays(seed: int = 0) -> dict[str, Array]:
    """Inputs and initial values of the worked example."""
    draw = np.random.default_rng(seed)
    shapes = {"o": (5, 5), "t": (2,), "w": (2, 2), "b": (), "v": (2, 2, 2)}
    return {name: draw.normal(size=shape).astype("f4") for name, shape in shapes.items()}
