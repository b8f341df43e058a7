"""Building blocks of a self-contained HTML page: escaped text, tables, embedded pictures."""

import base64
from collections.abc import Iterable, Sequence
from html import escape

TEXTUAL = ("regulariser", "status", "reason")  # columns whose cells are words
STYLE = """
:root { color-scheme: light dark; --ink: #1f2933; --muted: #5b6773; --line: #d8dee4;
  --paper: #ffffff; --panel: #f5f7f9; --accent: #0072b2; --warn: #fff3d6; --warn-line: #e69f00;
  --bad: #b3400a; --best: #e3f1fa; }
@media (prefers-color-scheme: dark) { :root { --ink: #e4e9ee; --muted: #9aa7b4; --line: #37424d;
  --paper: #14191f; --panel: #1d242c; --accent: #6cbcf0; --warn: #3a2e12; --warn-line: #e69f00;
  --bad: #ff9a66; --best: #17364a; } }
* { box-sizing: border-box; }
body { margin: 0; background: var(--paper); color: var(--ink);
  font: 16px/1.55 system-ui, "Segoe UI", Roboto, "Helvetica Neue", sans-serif; }
main { max-width: 1120px; margin: 0 auto; padding: 2.5rem 1.5rem 4rem; }
h1 { font-size: 1.9rem; margin: 0 0 .3rem; line-height: 1.2; }
h2 { font-size: 1.25rem; margin: 2.8rem 0 .6rem; padding-top: 1rem;
  border-top: 1px solid var(--line); }
h3 { font-size: 1.02rem; margin: 1.6rem 0 .4rem; }
p { margin: .5rem 0; max-width: 60rem; }
.muted, caption, figcaption { color: var(--muted); font-size: .9rem; }
.banner { background: var(--warn); border-left: 5px solid var(--warn-line); padding: .8rem 1.1rem;
  border-radius: 4px; margin: 1.2rem 0; }
.banner p { max-width: none; }
.wide { overflow-x: auto; }
.tall { max-height: 36rem; overflow: auto; border: 1px solid var(--line); border-radius: 6px; }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; font-size: .94rem; }
th, td { padding: .34rem .85rem; text-align: right; border-bottom: 1px solid var(--line);
  white-space: nowrap; }
th { color: var(--muted); font-weight: 600; }
th:first-child, td:first-child, .text { text-align: left; }
thead th { border-bottom: 2px solid var(--line); }
td:first-child { font-weight: 600; }
.best { background: var(--best); font-weight: 700; }
.tall table { width: 100%; font-size: .86rem; }
.tall thead th { position: sticky; top: 0; background: var(--panel); }
.tall td:first-child { font-weight: 400; }
.reason { white-space: normal; min-width: 12rem; }
.bad td { color: var(--bad); }
figure { margin: 1rem 0; }
figure img { display: block; max-width: 100%; height: auto; background: #fff; padding: 10px;
  border: 1px solid var(--line); border-radius: 6px; }
figure.small img { max-width: min(100%, 46rem); }
figcaption { margin-top: .4rem; max-width: 52rem; }
pre { background: var(--panel); border: 1px solid var(--line); border-radius: 6px; padding: 1rem;
  overflow: auto; font-size: .82rem; line-height: 1.4; }
code { background: var(--panel); padding: .1em .3em; border-radius: 3px; font-size: .9em; }
summary { cursor: pointer; color: var(--accent); margin: 1.2rem 0 .5rem; }
"""


def page(title: str, body: Iterable[str]) -> str:
    """A whole page; `body` is HTML already."""
    return "\n".join(
        [
            "<!DOCTYPE html>",
            '<html lang="en"><head><meta charset="utf-8">',
            '<meta name="viewport" content="width=device-width, initial-scale=1">',
            f"<title>{escape(title)}</title><style>{STYLE}</style></head>",
            "<body><main>",
            *body,
            "</main></body></html>",
            "",
        ]
    )


def paragraph(text: str, kind: str = "") -> str:
    """Text as a paragraph of a class."""
    return f"<p{_class(kind)}>{escape(text)}</p>"


def heading(text: str, level: int = 2) -> str:
    """Text as a heading."""
    return f"<h{level}>{escape(text)}</h{level}>"


def table(
    header: Sequence[str],
    rows: Iterable[Sequence[object]],
    *,
    kinds: Sequence[str] = (),
    box: str = "wide",
) -> str:
    """A table; a cell is text, or text and a class; `kinds` are classes of the rows."""
    lines = [f'<div class="{box}"><table><thead><tr>']
    lines.extend(f"<th{_class('text' if n in TEXTUAL else '')}>{escape(n)}</th>" for n in header)
    lines.append("</tr></thead><tbody>")
    for index, row in enumerate(rows):
        cells = [cell if isinstance(cell, tuple) else (str(cell), "") for cell in row]
        tag = f"<tr{_class(kinds[index] if index < len(kinds) else '')}>"
        lines.append(tag + "".join(f"<td{_class(k)}>{escape(t)}</td>" for t, k in cells) + "</tr>")
    lines.append("</tbody></table></div>")
    return "\n".join(lines)


def picture(
    content: bytes, kind: str, description: str, caption: str = "", *, size: str = ""
) -> str:
    """An embedded picture.

    Args:
        content: the file.
        kind: its media type after `image/`.
        description: what it shows, for those who do not see it.
        caption: text under it.
        size: "small" for a picture that need not fill the page.
    """
    data = base64.b64encode(content).decode()
    below = f"<figcaption>{escape(caption)}</figcaption>" if caption else ""
    image = f'<img alt="{escape(description)}" src="data:image/{kind};base64,{data}">'
    return f"<figure{_class(size)}>{image}{below}</figure>"


def folded(summary: str, text: str) -> str:
    """Preformatted text that opens on a click."""
    return f"<details><summary>{escape(summary)}</summary><pre>{escape(text)}</pre></details>"


def _class(kind: str) -> str:
    return f' class="{kind}"' if kind else ""
