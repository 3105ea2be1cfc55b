"""What holds of every page."""

import itertools
import re

import pytest

from tests.bench.board_factory import board_of
from tests.bench.record_factory import (
    make_card,
    make_cards,
    make_detection_records,
    make_record,
)
from tests.bench.site_reader import build_site, row_named, section, table_named, words
from vitptq.bench.board.board import Board
from vitptq.bench.errors import BadInput
from vitptq.bench.website import templates
from vitptq.bench.website.paths import board_path, compare_path, method_path, run_path, table_path


def test_every_table_row_and_method_has_its_page(board, site):
    expected = {"index.html", "board.html", "which.html", "missing.html", "methods.html", "data.html"}
    expected |= {"compare.html"} | {
        compare_path(name) for name, card in board.cards.items() if card.category != "float"
    }
    expected |= {board_path(task, edition) for task, edition, _ in board.groups()}
    expected |= {table_path(t) for t in board.tables} | {run_path(r) for r in board.rows}
    expected |= {method_path(name) for name in board.cards}

    assert set(site) == expected


def test_an_empty_board_says_what_to_do(tmp_path):
    assert "vitptq run quick" in build_site(Board.from_records([], {}), tmp_path / "out")["index.html"].text


def test_pages_load_nothing_and_link_only_to_https_or_to_each_other(folder, site):
    for path, page in site.items():
        assert page.values("src") == [], path
        loaded = [a["href"] for a in page.all("link") if a["rel"] not in ("alternate", "canonical")]
        assert [href[:19] for href in loaded] == ["data:image/svg+xml;"], path
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


def test_every_page_has_a_title_and_a_description_of_its_own(site):
    descriptions = {}
    for path, page in site.items():
        (described,) = (attrs["content"] for attrs in page.all("meta") if attrs.get("name") == "description")
        assert 40 < len(described) < 400, path
        descriptions.setdefault(described, []).append(path)
    assert [paths for paths in descriptions.values() if len(paths) > 1] == []


def test_whole_addresses_are_written_where_the_site_is_told_where_it_will_stand(tmp_path):
    site = build_site(board_of(make_record()), tmp_path / "out", base_url="https://example.org/board")
    meta = {attrs["property"]: attrs["content"] for attrs in site["methods.html"].all("meta") if "property" in attrs}
    addresses = re.findall(r"<loc>(.*?)</loc>", (tmp_path / "out" / "sitemap.xml").read_text())

    assert meta["og:image"] == "https://example.org/board/social.png"
    assert meta["og:url"] == "https://example.org/board/methods.html"
    assert (tmp_path / "out" / "social.png").is_file()
    assert set(addresses) == {f"https://example.org/board/{'' if path == 'index.html' else path}" for path in site}


def test_an_address_that_is_none_is_refused(tmp_path):
    with pytest.raises(BadInput, match='"example.org" is no address to publish at'):
        build_site(board_of(make_record()), tmp_path / "out", base_url="example.org")


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
        regions = [attrs for attrs in page.all("div") if attrs.get("class") == "scroll"]
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
            if attrs.get("role") in ("img", "group"):
                drawn += 1
                assert set(attrs["aria-labelledby"].split()) <= set(page.values("id")), path
            else:
                assert attrs["aria-hidden"] == "true", path
    assert drawn == 18


def test_a_missing_seed_is_said_wherever_the_mean_is_shown(board, site):
    row = row_named(board, model="swin_mini", method="psaq", bits="W3A3")

    assert "2 of 3 seeds" in site[table_path(table_named(board, "swin_mini"))].text
    assert "2 of 3 seeds" in site[method_path("psaq")].text
    assert "mean of seeds 0, 2 only; without a counted score: seed 1" in site[run_path(row)].text


def test_secondary_scores_are_on_every_page_with_a_score(tmp_path):
    board = Board.from_records([*make_detection_records(), make_record()], make_cards())
    site = build_site(board, tmp_path / "out")
    row = row_named(board, task="coco", bits="W4A4")
    table = table_named(board, "mask_rcnn")

    index = " ".join(site["index.html"].text.split())
    assert "Mask AP 38.00 (−3.60)" in index  # the overview
    assert "Mask AP −3.60" in section(site["board.html"].html, "side-by-side-1")
    for name in ("scores", "details", "every-score"):
        assert "Mask AP" in section(site[table_path(table)].html, name), name
    assert "38.00 % −3.60 against float" in " ".join(site[run_path(row)].text.split())
    assert "Mask AP 38.00 (−3.60)" in site[method_path("minmax")].text


def test_details_of_scores_are_on_the_pages_of_models_and_runs_alone(tmp_path):
    board = Board.from_records(make_detection_records(), make_cards())
    site = build_site(board, tmp_path / "out")
    detailed = {path for path, page in site.items() if "IoU 0.50" in page.text}

    assert detailed == {table_path(board.tables[0]), *(run_path(row) for row in board.rows)}


def test_a_detectors_bits_never_stand_without_their_share_of_macs(tmp_path):
    records = make_detection_records()
    audit = records[1].audit.model_copy(update={"quantised_macs": round(0.174 * records[1].audit.macs)})
    whole = records[0].audit.model_copy(update={"quantised_macs": records[0].audit.macs})
    board = board_of(*(r.model_copy(update={"audit": a}) for r, a in zip(records, (whole, audit), strict=True)))
    site = build_site(board, tmp_path / "out")
    (table,) = board.tables
    quantised, reference = row_named(board, method="minmax"), row_named(board, method="float")

    for path in ("index.html", table_path(table), run_path(quantised), method_path("minmax")):
        assert "on 17.4 % of MACs" in words(site[path]), path
    assert "not quantised" in words(site[table_path(table)])
    assert "100.0" not in site[table_path(table)].text
    assert "of the multiply-accumulates" not in words(site[run_path(reference)])


def test_an_adapter_from_a_paper_that_left_something_open_says_so(tmp_path):
    cards = {"minmax": make_card("minmax", inferred=("the grid",))}
    site = build_site(board_of(make_record(), cards=cards), tmp_path / "out")

    assert "paper, 1 part inferred" in words(site["methods.html"])
    assert "1 part inferred" in words(site[table_path(board_of(make_record(), cards=cards).tables[0])])
