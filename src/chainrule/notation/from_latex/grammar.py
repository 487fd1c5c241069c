"""The grammar of LaTeX formulas, for lark's LALR parser.

It says what belongs to what; what the parts mean (a layer's name or a power, a function or a
product) is decided by the readers, which know the whole text.  The tokens are made by tokens.py.

    start     formulas and conditions, in the order written
    chain     a = b, a < b < c, or one sum alone
    big       an operator that takes the rest of its product: \\sum_i, \\max_{a,c}
    unit      an atom with what stands above and below it, or a function and its argument
"""

GRAMMAR = r"""
start: chain (SEP chain)*
chain: sum (REL sum)*
sum: sign? term ((PLUS | MINUS) term)*
sign: PLUS | MINUS
?term: product
     | big
     | product big             -> product
     | product _op big         -> product
?product: unit
     | product unit            -> product
     | product _op signed      -> product
_op: TIMES | SPACE | SLASH | STAR
?signed: unit | MINUS unit     -> negative
big: BIG script* term | FUNC script* big
unit: atom script* | FUNC script* unit | PARTIAL script* unit | PREFIX unit
script: SUB arg | SUP arg | PRIME
arg: LBRACE list RBRACE | LBRACE STAR RBRACE | STAR | single
?single: LETTER | WORD | TEXT | NUMBER | PI | INFTY | TOP
?atom: single | DOTS | group | frac | root | cases
group: LPAR list RPAR | LSQ list RSQ | LCURL list RCURL | BARL list BARR | LFLOOR list RFLOOR
     | LBRACE list RBRACE
list: chain (COMMA chain)* COMMA?
frac: FRAC place place
place: LBRACE chain RBRACE | LETTER | WORD | NUMBER | PI
root: ROOT (LSQ chain RSQ)? place
cases: CASES row (CROW row)* ENDCASES
row: chain (AMP (chain | OTHERWISE))?

%declare SEP SPACE BIG FUNC PREFIX PARTIAL LETTER WORD TEXT BARL BARR CASES ENDCASES CROW OTHERWISE

PLUS: "+"
MINUS: "-" | "−"
TIMES: /\\(cdot|times|ast|odot|circ|otimes)(?![A-Za-z])/ | "×" | "·" | "⋅"
STAR: "*"
SLASH: "/" | /\\div(?![A-Za-z])/
REL: /\\(?:leq?|geq?|neq?|leqslant|geqslant|lt|gt|equiv|in)(?![A-Za-z])/
   | /\\(?:leftarrow|gets|coloneqq)(?![A-Za-z])/
   | /:=|=|<|>|≤|≥|≠|∈/
SUB: "_"
SUP: "^"
PRIME: /'+/ | /\^\s*(\\prime(?![A-Za-z])|\{\s*(\\prime\s*)+\})/
NUMBER: /[0-9]+(\.[0-9]+)?|\.[0-9]+/
PI: /\\pi(?![A-Za-z])/
INFTY: /\\infty(?![A-Za-z])/ | "∞"
TOP: /\\(top|intercal)(?![A-Za-z])/
DOTS: /\\(dots|ldots|cdots|dotsc|dotsb)(?![A-Za-z])/ | "…" | "..."
FRAC: /\\[tdc]?frac(?![A-Za-z])/
ROOT: /\\sqrt(?![A-Za-z])/
LPAR: "("
RPAR: ")"
LSQ: "[" | /\\lbrack(?![A-Za-z])/
RSQ: "]" | /\\rbrack(?![A-Za-z])/
LBRACE: "{"
RBRACE: "}"
LCURL: "\\{" | /\\lbrace(?![A-Za-z])/
RCURL: "\\}" | /\\rbrace(?![A-Za-z])/
LFLOOR: /\\lfloor(?![A-Za-z])/
RFLOOR: /\\rfloor(?![A-Za-z])/
COMMA: ","
AMP: "&"

// what tokens.py takes away or turns into something else
_CAPTION.3: /\\(operatorname\*?|text(rm|it|bf)?|math(rm|it|sf|tt)|mbox)\s*\{[^{}]*\}/
_FONT.3: /\\(math(bf|cal|scr|bbm?)|boldsymbol|bm|vec)(?![A-Za-z])\s*/ _LETTERED
_ACCENT.3: /\\(wide(hat|tilde)|overline|hat|tilde|bar|dot)(?![A-Za-z])\s*/ _LETTERED
_LETTERED: /(\{\s*(\\?[A-Za-z]+|1)\s*\}|\\[A-Za-z]+|[A-Za-z])/
_BEGIN.3: /\\begin\s*\{[^{}]*\}/
_END.3: /\\end\s*\{[^{}]*\}/
_ARG.3: /\\arg\s*(\\,)?\s*\\(max|min)(?![A-Za-z])/
_NULL.4: /\\(left|right)\s*\./
_SIZED.3: /\\(left|right|middle|[bB]igg?[lrm]?)(?![A-Za-z])/
_SKIP.3: /\\(displaystyle|textstyle|(no)?limits|nonumber|notag|forall)(?![A-Za-z])/
   | /\\(label|tag)\s*\{[^{}]*\}/
_ROW.3: /\\\\\*?(\s*\[\s*-?[0-9.]+\s*[a-z]+\s*\])?|\\(newline|cr)(?![A-Za-z])/
_MATH.3: /\$\$?|\\\[|\\\]|\\\(|\\\)/
_GAP.3: /\\[,;:!> ]|~|\\(thinspace|medspace|thickspace|enspace)(?![A-Za-z])/
_QUAD.3: /\\q?quad(?![A-Za-z])/
_BAR.3: "|" | /\\[lr]?vert(?![A-Za-z])/
_NORM.3: "\\|" | /\\[lr]?Vert(?![A-Za-z])/
_STOP.-1: /[.;]/
_COMMAND.-2: /\\[A-Za-z]+/
_LETTERS.-1: /[A-Za-z]+/
_OTHER.-2: /[^\W\d_]/
_NEWLINE: /\n/
_COMMENT: /%[^\n]*/
_BLANK: /[^\S\n]+/
%ignore _COMMENT
%ignore _BLANK
"""
