"""The table of slips: the mistakes people make, each with a name, what it is, and what finds it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from chainrule.check import local, paths, slopes, whole
from chainrule.check.variants import Variant
from chainrule.check.work import Work


@dataclass(frozen=True)
class Slip:
    """name          what the report calls it; its variants carry the same name
    explanation   what went wrong, and what is right
    find          the places in a program where it may have happened
    by_data       its variants depend on the numbers, not only on formulas and shapes
    """

    name: str
    explanation: str
    find: Callable[[Work], Iterator[Variant]] | None = None
    by_data: bool = False


SLIPS: tuple[Slip, ...] = (
    Slip(
        "target - output",
        "the error was taken as target - output; the derivative of the loss is output - target",
        local.target_minus_output,
    ),
    Slip("sign", "a sign is wrong", local.sign),
    Slip("doubled", "all is twice too large: a ½ in the loss was forgotten, or a 2 added"),
    Slip("halved", "all is half of what it should be: the loss has no ½"),
    Slip(
        "sum for mean",
        "the loss is a mean, the gradient was computed for a sum: 1/N is missing",
        slopes.another_loss,
    ),
    Slip("mean for sum", "the loss is a sum, the gradient was divided by the number of its terms"),
    Slip("log10 for log", "the logarithm was taken to base 10; the language's log is natural"),
    Slip("another constant in the loss", "a constant of one term of the loss is not the program's"),
    Slip("another loss", "this is the gradient of another loss"),
    Slip("times the learning rate", "this is the step, learning rate included, not the gradient"),
    Slip("constant factor", "all numbers are off by one constant factor"),
    Slip(
        "activation derivative missing",
        "δ went through an activation unchanged; it must be multiplied by the slope there",
        slopes.activation,
    ),
    Slip("activation derivative doubled", "δ was multiplied by an activation's slope twice"),
    Slip(
        "activation derivative at the wrong value",
        "the slope of an activation was taken at another point than where it was applied",
    ),
    Slip(
        "another slope at the kink",
        "at a kink the slope is a convention, and here it is another one than the house's 0",
        slopes.kink_convention,
    ),
    Slip(
        "δ to every tied maximum",
        "each of several equal maxima got the whole δ, which is not a subgradient: together they "
        "get more than there is; the house gives it to the first",
        slopes.ties,
    ),
    Slip(
        "δ split between tied maxima",
        "equal maxima share δ, a valid convention; the house gives it to the first",
    ),
    Slip("δ to no tied maximum", "equal maxima got nothing; one of them must get δ"),
    Slip("δ to the last tied maximum", "of equal maxima the last got δ; the house takes the first"),
    Slip("δ to the whole window", "every element of the window got δ, not only its maximum"),
    Slip("δ to another element of the window", "δ went to an element that is not the maximum"),
    Slip(
        "a path left out",
        "a tensor reaches the loss in several ways, and their contributions add up; one is missing",
        paths.paths,
    ),
    Slip("a term left out", "a term of a sum or a difference is missing", local.missing_term),
    Slip("a factor left out", "a factor of a product is missing", local.factor_left_out),
    Slip(
        "not summed", "one value of an index stands where a sum over it belongs", local.not_summed
    ),
    Slip(
        "kernel not flipped",
        "a tensor was read from the other end: rotated by 180 degrees where it must not be, or "
        "not rotated where it must",
        local.flipped,
    ),
    Slip(
        "convolution for correlation",
        "the forward pass was computed with the kernel flipped (a convolution); the program has a "
        "correlation",
        whole.convolution,
        by_data=True,
    ),
    Slip("transposed", "two indices of a tensor are exchanged", local.transposed),
    Slip("two tensors swapped", "a tensor stands where another belongs", local.tensors_swapped),
    Slip("two tensors swapped", "", local.other_gradient),
    Slip(
        "overlapping windows overwritten",
        "windows overlap, so an element gets a term from each that reads it: add, do not assign",
        whole.overwritten,
    ),
    Slip("stride ignored", "the stride was left out of an index", local.stride_ignored),
    Slip("padding", "the padding has another width (per side or in total?)", local.padding),
    Slip("padding", "", whole.another_padding),
    Slip("padding not cut off", "the gradient of the padded tensor has its border still on"),
    Slip(
        "updated weights in the backward pass",
        "a weight was updated before δ went back through it; all gradients belong to one point, "
        "so update after the backward pass",
        whole.updated_weights,
    ),
    Slip(
        "bias untied",
        "a bias shared by all places or samples has one gradient: the sum over all of them",
    ),
    Slip("bias tied", "each place has a bias of its own here: nothing is summed"),
    Slip("other shape", "the numbers are right, the shape is not"),
    Slip(
        "rounded intermediate values",
        "the formulas are right: an intermediate result was rounded before it was used",
    ),
    Slip(
        "step too large",
        "these are finite differences, right for their step, but the step is too large",
    ),
    Slip(
        "step too small",
        "these are finite differences, but the step is too small: few digits are left of them",
    ),
    Slip(
        "whole numbers",
        "the array holds integers, so what is behind the point was cut off: use floats",
    ),
    Slip(
        "float32 differences",
        "these are differences of float32 numbers: too few digits are left of them; use float64",
    ),
)

EXPLANATIONS = {s.name: s.explanation for s in reversed(SLIPS)}
