"""Greek letters and their TeX names, for the writer and the reader of LaTeX."""

from __future__ import annotations

_LOWER = (
    "alpha beta gamma delta epsilon zeta eta theta iota kappa lambda mu nu xi pi rho sigma tau "
    "upsilon phi chi psi omega"
)
_UPPER = "Gamma Delta Theta Lambda Xi Pi Sigma Upsilon Phi Psi Omega"

# Letters that TeX has a command for.  Capitals that look like Latin ones have none.
TO_TEX = dict(zip("αβγδεζηθικλμνξπρστυφχψω", _LOWER.split(), strict=True)) | dict(
    zip("ΓΔΘΛΞΠΣΥΦΨΩ", _UPPER.split(), strict=True)
)
FROM_TEX = {word: letter for letter, word in TO_TEX.items()} | {
    "varepsilon": "ε",
    "vartheta": "θ",
    "varphi": "φ",
    "varrho": "ρ",
    "varpi": "π",
    "ell": "l",
    "imath": "i",
    "jmath": "j",
}
