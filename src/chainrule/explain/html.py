"""An explanation in a notebook: the text, its computed factors folded away below it."""

from __future__ import annotations

from html import escape

from chainrule.explain.explanation import Explanation
from chainrule.explain.numbers import shown
from chainrule.explain.text import View

CHILDREN = 8  # of one element
_STYLE = (
    "font-family:ui-monospace,Menlo,Consolas,monospace;line-height:1.35;margin:.2em 0 .4em 1.2em;"
    "padding-left:.8em;border-left:2px solid #8886;background:none;white-space:pre;overflow-x:auto"
)


def page(x: Explanation, depth: int) -> str:
    """The number and, level by level, what it is made of; no scripts."""
    return f'<div class="chainrule-explanation">{_element(x, depth, root=True)}</div>'


def _element(x: Explanation, depth: int, *, root: bool) -> str:
    lines = View().element(x, root=True)
    lines += [f"note: {n}" for n in x.notes]
    title = f"<b><code>{escape(x.name)}</code></b> = <code>{escape(shown(x.value))}</code>"
    body = f'<pre style="{_STYLE}">{escape(chr(10).join(lines))}</pre>' if lines else ""
    inside = ""
    if depth > 0:
        computed = [c for c in x.children if c.statement is not None]
        inside = "".join(_element(c, depth - 1, root=False) for c in computed[:CHILDREN])
        if more := computed[CHILDREN:]:
            inside += f"<p>{len(more):,} more</p>"
    opened = " open" if root else ""
    return (
        f"<details{opened}><summary>{title}</summary>{body}"
        f'<div style="margin-left:1.2em">{inside}</div></details>'
    )
