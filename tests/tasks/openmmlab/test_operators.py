import importlib

import pytest
import torch

pytest.importorskip("mmdet")

from vitptq.bench.errors import Unsupported
from vitptq.tasks.openmmlab.libraries import require
from vitptq.tasks.openmmlab.operators import ensure_ops, replace_ops, torchvision_nms, torchvision_roi_align


@pytest.fixture
def boxes() -> torch.Tensor:
    corners = torch.rand(300, 4, generator=torch.Generator().manual_seed(0)) * 60
    return torch.cat([corners[:, :2], corners[:, :2] + corners[:, 2:] * 0.5 + 1], dim=1)


@pytest.mark.parametrize(("score_threshold", "most"), [(0.0, -1), (0.4, -1), (0.4, 10), (0.0, 7)])
def test_nms_of_torchvision_keeps_what_mmcv_keeps(boxes: torch.Tensor, score_threshold: float, most: int) -> None:
    require("mmdet")
    from mmcv.ops.nms import NMSop

    scores = torch.rand(300, generator=torch.Generator().manual_seed(1))
    expected = NMSop.apply(boxes, scores, 0.5, 0, score_threshold, most)
    assert torch.equal(torchvision_nms(boxes, scores, 0.5, 0, score_threshold, most), expected)


@pytest.mark.parametrize("aligned", [True, False])
@pytest.mark.parametrize(("size", "scale", "ratio"), [(7, 0.5, 0), ((14, 14), 0.25, 2), ((28, 28), 1.0, 0)])
def test_roi_align_of_torchvision_gives_what_mmcv_gives(
    boxes: torch.Tensor, size: int | tuple[int, int], scale: float, ratio: int, aligned: bool
) -> None:
    require("mmdet")
    from mmcv.ops import roi_align

    regions = torch.cat([torch.arange(40)[:, None] % 2, boxes[:40]], dim=1).float()
    features = torch.randn(2, 3, 48, 48, generator=torch.Generator().manual_seed(2)).requires_grad_()
    results = [
        function(features, regions, size, scale, ratio, "avg", aligned)
        for function in (torchvision_roi_align, roi_align)
    ]
    torch.testing.assert_close(*results, rtol=0, atol=1e-5)
    gradients = [torch.autograd.grad(result.square().sum(), features)[0] for result in results]
    torch.testing.assert_close(*gradients, rtol=1e-5, atol=1e-4)


def test_what_torchvision_cannot_do_is_refused(boxes: torch.Tensor) -> None:
    with pytest.raises(Unsupported, match="no pixel offset"):
        torchvision_nms(boxes, boxes[:, 0], 0.5, 1)
    with pytest.raises(Unsupported, match="'max' pooling"):
        torchvision_roi_align(torch.zeros(1, 1, 4, 4), torch.zeros(1, 5), 2, pool_mode="max")


def test_replaced_operators_are_found_by_detectors_and_leave_the_cpu_alone(
    boxes: torch.Tensor, monkeypatch: pytest.MonkeyPatch
) -> None:
    require("mmdet")
    names = {
        "mmcv.ops.nms": "NMSop",
        "mmcv.ops.roi_align": "roi_align",
        "mmdet.structures.mask.structures": "roi_align",
    }
    modules = {name: importlib.import_module(name) for name in names}
    for name, attribute in names.items():
        monkeypatch.setattr(modules[name], attribute, getattr(modules[name], attribute))
    monkeypatch.setattr(modules["mmcv.ops.nms"], "_vitptq_torchvision", True, raising=False)
    monkeypatch.delattr(modules["mmcv.ops.nms"], "_vitptq_torchvision")
    before = modules["mmcv.ops.nms"].nms(boxes, boxes[:, 0], 0.5)
    replace_ops()
    assert "replace_ops" in vars(modules["mmdet.structures.mask.structures"])["roi_align"].__qualname__
    after = modules["mmcv.ops.nms"].nms(boxes, boxes[:, 0], 0.5)
    assert torch.equal(before[0], after[0]) and torch.equal(before[1], after[1])


def test_a_cpu_needs_nothing() -> None:
    ensure_ops(torch.device("cpu"))
