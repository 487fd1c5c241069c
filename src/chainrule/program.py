"""The library's face: a Program is a System of formulas with everything one can do with it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from chainrule import given
from chainrule.errors import FormulaError
from chainrule.evaluate import check_exact, evaluate
from chainrule.expr import Grad, walk
from chainrule.functions import Array
from chainrule.notation import latex, parse, text
from chainrule.notation.indices import canonical
from chainrule.ranges import Ranges, Shape, numeric
from chainrule.system import Statement, System

if TYPE_CHECKING:
    from chainrule.derive import Derivation
    from chainrule.explain import Explanation
    from chainrule.native import Compiled, Trainer


class Program:
    """A network, its loss, its backward pass or its whole training step, as index formulas.

    >>> p = Program("x[i] = sum[m](w[m] * o[i+m])")
    >>> p.inputs, p.outputs
    (('w', 'o'), ('x',))
    >>> p.run(w=[1, 2], o=[1, 0, 3])["x"]
    array([1., 6.])

    Programs are immutable; two are equal when their statements are, however they were spaced.
    Raises FormulaError, with line, column and hint, where the text has no meaning.
    """

    __slots__ = ("_expanded", "_objective", "_relatives", "_system")

    def __init__(self, text: str) -> None:
        self._fill(parse(text))

    @classmethod
    def from_latex(cls, text: str) -> Program:
        """The program that LaTeX formulas describe, as people typeset them or as latex() prints.

        Needs the extra `latex`.  How what is ambiguous is read is said in
        `chainrule.notation.from_latex`.  Raises FormulaError, with line, column and hint.
        """
        from chainrule.notation import from_latex

        found = from_latex.read(text)
        plain = [s for s in found.statements if not from_latex.has_partial(s)]
        statements = list(found.statements)
        if len(plain) < len(statements):
            rest = found.system(plain) if plain else System(())
            for k, s in enumerate(statements):
                try:
                    statements[k] = _derive().written_out(rest, s)
                except FormulaError as e:
                    raise found.error(found.places[k], e.message, e.hint) from None
        return cls._of(found.system(statements), objective=found.objective)

    @classmethod
    def _of(
        cls, system: System, relatives: frozenset[str] = frozenset(), objective: str | None = None
    ) -> Program:
        self = cls.__new__(cls)
        self._fill(system, relatives, objective)
        return self

    def _fill(
        self,
        system: System,
        relatives: frozenset[str] = frozenset(),
        objective: str | None = None,
    ) -> None:
        self._system = system
        self._expanded = _derive().expand(system) if _has_grads(system) else system
        self._relatives = relatives  # names that run() may be given and does not need
        self._objective = objective

    # ------------------------------------------------------------ what it is

    @property
    def inputs(self) -> tuple[str, ...]:
        """Names of the tensors to be given, in order of first use."""
        return self._system.inputs

    @property
    def outputs(self) -> tuple[str, ...]:
        """Names assigned, in order; an updated tensor is both an input and an output."""
        return self._system.outputs

    @property
    def statements(self) -> tuple[Statement, ...]:
        """The statements, each with .target, .indices, .body, in the order they were written."""
        return self._system.statements

    @property
    def system(self) -> System:
        """The plain value behind this program."""
        return self._system

    @property
    def expanded(self) -> Program:
        """The same program with every grad(E, w) written out: forward, backward and updates."""
        return Program._of(self._expanded, self._relatives, self._objective)

    def __str__(self) -> str:
        return text(self._system)

    def __repr__(self) -> str:
        return f"Program({str(self)!r})"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Program) and self._system == other._system

    def __hash__(self) -> int:
        return hash(self._system)

    def latex(self) -> str:
        """Textbook LaTeX, one `align*` block."""
        return latex.system_latex(self._system, self._objective)

    def _repr_markdown_(self) -> str:
        body = latex.system_latex(self._system, self._objective).replace("align*", "aligned")
        return f"$$\n{body}\n$$"

    # ------------------------------------------------------------ what it gives

    def shapes(self, /, **shapes: Sequence[int]) -> dict[str, Shape]:
        """The shape of every assigned tensor, from those of the inputs.

        Raises FormulaError where they do not fit together.
        """
        sizes = {t: given.shape(t, s) for t, s in self._matched(shapes).items()}
        found = self._ranges(sizes).shapes
        return {t: found[t] for t in self.outputs}

    def run(self, /, *, exact: bool = False, **arrays: Any) -> dict[str, Array]:
        """The value of every assigned tensor: the reference meaning.

        arrays   one for each input, by name (d_x is δx): anything NumPy takes as real numbers
        exact    compute with fractions.Fraction (object arrays); floats count as the exact
                 binary fractions that they are

        Results are float64 arrays.  Reads of an updated tensor see the value given; its new value
        is returned under its own name.  Raises FormulaError for missing or misfit arrays.
        """
        convert = given.fractions if exact else given.floats
        values = {t: convert(t, a) for t, a in self._matched(arrays).items()}
        for t, a in values.items():
            if t in self._expanded.labels:
                given.check_labels(t, a)
        if exact:
            check_exact(self._system)
        ranges = self._ranges({t: a.shape for t, a in values.items()})
        results = evaluate(self._expanded, ranges, values, exact=exact)
        return {t: results[t] for t in self.outputs}

    def gradient(self, of: str, wrt: str | Sequence[str] | None = None) -> Program:
        """The forward statements and those of every cotangent from `of` back to `wrt`.

        of    a scalar, or any computed tensor; then its cotangent δof becomes an input (a
              vector-Jacobian product)
        wrt   names; None means every real input

        The gradient of t is the tensor δt.  Every statement is in gather form.  The result is a
        Program like any other and can be differentiated again; a cotangent whose name is taken
        is called δt_of.  Raises FormulaError for an unknown name or an integer tensor.
        """
        of = _name("of", of)
        names = None if wrt is None else _names("wrt", wrt)
        system = _derive().backward(self._forward(of), of, names, self._expanded)
        relatives = self._relatives | frozenset(self._expanded.inputs)
        return Program._of(system, relatives, of)

    def derivation(self, of: str, wrt: str) -> Derivation:
        """The steps that lead from `of` to the gradient with respect to `wrt`."""
        of = _name("of", of)
        steps: Derivation = _derive().derivation(self._forward(of), of, _name("wrt", wrt))
        return steps

    def explain(
        self, target: str, /, *, depth: int = 2, of: str | None = None, **arrays: Any
    ) -> Explanation:
        """Why one number is what it is: its formula, terms and factors, down to the data.

        target   one element, as in "δw[0,0]", "x[0,2]", or a scalar, "E"
        depth    how many levels of computed factors are shown below it
        of       whose gradient a δ is that this program does not compute itself; by default that
                 of its one scalar objective
        arrays   as for run(); what the number does not depend on may be left out

        Raises FormulaError for an element that is not there and for missing or misfit arrays.
        """
        from chainrule import explain

        name, _ = explain.read_target(target)
        expanded, anew = self._expanded, False
        if of is not None and canonical(of) != self._objective:
            expanded, anew = _derive().expand(self._system, canonical(of)), True
        of = self._objective if of is None else canonical(of)
        system = explain.system_for(expanded, name, of, anew=anew)
        own = self if system is self._expanded else self._relative(system, of)
        if not {*own.inputs} <= {canonical(t) for t in arrays} and name in system.outputs:
            own = own._relative(explain.part_for(system, name), of)
        values = {t: given.floats(t, a) for t, a in own._matched(arrays).items()}
        ranges = own._ranges({t: a.shape for t, a in values.items()})
        return explain.explain(own._expanded, ranges, values, target, depth, of)

    def compile(
        self,
        *,
        dtype: Any = "float32",
        threads: int | None = None,
        cache: bool = True,
        winograd: bool = True,
    ) -> Compiled:
        """The program as machine code: a function of arrays that returns what run() returns.

        dtype    "float32" or "float64"
        threads  how many; None means the cores that this process may use.  The bits of a result
                 do not depend on it.
        cache    keep the code on disk, for the next process
        winograd take sums over windows of three by tiles, where that is faster: fewer products,
                 other roundings (docs/native.md says how much)

        The result has .source (the loop nests as text), .llvm, .assembly and .report().
        Raises FormulaError for another dtype.
        """
        from chainrule.native import compile_system

        return compile_system(
            self._expanded,
            dtype=dtype,
            threads=threads,
            cache=cache,
            winograd=winograd,
            written=self._system,
            match=self._matched,
        )

    def trainer(
        self,
        state: Mapping[str, Any],
        *,
        dtype: Any = "float32",
        threads: int | None = None,
        cache: bool = True,
        winograd: bool = True,
    ) -> Trainer:
        """Many steps of this program in one native call, its updated tensors kept between them.

        state  an array for every tensor that the program updates, and for those it only reads
               and that are not data; `run` of the result takes the data, batch first
        Other arguments are those of `compile`.

        Raises FormulaError where a tensor to update is missing.
        """
        from chainrule.native import Trainer

        named = {canonical(t): a for t, a in state.items()}
        return Trainer(
            self._expanded,
            named,
            dtype=dtype,
            threads=threads,
            cache=cache,
            winograd=winograd,
            written=self._system,
            objective=self._objective,
        )

    def _relative(self, system: System, of: str | None) -> Program:
        """A program that may be given this one's arrays, needed or not."""
        return Program._of(system, self._relatives | frozenset(self._expanded.inputs), of)

    def _forward(self, of: str) -> System:
        """What is differentiated: all but the updates, any grad in it written out.

        The plain names δt are kept for the gradient of `of`.
        """
        kept = tuple(s for s in self._system.statements if not s.is_update)
        return _derive().expand(System(kept), of) if kept else self._system

    # ------------------------------------------------------------ what it is given

    def _ranges(self, shapes: Mapping[str, Shape]) -> Ranges:
        try:
            return numeric(self._expanded, shapes)
        except FormulaError:
            numeric(self._system, shapes)  # raises at the text as it was written
            raise

    def _matched(self, named: Mapping[str, Any]) -> dict[str, Any]:
        """What was given for the inputs, under their own names."""
        expanded = self._expanded
        return given.matched(named, expanded.inputs, expanded.outputs, self._relatives)


def _derive() -> Any:
    """The derivation, imported when something is derived: `import chainrule` stays fast."""
    from chainrule import derive

    return derive


def _has_grads(system: System) -> bool:
    return any(isinstance(e, Grad) for s in system.statements for e in walk(s.body))


def _name(what: str, t: Any) -> str:
    """A tensor's own name, from what a caller wrote."""
    if not isinstance(t, str):
        raise FormulaError(f"{what} names a tensor, but is {t!r}", hint=f"as in  {what}='w'")
    return canonical(t)


def _names(what: str, given: Any) -> list[str]:
    several = isinstance(given, Iterable) and not isinstance(given, str)
    return [_name(what, t) for t in (given if several else [given])]
