import csv
import io
import itertools
import json
import os
import re
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path

import pytest

from tests.bench.record_factory import (
    make_audit,
    make_card,
    make_cards,
    make_cell,
    make_gate,
    make_provenance,
    make_record,
    realistic_board,
)
from vitptq.bench.board.board import Board
from vitptq.bench.errors import BadInput
from vitptq.bench.results.cell import sha256
from vitptq.bench.results.record import EvidenceRef, Failure
from vitptq.bench.website import pages as website
from vitptq.bench.website.pages import build, method_path, run_path, table_path

ROOT = Path(__file__).resolve().parents[3]
TEMPLATES = ROOT / "site"
HOSTILE = (
    "<b>bold</b>",
    "</script><script>alert(1)</script>",
    "javascript:alert(1)",
    "\"'><img src=x onerror=alert(1)>",
)
VOID = {"meta", "link", "br", "img", "hr", "input", "path", "wbr"}


class Page(HTMLParser):
    """What the tests ask of a page: its elements with attributes, and its text."""

    def __init__(self, html):
        super().__init__()
        self.html = html
        self.elements = []
        self.open = []
        self.text = ""
        self.feed(html)

    def handle_starttag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))

    def handle_endtag(self, tag):
        assert tag in VOID or self.open.pop() == tag, f"</{tag}> closes something else"

    def handle_data(self, data):
        if not {"script", "style"} & set(self.open):
            self.text += data

    def all(self, tag):
        return [attrs for name, attrs in self.elements if name == tag]

    def values(self, attribute):
        return [attrs[attribute] for _, attrs in self.elements if attribute in attrs]


def pages(folder):
    return {p.relative_to(folder).as_posix(): Page(p.read_text()) for p in sorted(folder.rglob("*.html"))}


def build_site(board, folder, **options):
    build(board, folder, templates=TEMPLATES, version="0.1.0", **options)
    return pages(folder)


def hostile_board(text):
    """Return a board in which everything that a stranger may write is `text`."""
    cell = make_cell(task=text, edition=text, model=text, method=text, data=text, checkpoint=text, track=text)
    cell = cell.model_copy(update={"parameters": {text: text}, "source": text, "calibration_list": text})
    audit = make_audit(cell, (text,))
    operands = tuple(
        o.model_copy(update={"module": text, "op": text, "role": text, "quantizer": text, "granularity": text})
        for o in audit.operands[:4]
    )
    shared = {
        "notes": (text,),
        "details": {"repeat": text, text: text, "more": {text: [text]}},
        "audit": audit.model_copy(update={"operands": operands, "float_operands": (text,)}),
        "evidence": EvidenceRef(file=text, sha256=text, bytes=1),
        "gate": make_gate().model_copy(update={"reason": text, "float_cell": text}),
        "scores": {text: 80.0},
        "provenance": make_provenance(**dict.fromkeys(["commit", "device", "command", "host", "environment"], text)),
    }
    failure = Failure(kind="raised", message=text, traceback=text)
    records = [
        make_record(cell, **shared),
        make_record(cell.model_copy(update={"seed": 1}), **(shared | {"gate": make_gate(passed=False)})),
        make_record(cell.model_copy(update={"seed": 2}), failure="raised", earlier=(failure,)).model_copy(
            update={"failure": failure}
        ),
        make_record(cell.model_copy(update={"bits": "W32A32"}), **shared),
    ]
    card = make_card(text, summary=text, fidelity=text, inferred=(text,), category=text, paper=text, source_hash=text)
    return Board.from_records(records, {text: card})


@pytest.fixture(scope="module")
def board():
    return realistic_board()


@pytest.fixture(scope="module")
def folder(board, tmp_path_factory):
    return build(board, tmp_path_factory.mktemp("site") / "site", templates=TEMPLATES, version="0.1.0").parent


@pytest.fixture(scope="module")
def site(folder):
    return pages(folder)


def table_named(board, model):
    return next(t for t in board.tables if t.model == model)


def row_of(board, **wanted):
    return next(r for r in board.rows if all(getattr(r.cell, k) == v for k, v in wanted.items()))


def test_every_table_row_and_method_has_its_page(board, site):
    expected = {"index.html", "missing.html"}
    expected |= {table_path(t) for t in board.tables} | {run_path(r) for r in board.rows}
    expected |= {method_path(name) for name in board.cards}

    assert set(site) == expected


