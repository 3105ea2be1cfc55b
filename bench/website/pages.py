"""The leaderboard as static pages: the same board gives the same bytes, from disk, without scripts or foreign hosts.

Names, notes and reasons come from other people, so every template escapes, every variable must exist, links are
https or relative, and file names come from hashes. A build happens beside its destination and is swapped in at the end.
"""

from __future__ import annotations

import base64
import hashlib
import re
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from vitptq.bench.bits import BitSpec
from vitptq.bench.board import exports
from vitptq.bench.board.board import Board, MethodCard, Row, Table, drop_of, metric_title, share_of, why_apart
from vitptq.bench.errors import BadInput
from vitptq.bench.results.cell import sha256
from vitptq.bench.results.record import OperandAudit, Record
from vitptq.bench.website import charts, contact_sheets, pictures
from vitptq.bench.website.method_tables import told

MARKER = ".vitptq-site"
"""In every folder built here: only such a folder is ever replaced."""

NOT_KNOWN = "–"
_MINUS = "−"
_LOSSES = (1.0, 3.0, 10.0, 30.0)
_TRACEBACK_LINES = 12


@dataclass(frozen=True, slots=True)
class Page:
    """One file of the site: where it goes, its template and what the template is given."""

    path: str
    template: str
    context: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Product:
    """One product of the network with the operands that the audit saw."""

    module: str
    op: str
    operands: tuple[OperandAudit, ...]

    @property
    def macs(self) -> int:
        """Return its multiply-accumulates for one image."""
        return max(operand.macs for operand in self.operands)

    @property
    def widths(self) -> str:
        """Name the widths of its operands, for example "4 × 8 bit"."""
        bits = ["float" if o.bits is None else str(o.bits) for o in self.operands]
        return " × ".join(bits) + (" bit" if bits != ["float"] * len(bits) else "")


@dataclass(frozen=True, slots=True)
class Hole:
    """A combination that has no record at all, while its neighbours have one."""

    table: Table
    label: str
    bits: BitSpec


def build(board: Board, out: Path, *, templates: Path, version: str, evidence_dir: Path | None = None) -> Path:
    """Write the site to the folder `out`, replacing an earlier build, and return the path of its index page.

    With `evidence_dir`, the evidence files are checked against their records and copied beside the pages.
    """
    target = out.resolve()  # a link stays a link, and "." gets a name to build beside
    _refuse_to_overwrite(target)
    target.parent.mkdir(parents=True, exist_ok=True)
    building = Path(tempfile.mkdtemp(prefix=f".{target.name}-building-", dir=target.parent))
    try:
        building.chmod(0o755)  # readable for a web server; temporary folders are not
        _write(board, building, templates, version, evidence_dir)
        _swap(building, target)
    finally:
        shutil.rmtree(building, ignore_errors=True)
    return out / "index.html"


def table_path(table: Table) -> str:
    """Return the file of a task and model's page: a hash decides, the words only help people."""
    return f"tables/{_file_name(table.id, table.task, table.edition, table.model)}"


def run_path(row: Row) -> str:
    """Return the file of a row's page."""
    return f"runs/{_file_name(row.id, row.cell.model, row.cell.method, row.cell.bits)}"


def method_path(name: str) -> str:
    """Return the file of a method's page."""
    return f"methods/{_file_name(sha256(name.encode()), name)}"


def _file_name(identity: str, *words: str) -> str:
    slug = re.sub(r"[^a-z0-9]+", "-", "-".join(words).lower()).strip("-")[:60].rstrip("-")
    return f"{identity[:12]}{'-' if slug else ''}{slug}.html"


def _refuse_to_overwrite(out: Path) -> None:
    if out.is_dir() and any(out.iterdir()) and not (out / MARKER).exists():
        raise BadInput(f"{out} holds files that are not a leaderboard built by vitptq; name an empty or a new folder")
    if out.exists() and not out.is_dir():
        raise BadInput(f"{out} is a file; name an empty or a new folder")


