"""The first thing to run: a textbook example derived and computed, then a network that learns.

Nothing here is special: both networks are program text, and every derivation, gradient and
update is what `Program` gives for that text.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

import chainrule as cr
from chainrule.data import digits
from chainrule.notation import expression, statement
from chainrule.terminal import Screen, beside

Array = NDArray[Any]
Tensors = dict[str, Any]  # arrays by name

# The network of https://datascience.stackexchange.com/questions/27506
WORKED = """\
x[i,j] = sum[m,n](w[m,n] * o[i+m, j+n]) + b
p[i,j] = max[a:2, c:2](x[2*i+a, 2*j+c])
h[i,j] = sigmoid(p[i,j])
u[k] = sum[i,j](v[k,i,j] * h[i,j])
E = 1/2 * sum[k]((t[k] - u[k])**2)
"""
WORKED_UPDATE = """\
w[m,n] = w[m,n] - η * grad(E, w)[m,n]
b = b - η * grad(E, b)
"""

# 16 filters of 3x3 that keep the size, relu, 2x2 max pooling, one dense layer.
DIGITS = """\
c[b,i:size(o,1),j:size(o,2),k] = sum[m,n](w[m,n,k] * pad(o)[b,i+m-1,j+n-1]) + a[k]
p[b,i,j,k] = max[m:2,n:2](relu(c[b,2*i+m,2*j+n,k]))
u[b,l] = sum[i,j,k](v[i,j,k,l] * p[b,i,j,k]) + d[l]
"""
DIGITS_UPDATE = """\
E = mean[b](logsumexp[l](u[b,l]) - sum[l](u[b,l] * (l == t[b])))
w[m,n,k] = w[m,n,k] - η * grad(E, w)[m,n,k]
a[k] = a[k] - η * grad(E, a)[k]
v[i,j,k,l] = v[i,j,k,l] - η * grad(E, v)[i,j,k,l]
d[l] = d[l] - η * grad(E, d)[l]
"""
DIGITS_ANSWER = "digit[b] = argmax[l](u[b,l])\n"

HELD_OUT = 360
EPOCHS = 12
BATCH = 32
RATE = 0.5
SHADES = " ░▒▓█"


def main(screen: Screen) -> float:
    """Run the whole demo and return the share of held-out digits that it got right."""
    worked_example(screen)
    return learn_digits(screen)


def worked_inputs() -> Tensors:
    """Return the numbers of the question: image, kernel, weights, and targets.

    The question gives the error signals at the two outputs, u - t = (0.25, -0.15); the targets
    are the ones that produce them.
    """
    given: Tensors = {
        "o": np.array(
            [
                [0.51, 0.90, 0.88, 0.84, 0.05],
                [0.40, 0.62, 0.22, 0.59, 0.10],
                [0.11, 0.20, 0.74, 0.33, 0.14],
                [0.47, 0.01, 0.85, 0.70, 0.09],
                [0.76, 0.19, 0.72, 0.17, 0.57],
            ]
        ),
        "w": np.array([[-0.13, 0.15], [-0.51, 0.62]]),
        "b": np.array(0.0),
        "v": np.array([[[0.61, 0.82], [0.96, -1.00]], [[0.02, -0.50], [0.23, 0.17]]]),
        "t": np.zeros(2),
    }
    signals = np.array([0.25, -0.15])
    return {**given, "t": cr.Program(WORKED).run(**given)["u"] - signals}


def worked_example(screen: Screen) -> None:
    """Show a convolution's gradient: program, derivation, formulas, numbers, one update."""
    program = cr.Program(WORKED)
    gradient = program.gradient(of="E", wrt=["w", "b"])
    screen.heading("1  A small convolutional network: five formulas")
    screen.formulas("# the example of https://datascience.stackexchange.com/questions/27506")
    screen.formulas("# program = chainrule.Program(text)")
    screen.formulas(WORKED)

    screen.heading("2  How E changes with the kernel w: derived from them")
    screen.formulas('# program.derivation(of="E", wrt="w")')
    outline(screen, program.derivation(of="E", wrt="w"))

    screen.heading("3  The whole backward pass: again a program")
    screen.formulas('# gradient = program.gradient(of="E", wrt=["w", "b"])')
    backward = [s for s in gradient.statements if s.target not in program.outputs]
    screen.formulas("\n".join(map(statement, backward)))

    screen.heading("4  Numbers in, numbers out")
    screen.formulas("# gradient.run(o=o, w=w, b=0, v=v, t=t)")
    given = worked_inputs()
    values = {**given, **gradient.run(**given)}
    for names in (("o", "w", "v"), ("x", "p", "h"), ("δp", "δx"), ("δw", "δb")):
        screen.line(beside(*(_named(name, values[name]) for name in names)))
        screen.line()
    screen.line("  A much-read answer has δw = 0.0446 0.0941 0.0113 0.0683: it rounded on the way.")

    screen.heading("5  One step of gradient descent: two more formulas")
    screen.formulas(WORKED_UPDATE)
    given["η"] = np.array(0.5)
    updated = cr.Program(WORKED + WORKED_UPDATE).run(**given)
    after = {**given, "w": updated["w"], "b": updated["b"]}
    loss = cr.Program(WORKED).run(**{name: after[name] for name in program.inputs})["E"]
    screen.line(beside(*(_named(name, after[name]) for name in ("η", "w", "b"))))
    screen.line(f"  E falls from {float(values['E']):.6f} to {float(loss):.6f}")


