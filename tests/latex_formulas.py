r"""Formulas as they stand in books and on the web, with what they mean; and wrong ones.

In a wrong one « marks what the message must point at; the message itself is the golden file
goldens/latex_errors/NAME.txt.
"""

from __future__ import annotations

ANSWER = r"""
x_{i, j}^l = \sum_m \sum_n w_{m,n}^l o_{i+m, j+n}^{l-1} + b_{i, j}^l
y_p = \sum_{i,j} v_{p,i,j} x^l_{i,j}
E = \frac{1}{2}\sum_p (t_p - y_p)^2
\frac{\partial E}{\partial w^l_{m', n'}} = \sum_{i=0}^{H-k_1} \sum_{j=0}^{W-k_2}
    \frac{\partial E}{\partial x^l_{i, j}} \frac{\partial x^l_{i, j}}{\partial w^l_{m', n'}}
w^{(t+1)} = w^{(t)} - \eta \frac{\partial E}{\partial w^{(t)}}
"""

# (LaTeX, the program it is)
BOOKS: list[tuple[str, str]] = [
    (
        r"x_{i, j}^l = \sum_m \sum_n w_{m,n}^l o_{i+m, j+n}^{l-1} + b_{i, j}^l",
        "x[i,j] = sum[m,n](w[m,n]*o[i+m,j+n]) + b[i,j]",
    ),
    (r"E = \frac{1}{2}\sum_p (t_p - y_p)^2", "E = 1/2*sum[p]((t[p] - y[p])**2)"),
    (r"w^{(t+1)} = w^{(t)} - \eta \frac{\partial E}{\partial w^{(t)}}", "w = w - η*δw"),
    # layers
    (
        r"z^l_j = \sum_k w^l_{jk} a^{l-1}_k + b^l_j \\ a^l_j = \sigma(z^l_j)",
        "z[j] = sum[k](w[j,k]*a_prev[k]) + b[j]\na[j] = sigmoid(z[j])",
    ),
    (
        r"a^{(1)}_i = x_i \\ a^{(2)}_j = \sigma\big(\sum_i w^{(2)}_{ji} a^{(1)}_i\big)",
        "a1[i] = x[i]\na2[j] = sigmoid(sum[i](w2[j,i]*a1[i]))",
    ),
    (r"z^{[2]}_i = \sum_j W^{[2]}_{ij} a^{[1]}_j", "z2[i] = sum[j](W2[i,j]*a1[j])"),
    (r"x^{l+1}_i = x^l_i + r_i", "x_next[i] = x[i] + r[i]"),
    (
        r"h_i = \sum_j w_{ij}^{\text{in}} x_j \, w^{\text{out}}_{i}",
        "h[i] = sum[j](w_in[i,j]*x[j]*w_out[i])",
    ),
    (r"\delta^l_j = \frac{\partial C}{\partial z^l_j}", "δ[j] = δz[j]"),
    (
        r"\delta^{(2)}_j = \left( \sum_k W^{(3)}_{kj} \delta^{(3)}_k \right) "
        r"z^{(2)}_j (1 - z^{(2)}_j)",
        "δ2[j] = sum[k](W3[k,j]*δ3[k])*z2[j]*(1 - z2[j])",
    ),
    (
        r"\delta_j = \sum_k w_{kj} \delta^{y}_k \sigma'(z_j) \\ y_k = \sum_j w_{kj} z_j",
        "δ[j] = sum[k](w[k,j]*δy[k]*sigmoid(z[j])*(1 - sigmoid(z[j])))\ny[k] = sum[j](w[k,j]*z[j])",
    ),
    # samples, means, losses
    (
        r"J(\theta) = \frac{1}{2m} \sum_{i=1}^{m} \left( h^{(i)} - y^{(i)} \right)^2",
        "J = 1/(2*size(h,0))*sum[i]((h[i] - y[i])**2)",
    ),
    (r"L = -\sum_{k} t_k \log y_k", "L = -sum[k](t[k]*log(y[k]))"),
    (
        r"L = -\sum_{i=1}^{N} \left[ y_i \log \hat{y}_i + (1 - y_i) \log (1 - \hat{y}_i) \right]",
        "L = -sum[i](y[i]*log(y_hat[i]) + (1 - y[i])*log(1 - y_hat[i]))",
    ),
    (
        r"E = -\frac{1}{N} \sum_{n=1}^{N} \sum_{k=1}^{K} t_{nk} \ln y_{nk}",
        "E = -1/size(t,0)*sum[n,k](t[n,k]*log(y[n,k]))",
    ),
    (r"E = \tfrac12 \sum_{k} (y_k - t_k)^2", "E = 1/2*sum[k]((y[k] - t[k])**2)"),
    (
        r"E = \sum_i \left|y_i - t_i\right| + \lambda \sum_{i,j} |w_{ij}|^2",
        "E = sum[i](abs(y[i] - t[i])) + λ*sum[i,j](abs(w[i,j])**2)",
    ),
    (r"p_k = \frac{e^{u_k}}{\sum_j e^{u_j}}", "p[k] = exp(u[k])/sum[j](exp(u[j]))"),
    (r"E = \log \sum_k e^{u_k} - u_0", "E = log(sum[k](exp(u[k]))) - u[0]"),
    # batch norm
    (
        r"\mu = \frac{1}{m}\sum_{i=1}^{m} x_i, \quad "
        r"\sigma^2 = \frac{1}{m} \sum_{i=1}^m (x_i-\mu)^2",
        "μ = 1/size(x,0)*sum[i](x[i])\nσ2 = 1/size(x,0)*sum[i]((x[i] - μ)**2)",
    ),
    (
        r"\hat{x}_i = \frac{x_i - \mu}{\sqrt{\sigma^2 + \epsilon}}",
        "x_hat[i] = (x[i] - μ)/sqrt(σ**2 + ε)",
    ),
    # pooling, activations
    (
        r"y_{i,j} = \max_{a,c \in \{0,1\}} x_{2i+a, 2j+c}",
        "y[i,j] = max[a:2,c:2](x[2*i+a,2*j+c])",
    ),
    (
        r"y_{ij} = \max_{0 \le a < 2,\, 0 \le c < 2} x_{2i+a,2j+c}",
        "y[i,j] = max[a:2,c:2](x[2*i+a,2*j+c])",
    ),
    (r"y_{ij} = \max_{0 \le a, c < 2} x_{2i+a,2j+c}", "y[i,j] = max[a:2,c:2](x[2*i+a,2*j+c])"),
    (r"y = \text{ReLU}(x)", "y = relu(x)"),
    (r"y_i = \mathrm{relu}(x_i)", "y[i] = relu(x[i])"),
    (r"y_i = \max\{0, x_i\}", "y[i] = maximum(0, x[i])"),
    (
        r"y_i = \begin{cases} x_i & \text{if } x_i > 0 \\ "
        r"\alpha x_i & \text{otherwise} \end{cases}",
        "y[i] = where(x[i] > 0, x[i], α*x[i])",
    ),
    (
        r"y_i = \begin{cases} x_i, & x_i \geq 0 \\ 0, & x_i < 0. \end{cases}",
        "y[i] = where(x[i] >= 0, x[i], 0)",
    ),
    (r"y_i = x_i \, \sigma(x_i)", "y[i] = x[i]*sigmoid(x[i])"),
    (r"k = \arg\max_j p_j", "k = argmax[j](p[j])"),
    (
        r"y_i = \operatorname{softplus}(x_i) + \ln(1+e^{-x_i})",
        "y[i] = softplus(x[i]) + log(1 + exp(-x[i]))",
    ),
    # gradients and updates
    (r"\frac{dE}{dw_i} = (y - t) x_i", "δw[i] = (y - t)*x[i]"),
    (r"\partial E/\partial w_{ij} = \delta_j x_i", "δw[i,j] = δ[j]*x[i]"),
    (
        r"\Delta w_{ij} = -\eta \frac{\partial E}{\partial w_{ij}}",
        "Δw[i,j] = -η*δw[i,j]",
    ),
    (
        r"$$W_{ij} \leftarrow W_{ij} - \eta \frac{\partial L}{\partial W_{ij}}$$",
        "W[i,j] = W[i,j] - η*δW[i,j]",
    ),
    (r"w' = w - \eta \frac{\partial E}{\partial w}", "w = w - η*δw"),
    (
        r"y_i = \sum_j w_{ij} x_j \\ E = \sum_i y_i \\ w = w - \eta \frac{\partial E}{\partial w}",
        "y[i] = sum[j](w[i,j]*x[j])\nE = sum[i](y[i])\nw[i,j] = w[i,j] - η*grad(E, w)[i,j]",
    ),
    (r"v_{i} := \beta v_{i} + (1-\beta) g_{i}", "v[i] = β*v[i] + (1 - β)*g[i]"),
    # counting from 1, limits, conditions
    (
        r"O_{i,j,k} = \sum_{c=1}^{C} \sum_{m=1}^{k_1} \sum_{n=1}^{k_2} I_{i+m-1, j+n-1, c}"
        r" \cdot K_{m,n,c,k} + b_k",
        "O[i,j,k] = sum[c,m,n](I[i+m,j+n,c]*K[m,n,c,k]) + b[k]",
    ),
    (r"c_{i} = \sum_{k=0}^{2} a_{k} b_{i-k}", "c[i] = sum[k:3](a[k]*b[i-k])"),
    (r"s = \sum_{i=1}^{3} i \, x_i", "s = sum[i:3]((i + 1)*x[i])"),
    (r"y_i = o_{2i}, \quad i = 0, \dots, 3", "y[i:4] = o[2*i]"),
    (
        r"y_i = \operatorname{pad}(o)_{i-1} \quad \text{for } 0 \leq i < 3",
        "y[i:3] = pad(o)[i-1]",
    ),
    (r"y_{i} = \sum_{j \neq i} a_{ij} x_j", "y[i] = sum[j]((j != i)*a[i,j]*x[j])"),
    (r"y_i = \sum_j x_j \mathbb{1}[i = j]", "y[i] = sum[j](x[j]*(i == j))"),
    (r"y_i = \sum_j x_j \mathbf{1}_{i \ne j}", "y[i] = sum[j](x[j]*(i != j))"),
    # layout and names
    (
        "\\begin{align*}\nz_i &= \\sum_j W_{ij} x_j \\\\\n &\\quad + b_i, \\\\\n"
        "a_i &= \\tanh(z_i).\n\\end{align*}",
        "z[i] = sum[j](W[i,j]*x[j]) + b[i]\na[i] = tanh(z[i])",
    ),
    (r"\[ y_i = \Bigl( \sum_j w_{ij} \; x_j \Bigr)^2 \]", "y[i] = sum[j](w[i,j]*x[j])**2"),
    (r"\mathbf{y}_i = \sum_j \mathbf{W}_{ij} \mathbf{x}_j", "y[i] = sum[j](W[i,j]*x[j])"),
    (r"z_{\text{out}} = 2 \pi r + {c}^{2}", "z_out = 2*pi*r + c**2"),
    (r"h_1 = \sigma(w_1 x_1 + b) \\ y = h_1^2", "h1 = sigmoid(w[1]*x[1] + b)\ny = h1**2"),
    (
        r"y_{i} = x_i^{2} + x_i^{-1} + \sqrt{x_i} + x_i^{\frac{1}{2}}",
        "y[i] = x[i]**2 + 1/x[i] + sqrt(x[i]) + x[i]**(1/2)",
    ),
    (r"q_i = \prod_{j} (1 - r_{ij}) \times 2", "q[i] = prod[j]((1 - r[i,j])*2)"),
    (r"y_{(i,j)} = x_{i,j} / 2", "y[(i,j)] = x[i,j]/2"),
    ("y_i = 2 x_i\nz_i = y_i % a comment\n\n", "y[i] = 2*x[i]\nz[i] = y[i]"),
]