def _swap(building: Path, out: Path) -> None:
    """Put the finished folder in place. Only whole folders are renamed, so no reader ever meets half a site."""
    if not out.exists():
        building.rename(out)
        return
    replaced = Path(tempfile.mkdtemp(prefix=f".{out.name}-replaced-", dir=out.parent))
    out.rename(replaced / "site")
    try:
        building.rename(out)
    except OSError:
        (replaced / "site").rename(out)
        raise
    finally:
        shutil.rmtree(replaced)


def _write(board: Board, folder: Path, templates: Path, version: str, evidence_dir: Path | None) -> None:
    data = exports.as_json(board)
    evidence = _copy_evidence(board, evidence_dir, folder) if evidence_dir else {}
    environment = _environment(templates)
    environment.globals |= {
        "version": version,
        "data_hash": sha256(data.encode()),
        "board": board,
        "evidence": evidence,
    }
    for page in _pages(board, evidence_dir):
        html = environment.get_template(page.template).render(root="../" * page.path.count("/"), **page.context)
        _write_text(folder / page.path, html)
    _write_text(folder / "data.json", data)
    _write_text(folder / "data.csv", exports.as_csv(board))
    _write_text(folder / MARKER, "Built by vitptq; replaced as a whole by the next build.\n")


def _write_text(path: Path, text: str) -> None:
    if path.exists():
        raise BadInput(f"two pages would share the file {path.name}")
    path.parent.mkdir(exist_ok=True)
    path.write_text(text, encoding="utf-8", newline="\n")


def _pages(board: Board, evidence_dir: Path | None) -> Iterator[Page]:
    style = charts.styles([name for name, card in board.cards.items() if card.category != "float"])
    small = {table.id: charts.draw(table, style, charts.SMALL) for table in board.tables}
    yield Page("index.html", "index.html", {"small": small, "style_of": style})
    yield Page("missing.html", "missing.html", {"holes": tuple(_holes(board))})
    for table in board.tables:
        drawn = [charts.draw(table, style, size) for size in (charts.WIDE, charts.NARROW)]
        yield Page(table_path(table), "table.html", {"table": table, "charts": drawn})
    for table in board.tables:
        for row in table.rows:
            seen = pictures.views(row, table.floats, evidence_dir)
            made = contact_sheets.sheets(row, evidence_dir)
            yield Page(run_path(row), "run.html", {"table": table, "row": row, "views": seen, "sheets": made})
    for card in board.cards.values():
        yield Page(method_path(card.name), "method.html", {"card": card, "rows": _rows_of(board, card)})


def _rows_of(board: Board, card: MethodCard) -> tuple[Row, ...]:
    return tuple(row for row in board.rows if row.cell.method == card.name)


def _holes(board: Board) -> Iterator[Hole]:
    for table in board.tables:
        for line in table.lines:
            present = {row.bits for row in line}
            yield from (Hole(table, line[0].label, bits) for bits in table.bit_specs if bits not in present)


