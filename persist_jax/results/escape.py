"""Text of a run or a configuration, made safe for LaTeX and Markdown."""

_LATEX = {
    "\\": r"\textbackslash{}",
    "^": r"\textasciicircum{}",
    "~": r"\textasciitilde{}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    "|": r"\textbar{}",
} | {sign: f"\\{sign}" for sign in "&%$#_{}"}


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
    return "".join(f"\\{sign}" if sign in "\\`*_|[]<>" else sign for sign in text)
