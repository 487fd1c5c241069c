"""Programs whose text is right in itself: wrong for their shapes, data or gradient."""

from __future__ import annotations

import numpy as np

from wrong_programs import CONV, LOSS, Wrong, derivation, gradient, run, shapes, zeros

DENSE = "y[i] = sum[j](w[i,j] * x[j])"
CROSS_ENTROPY = """u[b,k] = sum[l](w[k,l] * x[b,l])
E = mean[b](logsumexp[k](u[b,k]) - sum[k](u[b,k] * (k == t[b])))"""

RANGES = [
    Wrong("range_undetermined_left", "y[i] = 1", shapes()),
    Wrong("range_undetermined_unused", "y[i,j] = x[i]", shapes(x=(3,))),
    Wrong("range_undetermined_reduction", "y = sum[m](1)", shapes()),
    Wrong("range_undetermined_pad", "y[i] = pad(x)[i-1]", shapes(x=(5,))),
    Wrong("range_undetermined_fraction", "y[i] = x[i] * sum[m](pad(x)[(i-m)/2])", shapes(x=(4,))),
    Wrong("range_undetermined_number", "y[i] = 2 * i", shapes()),
    Wrong("range_conflict", "e[k] = t[k] - «u[k]»", shapes(t=(3,), u=(4,))),
    Wrong("range_conflict_inner", DENSE, shapes(w=(2, 3), x=(4,))),
    Wrong(
        "range_conflict_between_lines",
        DENSE + "\nz[i] = y[i] * b[i]",
        shapes(w=(2, 3), x=(3,), b=(5,)),
    ),
    Wrong("range_conflict_given_size", "y[i:4] = x[i]", shapes(x=(3,))),
    Wrong("range_conflict_diagonal", "y = sum[i](a[i,i])", shapes(a=(3, 4))),
    Wrong("access_beyond_the_end", "y[i:5] = «x[i+1]»", shapes(x=(5,))),
    Wrong("access_before_the_start", "y[i] = x[i] - «x[i-1]»", shapes(x=(5,))),
    Wrong("access_constant", "y = «x[7]»", shapes(x=(5,))),
    Wrong("access_constant_negative", "y = «x[-1]»", shapes(x=(5,))),
    Wrong("access_stride", "y[i:3] = «x[2*i+1]»", shapes(x=(5,))),
    Wrong("access_kernel_larger_than_image", CONV, shapes(o=(5, 1), w=(2, 2), b=())),
    Wrong("access_reversed", "y[i:6] = «x[4-i]»", shapes(x=(5,))),
    Wrong("size_negative", "y[i:size(x,0)-7] = 1", shapes(x=(5,))),
    Wrong("size_negative_constant", "y[i:-2] = 1", shapes()),
    Wrong("size_division_by_zero", "y[i:4//0] = 1", shapes()),
    Wrong("size_too_large", "y[i:«10**30»] = 1"),
    Wrong("size_beyond_memory_addresses", "y[i:1000000000000000000000] = 1", run()),
    Wrong("reduction_beyond_memory", "y = sum[i:1000000000000](i)", run()),
    Wrong("memory_too_large", "y[i:1000000000, j:1000000000] = 1", run()),
    Wrong("group_does_not_match", "y[i:2,j:3] = x[(i,j)]", shapes(x=(7,))),
    Wrong("group_undetermined", "y[i,j] = x[(i,j)]", shapes(x=(6,))),
    Wrong("group_on_the_left_undetermined", "y[(i,j)] = x[i]", shapes(x=(6,))),
    Wrong("group_leaves_no_whole_size", "y[i:4,j] = x[(i,j)]", shapes(x=(6,))),
    Wrong("update_of_another_shape", "w[i:4] = w[i+1] - 1", shapes(w=(5,))),
]

DATA = [
    Wrong("data_missing", CONV, run(o=zeros(5, 5), w=zeros(2, 2))),
    Wrong("data_missing_all", CONV, run()),
    Wrong("data_unknown_name", DENSE, run(w=zeros(2, 3), x=zeros(3), bias=zeros(2))),
    Wrong("data_misspelt_name", DENSE, run(w=zeros(2, 3), X=zeros(3))),
    Wrong("data_for_an_assigned_name", DENSE, run(w=zeros(2, 3), x=zeros(3), y=zeros(2))),
    Wrong("data_text", DENSE, run(w=zeros(2, 3), x=np.array(["a", "b", "c"]))),
    Wrong("data_complex", DENSE, run(w=zeros(2, 3), x=zeros(3) * 1j)),
    Wrong("data_objects", DENSE, run(w=zeros(2, 3), x=np.array([object(), None, 1]))),
    Wrong("data_none", DENSE, run(w=zeros(2, 3), x=None)),
    Wrong("data_ragged", DENSE, run(w=zeros(2, 3), x=[[1, 2], [3]])),
    Wrong("data_dates", DENSE, run(w=zeros(2, 3), x=np.array(["2020-01-01"] * 3, "datetime64[D]"))),
    Wrong("data_transposed", DENSE, run(w=zeros(3, 2), x=zeros(3))),
    Wrong(
        "data_batch_forgotten",
        CROSS_ENTROPY,
        run(w=zeros(3, 4), x=zeros(4), t=np.zeros(1, dtype=int)),
    ),
    Wrong(
        "data_labels_too_few",
        CROSS_ENTROPY,
        run(w=zeros(3, 4), x=zeros(2, 4), t=np.zeros(5, dtype=int)),
    ),
    Wrong(
        "data_labels_nan",
        CROSS_ENTROPY,
        run(w=zeros(3, 4), x=zeros(2, 4), t=np.array([np.nan, 1.0])),
    ),
    Wrong("data_none_for_a_scalar", "y = b + 1", run(b=None)),
    Wrong("data_given_twice", "y = δb + 1", run(d_b=1, δb=2)),
    Wrong("shape_missing", CONV, shapes(o=(5, 5), w=(2, 2))),
    Wrong("shape_unknown_name", DENSE, shapes(w=(2, 3), x=(3,), q=(4,))),
    Wrong("shape_negative", DENSE, shapes(w=(2, -3), x=(-3,))),
    Wrong("shape_not_a_tuple", DENSE, shapes(w=(2, 3), x="three")),
    Wrong("shape_not_whole", DENSE, shapes(w=(2, 3.5), x=(3.5,))),
]