def _environment(templates: Path) -> Environment:
    environment = Environment(
        loader=FileSystemLoader(templates),
        autoescape=True,  # always: choosing by file ending has left pages unescaped elsewhere
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.policies["json.dumps_kwargs"] = {"sort_keys": True, "allow_nan": False}
    environment.filters |= {
        "fixed": fixed,
        "signed": signed,
        "short": lambda text: text[:12],
        "metric": metric_title,
        "giga": lambda value: fixed(None if value is None else value / 1e9, 2),
        "tail": lambda text: "\n".join(text.strip().splitlines()[-_TRACEBACK_LINES:]),
        "paragraphs": lambda text: [" ".join(p.split()) for p in re.split(r"\n\s*\n", text.strip())],
    }
    environment.globals |= _assets(templates) | {
        "table_path": table_path,
        "run_path": run_path,
        "method_path": method_path,
        "link": link,
        "loss_class": loss_class,
        "products": products,
        "macs_by_width": macs_by_width,
        "bit_map": bit_map,
        "same_map": same_map,
        "drop_of": drop_of,
        "share_of": share_of,
        "why_apart": why_apart,
        "told": told,
        "status": exports.status,
        "latex_table": exports.latex_table,
        "overview_bits": overview_bits,
    }
    return environment


def _assets(templates: Path) -> dict[str, Any]:
    """Return the style and the script, to be inlined, and the policy that allows these two and nothing else."""
    style = (templates / "style.css").read_text(encoding="utf-8")
    script = (templates / "script.js").read_text(encoding="utf-8")
    policy = (
        f"default-src 'none'; style-src {_source(style)}; script-src {_source(script)}; "
        "img-src data:; base-uri 'none'; form-action 'none'"
    )
    return {"style": Markup(style), "script": Markup(script), "policy": policy}


def _source(text: str) -> str:
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"


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


def loss_class(row: Row) -> str:
    """Return the class that tints a cell by how much was lost against float: loss-0 (under a point) to loss-4."""
    loss = 0.0 if row.drop is None else -row.drop
    return f"loss-{sum(loss >= limit for limit in _LOSSES)}"


def overview_bits(tables: tuple[Table, ...]) -> tuple[BitSpec, ...]:
    """Return the bit specs of several tables, more bits first."""
    specs = {bits for table in tables for bits in table.bit_specs}
    return tuple(sorted(specs, key=lambda b: (-(b.weights + b.activations), -b.weights)))


def products(record: Record) -> tuple[Product, ...]:
    """Return the products of a record's audit in the order of the network, each with its operands."""
    found: dict[tuple[str, str], list[OperandAudit]] = {}
    for operand in record.audit.operands if record.audit else ():
        found.setdefault((operand.module, operand.op), []).append(operand)
    return tuple(Product(module, op, tuple(operands)) for (module, op), operands in found.items())


def macs_by_width(record: Record) -> tuple[tuple[str, float], ...]:
    """Return the share of multiply-accumulates, in percent, by the widths of the two operands, largest first."""
    sums: dict[str, int] = {}
    for product in products(record):
        sums[product.widths] = sums.get(product.widths, 0) + product.macs
    total = sum(sums.values())
    ordered = sorted(sums.items(), key=lambda item: (-item[1], item[0]))
    return tuple((widths, 100 * macs / total) for widths, macs in ordered) if total else ()


def bit_map(record: Record) -> tuple[tuple[str, tuple[OperandAudit, ...]], ...]:
    """Return the audited operands by role, roles and operands in the order of the network."""
    roles: dict[str, list[OperandAudit]] = {}
    for operand in record.audit.operands if record.audit else ():
        roles.setdefault(operand.role, []).append(operand)
    return tuple((role, tuple(operands)) for role, operands in roles.items())


def same_map(row: Row) -> bool:
    """Tell whether the counted seeds quantised the same operands in the same way."""
    return len({tuple(_map_entry(o) for o in r.audit.operands) for r in row.counted if r.audit}) <= 1


def _map_entry(operand: OperandAudit) -> tuple[object, ...]:
    return operand.module, operand.op, operand.role, operand.bits, operand.granularity, operand.quantizer, operand.grid


def _copy_evidence(board: Board, source: Path, folder: Path) -> dict[str, str]:
    """Copy the evidence files that match their records; return by record id what a page says of the file."""
    verdicts = {}
    for row in board.rows:
        for record in row.records:
            if record.evidence is not None:
                verdicts[record.id] = _copy_one(record, source, folder / "evidence")
    return verdicts


def _copy_one(record: Record, source: Path, target: Path) -> str:
    assert record.evidence is not None
    name = record.evidence.file
    # The name comes from a record that anyone may have written: it must not lead out of the folder.
    if not re.fullmatch(r"[A-Za-z0-9_][A-Za-z0-9._-]*", name) or not (source / name).is_file():
        return "missing"
    content = (source / name).read_bytes()
    if sha256(content) != record.evidence.sha256:
        return "differs"
    target.mkdir(exist_ok=True)
    (target / name).write_bytes(content)
    return "matches"
