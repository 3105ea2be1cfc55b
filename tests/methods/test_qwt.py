"""QwT: branches lower the error of their blocks, cost what the audit says, and are a category of their own."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from vitptq.bench.bits import BitSpec
from vitptq.bench.contracts.reporting import listening
from vitptq.bench.contracts.side_branch import SideBranch
from vitptq.bench.errors import Unsupported
from vitptq.bench.run.adapter_check import RandomImages, two_block_models
from vitptq.bench.run.audit import audit, parameter_counts
from vitptq.methods.core.layerwise.block_regression import RegressionMoments, missing_outputs
from vitptq.methods.qwt import QwT, add_branch
from vitptq.methods.repq_vit import RepQViT

BRANCHED = BitSpec(4, 4, branch=True)
W3A3 = BitSpec(3, 3, branch=True)


@pytest.mark.parametrize(("name", "blocks"), [("ViT", 2), ("Swin", 2)])
def test_every_attention_block_has_a_branch_of_its_width(name: str, blocks: int) -> None:
    net = QwT(judge="fit").quantize(two_block_models()[name], RandomImages(), BRANCHED)
    branches = {n: m for n, m in net.named_modules() if isinstance(m, SideBranch)}
    assert len(branches) == blocks
    assert all(branch.weight.shape[0] == branch.weight.shape[1] for branch in branches.values())
    assert parameter_counts(net)["branch"] == sum(len(b.bias) * (len(b.bias) + 1) for b in branches.values())


def test_the_error_of_a_block_on_the_images_of_the_fit_falls() -> None:
    images = RandomImages()
    net = RepQViT().calibrated(two_block_models()["ViT"], images, W3A3.plain)
    ((x, lost),) = missing_outputs(net, net.twin(), images, "blocks.0")
    block = net.model.get_submodule("blocks.0")
    before = block(x)
    add_branch(block, RegressionMoments.of(x, lost).solution())
    assert (before + lost - block(x)).square().sum() < lost.square().sum()


def test_a_branch_beside_a_linear_block_is_a_change_of_its_weight() -> None:
    torch.manual_seed(0)
    block, x, solution = nn.Linear(4, 4).requires_grad_(False), torch.randn(3, 4), torch.randn(5, 4)
    solution = solution.half().float()
    expected = nn.functional.linear(x.half().float(), block.weight + solution[:-1].T, block.bias + solution[-1])
    add_branch(block, solution)
    torch.testing.assert_close(block(x.half().float()), expected)


def test_the_audit_is_clean_and_reports_the_added_products() -> None:
    model, images = two_block_models()["ViT"], RandomImages()
    (batch,) = images.batches()
    plain = audit(model, BitSpec(32, 32), batch[:1], images.forward)
    net = QwT(judge="fit").quantize(model, images, BRANCHED)
    found = audit(net, BRANCHED, batch[:1], images.forward, float_audit=plain)
    added = [side.macs for side in found.operands[::2] if side.branch]
    assert found.clean
    assert added == [17 * 32 * 32] * 2
    assert found.macs == plain.macs + sum(added) and found.quantised_macs == plain.macs


def test_a_branch_that_does_not_help_on_other_images_is_left_out() -> None:
    with listening() as log:
        net = QwT().quantize(two_block_models()["ViT"], RandomImages(), BRANCHED)
    rows = log.tables["side branches"].rows
    kept = sum(isinstance(module, SideBranch) for module in net.modules())
    assert kept == sum(row["R²"] > 0 for row in rows)  # type: ignore[operator, misc]


def test_the_first_blocks_can_be_left_alone() -> None:
    net = QwT(judge="fit", first_block=1).quantize(two_block_models()["ViT"], RandomImages(), BRANCHED)
    assert [n for n, m in net.named_modules() if isinstance(m, SideBranch)] == ["blocks.1.side_branch"]


def test_a_spec_without_branches_is_refused() -> None:
    with pytest.raises(Unsupported, match="W4A4\\+branch"):
        QwT().quantize(two_block_models()["ViT"], RandomImages(), BitSpec(4, 4))
