"""What people write, and what the language has for it."""

from __future__ import annotations

import ast
import difflib

from chainrule.functions import FUNCTIONS, REDUCTIONS

STATEMENT_HINT = "a statement is  name[indices] = expression"
TOO_DEEP = "the formula is too long, or nested too deeply"
NESTING_HINT = "split the formula into several statements"
GO_ON_HINT = "a formula goes on in the next line inside parentheses"
NUMBERS_HINT = "numbers are written 2, 0.1, 1/3, 1e-5, pi, inf"
NOT_A_SIDE = "the left side is a name with its indices"

_NO_CONDITION = "write  where(condition, a, b)"
_NO_LOOP = ("there are no loops", "indices run by themselves, as in  y[i] = 2 * x[i]")
_NO_IMPORT = ("there is nothing to import", "exp, log, sum[i](...) and the rest are always there")
_NO_DEFINITION = ("there are no definitions", "give the value a name, as in  y[i] = exp(-x[i])")
_NO_LOGIC = "multiply the brackets: (a > 0)*(b > 0)"

# Words of Python.
WORDS = {
    "for": _NO_LOOP,
    "while": _NO_LOOP,
    "import": _NO_IMPORT,
    "from": _NO_IMPORT,
    "def": _NO_DEFINITION,
    "class": _NO_DEFINITION,
    "return": ("nothing is returned", "every tensor that is assigned is a result"),
    "if": ("there is no `if`", _NO_CONDITION),
    "else": ("there is no `else`", _NO_CONDITION),
    "elif": ("there is no `elif`", _NO_CONDITION),
    "and": ("there is no `and` or `or`", _NO_LOGIC),
    "or": ("there is no `and` or `or`", "add the brackets: (a > 0) + (b > 0) > 0"),
    "not": ("there is no `not`", "write  1 - (a > 0), or (a <= 0)"),
    "in": ("there is no `in`", "write a comparison, as in  (i == j)"),
    "is": ("there is no `is`", "write  =="),
    "lambda": ("`lambda` is a word of Python, so it cannot be a name", "call it λ, or lam"),
}

# Characters that people type or paste.
CHARACTERS = {
    **dict.fromkeys("×·⋅∗•∙", "a product is written with *"),
    **dict.fromkeys("−–—‐‑", "minus is written -"),
    **dict.fromkeys("÷∕⁄", "a quotient is written with /"),
    **dict.fromkeys("²³⁴⁵⁶⁷⁸⁹⁰¹", "a power is written **, as in  x**2"),
    **dict.fromkeys("₀₁₂₃₄₅₆₇₈₉", "a number in a name stands on the line, as in  x1"),
    **dict.fromkeys("“”‘’„«»`", "remove it: names and numbers need no quotes"),
    **dict.fromkeys("′″‴", "primes are not part of a name: call it w2 or w_new"),
    **dict.fromkeys("⟨⟩〈〉", "tensors are read in square brackets, as in  x[i]"),
    **dict.fromkeys("∧∨¬", "multiply brackets, as in  (a > 0)*(b > 0)"),
    "≤": "write  <=",
    "≥": "write  >=",
    "≠": "write  !=",
    "≈": "write  ==",
    "≔": "write  =",
    "←": "write  =",
    "∑": "write  sum[i](...), or Σ[i](...)",
    "∏": "write  prod[i](...)",
    "√": "write  sqrt(...)",
    "∂": "a gradient is written  grad(E, w)[i]",
    "∇": "a gradient is written  grad(E, w)[i]",
    "∫": "write a sum, as in  sum[i](...)",
    "∞": "write  inf",
    "∈": "an index gets its size where it is bound, as in  sum[m:5](...)",
    "ᵀ": "a transpose is another order of indices, as in  w[j,i]",
    "…": "write the whole formula out",
    "?": "write  where(condition, a, b)",
    "$": "remove it",
}

# Signs of other languages.
SIGNS = {
    "&&": WORDS["and"],
    "!": ("! is not a sign of the language", "not equal is written !="),
    "|": ("bars are not brackets", "an absolute value is written  abs(...)"),
    "||": ("bars are not brackets", "an absolute value is written  abs(...)"),
    ":=": ("an assignment is written with =", "write  ="),
    "===": ("a comparison is written with ==", "write  =="),
    "=<": ("=< is not a sign of the language", "write  <="),
    "=>": ("=> is not a sign of the language", "write  >="),
    "<>": ("<> is not a sign of the language", "write  !="),
    "->": ("-> is not a sign of the language", STATEMENT_HINT),
    "{": ("{ is not a bracket of the language", "group with ( ), as in  2*(a + b)"),
}

# Names that are no words of the language.
INSTEAD = {
    "ln": "log is the natural logarithm: write  log(...)",
    "σ": "write  sigmoid(...)",
    "avg": "write  mean[i](...)",
    "average": "write  mean[i](...)",
    "softmax": "write  exp(u[k] - logsumexp[l](u[l]))",
    "clip": "write  minimum(maximum(e, low), high)",
    "product": "write  prod[i](...)",
    "log10": "write  log(e)/log(10)",
    "log2": "write  log(e)/log(2)",
    "square": "write  e**2",
    "lse": "write  logsumexp[i](...)",
    "len": "write  size(o, 0)",
    "shape": "write  size(o, 0)",
    "dot": "write the sum: sum[k](a[k] * b[k])",
    "matmul": "write the sum: sum[k](a[i,k] * b[k,j])",
    "norm": "write  sqrt(sum[i](x[i]**2))",
    "range": "indices run by themselves, as in  y[i] = 2 * x[i]",
    "var": "write  mean[i]((x[i] - m)**2), with  m = mean[i](x[i])",
    "std": "write  sqrt(mean[i]((x[i] - m)**2)), with  m = mean[i](x[i])",
    "median": f"the reductions are {', '.join(REDUCTIONS)}",
    "argmin": "write  argmax[i](-x[i])",
}
FORMS = {1: "{}(a)", 2: "{}(a, b)", 3: "{}(condition, a, b)"}
OPERATORS = {
    ast.BitXor: ("^ is not a power here", "a power is written **"),
    ast.MatMult: ("there is no matrix product @", "write the sum: sum[k](a[i,k] * b[k,j])"),
    ast.FloorDiv: ("// divides sizes, not values", "a quotient is written with /"),
    ast.Mod: ("there is no remainder %", "the operators are + - * / **"),
    ast.BitAnd: WORDS["and"],
    ast.BitOr: WORDS["or"],
}
ATTRIBUTES = {
    "T": "a transpose is another order of indices, as in  {0}[j,i]",
    "shape": "write  size({0}, 0)",
    "dot": "write the sum: sum[k]({0}[i,k] * b[k,j])",
    "reshape": "an axis is split or made by a group, as in  y[i:2,j] = {0}[(i,j)]",
    **{name: f"write  {name}[i]({{0}}[i])" for name in REDUCTIONS},
}
MODULES = ("np", "numpy", "math", "torch", "jnp", "tf")


def word(text: str) -> tuple[str, str]:
    """What to say of a word of Python that the language does not have."""
    another = (f"`{text}` is a word of Python, so it cannot be a name", "choose another name")
    return WORDS.get(text, another)


def suggest(name: str) -> str:
    """What was probably meant by a name that is no word of the language, or nothing."""
    if name in INSTEAD:
        return INSTEAD[name]
    near = difflib.get_close_matches(name.lower(), [*FUNCTIONS, *REDUCTIONS], 1)
    return f"did you mean {near[0]}?" if near and len(name) > 2 else ""


def functions_hint() -> str:
    return f"the functions are {', '.join(FUNCTIONS)}"
