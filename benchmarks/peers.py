"""The same networks in PyTorch and ONNX Runtime, with the same initial values."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.networks import LEARNING_RATE, Network

try:
    import torch
    from torch import nn
except ImportError:  # the table then has our own columns only
    torch = None  # type: ignore[assignment]

Array = NDArray[Any]
VARIANTS = ("eager", "channels_last", "compile")


def _state_of(network: Network, layer: str, number: int, state: dict[str, Array]) -> Array:
    """A parameter in PyTorch's layout: channels first, outputs first."""
    a = state[f"{layer}{number}"]
    if layer == "w":
        return a.transpose(3, 2, 0, 1)  # kernel rows, columns, in, out -> out, in, rows, columns
    if layer == "f":
        a = a.transpose(2, 0, 1, 3) if a.ndim == 4 else a  # flattened channels first
        return a.reshape(-1, a.shape[-1]).T
    return a


def model(network: Network, state: dict[str, Array]) -> Any:
    """The network as torch.nn.Sequential, holding these values."""
    modules: list[Any] = []
    shape, convs, denses = network.image, 0, 0
    for kind, *given in network.layers:
        if kind == "conv":
            channels, kernel, padding = (int(n) for n in given)
            convs += 1
            made = nn.Conv2d(shape[-1], channels, kernel, padding=padding)
            names = ("w", "b", convs)
            side = shape[0] + 2 * padding - kernel + 1
            shape = (side, side, channels)
        elif kind == "dense":
            denses += 1
            made = nn.Linear(int(np.prod(shape)), int(given[0]))
            names = ("f", "g", denses)
            shape = (int(given[0]),)
        else:
            if kind == "pool":
                shape = (shape[0] // 2, shape[1] // 2, shape[2])
            modules.append(
                {"relu": nn.ReLU, "flatten": nn.Flatten, "pool": lambda: nn.MaxPool2d(2)}[kind]()
            )
            continue
        weight, bias, number = names
        with torch.no_grad():
            made.weight.copy_(torch.tensor(_state_of(network, weight, number, state).copy()))
            made.bias.copy_(torch.tensor(_state_of(network, bias, number, state)))
        modules.append(made)
    return nn.Sequential(*modules)


def images(network: Network, x: Array, variant: str) -> Any:
    """Samples as PyTorch wants them: channels first by name, in the variant's order in memory."""
    if len(network.image) == 1:
        return torch.from_numpy(x)
    chosen = torch.from_numpy(np.ascontiguousarray(x.transpose(0, 3, 1, 2)))
    return chosen if variant == "eager" else chosen.contiguous(memory_format=torch.channels_last)


def trainer(
    network: Network, state: dict[str, Array], x: Array, y: Array, batch: int, variant: str
) -> Callable[[int], list[float]]:
    """A function that trains for so many steps and returns their losses.

    Batches are taken in order, as views that cost nothing.
    """
    net = model(network, state)
    if variant != "eager" and len(network.image) > 1:
        net = net.to(memory_format=torch.channels_last)
    optimizer = torch.optim.SGD(net.parameters(), lr=LEARNING_RATE, fused=True)
    loss_of = nn.CrossEntropyLoss()

    def objective(inputs: Any, labels: Any) -> Any:
        return loss_of(net(inputs), labels)

    if variant == "compile":
        objective = torch.compile(objective, dynamic=False)
    inputs, labels = images(network, x, variant), torch.from_numpy(y)
    batches = [(inputs[k : k + batch], labels[k : k + batch]) for k in range(0, len(x), batch)]
    done = 0

    def run(steps: int) -> list[float]:
        nonlocal done
        losses = []
        for _ in range(steps):
            loss = objective(*batches[done % len(batches)])
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            optimizer.step()
            losses.append(loss.detach())
            done += 1
        return [float(loss) for loss in losses]

    return run


def worked_example(arrays: dict[str, Array]) -> Callable[[int], list[float]]:
    """The 5x5 example, one step a call."""
    conv, dense = nn.Conv2d(1, 1, 2), nn.Linear(4, 2, bias=False)
    with torch.no_grad():
        conv.weight.copy_(torch.tensor(arrays["w"])[None, None])
        conv.bias.copy_(torch.tensor(arrays["b"])[None])
        dense.weight.copy_(torch.tensor(arrays["v"].reshape(2, 4)))
    o, t = torch.tensor(arrays["o"])[None, None], torch.tensor(arrays["t"])[None]
    optimizer = torch.optim.SGD([*conv.parameters(), *dense.parameters()], lr=0.01)

    def run(steps: int) -> list[float]:
        losses = []
        for _ in range(steps):
            pooled = nn.functional.max_pool2d(conv(o), 2)
            u = dense(torch.sigmoid(pooled).flatten(1))
            loss = 0.5 * ((t - u) ** 2).sum()
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            optimizer.step()
            losses.append(float(loss.detach()))
        return losses

    return run


def inference(network: Network, state: dict[str, Array], image: Array, variant: str) -> Any:
    """A function of no arguments that returns one image's outputs."""
    net = model(network, state).eval()
    given = images(network, image[None], variant)
    if variant != "eager":
        net = net.to(memory_format=torch.channels_last)
    call = torch.compile(net, dynamic=False) if variant == "compile" else net

    def run() -> Array:
        with torch.inference_mode():
            out: Array = call(given).numpy()
        return out

    return run


def onnx_inference(network: Network, state: dict[str, Array], image: Array, threads: int) -> Any:
    """The same in ONNX Runtime; None where it is not installed."""
    try:
        import onnx
        import onnxruntime
        from onnx import TensorProto, helper, numpy_helper
    except ImportError:
        return None
    nodes, values, at = [], [], "x0"
    convs = denses = 0
    for k, (kind, *given) in enumerate(network.layers):
        out, extra, attributes = f"x{k + 1}", [], {}
        if kind in ("conv", "dense"):
            convs, denses = convs + (kind == "conv"), denses + (kind == "dense")
            pair = ("w", "b", convs) if kind == "conv" else ("f", "g", denses)
            for layer in pair[:2]:
                a = np.ascontiguousarray(_state_of(network, layer, pair[2], state))
                values.append(numpy_helper.from_array(a, f"{layer}{pair[2]}"))
                extra.append(f"{layer}{pair[2]}")
        if kind == "conv":
            attributes = {"pads": [int(given[2])] * 4}
        elif kind == "dense":
            attributes = {"transB": 1}
        elif kind == "pool":
            attributes = {"kernel_shape": [2, 2], "strides": [2, 2]}
        operator = {"conv": "Conv", "dense": "Gemm", "pool": "MaxPool", "relu": "Relu",
                    "flatten": "Flatten"}[kind]  # fmt: skip
        nodes.append(helper.make_node(operator, [at, *extra], [out], **attributes))
        at = out
    height, width, channels = network.image
    graph = helper.make_graph(
        nodes,
        network.name,
        [helper.make_tensor_value_info("x0", TensorProto.FLOAT, [1, channels, height, width])],
        [helper.make_tensor_value_info(at, TensorProto.FLOAT, [1, network.classes])],
        values,
    )
    proto = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    onnx.checker.check_model(proto)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    session = onnxruntime.InferenceSession(
        proto.SerializeToString(), options, providers=["CPUExecutionProvider"]
    )
    feed = {"x0": np.ascontiguousarray(image[None].transpose(0, 3, 1, 2))}

    def run() -> Array:
        out: Array = session.run(None, feed)[0]
        return out

    return run
