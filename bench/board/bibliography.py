"""BibTeX: the papers of methods, the data sets, and the board itself at its version."""

from __future__ import annotations

import re
from collections.abc import Iterable
from functools import cache
from pathlib import Path
from typing import Any

from vitptq.bench.board.method_card import MethodCard

FILE = Path(__file__).with_name("references.bib")
DATA_SETS = {"imagenet": "arxiv-1409.0575", "coco": "arxiv-1405.0312", "ade20k": "arxiv-1608.05442"}
WITHOUT_NUMBER = {"GLF-Q": "glf-q", "UQ-ViT": "uq-vit"}
"""Papers that arXiv does not have, by a word of the adapter's `paper`."""


def bibliography(cards: Iterable[MethodCard], tasks: Iterable[str], version: str, year: int) -> str:
    """Return the entries of these methods and data sets, and of the board at `version`, each once."""
    keys = [key for card in cards for key in keys_of(card)] + [DATA_SETS[task] for task in tasks if task in DATA_SETS]
    found = [entries()[key] for key in sorted(set(keys)) if key in entries()]
    return "\n\n".join([*found, board_entry(version, year)]) + "\n"


def keys_of(card: MethodCard) -> list[str]:
    """Return the BibTeX keys of a method's papers, the method's own first."""
    numbers = [f"arxiv-{number}" for number in re.findall(r"arXiv (\d{4}\.\d{4,5})", card.paper)]
    return numbers or [key for word, key in WITHOUT_NUMBER.items() if word in card.paper]


def keys_of_source(address: str) -> list[str]:
    """Return the BibTeX key of the paper at an address, where it is an arXiv one that has an entry."""
    keys = [f"arxiv-{number}" for number in re.findall(r"arxiv\.org/\w+/(\d{4}\.\d{4,5})", address)]
    return [key for key in keys if key in entries()]


def citable(keys: Iterable[str], tasks: Iterable[str], version: str, year: int) -> dict[str, Any]:
    """Return what a page's BibTeX is made of: entries by key, the keys of its data sets, the entry of the board."""
    always = sorted({DATA_SETS[task] for task in tasks if task in DATA_SETS})
    found = {key: entries()[key] for key in sorted({*keys, *always}) if key in entries()}
    return {"entries": found, "always": always, "board": board_entry(version, year)}


def board_entry(version: str, year: int) -> str:
    """Return the entry of the board itself."""
    return (
        "@misc{vitptq,\n"
        "  author = {{The vitptq contributors}},\n"
        "  title = {{vitptq: a benchmark of post-training quantisation methods for vision transformers}},\n"
        f"  year = {{{year}}},\n"
        f"  note = {{Version {version}}}\n"
        "}"
    )


@cache
def entries() -> dict[str, str]:
    """Return every entry by its key."""
    text = FILE.read_text(encoding="utf-8")
    found = re.findall(r"^(@\w+\{([^,]+),.*?^\})", text, flags=re.MULTILINE | re.DOTALL)
    return {key: entry for entry, key in found}
