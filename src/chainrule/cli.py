"""The `chainrule` command: derive, run, explain, check, demo.

Exit status: 0; 2 for a mistake in what was given (one message on standard error); 130 after
ctrl-C; 1 for a gradient that `check` finds wrong, or for a fault of chainrule's own.  Never a
traceback.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import Any, NoReturn

import click
import numpy as np
from numpy.typing import NDArray

import chainrule as cr
from chainrule.arrays import (
    FileMistake,
    check_target,
    load_array,
    load_arrays,
    save_arrays,
    stored_names,
)
from chainrule.explain import inputs_for
from chainrule.expr import Grad, tensors, walk
from chainrule.notation import statement
from chainrule.terminal import Screen, busy

OWN_FAULT, INPUT_MISTAKE, INTERRUPTED = 1, 2, 130
WRONG = 1


class Mistake(click.ClickException):
    """A mistake in the input: shown as one message, exit status 2."""

    exit_code = INPUT_MISTAKE

    def show(self, file: Any = None) -> None:
        """Print the message on standard error, its first word red on a terminal."""
        click.secho("Error: ", fg="red", bold=True, nl=False, err=True, color=_colour())
        click.echo(self.message, err=True)


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(cr.__version__, prog_name="chainrule")
def cli() -> None:
    """Neural networks as index formulas: derive their gradients, run them, train them."""


@cli.command(short_help="Derive gradients, step by step.")
@click.argument("file")
@click.option("--of", metavar="TENSOR", help="What to differentiate. Default: the objective.")
@click.option(
    "--wrt",
    metavar="TENSOR",
    multiple=True,
    help="With respect to what; may be repeated. Default: every real input.",
)
@click.option("--latex", is_flag=True, help="Print LaTeX instead of text.")
def derive(file: str, of: str | None, wrt: tuple[str, ...], latex: bool) -> None:
    """Derive the gradients of the program in FILE, step by step (- is standard input)."""
    screen = Screen()
    with mistakes(file):
        program = cr.Program(read_text(file))
        target = of or objective(program)
        with busy("deriving"):
            gradient = program.gradient(of=target, wrt=list(wrt) or None)
            names = wrt or differentiated(program, gradient, target)
            derivations = once(program.derivation(of=target, wrt=name) for name in names)
    if latex:
        screen.line("\n\n".join(d.latex() for d in derivations))
        return
    for derivation in derivations:
        screen.heading(f"∂{target}/∂{derivation.wrt}")
        screen.formulas(str(derivation), indent="")
    screen.heading("the backward pass, again a program")
    backward = [s for s in gradient.statements if s.target not in program.outputs]
    screen.formulas("\n".join(map(statement, backward)), indent="")


@cli.command(short_help="Compute every tensor of a program.")
@click.argument("file")
@click.option("--data", metavar="X.npz", required=True, help="The input tensors, by name.")
@click.option("--out", metavar="Y.npz", help="Write the results here instead of printing them.")
def run(file: str, data: str, out: str | None) -> None:
    """Run the program in FILE on arrays from an .npz file (- is standard input)."""
    screen = Screen()
    with mistakes(file):
        program = cr.Program(read_text(file))
        if out is not None:
            check_target(out)
        given = load_arrays(data, program.inputs)
        with busy("running"):
            results = program.run(**given)
        if out is not None:
            save_arrays(out, results)
    if out is not None:
        screen.line(f"wrote {', '.join(results)} to {out}")
    else:
        screen.table(
            ["tensor", "shape", "value"],
            [[name, _shape(value), _value(value)] for name, value in results.items()],
        )


@cli.command(short_help="Show how one number comes about.")
@click.argument("file")
@click.argument("element")
@click.option("--data", metavar="X.npz", required=True, help="The input tensors, by name.")
@click.option("--depth", type=click.IntRange(0, 20), default=2, help="Levels below it. Default: 2.")
@click.option("--of", metavar="TENSOR", help="Whose gradient a δ is. Default: the objective's.")
@click.option("--latex", is_flag=True, help="Print LaTeX instead of text.")
def explain(file: str, element: str, data: str, depth: int, of: str | None, latex: bool) -> None:
    """Explain one number of the program in FILE, say 'δw[0,0]', on arrays from an .npz file."""
    screen = Screen()
    with mistakes(file):
        program = cr.Program(read_text(file))
        given = load_arrays(data, inputs_for(program.expanded.system, element, of))
        with busy("explaining"):
            explanation = program.explain(element, depth=depth, of=of, **given)
            shown = explanation.latex() if latex else str(explanation)
    if latex:
        screen.line(shown)
    else:
        screen.formulas(shown, indent="")


@cli.command(short_help="Say whether a gradient is right, and if not, why.")
@click.argument("file")
@click.option("--wrt", metavar="TENSOR", required=True, help="Whose gradient it is.")
@click.option("--gradient", metavar="MINE.npy", required=True, help="The gradient to check.")
@click.option(
    "--data",
    metavar="X.npz",
    required=True,
    help="The input tensors, by name; intermediate results in it are checked as well.",
)
@click.option("--of", metavar="TENSOR", help="What was differentiated. Default: the objective.")
def check(file: str, wrt: str, gradient: str, data: str, of: str | None) -> None:
    """Check a gradient that was computed elsewhere against the program in FILE.

    Exit status 0 where it is right, 1 where it is wrong.
    """
    screen = Screen()
    with mistakes(file):
        program = cr.Program(read_text(file))
        target = of or objective(program)
        derived = program.gradient(of=target, wrt=[wrt])
        given = load_arrays(data, derived.inputs)
        known = {*program.inputs, *derived.outputs} - set(given)
        given |= load_arrays(data, [t for t in stored_names(data) if t in known])
        mine = load_array(gradient)
        with busy("checking"):
            report = cr.check(mine, program, target, wrt, **given)
    screen.formulas(str(report), indent="")
    if not report:
        click.get_current_context().exit(WRONG)


@cli.command(short_help="A worked example, and a network that learns to read digits.")
def demo() -> None:
    """Show a worked example, then train a small network on handwritten digits."""
    from chainrule import demo as show

    show.main(Screen())


def differentiated(program: cr.Program, gradient: cr.Program, of: str) -> list[str]:
    """Return the inputs that `gradient` has a cotangent for: δt, or δt_of where that is taken."""
    found = set(gradient.outputs) - set(program.outputs)
    return [t for t in program.inputs if found & {f"δ{t}", f"δ{t}_{of}"}]


def once(derivations: Iterable[cr.Derivation]) -> list[cr.Derivation]:
    """Leave out the stages that an earlier derivation has shown already."""
    shown: set[str] = set()
    result = []
    for d in derivations:
        fresh = tuple(s for s in d.stages if s.target.tensor not in shown)
        shown.update(s.target.tensor for s in fresh)
        result.append(replace(d, stages=fresh))
    return result


def objective(program: cr.Program) -> str:
    """Return what `derive` differentiates where --of does not say it.

    What the program itself takes gradients of; else the only scalar that nothing else uses.
    """
    bodies = [s.body for s in program.statements]
    named = {e.of for body in bodies for e in walk(body) if isinstance(e, Grad)}
    used = {name for body in bodies for name in tensors(body)}
    scalars = [s.target for s in program.statements if not s.axes and not s.is_update]
    candidates = [t for t in scalars if t in named] or [t for t in scalars if t not in used]
    if len(candidates) == 1:
        return candidates[0]
    if candidates:
        raise Mistake(
            f"there are {len(candidates)} scalars to differentiate: {', '.join(candidates)}."
            f" Choose one: --of {candidates[0]}"
        )
    raise Mistake(
        "no scalar is left to differentiate. Name a tensor, whose δ is then an input:"
        f" --of {program.outputs[-1]}"
    )


def read_text(file: str) -> str:
    """Return a program's text from a file, or from standard input where the name is -."""
    try:
        if file == "-":
            return sys.stdin.buffer.read().decode("utf-8-sig")
        with open(file, encoding="utf-8-sig") as stream:
            return stream.read()
    except OSError as error:
        raise Mistake(f"cannot read {file}: {(error.strerror or str(error)).lower()}") from error
    except UnicodeDecodeError as error:
        raise Mistake(f"{file} is not UTF-8 text; a program is plain text") from error


