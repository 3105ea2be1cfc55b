"""Where AdaRound, BRECQ and QDrop start: grids of least squared error, and a float twin."""

from __future__ import annotations

import pytest
import torch

from vitptq.bench.bits import BitSpec
from vitptq.bench.run.adapter_check import RandomImages, two_block_models
from vitptq.methods.core.ranges.estimation import least_error, min_max
from vitptq.methods.core.ranges.shrunk import shrunk
from vitptq.methods.core.reconstruct import least_error_start
from vitptq.methods.core.reconstruct.least_error_start import LeastErrorOfSample, calibrated


def test_the_model_is_on_and_its_twin_is_the_float_model() -> None:
    model = two_block_models()["ViT"]
    net, twin = calibrated(model, RandomImages(), BitSpec(3, 3))
    assert all(operand.on and operand.quantizer is not None for operand in net.operands.values())
    images = next(RandomImages().batches())
    with torch.no_grad():
        torch.testing.assert_close(twin.model(images), model(images))
        assert not torch.allclose(net.model(images), model(images), atol=1e-3)


def test_the_error_is_that_of_the_values_of_all_batches() -> None:
    batches = [torch.randn(1, 300, generator=torch.Generator().manual_seed(n)) ** 3 for n in (1, 2)]
    observer = LeastErrorOfSample()
    for number, batch in enumerate(batches):
        observer.see(batch, bits=3, last=number == 1)
    whole = torch.cat(batches, dim=1)
    expected = least_error(whole, *shrunk(*min_max(whole)), 3)
    assert all(torch.equal(a, b) for a, b in zip(observer.range(), expected, strict=True))
    assert not observer.kept


def test_no_more_values_are_kept_than_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(least_error_start, "SAMPLED", 50)
    observer = LeastErrorOfSample()
    observer.see(torch.randn(1, 500), bits=3, last=False)
    assert observer.kept[0].shape == (1, 50)
