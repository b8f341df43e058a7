"""Escape text of runs and configurations for the formats of the report."""

from typing import Any

from markupsafe import Markup

_LATEX = {
    "\\": r"\textbackslash{}",
    "^": r"\textasciicircum{}",
    "~": r"\textasciitilde{}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    "|": r"\textbar{}",
    # After the end of a row, LaTeX would read these as its options.
    "[": "{[}",
    "]": "{]}",
    "*": "{*}",
} | {sign: f"\\{sign}" for sign in "&%$#_{}"}


def printable(text: str) -> str:
    r"""Escape control characters, which a terminal would execute, and join lines.

    Example:
        >>> print(printable("a\x1b[31m\nb"))
        a\x1b[31m b
    """
    line = " ".join(text.splitlines())
    return "".join(sign if sign.isprintable() else ascii(sign)[1:-1] for sign in line)


def csv_cell(value: Any) -> Any:
    """Quote text that a spreadsheet would read as a formula.

    Example:
        >>> csv_cell("=cmd()"), csv_cell("t1"), csv_cell(-0.5)
        ("'=cmd()", 't1', -0.5)
    """
    formula = isinstance(value, str) and value.lstrip().startswith(("=", "+", "-", "@"))
    return f"'{value}" if formula else value


def html_text(value: Any) -> Any:
    """Escape control characters except line ends; the template escapes markup."""
    if not isinstance(value, str) or isinstance(value, Markup):
        return value
    return "\n".join(map(printable, value.split("\n")))


def latex(text: str) -> str:
    r"""Escape what LaTeX would read as a command.

    Example:
        >>> latex("min_corr & 5%")
        'min\\_corr \\& 5\\%'
    """
    return "".join(_LATEX.get(sign, sign) for sign in text)


def markdown(text: str) -> str:
    r"""Escape what Markdown would read as markup or as the end of a cell.

    Example:
        >>> markdown("min_corr|x")
        'min\\_corr\\|x'
    """
    return "".join(f"\\{sign}" if sign in "\\`*_|[]<>#&~!" else sign for sign in text)
