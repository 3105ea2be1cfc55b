from tests.bench.board_factory import only_row
from tests.bench.record_factory import make_card, make_cell, make_record


def test_a_method_without_its_adapter_is_shown_by_its_records():
    row = only_row([make_record(make_cell(method="theirs"))], cards={})

    assert (row.card.title, row.card.known, row.card.fidelity) == ("theirs", False, "paper")


def test_only_rows_with_the_compared_parameters_have_parity():
    cards = {"minmax": make_card("minmax", parity={"form": "released"})}

    released, paper = (
        only_row([make_record(make_cell(parameters={"form": form}))], cards) for form in ("released", "paper")
    )

    assert (released.fidelity, paper.fidelity) == ("parity", "paper")


def test_a_card_holds_what_its_adapter_says():
    assert only_row([make_record()], {"minmax": make_card("minmax", title="Ours")}).label == "Ours"
