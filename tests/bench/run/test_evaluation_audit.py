"""Two audits around an evaluation: what differs between one image and several, or before and after, is named."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from tests.bench import planted
from vitptq.bench.bits import BitSpec
from vitptq.bench.contracts.quantizer import Quantizer
from vitptq.bench.results.record import Audit
from vitptq.bench.run.evaluation_audit import EvaluationAudit, extra_tensors, state
from vitptq.methods.core.quantizers.uniform import Uniform

W4A4 = BitSpec(4, 4)
SEVERAL = torch.randn(4, 6, 8)


def quantizer() -> Uniform:
    return Uniform(4, torch.tensor(0.2), torch.tensor(8.0))


class Layer(nn.Module):
    """One linear layer without bias, both sides quantised."""

    def __init__(self, left: Quantizer) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(5, 8))
        self.left, self.right = left, quantizer()

    def forward(self, x: Tensor) -> Tensor:
        return functional.linear(self.left(x), self.right(self.weight))


def audited(model: nn.Module, *, dynamic: bool = False) -> Audit:
    audits = EvaluationAudit(model, W4A4, lambda net, batch: net(*batch), dynamic=dynamic)
    audits.before([SEVERAL[:1]])
    with torch.no_grad():
        model(torch.randn(32, 6, 8))  # the evaluation
    return audits.after([SEVERAL])


def test_model_that_stays_the_same_is_clean() -> None:
    found = audited(Layer(quantizer()))
    assert found.clean
    assert len(found.operands) == 2


@pytest.mark.parametrize(
    ("wrapper", "words"),
    [
        (planted.FloatForBatches, "the model: input of linear has values off the grid of its quantizer (on several"),
        (planted.WideForBatches, "the model: input of linear has values off the grid of its quantizer (on several"),
        (planted.FloatLater, "the model: input of linear has values off the grid of its quantizer (on several"),
        (planted.RangePerBatch, "left: its grid changed while the model ran"),
        (planted.RangePerToken, "left: its grid changed while the model ran"),
        (planted.NotFrozen, "left: its grid changed while the model ran"),
        (planted.Lazy, "left: its grid changed while the model ran"),
        (planted.Noisy, "two runs on the same images differ"),
    ],
)
def test_what_holds_for_one_image_only_is_named(wrapper: type[planted.Wrapped], words: str) -> None:
    assert any(text.startswith(words) for text in audited(Layer(wrapper(quantizer()))).violations)


def test_ranges_per_token_are_clean_where_the_method_says_that_it_is_dynamic() -> None:
    found = audited(Layer(planted.RangePerToken(quantizer())), dynamic=True)
    assert found.clean
    assert found.dynamic


def test_dynamic_method_must_still_be_on_its_grids() -> None:
    assert not audited(Layer(planted.FloatForBatches(quantizer())), dynamic=True).clean
    assert not audited(Layer(planted.Liar(4, "own")), dynamic=True).clean


def test_buffer_that_changes_is_named() -> None:
    class Counts(Layer):
        def __init__(self) -> None:
            super().__init__(quantizer())
            self.register_buffer("calls", torch.zeros(()))

        def forward(self, x: Tensor) -> Tensor:
            self.calls += 1
            return super().forward(x)

    assert audited(Counts()).violations == ("calls changed while the model ran",)


def test_other_products_for_larger_batches_are_named() -> None:
    class Switches(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.one, self.other = Layer(quantizer()), Layer(quantizer())

        def forward(self, x: Tensor) -> Tensor:
            return self.one(x) if len(x) == 1 else self.other(x)

    found = audited(Switches()).violations
    assert "one: input of linear is read for one image only (on several images)" in found
    assert "other: weight of linear is read not for one image (on several images)" in found


def test_what_the_float_model_does_not_have_is_listed() -> None:
    model = Layer(quantizer())
    model.register_buffer("labels", torch.zeros(3000))
    model.left.register_buffer("more", torch.zeros(100))
    listed = extra_tensors(model, {"weight"}, state(model).grids)
    assert listed == ["labels (3000,)", "left.more (100,)"]
