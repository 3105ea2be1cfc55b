import itertools
import re

import pytest

from tests.bench.board_factory import board_of
from tests.bench.record_factory import (
    make_card,
    make_cards,
    make_cell,
    make_detection_records,
    make_gate,
    make_record,
    realistic_board,
)
from tests.bench.site_reader import TEMPLATES, build_site, pages, section
from vitptq.bench.board.board import Board
from vitptq.bench.board.image_noise import NoImageNoise
from vitptq.bench.results.cell import sha256
from vitptq.bench.website import templates
from vitptq.bench.website.build import build
from vitptq.bench.website.paths import method_path, parity_path, run_path, table_path


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
    expected = {"index.html", "which.html", "missing.html"}
    expected |= {table_path(t) for t in board.tables} | {run_path(r) for r in board.rows}
    expected |= {method_path(name) for name in board.cards}

    assert set(site) == expected


def test_an_empty_board_says_what_to_do(tmp_path):
    assert "vitptq run quick" in build_site(Board.from_records([], {}), tmp_path / "out")["index.html"].text


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
            assert f"{directive} {templates._source(inlined)}" in first["content"], path
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
    details, apart = (section(html, name) for name in ("details", "apart"))

    assert run_path(refused) not in details
    assert run_path(refused) in apart
    assert "9.90 points from the reference" in apart
    assert f"{refused.apart[0].scores['top1']:.2f}" not in section(html, "scores")


def test_failed_cells_are_rows_with_their_reason(site):
    text = site["missing.html"].text

    assert "unsupported on purpose" in text
    assert "ValueError: on purpose" in text
    assert "out of memory" in text


def test_a_hole_is_listed_as_not_run(tmp_path):
    records = [make_record(make_cell(bits="W8A8")), make_record(), make_record(make_cell(method="omse"))]
    site = build_site(Board.from_records(records, make_cards()), tmp_path / "out")

    assert "OMSE" in section(site["missing.html"].html, "holes")
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
    assert row.records[0].details.repetition.command in text
    assert f"{row.interval.low:.2f} to {row.interval.high:.2f}" in text


def test_a_run_page_tells_run_time_settings_and_details_by_their_names(tmp_path):
    details = {
        "task": {"batch_size": 27},
        "repetition": {"calibration_images": "c0ffee"},
        "method": {"figures": {"generation_s": 1.75}, "images": {"drawn": {"file": "f", "sha256": "5ad", "bytes": 1}}},
    }
    record = make_record(make_cell(run_time={"memory_mb": 4097}), details=details)
    board = Board.from_records([record], make_cards())
    text = build_site(board, tmp_path / "site")[run_path(board.tables[0].rows[0])].text
    for part in (
        "memory_mb4097 (a run-time setting)",
        "batch_size27",
        "hashc0ffee",
        "generation_s1.75",
        "drawnf, sha256 5ad",
    ):
        assert part in text


def test_operands_that_stayed_float_are_named(board, site):
    text = site[run_path(row_of(board, method="ema", bits="W4A4"))].text

    assert "Left in float: head.input, head.weight" in " ".join(text.split())


def test_a_method_page_tells_its_fidelity_and_its_paper(site):
    page = site[method_path("omse")]

    assert "inferred" in page.text
    assert "the number of candidate ranges" in page.text
    assert sha256(b"omse") in page.text
    assert {"https://arxiv.org/abs/2212.08254"} <= set(page.values("href"))


def test_a_method_page_has_its_papers_entry_and_the_boards_at_the_version_and_year_of_the_records(board, site):
    text = site[method_path("omse")].text

    year = max(record.provenance.finished for row in board.rows for record in row.records)[:4]
    assert "@inproceedings{arxiv-2212.08254," in text
    assert "note = {Version 0.1.0}" in text
    assert f"year = {{{year}}}" in site["index.html"].text


def test_a_method_page_has_a_command_that_measures_it_again_for_each_task(tmp_path):
    records = [make_record(make_cell(task=task)) for task in ("imagenet", "coco")]
    site = build_site(Board.from_records(records, make_cards()), tmp_path / "out")

    html = section(site[method_path("minmax")].html, "run")
    assert html.count("<code>vitptq run mini --only method=minmax --only bits=") == 2
    assert "coco, mini" in html


def test_a_method_page_links_the_test_that_compares_it_with_official_code(tmp_path):
    card = make_card("repq-vit", parity={"form": "released"}, parity_test="tests/parity/test_repq_vit.py")
    cards = make_cards() | {"repq-vit": card}
    site = build_site(Board.from_records([make_record(make_cell(method="repq-vit"))], cards), tmp_path / "out")

    assert f"../{parity_path('repq-vit')}" in site[method_path("repq-vit")].values("href")
    page = site[parity_path("repq-vit")]
    assert "reparameterised layer norm and its reader are the official ones" in page.text
    assert any(address.startswith("https://github.com/zkkli/RepQ-ViT/tree/") for address in page.values("href"))


@pytest.fixture(scope="module")
def board():
    return realistic_board()


