"""What is asked for, "δw[0,0]": read, checked against shapes, and the System that has it."""

from __future__ import annotations

import difflib
import re
from collections.abc import Sequence

from chainrule import derive
from chainrule.errors import FormulaError
from chainrule.explain.values import Place
from chainrule.expr import Grad, walk
from chainrule.notation.indices import canonical
from chainrule.system import System

_TARGET = re.compile(r"\s*([^\W\d]\w*)\s*(?:\[(.*)\]\s*)?")


def read_target(text: str) -> tuple[str, Place]:
    """The tensor and the element; raises FormulaError that points at what cannot be read."""
    if not isinstance(text, str):
        raise FormulaError(f"the number to explain is named by text, not by {text!r}", hint=_HINT)
    match = _TARGET.fullmatch(text)
    if match is None:
        raise _at(text, 0, len(text), f"cannot read {text.strip() or 'an empty name'!r}")
    name, inside = canonical(match[1]), match[2]
    if inside is None:
        return name, ()
    if not inside.strip():
        raise _at(text, match.start(2) - 1, 2, "the brackets are empty")
    index = []
    column = match.start(2)
    for piece in inside.split(","):
        word = piece.strip()
        where = column + len(piece) - len(piece.lstrip())
        if re.fullmatch(r"-\d+", word):
            raise _at(text, where, len(word), f"index {word} is negative: indices count from 0")
        if not re.fullmatch(r"[0-9]{1,18}", word):
            raise _at(text, where, max(len(word), 1), f"index {word or 'left out'} is no number")
        index.append(int(word))
        column += len(piece) + 1
    return name, tuple(index)


_HINT = "name one element, as in  δw[0,0]  or, of a scalar,  E"


def _at(text: str, start: int, width: int, message: str) -> FormulaError:
    return FormulaError(
        message, line=1, column=start + 1, width=max(width, 1), source_line=text, hint=_HINT
    )


def check_place(name: str, index: Place, shape: Place) -> None:
    """Raise FormulaError where the tensor has no such element."""
    sizes = f"{name} has the shape {list(shape)}" if shape else f"{name} is a scalar"
    if len(index) != len(shape):
        example = f"{name}[{','.join('0' for _ in shape)}]" if shape else name
        raise FormulaError(
            f"{name} is asked for with {_count(len(index))}, but {sizes}",
            hint=f"name one element, as in  {example}",
        )
    for k, (i, n) in enumerate(zip(index, shape, strict=True)):
        if i >= n:
            last = f"axis {k} counts from 0 to {n - 1}" if n else f"axis {k} has no element"
            raise FormulaError(f"index {i} is outside {name}: {sizes}", hint=last)


def _count(n: int) -> str:
    return {0: "no index", 1: "1 index"}.get(n, f"{n} indices")


def system_for(system: System, t: str, of: str | None, *, anew: bool = False) -> System:
    """The system itself, or, where t is a gradient that it lacks, its forward part with it.

    anew   a gradient that it has is of another objective: derive that of `of`
    """
    known = set(system.ranks) | set(system.outputs)
    if t in known and not (anew and t.startswith("δ")):
        return system
    base = t.removeprefix("δ")
    if base == t or base not in known:
        near = difflib.get_close_matches(t, [*known, *(f"δ{k}" for k in known)], 1, cutoff=0.5)
        raise FormulaError(
            f"this program has no tensor {t}",
            hint=f"did you mean {near[0]}?" if near else f"it has {', '.join(sorted(known))}",
        )
    of = objective(system, t) if of is None else canonical(of)
    if of not in system.outputs:
        return derive.backward(system, of, [base])  # raises, with the message for an unknown name
    forward = System(system.needed_for([of]))
    if base not in forward.ranks:
        raise FormulaError(
            f"{of} does not depend on {base}", hint="ask for the gradient of another tensor"
        )
    inputs = derive.real_inputs(forward)
    return derive.backward(forward, of, list(dict.fromkeys((*inputs, base))))


def inputs_for(system: System, target: str, of: str | None = None) -> tuple[str, ...]:
    """The arrays that explaining one element takes."""
    t, _ = read_target(target)
    system = system_for(system, t, of)
    return part_for(system, t).inputs if t in system.outputs else system.inputs


def part_for(system: System, t: str) -> System:
    """What it takes to compute one tensor."""
    updated = {t: system.by_target[t]} if t in system.updates else {}
    read = [r for s in updated.values() for r in s.reads]
    kept = [s for s in system.needed_for([t, *read]) if s.target == t or not s.is_update]
    return System(tuple(kept))


def objective(system: System, t: str) -> str:
    """The one scalar that has a gradient here: named by grad(...), else used by nothing else."""
    found = _objectives(system)
    if len(found) == 1:
        return found[0]
    if not found:
        raise FormulaError(
            f"{t}: this program has no scalar to differentiate", hint=_which(system.outputs[-1:])
        )
    raise FormulaError(
        f"{t}: there are {len(found)} scalars to differentiate: {', '.join(found)}",
        hint=_which(found),
    )


def only_objective(system: System) -> str | None:
    """The one scalar that gradients are of, if there is one."""
    found = _objectives(system)
    return found[0] if len(found) == 1 else None


def _objectives(system: System) -> list[str]:
    named = {e.of for s in system.statements for e in walk(s.body) if isinstance(e, Grad)}
    used = {name for s in system.statements for name in s.mentions}
    forward = [s for s in system.statements if not s.is_update and not s.target.startswith("δ")]
    scalars = [s.target for s in forward if not s.axes]
    found = [x for x in scalars if x in named] or [x for x in scalars if x not in used]
    return found or (scalars if len(scalars) == 1 else [])


def _which(names: Sequence[str]) -> str:
    return f'say which, as in  of="{names[0]}"'
