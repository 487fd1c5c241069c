"""Wrong programs, one row each: a name, the text, what is done with it.

`«...»` in a text marks what the message must point at.  The message itself is the golden file
goldens/errors/NAME.txt.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np


@dataclass(frozen=True)
class Call:
    """A method of Program and its keyword arguments."""

    method: str
    arguments: Mapping[str, Any]

    def __str__(self) -> str:
        return f"{self.method}({', '.join(f'{k}={_show(v)}' for k, v in self.arguments.items())})"


def _show(value: Any) -> str:
    if not isinstance(value, np.ndarray):
        return repr(value)
    return value.dtype.name + (str(list(value.shape)) if value.ndim else f"({value})")


@dataclass(frozen=True)
class Wrong:
    """A wrong program, or a right one used wrongly."""

    name: str
    text: str
    call: Call | None = field(default=None)

    def __str__(self) -> str:
        return self.name


def shapes(**shapes: Any) -> Call:
    return Call("shapes", shapes)


def run(**data: Any) -> Call:
    return Call("run", data)


def gradient(**arguments: Any) -> Call:
    return Call("gradient", arguments)


def derivation(**arguments: Any) -> Call:
    return Call("derivation", arguments)


def zeros(*shape: int) -> np.ndarray[Any, Any]:
    return np.zeros(shape)


CONV = "x[i,j] = sum[m,n](w[m,n] * o[i+m, j+n]) + b"
LOSS = "u[k] = sum[l](w[k,l] * x[l])\nE = sum[k]((u[k] - t[k])**2)"

SYNTAX = [
    Wrong("syntax_open_bracket", "x[i = o[i]"),
    Wrong("syntax_open_parenthesis", "y = sum[i] * «(»x[i]"),
    Wrong("syntax_implicit_product", "x[i] = w[i] «o[i]»"),
    Wrong("syntax_number_times_name", "x[i] = «2»o[i]"),
    Wrong("syntax_unicode_times", "x[i] = w[i] «×» o[i]"),
    Wrong("syntax_unicode_minus", "x[i] = w[i] «−» o[i]"),
    Wrong("syntax_superscript", "x[i] = o[i]«²»"),
    Wrong("syntax_subscript", "x«₁» = o + 1"),
    Wrong("syntax_prime", "w«'» = w + 1"),
    Wrong("syntax_absolute_bars", "x[i] = «|»o[i]|"),
    Wrong("syntax_equation", "«x[i] + 1» = o[i]"),
    Wrong("syntax_indent", "x[i] = o[i]\n  «y[i]» = x[i]"),
    Wrong("syntax_second_line", "x[i] = o[i]\ny[i] = x[i] +«»\nz[i] = y[i]"),
    Wrong("syntax_null", "x = 1\0"),
    Wrong("syntax_equals_missing", "«x[i] + o[i]»"),
    Wrong("syntax_comparison_for_assignment", "«x[i] == o[i]»"),
    Wrong("syntax_for_loop", "«for i in o:»\n    x[i] = 2 * o[i]"),
    Wrong("syntax_import", "«import numpy»\nx[i] = 2 * o[i]"),
    Wrong("syntax_def", "«def f(x):»\n    return x"),
    Wrong("syntax_numbers_side_by_side", "x = 2 «3»"),
    Wrong("syntax_quotient_times_sum", "E = 1/2 «sum»[k](x[k])"),
    Wrong("syntax_letter_below_the_line", "x«ᵢ» = 2"),
    Wrong("syntax_no_break_space", "x =«\xa0»2"),
    Wrong("syntax_less_or_equal", "x[i] = (o[i] «≤» 1)"),
    Wrong("syntax_prime_on_indices", "w[i]«'» = w[i]'"),
    Wrong("syntax_continued_line", "x[i] = o[i]\n    «+» w[i]"),
    Wrong("syntax_continued_line_at_the_margin", "x[i] = o[i]\n«+ w[i]»"),
    Wrong("syntax_lambda_as_a_name", "«lambda» = 0.1"),
    Wrong("syntax_for_without_colon", "«for» i in o\n    x[i] = 2 * o[i]"),
    Wrong("syntax_arrow", "x[i] = (o[i] «=>» 0)"),
    Wrong("syntax_and_signs", "x[i] = (o[i] > 0) «&&» (o[i] < 1)"),
    Wrong("syntax_colon_equals", "x «:=» 2"),
    Wrong("syntax_nothing_assigned", "x =«»"),
    Wrong("syntax_two_operators", "x = 2 * «/» o"),
    Wrong("syntax_empty_brackets", "x[«]» = 2"),
    Wrong("syntax_leading_zero", "x = «007»"),
    Wrong("syntax_closed_too_often", "x = (o + 1)«)»"),
    Wrong("syntax_closed_by_another", "x = (o[i«)»]"),
    Wrong("syntax_brace", "x = «{1, 2}»"),
    Wrong("syntax_long_line", "x = " + "o + " * 60 + "«sigmod(o)»" + " + o" * 60),
    Wrong("syntax_elsewhere", "x = o if w"),
    Wrong("empty", ""),
    Wrong("only_a_comment", "# nothing yet\n"),
    Wrong("nested_too_deeply", "x = " + "(" * 500 + "1" + ")" * 500),
    Wrong("nested_functions_too_deeply", "x = " + "exp(" * 3000 + "1" + ")" * 3000),
]

STATEMENTS = [
    Wrong("assignment_chained", "«x = y = 1»"),
    Wrong("assignment_augmented", "«w[i] -= 0.1 * grad(E, w)[i]»"),
    Wrong("assignment_of_two", "«x, y» = 1"),
    Wrong("assignment_annotated", "«x[i]: 28 = o[i]»"),
    Wrong("assignment_twice", "x[i] = o[i]\n«x[i]» = 2 * o[i]"),
    Wrong("assignment_to_call", "«f(x)» = 2"),
    Wrong("assignment_to_attribute", "«net.x» = 2"),
    Wrong("cycle_of_two", "x[i] = y[i] + 1\ny[i] = x[i] + 1"),
    Wrong("cycle_of_three", "a = c + 1\nb = a + 1\nc = b + 1"),
    Wrong("update_twice", LOSS + "\nw[k,l] = w[k,l] - 1\n«w[k,l]» = w[k,l] - 2"),
]

NAMES = [
    Wrong("reserved_reduction_as_tensor", "«sum» = 1"),
    Wrong("reserved_function_as_tensor", "«exp»[i] = o[i]"),
    Wrong("reserved_number_as_tensor", "«pi» = 3"),
    Wrong("reserved_as_index", "x[«max»] = o[max]"),
    Wrong("reserved_as_reduction_index", "x = sum[«size»](o[size])"),
    Wrong("reserved_read", "x[i] = «max»[i] + 1"),
    Wrong("function_as_value", "x = «exp» + 1"),
    Wrong("number_indexed", "x[i] = «inf»[i]"),
    Wrong("index_is_its_tensor", "«x[x]» = 1"),
    Wrong("index_also_tensor", "x[i] = o[i] * «i[i]»"),
    Wrong("dotted_name", "x[i] = «o.T[i]»"),
    Wrong("string", "x = «'hello'»"),
    Wrong("string_index", "x = o[«'rows'»]"),
    Wrong("complex_number", "x = «2j» * o"),
    Wrong("true", "x = «True»"),
    Wrong("list", "x = «[1, 2, 3]»"),
    Wrong("number_out_of_range", "x = «1e999999999»"),
    Wrong("number_beyond_float64", "x = «1e400»"),
    Wrong("number_of_many_digits", "x = " + "9" * 400),
    Wrong("division_by_zero", "x[i] = «o[i] / 0»"),
]

OPERATORS = [
    Wrong("caret_power", "x[i] = «o[i]^2»"),
    Wrong("matrix_product", "x[i] = «w @ o»"),
    Wrong("remainder", "x[i] = «o[i] % 2»"),
    Wrong("floor_division", "x[i] = «o[i] // 2»"),
    Wrong("bitwise_not", "x[i] = «~o[i]»"),
    Wrong("logical_and", "x[i] = «o[i] > 0 and o[i] < 1»"),
    Wrong("logical_not", "x[i] = «not o[i]»"),
    Wrong("conditional", "x[i] = «o[i] if o[i] > 0 else 0»"),
    Wrong("membership", "x[i] = «i in o»"),
    Wrong("lambda", "x = «lambda a: a»"),
    Wrong("comprehension", "x = «sum(o[i] for i in o)»"),
]

FUNCTIONS = [
    Wrong("function_misspelt", "x[i] = «sigmod(o[i])»"),
    Wrong("function_ln", "x[i] = «ln(o[i])»"),
    Wrong("function_softmax", "x[k] = «softmax(o[k])»"),
    Wrong("function_unknown", "x[i] = «wobble(o[i])»"),
    Wrong("function_missing_times", "x[i] = «w(o[i] + 1)»"),
    Wrong("function_two_arguments", "x[i] = «exp(o[i], 2)»"),
    Wrong("function_one_argument", "x[i] = «maximum(o[i])»"),
    Wrong("function_no_argument", "x = «exp()»"),
    Wrong("function_keyword", "x[i] = «pow(o[i], exponent=2)»"),
    Wrong("function_of_numpy", "x[i] = «np.exp(o[i])»"),
    Wrong("function_called_on_a_number", "x = «2(o + 1)»"),
    Wrong("function_star", "x[i] = «maximum(*o)»"),
    Wrong("function_method", "x = «o.sum()»"),
    Wrong("where_two_arguments", "x[i] = «where(o[i] > 0, o[i])»"),
    Wrong("reduction_without_indices", "x = «sum(o[i])»"),
    Wrong("reduction_max_of_two", "x[i] = «max(o[i], 0)»"),
    Wrong("reduction_of_nothing", "x = «sum[i]()»"),
    Wrong("reduction_of_two", "x = «sum[i](o[i], w[i])»"),
    Wrong("reduction_body_missing", "x = «sum[i]»"),
    Wrong("reduction_unknown", "x = «median[i](o[i])»"),
    Wrong("reduction_misspelt", "x = «summ[i](o[i])»"),
    Wrong("reduction_softmax", "x[i] = «softmax[k](o[i,k])»"),
    Wrong("function_with_indices", "x = «exp[i](o[i])»"),
    Wrong("pad_without_indices", "x = «pad(o)»"),
    Wrong("pad_of_expression", "x[i:5] = «pad(o + 1)»[i-1]"),
    Wrong("pad_value_not_a_number", "x[i:5] = pad(o, «w[i]»)[i-1]"),
    Wrong("size_of_unknown_axis", "x[i:size(o,2)] = o[0,0]", shapes(o=(5, 5))),
    Wrong("size_without_axis", "x[i:«size(o)»] = 1"),
    Wrong("size_of_negative_axis", "x[i:«size(o,-1)»] = 1"),
    Wrong("size_of_expression", "x[i:«size(o+1, 0)»] = 1"),
]

INDICES = [
    Wrong("index_number_far_too_large", "y = o[«1e999»]"),
    Wrong("too_many_axes", "y = o[«" + ",".join("0" * 40) + "»]"),
    Wrong("index_outside_its_reduction", "y = sum[i](o[i]) + o[«i»]"),
    Wrong("index_outside_its_reduction_as_number", "y = sum[i](o[i]) / «i»"),
    Wrong("index_unbound", "y[i] = o[i, «j»]"),
    Wrong("index_left_off", "y = 2 * o[«i»]"),
    Wrong("index_bound_twice_left", "y[i] = «sum[i]»(o[i])"),
    Wrong("index_bound_twice_nested", "y = sum[i](o[i] * «sum[i]»(w[i]))"),
    Wrong("index_bound_twice_at_once", "y = «sum[i,i]»(o[i,i])"),
    Wrong("index_twice_on_the_left", "«y[i,i]» = o[i]"),
    Wrong("left_side_shifted", "y[«i+1»] = o[i]"),
    Wrong("left_side_number", "y[«0»] = o[0]"),
    Wrong("left_side_size_not_whole", "y[i:«2.5»] = o[i]"),
    Wrong("left_side_size_is_tensor", "y[i:«n»] = o[i]"),
    Wrong("left_side_slice", "y[«1:i:2»] = o[i]"),
    Wrong("left_side_empty_group", "y[«()»] = o[0]"),
    Wrong("not_affine_product", "y[i,j] = o[«i*j»]"),
    Wrong("not_affine_power", "y[i] = o[«i**2»]"),
    Wrong("not_affine_floor", "y[i] = o[«i//2»]"),
    Wrong("not_affine_gather", "y[i] = o[«label[i]»]"),
    Wrong("not_affine_divided_by_index", "y[i,j] = o[«i/(j+1)»]"),
    Wrong("fraction_without_pad", "y[i] = o[«i/2»]"),
    Wrong("fraction_constant", "y = o[«0.5»]"),
    Wrong("tensor_as_index", "y[i] = o[«n»]"),
    Wrong("slice_in_access", "y[i] = o[«0:3»]"),
    Wrong("slice_all", "y[i] = o[i,«:»]"),
    Wrong("ellipsis", "y[i] = o[«...»]"),
    Wrong("group_with_arithmetic", "y[i,j] = o[(«i+1»,j)]"),
    Wrong("group_empty", "y = o[«()»]"),
    Wrong("indexed_expression", "y[i] = «(o + w)»[i]"),
    Wrong("indexed_twice", "y[i] = «o[i]»[0]"),
]

RANKS = [
    Wrong("rank_differs_in_a_line", "y[i] = o[i] + «o[i,i]»"),
    Wrong("rank_differs_between_lines", "y[i] = o[i]\nz[i,j] = «y[i,j]»"),
    Wrong("rank_of_scalar", "y[i] = o[i] + «y2»\ny2[i] = o[i]"),
    Wrong("rank_indices_forgotten", "y[i] = o[i] + «o»"),
    Wrong("rank_of_array", CONV, shapes(o=(5,), w=(2, 2), b=())),
    Wrong("rank_of_scalar_array", CONV, run(o=zeros(5, 5), w=zeros(2, 2), b=zeros(1))),
]