def outline(screen: Screen, derivation: cr.Derivation) -> None:
    """Show a derivation with the names of its rules beside the formulas, without the reasons."""
    for stage in derivation.stages:
        partial = f"∂{stage.of}/∂{expression(stage.wrt)}"
        screen.formulas(f"{expression(stage.target)} = {partial}")
        last = partial
        for step in stage.steps:
            shown = expression(step.after)
            if shown != last:
                screen.labelled(f"{step.rule:>15}", f"  = {shown}")
            last = shown


def learn_digits(screen: Screen) -> float:
    """Train a network, forward pass to update rule in formulas, to read handwritten digits."""
    screen.heading("6  Formulas that learn to read: 1,797 handwritten digits")
    screen.formulas(DIGITS + DIGITS_UPDATE)
    images, labels = digits()
    order = np.random.default_rng(0).permutation(len(images))
    unseen, seen = order[:HELD_OUT], order[HELD_OUT:]
    weights = first_weights(np.random.default_rng(0))
    reader = cr.Program(DIGITS + DIGITS_ANSWER)

    def read(weights: Tensors) -> Array:
        return reader.run(o=images[unseen], **weights)["digit"].astype(int)

    screen.line(
        f"\n  {sum(w.size for w in weights.values()):,} weights, {len(seen):,} digits to learn"
        f" from, {len(unseen)} never seen to be judged by"
    )
    started = time.perf_counter()
    with screen.progress("training", EPOCHS) as progress:

        def after_epoch(epoch: int, loss: float, weights: Tensors) -> None:
            right = np.mean(read(weights) == labels[unseen])
            progress.step(f"epoch {epoch + 1:2}  E {loss:.4f}  held-out digits right {right:.1%}")

        weights = train(images[seen], labels[seen], weights, after_epoch)
    seconds = time.perf_counter() - started

    answers, truth, pictures = read(weights), labels[unseen], images[unseen]
    right = float(np.mean(answers == truth))
    screen.line(
        f"\n  {right:.1%} of {HELD_OUT} held-out digits read correctly,"
        f" after {seconds:.1f} s of training\n",
        style="bold green",
    )
    good, bad = np.flatnonzero(answers == truth), np.flatnonzero(answers != truth)
    _, first = np.unique(truth[good], return_index=True)  # one example of each digit
    shown = [*good[first[:3]], *bad[:2]]
    screen.line(beside(*(_drawn(pictures[i], answers[i], truth[i]) for i in shown)))
    explain_one(screen, weights, pictures[shown], truth[shown])
    return right


def explain_one(screen: Screen, weights: Tensors, pictures: Array, truth: Array) -> None:
    """Show how one number of a gradient comes about: terms, factors, and why others are 0."""
    screen.heading("7  One number of the trained network, explained")
    loss = next(line for line in DIGITS_UPDATE.splitlines() if line.startswith("E = "))
    program = cr.Program(DIGITS + loss)
    given = {**weights, "o": pictures, "t": truth}
    slope = program.gradient(of="E", wrt="w").run(**given)["δw"]
    m, n, k = np.unravel_index(np.argmax(np.abs(slope)), slope.shape)
    element = f"δw[{m},{n},{k}]"
    screen.formulas("# which weight would these digits change most, and who asks for it?")
    screen.formulas(f'# program.explain("{element}", o=the_digits_above, t=labels, ...)')
    screen.line()
    screen.formulas(str(program.explain(element, depth=0, **given)))


def first_weights(random: np.random.Generator) -> Tensors:
    """Return where training starts: small random weights, biases of zero."""
    filters, classes = 16, 10
    return {
        "w": random.normal(0, (2 / 9) ** 0.5, (3, 3, filters)),
        "a": np.zeros(filters),
        "v": random.normal(0, (1 / (16 * filters)) ** 0.5, (4, 4, filters, classes)),
        "d": np.zeros(classes),
    }


def train(
    images: Array,
    labels: Array,
    weights: Tensors,
    after_epoch: Callable[[int, float, Tensors], None],
) -> Tensors:
    """Run the update formulas over shuffled minibatches; the rate falls to 0 along a line."""
    trainer = cr.Program(DIGITS + DIGITS_UPDATE).trainer({**weights, "η": RATE})
    random = np.random.default_rng(0)
    for epoch in range(EPOCHS):
        trainer.put(η=RATE * (1 - epoch / EPOCHS))
        order = random.permutation(len(images))
        losses = trainer.run({"o": images, "t": labels}, order=order, batch_size=BATCH)
        weights = {t: a for t, a in trainer.state().items() if t in weights}
        after_epoch(epoch, float(np.mean(losses)), weights)
    return weights


def _named(name: str, value: Array) -> str:
    """Lay out `name = numbers`, the rows of a matrix under each other."""
    # More than two axes: a row for each value of the first index.
    rows = np.atleast_2d(value.reshape(len(value), -1) if value.ndim > 2 else value)
    lines = [" ".join(f"{number:7.4f}" for number in row) for row in rows]
    lead = f"  {name} = "
    return "\n".join((lead if i == 0 else " " * len(lead)) + line for i, line in enumerate(lines))


def _drawn(image: Array, answer: int, label: int) -> str:
    """Draw one digit, two characters a pixel, its answer below."""
    rows = ["  " + "".join(SHADES[round(4 * float(ink))] * 2 for ink in row) for row in image]
    verdict = f"  read as {answer}" + ("" if answer == label else f", is {label}")
    return "\n".join([*rows, verdict])