def test_the_path_of_the_index_page_is_returned(board, tmp_path):
    assert build(board, tmp_path / "out", templates=TEMPLATES, version="1") == tmp_path / "out" / "index.html"


def test_an_empty_board_says_what_to_do(tmp_path):
    assert "vitptq run quick" in build_site(Board.from_records([], {}), tmp_path / "out")["index.html"].text


@pytest.mark.parametrize("text", HOSTILE)
def test_hostile_text_is_shown_and_never_run(text, tmp_path):
    for path, page in build_site(hostile_board(text), tmp_path / "out").items():
        tags = [tag for tag, _ in page.elements]
        assert tags.count("script") == 1, path
        assert not {"b", "img"} & set(tags), path
        assert not any("onerror" in attrs for _, attrs in page.elements), path
        assert not any(href.startswith("javascript:") for href in page.values("href")), path
        assert path in ("index.html",) or text in page.text, path


def test_pages_load_nothing_and_link_only_to_https_or_to_each_other(folder, site):
    for path, page in site.items():
        assert page.values("src") == [], path
        assert [a["href"] for a in page.all("link")] == ["data:,"], path
        assert "@import" not in page.html, path
        assert "url(" not in page.html, path
        for href in (a["href"] for a in page.all("a")):
            assert href.startswith(("https://", "#")) or _target(folder, path, href).exists(), (path, href)


def _target(folder, path, href):
    assert ":" not in href
    return (folder / path).parent / href.split("#")[0]


def test_links_within_a_page_and_between_pages_reach_an_id(folder, site):
    ids = {path: set(page.values("id")) for path, page in site.items()}
    for path, page in site.items():
        for href in (a["href"] for a in page.all("a") if "#" in a["href"]):
            file, _, anchor = href.partition("#")
            target = _target(folder, path, file).resolve().relative_to(folder.resolve()).as_posix() if file else path
            assert anchor in ids[target], (path, href)


def test_the_policy_is_first_and_allows_only_the_inlined_style_and_script(site):
    for path, page in site.items():
        first = page.all("meta")[0]
        assert first["http-equiv"] == "Content-Security-Policy", path
        assert first["content"].startswith("default-src 'none'; style-src 'sha256-"), path
        for tag, directive in (("style", "style-src"), ("script", "script-src")):
            inlined = re.search(rf"<{tag}>(.*?)</{tag}>", page.html, re.DOTALL)[1]
            assert f"{directive} {website._source(inlined)}" in first["content"], path
        assert page.values("style") == [], path


def test_ids_are_unique_and_headings_in_order(site):
    for path, page in site.items():
        ids = page.values("id")
        assert len(ids) == len(set(ids)), path
        levels = [int(tag[1]) for tag, _ in page.elements if re.fullmatch(r"h[1-6]", tag)]
        assert levels[0] == 1, path
        assert levels.count(1) == 1, path
        assert all(after <= before + 1 for before, after in itertools.pairwise(levels)), path


def test_tables_have_captions_and_every_header_a_scope(site):
    for path, page in site.items():
        assert len(page.all("table")) == len(page.all("caption")), path
        assert all("scope" in attrs for attrs in page.all("th")), path
        regions = [attrs for attrs in page.all("div") if attrs.get("role") == "region"]
        assert len(regions) == len(page.all("table")), path
        assert all(attrs["tabindex"] == "0" and attrs["aria-label"] for attrs in regions), path


def test_every_row_of_a_table_spans_its_columns(site):
    for path, page in site.items():
        for table in re.findall(r"<table.*?</table>", page.html, re.DOTALL):
            _, *lines = re.findall(
                r"<tr.*?</tr>", re.sub(r"<thead>.*?</thead>", "<tr></tr>", table, flags=re.DOTALL), re.DOTALL
            )
            widths = {_width(line) for line in lines}
            assert len(widths) <= 1, (path, widths)


def _width(line):
    cells = re.findall(r"<t[hd]\b([^>]*)>", line)
    return sum(int(m[1]) if (m := re.search(r'colspan="(\d+)"', c)) else 1 for c in cells)


def test_charts_have_a_title_and_a_description(site):
    drawn = 0
    for path, page in site.items():
        for attrs in page.all("svg"):
            if attrs.get("role") == "img":
                drawn += 1
                assert set(attrs["aria-labelledby"].split()) <= set(page.values("id")), path
            else:
                assert attrs["aria-hidden"] == "true", path
    assert drawn == 9


