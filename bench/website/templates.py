"""The templates' environment: everything is escaped, every variable must exist, nothing comes from another host."""

from __future__ import annotations

import base64
import hashlib
import re
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from vitptq.bench.bits import BitSpec
from vitptq.bench.board.bibliography import bibliography, board_entry, citable, keys_of, keys_of_source
from vitptq.bench.board.exports.latex import latex_table
from vitptq.bench.board.rows import share_of, why_apart
from vitptq.bench.board.tables import Table, more_bits_first
from vitptq.bench.website import formatting, operand_tables, paths, question
from vitptq.bench.website.block_losses import loss_curves
from vitptq.bench.website.method_tables import method_tables

STYLES = ("style.css", "pages.css")
SCRIPTS = ("fragment.js", "script.js", "tables.js", "table_tools.js", "exports.js", "chart_tools.js", "question.js")
ROOT = Path(__file__).resolve().parents[2]


def shipped() -> Path:
    """Return the folder of the project's templates: in a clone at the top, in an installed package beside this room."""
    return ROOT / "site" if (ROOT / "site" / "base.html").is_file() else ROOT / "_site"


def documents() -> Path:
    """Return the folder of the project's documents, as for the templates."""
    return ROOT / "docs" if (ROOT / "docs" / "protocol.md").is_file() else ROOT / "_docs"


def environment(templates: Path) -> Environment:
    """Return the environment of the templates in a folder, with everything that they may call."""
    jinja = Environment(
        loader=FileSystemLoader(templates),
        auto_reload=False,  # a build sees one state of them, and need not look at their times for every page
        autoescape=True,  # always: choosing by file ending has left pages unescaped elsewhere
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    jinja.policies["json.dumps_kwargs"] = {"sort_keys": True, "allow_nan": False}
    jinja.filters |= {
        "fixed": formatting.fixed,
        "signed": formatting.signed,
        "short": formatting.short,
        "giga": formatting.giga,
        "named": formatting.named,
        "tail": formatting.tail,
        "paragraphs": formatting.paragraphs,
        "xml": formatting.xml,
    }
    jinja.globals |= _assets(templates) | {
        "documents": frozenset[str](),
        "has_changes": False,
        "base_url": "",
        "board_path": paths.board_path,
        "answer_id": paths.answer_id,
        "table_path": paths.table_path,
        "run_path": paths.run_path,
        "method_path": paths.method_path,
        "compare_path": paths.compare_path,
        "parity_path": paths.parity_path,
        "claims_path": paths.claims_path,
        "link": formatting.link,
        "loss_class": formatting.loss_class,
        "verdict_class": formatting.verdict_class,
        "products": operand_tables.products,
        "macs_by_width": operand_tables.macs_by_width,
        "bit_map": operand_tables.bit_map,
        "same_map": operand_tables.same_map,
        "share_of": share_of,
        "why_apart": why_apart,
        "method_tables": method_tables,
        "loss_curves": loss_curves,
        "latex_table": latex_table,
        "bibliography": bibliography,
        "board_entry": board_entry,
        "citable": citable,
        "keys_of": keys_of,
        "keys_of_source": keys_of_source,
        "overview_bits": overview_bits,
        "about": question.about,
        "reply_cells": question.cells,
    }
    return jinja


def _assets(templates: Path) -> dict[str, Any]:
    """Return the styles and the scripts, to be inlined, and the policy that allows these two and nothing else."""
    styles, scripts = (
        "".join((templates / name).read_text(encoding="utf-8") for name in names) for names in (STYLES, SCRIPTS)
    )
    style, script = _without_layout(re.sub(r"/\*.*?\*/", "", styles, flags=re.DOTALL)), _without_layout(scripts)
    policy = (
        f"default-src 'none'; style-src {_source(style)}; script-src {_source(script)}; "
        "img-src data:; base-uri 'none'; form-action 'none'"
    )
    return {"style": Markup(style), "script": Markup(script), "policy": policy, "icon": _icon(templates)}


def _without_layout(source: str) -> str:
    r"""Return a style or script without indentation, empty lines and lines of comment: every page carries it.

    >>> _without_layout("// Why.\nif (a) {\n  b();\n}\n")
    'if (a) {\nb();\n}\n'
    """
    lines = (line.strip() for line in source.splitlines())
    return "".join(f"{line}\n" for line in lines if line and not line.startswith("//"))


def _icon(templates: Path) -> str:
    """Return the address of the icon, which holds the icon itself."""
    drawing = (templates / "icon.svg").read_bytes().strip()
    return f"data:image/svg+xml;base64,{base64.b64encode(drawing).decode()}"


def _source(text: str) -> str:
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"


def overview_bits(tables: tuple[Table, ...]) -> tuple[BitSpec, ...]:
    """Return the bit specs of several tables, more bits first."""
    return tuple(sorted({bits for table in tables for bits in table.bit_specs}, key=more_bits_first))
