"""The reports of the nights in a results folder, and one as a page that stands alone beside the results."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from vitptq.bench.board.rows import Row
from vitptq.bench.errors import BadInput
from vitptq.bench.files import regular_bytes, shown
from vitptq.bench.nightly.night import REPORTS
from vitptq.bench.nightly.report import FAILING_HEADS, HEADS, Report, parse_report
from vitptq.bench.website.templates import environment

LARGEST_REPORT = 16 * 2**20


@dataclass(frozen=True, slots=True)
class NightPage:
    """One night's report and the name of its file."""

    name: str
    report: Report

    @property
    def path(self) -> str:
        """Return the file of its page."""
        return f"nights/{self.name}.html"

    @property
    def date(self) -> str:
        """Return when it began, UTC."""
        return f"{self.name[:10]} {self.name[11:13]}:{self.name[13:15]}"


def read_nights(results: Path) -> tuple[tuple[NightPage, ...], list[str]]:
    """Return the nights of a results folder, newest first, and one sentence for each report that cannot be read."""
    found, problems = [], []
    for path in sorted((results / REPORTS).glob("*.json"), reverse=True):
        if not re.fullmatch(r"\d{4}-\d\d-\d\d-\d{6}", path.stem):
            continue
        what = f"report {shown(path)}"
        try:
            found.append(NightPage(path.stem, parse_report(regular_bytes(path, what, LARGEST_REPORT), what)))
        except BadInput as error:
            problems.append(str(error))
    return tuple(found), problems


def context(report: Report, runs: Mapping[str, Row]) -> dict[str, object]:
    """Return what the template of a report is given."""
    return {"report": report, "runs": runs, "heads": HEADS, "failing_heads": FAILING_HEADS}


def page_alone(report: Report, templates: Path) -> str:
    """Return the report as one page that loads nothing and belongs to no site."""
    template = environment(templates).get_template("night_alone.html")
    return template.render(root="", **context(report, {}))