def test_gate_failed_rows_stand_apart_from_the_main_tables(board, site):
    html = site[table_path(table_named(board, "mobilevit_mini"))].html
    refused = row_of(board, model="mobilevit_mini", method="ema", bits="W6A6")
    details, apart = (_section(html, name) for name in ("details", "apart"))

    assert run_path(refused) not in details
    assert run_path(refused) in apart
    assert "9.90 points from the reference" in apart
    assert f"{refused.apart[0].scores['top1']:.2f}" not in _section(html, "scores")


def _section(html, name):
    return re.search(rf'<section aria-labelledby="{name}">.*?</section>', html, re.DOTALL)[0]


def test_failed_cells_are_rows_with_their_reason(site):
    text = site["missing.html"].text

    assert "unsupported on purpose" in text
    assert "ValueError: on purpose" in text
    assert "out of memory" in text


def test_a_hole_is_listed_as_not_run(tmp_path):
    records = [make_record(make_cell(bits="W8A8")), make_record(), make_record(make_cell(method="omse"))]
    site = build_site(Board.from_records(records, make_cards()), tmp_path / "out")

    assert "OMSE" in _section(site["missing.html"].html, "holes")
    assert "not run" in site[table_path(Board.from_records(records, {}).tables[0])].text


def test_a_missing_seed_is_said_wherever_the_mean_is_shown(board, site):
    row = row_of(board, model="swin_mini", method="psaq", bits="W3A3")

    assert "2 of 3 seeds" in site[table_path(table_named(board, "swin_mini"))].text
    assert "2 of 3 seeds" in site[method_path("psaq")].text
    assert "mean of seeds 0, 2 only; without a counted score: seed 1" in site[run_path(row)].text


def test_a_run_page_tells_everything_about_its_run(board, site):
    row = row_of(board, model="vit_mini", method="repq_vit", bits="W4A4")
    text = site[run_path(row)].text

    for record in row.records:
        assert f"{record.scores['top1']:.2f}" in text
        assert record.id in text
        assert record.evidence.sha256 in text
    for part in ("blocks.3.attn.mix", "15 of 16", "LogSqrt2", row.records[0].provenance.commit, "torch 2.11.0"):
        assert part in text
    assert row.records[0].details["repeat"] in text
    assert f"{row.interval.low:.2f} to {row.interval.high:.2f}" in text


def test_operands_that_stayed_float_are_named(board, site):
    text = site[run_path(row_of(board, method="ema", bits="W4A4"))].text

    assert "Left in float: head.input, head.weight" in " ".join(text.split())


def test_a_method_page_tells_its_fidelity_and_its_paper(site):
    page = site[method_path("omse")]

    assert "inferred" in page.text
    assert "the number of candidate ranges" in page.text
    assert sha256(b"omse") in page.text
    assert {"https://arxiv.org/abs/2212.08254"} <= set(page.values("href"))


def test_data_of_everything_lies_beside_the_pages(board, folder):
    document = json.loads((folder / "data.json").read_text())
    lines = list(csv.DictReader(io.StringIO((folder / "data.csv").read_text())))

    assert len(document["rows"]) == len(lines) == len(board.rows)


BUILD_TWICE = """
import sys
from pathlib import Path
from vitptq.bench.website.pages import build
from tests.bench.record_factory import realistic_board
build(realistic_board(), Path(sys.argv[1]), templates=Path(sys.argv[2]), version="0.1.0")
"""


def test_two_builds_give_the_same_bytes(tmp_path):
    running = []
    for seed, zone in (("1", "UTC"), ("2", "Asia/Tokyo")):
        work = tmp_path / f"cwd-{seed}"
        work.mkdir()
        environment = os.environ | {"PYTHONHASHSEED": seed, "TZ": zone, "PYTHONPATH": str(ROOT)}
        command = [sys.executable, "-c", BUILD_TWICE, str(tmp_path / seed), str(TEMPLATES)]
        running.append(subprocess.Popen(command, cwd=work, env=environment))
    assert [process.wait() for process in running] == [0, 0]

    first, second = (_contents(tmp_path / seed) for seed in ("1", "2"))
    assert first == second
    assert len(first) > 80