WRONG: dict[str, str] = {
    "empty": "",
    "only_layout": "«$$ $$",
    "unclosed_brace": r"x_i = \frac{1}«{2 + y_i",
    "unclosed_parenthesis": r"x_i = 2 «( y_i + 1",
    "unclosed_cases": r"x = «\begin{cases} 1 & a > 0",
    "crossed_brackets": r"x_i = ( y_i «] + 1",
    "closes_nothing": r"x_i = y_i «)",
    "nothing_follows": "x_i = 2 +«",
    "nothing_before": r"x_i = «\cdot y_i",
    "two_equal_signs": r"x_i = y_i «= z_i",
    "nothing_assigned": r"«x_i + 1",
    "unknown_command": r"x_i = «\foo y_i",
    "gradient_sign": r"g = «\nabla_w E",
    "integral": r"y = «\int x dx",
    "matrix": r"A = «\begin{pmatrix} 1 & 2 \end{pmatrix}",
    "norm": r"E = «\| y - t \|^2",
    "transpose": r"y_i = \sum_j w_{ij}^«T x_j",
    "word_of_letters": r"«net = w x",
    "function_without_backslash": r"y_i = «tanh(x_i)",
    "unknown_function": r"y_i = «\operatorname{softmax}(x_i)",
    "long_subscript": r"y_i = x_«12",
    "letters_below": r"y_{ij} = x_«ij",
    "power_or_layer": r"y_i = x_i^«n",
    "power_or_number": r"a^2_i = \sum_j w^«2_{ij} x_j + b^2_i",
    "no_power": r"y_i = \sum_j w_{ij} a^«1_j",
    "limit_varies": r"y_i = \sum_{j=1}^{«i} w_{i,j} x_j",
    "less_than_index": r"E = \sum_i \sum_{j<«i} x_{i,j}",
    "set_varies": r"p_i = \max_{j \in «R_i} x_j b_i",
    "beside_varies": r"E = \sum_{i, j<«i} x_{i,j}",
    "power_or_index": r"y_{k} = x_k^{«k}",
    "function_or_product": r"h_i = «f(x_i)",
    "round_indices": r"S(i,j) = \sum_m I«(i+m, j) K_m",
    "expectation": r"C = «\mathbb{E}[x]",
    "square_indices": r"y«[n] = \sum_k h[k] x[n-k]",
    "index_behind": r"y_n = \sum_k h«[k] x_{n-k}",
    "log_reaches": r"y = \log a_0 «b",
    "slash_reaches": r"y = 1/2«m",
    "kronecker_or_error": r"y_i = \sum_j «\delta_{ij} x_j",
    "unbound_index": r"y_i = x_{i,«k}",
    "bound_twice": r"y_i = «\sum_i x_i",
    "twice_on_the_left": r"«y_{ii} = x_i",
    "left_shift": r"y_{«i+1} = x_i",
    "affine": r"y_i = x_{«i^2}",
    "lower_limit": r"y = \sum_{i=«2}^{5} x_i",
    "no_index": r"y = «\sum x_i",
    "fraction_of_index": r"y_i = x_{«i/2}",
    "last_case": r"y = \begin{cases} 1 & a > 0 \\ 2 & «b > 0 \end{cases}",
    "numbers_side_by_side": r"y = x «2",
    "with_and_without": "x^l = 2 y\nz = «x + x^{l}",
    "assigned_twice": "y = 2 x\n«y = 3 x",
    "ranks": "y_i = 2 x_i\nz_{i,j} = «x_{i,j}",
    "matrix_product": "y_{ij} = A_{ij} + B_{ij}\n«z = A B",
    "not_a_tensor_derivative": r"y = «\frac{\partial (a + b)}{\partial w}",
    "reserved_name": r"«\mathrm{where}_i = x_i",
    "local_derivative": "y_i = x_i^2\n"
    r"«\frac{\partial E}{\partial w} = \frac{\partial y_0}{\partial w}",
    "inverse": r"y = \sin^{«-1} x",
    "count_mixed": r"y_i = \sum_{m=0}^{1} \sum_{c=1}^{2} o_{«2i+m} k_{m,c}",
    "float_range": r"«y = 10^{400}",
}
