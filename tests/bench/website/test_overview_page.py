"""The first page."""

import itertools
import re

from tests.bench.board_factory import board_of
from tests.bench.noise_factory import PlantedNoise
from tests.bench.record_factory import (
    make_card,
    make_cell,
    make_record,
)
from tests.bench.site_reader import TEMPLATES, build_site, section, words
from tests.bench.website.test_changes import measured
from vitptq.bench.board.board import Board
from vitptq.bench.board.image_noise import NoImageNoise
from vitptq.bench.results.history import thing
from vitptq.bench.website import overview_page
from vitptq.bench.website.page import Content
from vitptq.bench.website.past import Past
from vitptq.bench.website.templates import environment


def test_the_overview_names_every_method_that_is_not_shown_to_be_worse(tmp_path):
    scores = {"omse": 90.0, "ema": 89.9, "minmax": 80.0}
    board = board_of(*(make_record(make_cell(method=name), score=score) for name, score in scores.items()))
    overview = words(build_site(board, tmp_path / "out")["index.html"])

    assert "90.00−4.10 · OMSE and EMA tie" in overview


def test_variants_of_one_method_that_tie_are_named_once(tmp_path):
    cells = [make_cell(parameters={"form": form}) for form in ("paper", "released")]
    board = board_of(
        *(make_record(cell, score=90.0) for cell in cells), make_record(make_cell(method="ema"), score=70.0)
    )

    assert "· MinMax, 2 variants tie" in words(build_site(board, tmp_path / "out")["index.html"])


def test_the_overview_claims_no_winner_without_evidence(tmp_path):
    board = board_of(make_record(), make_record(make_cell(method="omse"), score=70.0), noises=NoImageNoise())

    assert "· MinMax, not compared" in words(build_site(board, tmp_path / "out")["index.html"])


def test_the_overview_tells_what_was_not_run_from_what_does_not_count(tmp_path):
    other = {"model": "swin_mini"}
    records = [make_record(), make_record(make_cell(bits="W8A8"), failure="raised"), make_record(make_cell(**other))]
    site = build_site(board_of(*records, make_record(make_cell(bits="W8A8", method="omse", **other))), tmp_path / "out")
    table = section(site["index.html"].html, "task-1")
    first, second = (re.search(rf"{name}.*?</tr>", table, re.DOTALL)[0] for name in ("vit_", "swin_"))

    assert "none counts" in first and "not run" not in first.split("</td>", 1)[1]
    assert "none counts" not in second


def many_records():
    """Yield records of 24 models x 10 methods x 6 bit widths, over six tasks."""
    for model, method, bits in itertools.product(
        range(24), range(10), ("W8A8", "W6A6", "W4A8", "W4A4", "W3A3", "W2A2")
    ):
        task = ("imagenet", "coco", "ade20k")[model % 3]
        edition = ("mini", "full")[model // 12]
        cell = make_cell(
            task=task, edition=edition, model=f"vit_small_patch16_224.{model}", method=f"m{method}", bits=bits
        )
        record = make_record(cell, score=80 - method / 10)
        yield record.model_copy(update={"audit": record.audit.model_copy(update={"operands": ()})})


def test_the_overview_stays_small_however_many_records_there_are():
    cards = {name: make_card(name, title=f"A method with a long name {name}") for name in (f"m{i}" for i in range(10))}
    content = Content(Board.from_records(many_records(), cards, noises=PlantedNoise()))
    (page,) = overview_page.pages(content)
    jinja = environment(TEMPLATES)
    jinja.globals |= {"version": "1", "data_hash": "0", "board": content.board, "has_claims": True, "has_nights": True}
    html = jinja.get_template(page.template).render(root="", path=page.path, **page.context)

    assert len(html.encode()) < 150_000
    assert html.count('class="task"') == 6


def test_full_editions_come_first_and_say_how_many_models_stand_on_their_board(monkeypatch):
    monkeypatch.setattr(overview_page, "MOST_TABLES", 2)
    records = [make_record(make_cell(edition="full", model=name)) for name in ("a", "b", "c")]
    (found, mini) = overview_page.groups(Content(board_of(*records, make_record())))

    assert (found.edition, len(found.tables), found.more_models) == ("full", 2, 1)
    assert mini.edition == "mini"


def test_what_won_is_in_the_first_group_of_most_models():
    scores = {
        ("omse", "vit_mini"): 90.0,
        ("ema", "vit_mini"): 80.0,
        ("omse", "swin_mini"): 90.0,
        ("ema", "swin_mini"): 89.95,
    }
    board = board_of(*(make_record(make_cell(method=m, model=model), score=s) for (m, model), s in scores.items()))

    assert overview_page.leaders(board.tables) == "OMSE at W4A4: in the first tie group of 2 of 2 models"
    assert overview_page.leaders(board_of(make_record()).tables) == ""


def test_counts_of_trust_are_over_rows_that_have_a_score(board):
    trust = overview_page.trust(board)

    assert trust.scored - trust.behind_gate == 1
    assert trust.rows - trust.clean == 1
    assert trust.methods == 6


def test_the_news_are_a_few_lines_moves_first():
    rows = [make_record(make_cell(bits=bits)) for bits in ("W8A8", "W6A6", "W4A4", "W3A3")]
    past = {thing(r.cell): [measured(day, 80.0 - day, thing=thing(r.cell)) for day in (1, 2, 3)] for r in rows}
    lines = overview_page.news(Content(board_of(*rows), past=Past((), past)))

    assert len(lines) == 4
    assert lines[0].startswith("2026-01-03: MinMax, vit_mini at W")
    assert lines[-1] == "2026-01-01: 4 new rows of MinMax"
