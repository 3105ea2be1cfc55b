"""How pages write numbers, differences and references."""

from __future__ import annotations

import re
from collections.abc import Sequence

NOT_KNOWN = "–"
_MINUS = "−"
_LOSSES = (1.0, 3.0, 10.0, 30.0)
_TRACEBACK_LINES = 12


def fixed(value: float | None, digits: int = 2) -> str:
    """Return a number with fixed decimals, a true minus sign, and a dash where it is not known.

    >>> fixed(-0.001), fixed(None), fixed(1234.5, 1)
    ('0.00', '–', '1234.5')
    """
    if value is None:
        return NOT_KNOWN
    text = f"{value:.{digits}f}"
    return text.lstrip("-") if float(text) == 0 else text.replace("-", _MINUS)


def signed(value: float | None, digits: int = 2) -> str:
    """Return a number with its sign: what a difference needs.

    >>> signed(1.234), signed(-0.004)
    ('+1.23', '0.00')
    """
    text = fixed(value, digits)
    return f"+{text}" if value is not None and value > 0 and float(text) != 0 else text


def link(text: str) -> str | None:
    """Return the address that a reference names: https only, or that of an arXiv number; None where there is none.

    >>> link("Li et al., ICCV 2023, arXiv 2212.08254"), link("javascript:alert(1)")
    ('https://arxiv.org/abs/2212.08254', None)
    """
    if address := re.search(r"https://[\w./?=&%~#:+-]*[\w/]", text, re.ASCII):
        return address[0]
    if number := re.search(r"arxiv[:\s]*(\d{4}\.\d{4,5})", text, re.ASCII | re.IGNORECASE):
        return f"https://arxiv.org/abs/{number[1]}"
    return None


def loss_class(drop: float | None) -> str:
    """Return the class that tints a cell by how much was lost against float: loss-0 (under a point) to loss-4."""
    loss = 0.0 if drop is None else -drop
    return f"loss-{sum(loss >= limit for limit in _LOSSES)}"


def verdict_class(verdict: str) -> str:
    """Return the class, with a space in front, that tints a difference; nothing where two are not separated.

    >>> verdict_class("better"), verdict_class("not separated")
    (' up', '')
    """
    return {"better": " up", "worse": " down"}.get(verdict, "")


def named(labels: Sequence[str], most: int = 3) -> str:
    """Return a few names in words, and how many more there are.

    >>> named(["a", "b"]), named(["a", "b", "c", "d", "e"])
    ('a and b', 'a, b, c and 2 more')
    """
    shown, rest = list(labels[:most]), len(labels) - most
    if rest > 0:
        shown.append(f"{rest} more")
    return " and ".join(filter(None, (", ".join(shown[:-1]), *shown[-1:])))


def xml(text: str) -> str:
    r"""Return a text without the characters that XML 1.0 does not allow, however they are written.

    >>> xml("a\x00b c")
    'ab c'
    """
    return re.sub(r"[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]", "", text)


def giga(value: float | None) -> str:
    """Return a count in 10^9."""
    return fixed(None if value is None else value / 1e9)


def short(hash_or_name: str) -> str:
    """Return the first characters of a hash."""
    return hash_or_name[:12]


def tail(text: str) -> str:
    """Return the last lines of a traceback."""
    return "\n".join(text.strip().splitlines()[-_TRACEBACK_LINES:])


def paragraphs(text: str) -> list[str]:
    """Return the paragraphs of a docstring, each on one line."""
    return [" ".join(paragraph.split()) for paragraph in re.split(r"\n\s*\n", text.strip())]
