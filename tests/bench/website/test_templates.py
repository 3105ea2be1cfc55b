import base64
import hashlib
import re
from dataclasses import replace

import pytest
from jinja2 import UndefinedError

from tests.bench.noise_factory import PlantedNoise
from tests.bench.record_factory import (
    make_audit,
    make_card,
    make_cards,
    make_cell,
    make_gate,
    make_provenance,
    make_record,
)
from tests.bench.site_reader import TEMPLATES, build_site
from vitptq.bench.board.board import Board
from vitptq.bench.contracts.task import Metric
from vitptq.bench.results.record import EvidenceRef, Failure
from vitptq.bench.website import templates
from vitptq.bench.website.paths import compare_path

HOSTILE = (
    "<b>bold</b>",
    "</script><script>alert(1)</script>",
    "javascript:alert(1)",
    "\"'><img src=x onerror=alert(1)>",
)


def hostile_board(text):
    """Return a board in which everything that a stranger may write is `text`."""
    cell = make_cell(task=text, edition=text, model=text, method=text, data=text, checkpoint=text, track=text)
    cell = cell.model_copy(update={"parameters": {text: text}, "source": text, "calibration_list": text})
    cell = cell.model_copy(update={"run_time": {text: text}})
    audit = make_audit(cell, (text,))
    operands = tuple(
        replace(o, module=text, op=text, role=text, quantizer=text, granularity=text) for o in audit.operands[:4]
    )
    shared = {
        "notes": (text,),
        "details": {
            "task": {text: text, "more": {text: [text]}},
            "repetition": {"command": text, "calibration_images": text},
            "method": {
                "figures": {text: text},
                "tables": {text: {"text": text, "rows": [{text: text}]}},
                "images": {text: {"file": text, "sha256": text, "bytes": 1}},
            },
        },
        "audit": audit.model_copy(update={"operands": operands, "float_operands": (text,)}),
        "evidence": EvidenceRef(file=text, sha256=text, bytes=1),
        "gate": make_gate().model_copy(update={"reason": text, "float_cell": text}),
        "scores": {text: 80.0, "other": 70.0},
        "metrics": (Metric(text, text, proportion=True, ranks=True), Metric("other", text)),
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


@pytest.mark.parametrize("text", HOSTILE)
def test_hostile_text_is_shown_and_never_run(text, tmp_path):
    for path, page in build_site(hostile_board(text), tmp_path / "out").items():
        tags = [tag for tag, _ in page.elements]
        assert [kind for kind in (attrs.get("type") for attrs in page.all("script")) if kind != "application/json"] == [
            None
        ], path
        assert not {"b", "img"} & set(tags), path
        assert not any("onerror" in attrs for _, attrs in page.elements), path
        assert not any(href.startswith("javascript:") for href in page.values("href")), path
        # Rows with audit violations are no answer to which method to take, and are compared with none.
        assert path in ("index.html", "which.html", "data.html", "compare.html") or text in page.text, path


def test_hostile_text_of_a_row_that_answers_which_method_is_shown_and_never_run(tmp_path):
    text = '<img src=x onerror="alert(1)">'
    record = make_record(make_cell(task=text, edition=text, model=text, method=text))
    page = build_site(Board.from_records([record], {text: make_card(text, fidelity=text)}), tmp_path / "out")[
        "which.html"
    ]

    assert page.text.count(text) == 5
    assert page.all("img") == []


def test_hostile_text_of_methods_that_are_compared_is_shown_and_never_run(tmp_path):
    names = ('<img src=x onerror="alert(1)">', "<script>alert(2)</script>")
    records = [
        make_record(make_cell(method=name, model=names[0]), score=score)
        for name, score in zip(names, (90.0, 80.0), strict=True)
    ]
    board = Board.from_records(records, {name: make_card(name) for name in names}, noises=PlantedNoise())
    site = build_site(board, tmp_path / "out")

    for path in ("compare.html", compare_path(names[0]), "index.html", "board.html"):
        assert site[path].all("img") == [], path
        assert len([attrs for attrs in site[path].all("script") if not attrs]) == 1, path
    assert names[1] in site[compare_path(names[0])].text


def test_the_policy_names_the_hashes_of_what_is_inlined():
    assets = templates._assets(TEMPLATES)
    digests = re.findall(r"'(sha256-[^']+)'", assets["policy"])

    assert [
        base64.b64encode(hashlib.sha256(assets[name].encode()).digest()).decode() for name in ("style", "script")
    ] == [digest.removeprefix("sha256-") for digest in digests]
    assert assets["policy"].startswith("default-src 'none'")


def test_a_variable_that_does_not_exist_is_an_error():
    with pytest.raises(UndefinedError, match="nonesuch"):
        templates.environment(TEMPLATES).from_string("{{ nonesuch }}").render()


def test_bit_specs_of_several_tables_are_listed_once_more_bits_first():
    cells = [
        make_cell(model=model, bits=bits)
        for model, bits in (("a", "W4A4"), ("a", "W8A8"), ("b", "W4A8"), ("b", "W4A4"))
    ]
    board = Board.from_records(map(make_record, cells), make_cards())

    assert [str(bits) for bits in templates.overview_bits(board.tables)] == ["W8A8", "W4A8", "W4A4"]
