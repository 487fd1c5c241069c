"""What a check has to say: a verdict, the entries, the slip and where it enters."""

from __future__ import annotations

import html
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from chainrule.functions import Array

Index = tuple[int, ...]


@dataclass(frozen=True)
class Diagnosis:
    """A slip that reproduces the user's numbers.

    name          of the slip
    explanation   what it is
    where         the statement of the right derivation where it enters
    instead       the statement that reproduces the numbers
    note          what exactly
    rule          the derivation's rule at that statement
    places        other statements where the same slip gives the same numbers
    also          the second slip, where two together are needed
    """

    name: str
    explanation: str
    where: str = ""
    instead: str = ""
    note: str = ""
    rule: str = ""
    places: tuple[str, ...] = ()
    also: Diagnosis | None = None

    def lines(self) -> list[str]:
        note = f" ({self.note})" if self.note else ""
        out = [f"{self.name}{note}: {self.explanation}"]
        if self.where:
            out.append(f"  enters at   {self.where}" + (f"   [{self.rule}]" if self.rule else ""))
        if self.instead and self.instead != self.where:
            out.append(f"  as if       {self.instead}")
        if self.places:
            out.append("  or at       " + ", ".join(self.places))
        if self.also is not None:
            out += ["  and at the same time:", *("  " + line for line in self.also.lines())]
        return out

    def to_dict(self) -> dict[str, Any]:
        return {
            "name": self.name,
            "explanation": self.explanation,
            "where": self.where,
            "instead": self.instead,
            "note": self.note,
            "rule": self.rule,
            "places": list(self.places),
            "also": self.also.to_dict() if self.also else None,
        }


@dataclass(frozen=True)
class Kink:
    """An entry whose difference quotient straddles a kink.

    index   the entry
    place   what changed its branch: relu(x[0,2])
    value   the number there (0: on the kink itself), and `step` of the difference quotient
    """

    index: Index
    place: str
    value: float
    step: float

    def __str__(self) -> str:
        return (
            f"not an error: kink within h = {self.step:g} at {self.place}, "
            f"which is {self.value:.6g} here"
        )

    def to_dict(self) -> dict[str, Any]:
        return {
            "index": list(self.index),
            "place": self.place,
            "value": self.value,
            "step": self.step,
        }


@dataclass(frozen=True)
class StepReport:
    """One intermediate array of the user's.

    ok        it is right
    follows   it follows from the user's own earlier arrays
    shapes    its shape and the right one, where they differ
    """

    name: str
    ok: bool
    follows: bool
    max_error: float
    worst: Index
    yours: float
    right: float
    formula: str
    shapes: str = ""

    def __str__(self) -> str:
        if self.ok:
            return f"{self.name}: right"
        if self.shapes:
            return f"{self.name}: WRONG; its shape is {self.shapes}"
        at = entry_text(self.name, self.worst)
        how = "follows from the numbers before it" if self.follows else "WRONG"
        return f"{self.name}: {how}; {at} is {self.yours:.9g}, should be {self.right:.9g}"

    def to_dict(self) -> dict[str, Any]:
        return {
            "name": self.name,
            "ok": self.ok,
            "follows": self.follows,
            "max_error": self.max_error,
            "worst": list(self.worst),
            "yours": self.yours,
            "right": self.right,
            "formula": self.formula,
            "shapes": self.shapes,
        }


@dataclass(frozen=True)
class CheckReport:
    """The outcome of `check`; true where the candidate is right.

    ok          the verdict
    summary     the verdict in a sentence
    max_error   the largest difference
    worst       the index of that entry; `first` is the first entry that differs
    diagnosis   slips that reproduce the numbers; empty where none does, and then said so
    kinks       entries that no difference quotient can get right
    digits      leading digits in which all entries agree
    steps       verdicts on the intermediate arrays, in the order of computation
    entry       the worst entry's formula with its numbers
    proof       for a claim: how it was decided
    example     for a claim that is wrong: the smallest example found
    """

    ok: bool
    summary: str
    target: str
    formula: str = ""
    max_error: float = 0.0
    worst: Index = ()
    first: Index = ()
    yours: Array = field(default_factory=lambda: np.zeros(()))
    right: Array = field(default_factory=lambda: np.zeros(()))
    digits: int = 16
    diagnosis: tuple[Diagnosis, ...] = ()
    kinks: tuple[Kink, ...] = ()
    steps: tuple[StepReport, ...] = ()
    entry: str = ""
    proof: str = ""
    example: str = ""
    notes: tuple[str, ...] = ()

    def __bool__(self) -> bool:
        return self.ok

    def __str__(self) -> str:
        out = [f"{'ok' if self.ok else 'WRONG'}: {self.summary}"]
        if self.formula and not self.ok:
            out.append(f"  right       {self.formula}")
        if not self.ok and self.max_error != 0 and self.yours.shape == self.right.shape:
            for label, at in (("first", self.first), ("worst", self.worst)):
                if len(at) != self.yours.ndim or (label == "worst" and at == self.first):
                    continue
                yours, right = float(self.yours[at]), float(self.right[at])
                out.append(
                    f"  {label} entry {entry_text(self.target, at)}: "
                    f"yours {yours:.9g}, right {right:.9g}"
                )
        out += ["  " + line for line in self.entry.splitlines()]
        for k in self.kinks[:6]:
            out.append(f"  {entry_text(self.target, k.index)}: {k}")
        if len(self.kinks) > 6:
            out.append(f"  and {len(self.kinks) - 6} more entries at kinks")
        if self.steps:
            out += ["  step by step:", *(f"    {s}" for s in self.steps)]
        for d in self.diagnosis:
            out += ["  " + line for line in d.lines()]
        out += ["  " + line for line in self.example.splitlines()]
        out += [f"  {note}" for note in self.notes]
        return "\n".join(out)

    def __repr__(self) -> str:
        return f"<CheckReport {'ok' if self.ok else 'wrong'}: {self.summary}>"

    def _repr_html_(self) -> str:
        colour = "#0a7d33" if self.ok else "#b3261e"
        head, *rest = str(self).splitlines()
        return (
            f'<div><b style="color:{colour}">{html.escape(head)}</b>'
            f"<pre>{html.escape(chr(10).join(rest))}</pre></div>"
        )

    def to_dict(self) -> dict[str, Any]:
        """All of it as plain lists, numbers and texts (JSON; NaN becomes null)."""
        return {
            "ok": self.ok,
            "summary": self.summary,
            "target": self.target,
            "formula": self.formula,
            "max_error": _plain(self.max_error),
            "worst": list(self.worst),
            "first": list(self.first),
            "yours": _plain(self.yours.tolist()),
            "right": _plain(self.right.tolist()),
            "digits": self.digits,
            "diagnosis": [d.to_dict() for d in self.diagnosis],
            "kinks": [_plain(k.to_dict()) for k in self.kinks],
            "steps": [_plain(s.to_dict()) for s in self.steps],
            "entry": self.entry,
            "proof": self.proof,
            "example": self.example,
            "notes": list(self.notes),
        }


def entry_text(name: str, index: Index) -> str:
    """δw[0,1]"""
    return name + (f"[{','.join(map(str, index))}]" if index else "")


def _plain(x: Any) -> Any:
    """Numbers that JSON has no word for become null."""
    if isinstance(x, list):
        return [_plain(y) for y in x]
    if isinstance(x, dict):
        return {k: _plain(v) for k, v in x.items()}
    return None if isinstance(x, float) and not np.isfinite(x) else x
