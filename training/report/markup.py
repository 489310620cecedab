"""Small pieces of HTML, escaped; a page loads nothing from anywhere."""

from collections.abc import Iterable, Sequence
from html import escape

STYLE = """
:root { color-scheme: light; }
* { box-sizing: border-box; }
body { margin: 0 auto; padding: 2.5rem 1.5rem 4rem; max-width: 54rem; background: #fff;
  color: #1b1f24; font: 16px/1.55 system-ui, -apple-system, "Segoe UI", Roboto, Helvetica, Arial,
  sans-serif; }
h1 { font-size: 1.9rem; line-height: 1.2; margin: 0 0 .3rem; }
h2 { font-size: 1.25rem; margin: 2.6rem 0 .6rem; padding-top: .9rem;
  border-top: 1px solid #d5d9de; }
h3 { font-size: 1rem; margin: 1.4rem 0 .4rem; }
p { margin: .5rem 0; }
.lead { font-size: 1.06rem; color: #3c444d; margin: 0 0 .4rem; }
.note { color: #57606a; font-size: .9rem; }
.warning { border-left: 4px solid #b35900; background: #fff6ea; padding: .55rem .9rem;
  margin: .8rem 0; }
.research { border: 1px solid #8c959f; border-radius: 4px; display: inline-block; font-size: .9rem;
  padding: .1rem .6rem; margin: .5rem 0; }
.facts { display: grid; grid-template-columns: repeat(auto-fit, minmax(9.5rem, 1fr)); gap: .6rem;
  margin: 1rem 0; padding: 0; list-style: none; }
.facts li { border: 1px solid #d5d9de; border-radius: 6px; padding: .5rem .7rem; }
.facts b { display: block; white-space: nowrap; font-size: 1.25rem; line-height: 1.3;
  font-variant-numeric: tabular-nums; }
.facts span { color: #57606a; font-size: .85rem; }
table { border-collapse: collapse; width: 100%; margin: .7rem 0; font-size: .9rem;
  font-variant-numeric: tabular-nums; }
th, td { text-align: left; padding: .28rem .7rem .28rem 0; border-bottom: 1px solid #e4e7eb;
  vertical-align: top; overflow-wrap: break-word; }
td:first-child { min-width: 5.5em; }
td:last-child, th:last-child { padding-right: 0; }
th { color: #57606a; font-weight: 600; border-bottom-color: #8c959f; vertical-align: bottom; }
td.number, th.number { text-align: right; }
td.number { white-space: nowrap; }
.wraps td.number { white-space: normal; }
figure { margin: 1rem 0; }
figure > img { width: 100%; height: auto; display: block; }
figcaption { color: #57606a; font-size: .88rem; margin-top: .3rem; }
.cases { display: grid; grid-template-columns: repeat(3, 1fr); gap: .9rem; }
.cases figure { margin: 0; }
.cases svg { width: 100%; height: auto; display: block; background: #f3f4f6;
  margin-bottom: .25rem; }
.key { display: inline-block; width: 1.6em; border-top: 3px solid; vertical-align: middle;
  margin: 0 .35em 0 .9em; }
.key.dashed { border-top-style: dashed; }
pre { background: #f6f8fa; border: 1px solid #e4e7eb; border-radius: 6px; padding: .7rem .9rem;
  font-size: .82rem; line-height: 1.45; white-space: pre-wrap; overflow-wrap: anywhere; }
code { font-size: .9em; }
summary { cursor: pointer; color: #1f5fa8; }
footer { margin-top: 3rem; border-top: 1px solid #d5d9de; padding-top: .8rem; color: #57606a;
  font-size: .85rem; }
@media print {
  body { max-width: none; padding: 0; font-size: 10.5pt; }
  h2 { break-after: avoid; } h3 { break-after: avoid; }
  figure, tr, .facts li, .warning, .keep { break-inside: avoid; }
  @page { margin: 16mm 15mm; }
}
"""


def page(title: str, parts: Iterable[str]) -> str:
    """Return a whole document around ``parts``, which are HTML already."""
    return "\n".join(
        [
            "<!DOCTYPE html>",
            '<html lang="en">',
            "<head>",
            '<meta charset="utf-8">',
            '<meta name="viewport" content="width=device-width, initial-scale=1">',
            # A browser that is asked for no icon looks for one at the server.
            '<link rel="icon" href="data:,">',
            f"<title>{escape(title)}</title>",
            f"<style>{STYLE}</style>",
            "</head>",
            "<body>",
            *parts,
            "</body>",
            "</html>",
            "",
        ]
    )


def paragraph(text: str, kind: str = "") -> str:
    """Return escaped text as a paragraph of a class of ``STYLE``."""
    return f'<p class="{kind}">{escape(text)}</p>' if kind else f"<p>{escape(text)}</p>"


def warning(text: str) -> str:
    """Return escaped text that a reader must not miss."""
    return f'<div class="warning">{escape(text)}</div>'


def facts(pairs: Iterable[tuple[str, str]]) -> str:
    """Return large values, each with its small label."""
    items = [
        f"<li><b>{escape(value)}</b><span>{escape(label)}</span></li>" for value, label in pairs
    ]
    return f'<ul class="facts">{"".join(items)}</ul>'


def table(
    head: Sequence[str],
    rows: Iterable[Sequence[str]],
    *,
    numbers_from: int | None = None,
    wraps: bool = False,
) -> str:
    """Return a table of escaped text; columns from ``numbers_from`` on are set flush right.

    Their cells are one line each, or break at their spaces where the table ``wraps``.
    """

    def cells(tag: str, row: Sequence[str]) -> str:
        kinds = [
            ' class="number"' if numbers_from is not None and i >= numbers_from else ""
            for i in range(len(row))
        ]
        return "".join(
            f"<{tag}{kind}>{escape(cell)}</{tag}>" for kind, cell in zip(kinds, row, strict=True)
        )

    body = "".join(f"<tr>{cells('td', row)}</tr>\n" for row in rows)
    header = f"<thead><tr>{cells('th', head)}</tr></thead>\n" if any(head) else ""
    kind = ' class="wraps"' if wraps else ""
    return f"<table{kind}>{header}<tbody>\n{body}</tbody></table>"


def picture(source: str, caption: str) -> str:
    """Return a figure of an image given as a data URI."""
    return (
        f'<figure><img src="{source}" alt="{escape(caption)}">'
        f"<figcaption>{escape(caption)}</figcaption></figure>"
    )


def code(text: str) -> str:
    """Return commands or files as they are typed."""
    return f"<pre>{escape(text)}</pre>"


def folded(title: str, content: str) -> str:
    """Return HTML that shows when its title is clicked."""
    return f"<details><summary>{escape(title)}</summary>{content}</details>"


def section(title: str, parts: Iterable[str]) -> str:
    """Return HTML under a heading."""
    return f"<section>\n<h2>{escape(title)}</h2>\n" + "\n".join(parts) + "\n</section>"