def test_secondary_scores_are_on_every_page_with_a_score(tmp_path):
    board = Board.from_records([*make_detection_records(), make_record()], make_cards())
    site = build_site(board, tmp_path / "out")
    row = row_of(board, task="coco", bits="W4A4")
    table = table_named(board, "mask_rcnn")

    index = " ".join(site["index.html"].text.split())
    assert "Mask AP 38.00 (−3.60)" in index  # the overview
    assert "Mask AP −3.60" in section(site["index.html"].html, "side-by-side-1")
    for name in ("scores", "details", "every-score"):
        assert "Mask AP" in section(site[table_path(table)].html, name), name
    assert "38.00 % −3.60 against float" in " ".join(site[run_path(row)].text.split())
    assert "Mask AP 38.00 (−3.60)" in site[method_path("minmax")].text


def test_details_of_scores_are_on_the_pages_of_models_and_runs_alone(tmp_path):
    board = Board.from_records(make_detection_records(), make_cards())
    site = build_site(board, tmp_path / "out")
    detailed = {path for path, page in site.items() if "IoU 0.50" in page.text}

    assert detailed == {table_path(board.tables[0]), *(run_path(row) for row in board.rows)}


def test_a_score_apart_shows_its_secondary_scores_too(tmp_path):
    records = [r.model_copy(update={"gate": make_gate(passed=False)}) for r in make_detection_records()[1:]]
    board = Board.from_records(records, make_cards())
    html = section(build_site(board, tmp_path / "out")[table_path(board.tables[0])].html, "apart")

    assert "42.00" in html and "38.00" in html


def words(page):
    return " ".join(page.text.split())


def test_the_overview_names_every_method_that_is_not_shown_to_be_worse(tmp_path):
    scores = {"omse": 90.0, "ema": 89.9, "minmax": 80.0}
    board = board_of(*(make_record(make_cell(method=name), score=score) for name, score in scores.items()))
    overview = words(build_site(board, tmp_path / "out")["index.html"])

    assert "90.00−4.10 · OMSE and EMA tie" in overview


def test_the_overview_claims_no_winner_without_evidence(tmp_path):
    board = board_of(make_record(), make_record(make_cell(method="omse"), score=70.0), noises=NoImageNoise())

    assert "· MinMax, not compared" in words(build_site(board, tmp_path / "out")["index.html"])


def test_the_overview_tells_what_was_not_run_from_what_does_not_count(tmp_path):
    other = {"model": "swin_mini"}
    records = [make_record(), make_record(make_cell(bits="W8A8"), failure="raised"), make_record(make_cell(**other))]
    site = build_site(board_of(*records, make_record(make_cell(bits="W8A8", method="omse", **other))), tmp_path / "out")
    first, second = (re.search(rf"{name}.*?</tr>", site["index.html"].html, re.DOTALL)[0] for name in ("vit_", "swin_"))

    assert "none counts" in first and "not run" not in first.split("</td>", 1)[1]
    assert "none counts" not in second


def test_a_detectors_bits_never_stand_without_their_share_of_macs(tmp_path):
    records = make_detection_records()
    audit = records[1].audit.model_copy(update={"quantised_macs": round(0.174 * records[1].audit.macs)})
    whole = records[0].audit.model_copy(update={"quantised_macs": records[0].audit.macs})
    board = board_of(*(r.model_copy(update={"audit": a}) for r, a in zip(records, (whole, audit), strict=True)))
    site = build_site(board, tmp_path / "out")
    (table,) = board.tables
    quantised, reference = row_of(board, method="minmax"), row_of(board, method="float")

    for path in ("index.html", table_path(table), run_path(quantised), method_path("minmax")):
        assert "on 17.4 % of MACs" in words(site[path]), path
    assert "not quantised" in words(site[table_path(table)])
    assert "100.0" not in site[table_path(table)].text
    assert "of the multiply-accumulates" not in words(site[run_path(reference)])


def test_ranks_are_intervals_with_their_group_and_say_what_they_rest_on(tmp_path):
    scores = {"omse": 90.0, "ema": 89.9, "minmax": 80.0}
    board = board_of(*(make_record(make_cell(method=name), score=score) for name, score in scores.items()))
    site = build_site(board, tmp_path / "out")
    (table,) = board.tables

    details = " ".join(section(site[table_path(table)].html, "details").split())
    assert details.count("1–2") == 2 and '<td class="n" data-value="3">3</td> <td>B</td>' in details
    assert "With one calibration draw: McNemar" in details
    assert "1–2 of 3, group A" in words(site[run_path(row_of(board, method="ema"))])


def test_an_adapter_from_a_paper_that_left_something_open_says_so(tmp_path):
    cards = {"minmax": make_card("minmax", inferred=("the grid",))}
    site = build_site(board_of(make_record(), cards=cards), tmp_path / "out")

    assert "paper, 1 part inferred" in words(site["index.html"])
    assert "1 part inferred" in words(site[table_path(board_of(make_record(), cards=cards).tables[0])])