def _contents(folder):
    return {p.relative_to(folder).as_posix(): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


def test_a_build_replaces_the_earlier_one_as_a_whole(board, tmp_path):
    out = tmp_path / "out"
    build(board, out, templates=TEMPLATES, version="1")
    build_site(Board.from_records([make_record()], make_cards()), out)

    assert len(list((out / "runs").iterdir())) == 1
    assert [p.name for p in tmp_path.iterdir()] == ["out"]


def test_a_build_that_breaks_leaves_the_earlier_one(board, tmp_path, monkeypatch):
    out = tmp_path / "out"
    build(board, out, templates=TEMPLATES, version="1")
    before = _contents(out)

    def broken(board):
        raise RuntimeError("power cut")

    monkeypatch.setattr(website.exports, "as_csv", broken)
    with pytest.raises(RuntimeError):
        build(board, out, templates=TEMPLATES, version="2")
    assert _contents(out) == before
    assert [p.name for p in tmp_path.iterdir()] == ["out"]


def test_a_folder_with_other_files_is_never_replaced(board, tmp_path):
    (tmp_path / "thesis.tex").write_text("mine")

    with pytest.raises(BadInput, match="name an empty or a new folder"):
        build(board, tmp_path, templates=TEMPLATES, version="1")
    assert (tmp_path / "thesis.tex").exists()


def test_a_file_in_the_way_is_refused(board, tmp_path):
    (tmp_path / "out").write_text("mine")

    with pytest.raises(BadInput, match="is a file"):
        build(board, tmp_path / "out", templates=TEMPLATES, version="1")


def evidence_record(content, file="a.npz", **changes):
    cell = make_cell(**changes)
    return make_record(cell, evidence=EvidenceRef(file=file, sha256=sha256(content), bytes=len(content)))


def test_evidence_that_matches_its_record_is_published_beside_the_pages(tmp_path):
    (tmp_path / "evidence").mkdir()
    (tmp_path / "evidence" / "a.npz").write_bytes(b"right")
    board = Board.from_records([evidence_record(b"right")], make_cards())
    site = build_site(board, tmp_path / "out", evidence_dir=tmp_path / "evidence")

    assert (tmp_path / "out" / "evidence" / "a.npz").read_bytes() == b"right"
    assert "../evidence/a.npz" in site[run_path(board.rows[0])].values("href")


@pytest.mark.parametrize(
    ("file", "said"), [("a.npz", "differs"), ("gone.npz", "missing"), ("../secret", "missing"), ("..", "missing")]
)
def test_evidence_that_does_not_match_is_said_and_not_published(file, said, tmp_path):
    (tmp_path / "evidence").mkdir()
    (tmp_path / "evidence" / "a.npz").write_bytes(b"wrong")
    (tmp_path / "secret").write_bytes(b"right")
    board = Board.from_records([evidence_record(b"right", file=file)], make_cards())
    site = build_site(board, tmp_path / "out", evidence_dir=tmp_path / "evidence")

    assert said in site[run_path(board.rows[0])].text
    assert not (tmp_path / "out" / "evidence").exists()


def test_file_names_come_from_hashes_and_never_collide():
    cells = [make_cell(method=f"m{x}", parameters={"p": x}) for x in ("[1.5]", "[1,5]", "[1;5]", "")]
    board = Board.from_records(map(make_record, cells), {})
    paths = [run_path(row) for row in board.rows] + [method_path(name) for name in board.cards]

    assert len(set(paths)) == 8
    assert all(re.fullmatch(r"(runs|methods)/[0-9a-f]{12}[a-z0-9-]*\.html", p) for p in paths)


def test_more_methods_than_colours_still_look_different(tmp_path):
    names = [f"m{i:02}" for i in range(20)]
    drawn = website.charts.styles(names)

    assert len({(s.colour, s.dash, s.shape) for s in drawn.values()}) == 20


@pytest.mark.parametrize("text", ["see https://example.org/a?b=1.", "https://example.org/a?b=1"])
def test_a_reference_links_to_its_https_address(text):
    assert website.link(text) == "https://example.org/a?b=1"


@pytest.mark.parametrize("text", ["http://example.org", "javascript:alert(1)//https:", "Li et al., 2023", ""])
def test_a_reference_without_an_https_address_has_no_link(text):
    assert website.link(text) is None