EXACT = [
    Wrong("exact_zero_inverted", "x = «0**-1»", run(exact=True)),
    Wrong("exact_tower", "x = «9**9**9»", run(exact=True)),
    Wrong("exact_object", "y[i] = 2 * x[i]", run(x=np.array([object()]), exact=True)),
    Wrong("exact_exp", "y[i] = «exp(x[i])»", run(x=zeros(3), exact=True)),
    Wrong("exact_sigmoid_inside", "y = sum[i](2 * «sigmoid(x[i])»)", run(x=zeros(3), exact=True)),
    Wrong("exact_logsumexp", "y = «logsumexp[i](x[i])»", run(x=zeros(3), exact=True)),
    Wrong("exact_pi", "y[i] = «pi» * x[i]", run(x=zeros(3), exact=True)),
    Wrong("exact_square_root_power", "y[i] = «x[i]**(1/2)»", run(x=zeros(3) + 2, exact=True)),
    Wrong("exact_division_by_zero", "y[i] = «1 / x[i]»", run(x=zeros(3), exact=True)),
    Wrong("exact_zero_to_a_negative", "y[i] = «x[i]**-2»", run(x=zeros(3), exact=True)),
    Wrong("exact_nan_data", DENSE, run(w=zeros(2, 3), x=np.full(3, np.nan), exact=True)),
    Wrong("exact_infinite_data", DENSE, run(w=zeros(2, 3), x=np.full(3, np.inf), exact=True)),
    Wrong("exact_empty_mean", "y = «mean[i](x[i])»", run(x=zeros(0), exact=True)),
]

GRADIENTS = [
    Wrong("gradient_of_unknown", LOSS, gradient(of="L", wrt=["w"])),
    Wrong("gradient_of_input", LOSS, gradient(of="x", wrt=["w"])),
    Wrong("gradient_wrt_unknown", LOSS, gradient(of="E", wrt=["v"])),
    Wrong("gradient_wrt_misspelt", LOSS, gradient(of="E", wrt=["W"])),
    Wrong("gradient_wrt_labels", CROSS_ENTROPY, gradient(of="E", wrt=["t"])),
    Wrong("derivation_wrt_unknown", LOSS, derivation(of="E", wrt="v")),
    Wrong("derivation_of_unknown", LOSS, derivation(of="L", wrt="w")),
    Wrong("grad_of_unknown", LOSS + "\nw[k,l] = w[k,l] - «grad(L, w)[k,l]»"),
    Wrong("grad_of_tensor", LOSS + "\nw[k,l] = w[k,l] - «grad(u, w)[k,l]»"),
    Wrong("grad_of_input", LOSS + "\nw[k,l] = w[k,l] - «grad(c, w)[k,l]» + c"),
    Wrong("grad_wrt_unknown", LOSS + "\nw[k,l] = w[k,l] - «grad(E, q)[k,l]»"),
    Wrong("grad_indices_forgotten", LOSS + "\nw[k,l] = w[k,l] - «grad(E, w)»"),
    Wrong("grad_wrong_rank", LOSS + "\nw[k,l] = w[k,l] - «grad(E, w)[k]»"),
    Wrong("grad_one_argument", LOSS + "\nw[k,l] = w[k,l] - «grad(E)»[k,l]"),
    Wrong("grad_of_expression", LOSS + "\nw[k,l] = w[k,l] - «grad(E + 1, w)»[k,l]"),
    Wrong("grad_of_itself", "«E» = sum[k](x[k] * grad(E, x)[k])"),
    Wrong("grad_of_labels", CROSS_ENTROPY + "\nt[b] = t[b] - «grad(E, t)[b]»"),
    Wrong(
        "grad_indices_swapped",
        LOSS + "\nw[k,l] = w[k,l] - «grad(E, w)[l,k]»",
        shapes(w=(2, 3), x=(3,), t=(2,)),
    ),
]