@contextmanager
def mistakes(file: str) -> Iterator[None]:
    """Turn what the library raises about the input into a Mistake that names the file."""
    try:
        yield
    except cr.FormulaError as error:
        raise Mistake(f"{'standard input' if file == '-' else file}: {error}") from error
    except FileMistake as error:
        raise Mistake(str(error)) from error
    except MemoryError as error:
        raise Mistake(f"{file}: not enough memory for tensors of these sizes") from error
    except RecursionError as error:
        raise Mistake(f"{file}: a formula is nested too deeply") from error


def main(arguments: Sequence[str] | None = None) -> NoReturn:
    """Run the command and exit with its status."""
    for stream in (sys.stdout, sys.stderr):
        # δ on a terminal that has no δ comes out as an escape, not as an error.
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")
    try:
        status = cli.main(arguments, prog_name="chainrule", standalone_mode=False) or 0
        if sys.stdout is not None:
            sys.stdout.flush()
    except click.Abort:
        status = INTERRUPTED
    except KeyboardInterrupt:
        status = INTERRUPTED
    except click.ClickException as error:
        error.show()
        status = error.exit_code
    except (BrokenPipeError, SystemExit):
        # Whoever read our output had enough; click and rich turn that into SystemExit.
        _drop_output()
        status = 0
    except OSError as error:
        _drop_output()
        Mistake(f"cannot write the output: {(error.strerror or str(error)).lower()}").show()
        status = INPUT_MISTAKE
    except Exception as error:
        Mistake(f"a fault in chainrule itself ({type(error).__name__}: {error})").show()
        status = OWN_FAULT
    sys.exit(status)


def _drop_output() -> None:
    """Send what is still buffered nowhere, so that closing standard output cannot fail."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, sys.__stdout__.fileno() if sys.__stdout__ else 1)


def _colour() -> bool | None:
    return False if os.environ.get("NO_COLOR") else None


def _shape(value: NDArray[Any]) -> str:
    return "x".join(map(str, value.shape)) or "scalar"


def _value(value: NDArray[Any]) -> str:
    if value.ndim == 0:
        return f"{value.item():.10g}"
    return np.array2string(value, precision=6, threshold=64, edgeitems=3, max_line_width=100)
