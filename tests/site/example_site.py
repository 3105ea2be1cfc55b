"""A small leaderboard that has every kind of page."""

from __future__ import annotations

from pathlib import Path

from tests.bench.nightly.test_failing import at
from tests.bench.nightly.test_report import planted_report
from tests.bench.noise_factory import PlantedNoise
from tests.bench.record_factory import (
    make_card,
    make_cards,
    make_cell,
    make_detection_records,
    make_record,
    measured,
    realistic_records,
)
from tests.bench.site_reader import TEMPLATES
from vitptq.bench.board.board import Board
from vitptq.bench.contracts.task import Metric
from vitptq.bench.nightly.failing import failing
from vitptq.bench.nightly.report import Report, failing_lines
from vitptq.bench.results import claim_names, claims
from vitptq.bench.results.cell import sha256
from vitptq.bench.results.history import Measured
from vitptq.bench.results.record import Record
from vitptq.bench.website.build import build
from vitptq.bench.website.claim_book import ClaimBook
from vitptq.bench.website.nights import NightPage
from vitptq.bench.website.past import Past
from vitptq.bench.website.templates import documents

COMPARED = "repq_vit"
"""A method that has a test against official code."""
CLAIMED = "swin_tiny_patch4_window7_224"
"""A model with published numbers of more than one task."""


def build_example(folder: Path) -> None:
    """Write the leaderboard to a folder that is not there yet."""
    cards = make_cards() | {
        "adaround": make_card("adaround", title="adaround"),  # in lower case among capitals
        COMPARED: make_card(COMPARED, parity_test="tests/parity/test_repq_vit.py"),
    }
    board = Board.from_records(_records(), cards, noises=PlantedNoise())
    printed = [claim for claim in claims.read() if claim.model == CLAIMED]
    book = ClaimBook.of(printed, claim_names.read(claims.FOLDER), board)
    build(board, folder, templates=TEMPLATES, version="0.1.0", book=book, past=_past(), docs=documents())


def kinds(folder: Path) -> list[str]:
    """Return the path of one page of each kind: every page at the top, the largest of each folder, a detector's run."""
    below = [sorted(inner.glob("*.html")) for inner in sorted(folder.iterdir()) if inner.is_dir()]
    largest = [max(pages, key=lambda page: page.stat().st_size) for pages in below if pages]
    detector = next(folder.glob("runs/*mask-rcnn-minmax*.html"))
    return [page.relative_to(folder).as_posix() for page in (*sorted(folder.glob("*.html")), *largest, detector)]


def _past() -> Past:
    """Return every row as it was at an earlier commit, a point higher, and is now, and the reports of two nights."""
    known: dict[str, list[Measured]] = {}
    for now in measured(_records()):
        earlier = {"id": sha256(now.id.encode()), "commit": "f" * 40, "finished": "2025-12-31T03:00:00Z"}
        before = now._replace(**earlier, score=now.score and now.score + 1)
        known.setdefault(now.thing, []).extend([before, now])
    worse = planted_report(failing=failing_lines(failing(measured([at(1), at(2, "raised")]))), notes=("A note.",))
    quiet = Report(title="Night of 2026-12-01", lines=(), unchanged=200)
    return Past((NightPage("2026-12-02-013000", worse), NightPage("2026-12-01-013000", quiet)), known)


def _records() -> list[Record]:
    found = [record for record in realistic_records() if record.cell.model != "mobilevit_mini"]
    found += [_with_every_score(record) for record in make_detection_records(seeds=2)]
    for bits in ("W8A8", "W4A4"):
        cell = make_cell(method="adaround", source=sha256(b"adaround"), bits=bits)
        found.append(make_record(cell, score=88.0))
    return found


def _with_every_score(record: Record) -> Record:
    """Return a detector's record with as many scores as the embedded edition has, whose objects are never large."""
    parts = (" at IoU 0.75", ", small", ", medium")
    titles = [f"{kind} AP{part}" for kind in ("Box", "Mask") for part in parts]
    more = {f"score_{place}": 40.0 for place in range(len(titles))}
    metrics = [Metric(name, title, detail=True) for name, title in zip(more, titles, strict=True)]
    return record.model_copy(update={"scores": record.scores | more, "metrics": (*record.metrics, *metrics)})
