"""The loss of each block, before and after its training."""

from tests.bench.record_factory import make_record
from vitptq.bench.website.block_losses import LEFT, RIGHT, loss_curves


def reported(*rows):
    table = {"text": "", "rows": list(rows)}
    return make_record(
        details={"repetition": {"command": "vitptq run mini"}, "method": {"tables": {"training": table}}}
    )


def unit(name, before, after):
    return {"unit": name, "before": {"loss": before}, "after": {"loss": after}, "kept": True}


def test_each_block_stands_at_its_losses_in_the_order_of_training():
    (curve,) = loss_curves(reported(unit("blocks.0", 0.1, 0.01), unit("blocks.1", 1.0, 0.1)))
    first, second = curve.blocks

    assert [b.label for b in curve.blocks] == ["blocks.0", "blocks.1"]
    assert LEFT == first.x_after < first.x_before == second.x_after < second.x_before == RIGHT
    assert first.y < second.y < curve.height


def test_other_tables_and_losses_of_zero_have_no_curve():
    assert loss_curves(reported({"slot": "a", "bits": 4}, {"slot": "b", "bits": 3})) == ()
    assert loss_curves(reported(unit("blocks.0", 0.0, 0.0), unit("blocks.1", 1.0, 0.1))) == ()
