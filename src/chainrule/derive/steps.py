"""The record of a derivation: what was written, what it became, and by which rule."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

from chainrule.expr import Access, Expr
from chainrule.notation.latex import (
    align,
    cotangent_latex,
    expression_latex,
    statement_latex,
)
from chainrule.notation.show import expression, statement
from chainrule.system import Statement


class Step(NamedTuple):
    """One line of a derivation.

    rule     the rule's name: "chain rule", "substitute", "differentiate", "Kronecker", ...
    before   the formula the rule was applied to
    after    what it became
    note     why, in a few words
    """

    rule: str
    before: Expr
    after: Expr
    note: str


@dataclass(frozen=True)
class Stage:
    """The steps that lead to one cotangent: target is δt[...], wrt is t[...].

    of     the objective; None where a cotangent is given instead (a vector-Jacobian product)
    parts  the statements made on the way, which name a part of the forward pass
    """

    target: Access
    wrt: Access
    of: str | None
    steps: tuple[Step, ...]
    parts: tuple[Statement, ...] = ()


@dataclass(frozen=True)
class Derivation:
    """The whole way from the objective back to one tensor, one stage for each cotangent."""

    of: str
    wrt: str
    stages: tuple[Stage, ...]

    def __iter__(self) -> Iterator[Step]:
        return (step for stage in self.stages for step in stage.steps)

    def __len__(self) -> int:
        return sum(len(stage.steps) for stage in self.stages)

    def __str__(self) -> str:
        return "\n\n".join(map(_stage_text, self.stages))

    def latex(self) -> str:
        """One `align*` block for each stage."""
        return "\n\n".join(map(_stage_latex, self.stages))

    def _repr_markdown_(self) -> str:
        return "\n\n".join(f"$$\n{_stage_latex(stage, 'aligned')}\n$$" for stage in self.stages)


def _stage_text(stage: Stage) -> str:
    last = f"∂{stage.of}/∂{expression(stage.wrt)}" if stage.of else ""
    lines = [(expression(stage.target) + (f" = {last}" if last else ""), "")]
    for step in stage.steps:
        shown = expression(step.after)
        reason = step.rule + (f": {step.note}" if step.note else "")
        if shown == last:  # the rule changed nothing that can be seen: say it on the line above
            before, why = lines[-1]
            lines[-1] = (before, f"{why}; {reason}" if why else reason)
            continue
        lines.append((f"  = {shown}", reason))
        last = shown
    out = []
    for shown, why in lines:
        out.append(shown)
        if why:
            out.append(f"        ({why})")
    out += [f"  where {statement(s)}" for s in stage.parts]
    return "\n".join(out)


def _stage_latex(stage: Stage, environment: str = "align*") -> str:
    rows = []
    for k, step in enumerate(stage.steps):
        left = ""
        if k == 0:
            whole = cotangent_latex(stage.wrt, stage.of) if stage.of else None
            left = whole or expression_latex(stage.target)
        rows.append((left, expression_latex(step.after, stage.of), step.rule))
    rows += [(*statement_latex(s, stage.of), "where") for s in stage.parts]
    return align(rows, environment)
