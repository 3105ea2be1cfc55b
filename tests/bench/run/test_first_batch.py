"""The first batch of an evaluation: what it shows that one image and several do not."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from tests.bench import planted
from tests.bench.run.test_evaluation_audit import SEVERAL, W4A4, Layer, quantizer
from vitptq.bench.results.record import Audit
from vitptq.bench.run.evaluation_audit import EvaluationAudit


class FloatForLargeBatches(planted.Wrapped):
    def quantise(self, x: Tensor) -> Tensor:
        return x.clone() if len(x) > 8 else super().quantise(x)


class NothingForLargeBatches(planted.Wrapped):
    def quantise(self, x: Tensor) -> Tensor:
        return x if len(x) > 8 else super().quantise(x)


def evaluated(model: nn.Module, *, batches: int = 3) -> Audit:
    audits = EvaluationAudit(model, W4A4, lambda net, batch: net(*batch))
    audits.before([SEVERAL[:1]])
    reported: list[int] = []
    with audits.during(lambda done, total: reported.append(done)) as progress, torch.no_grad():
        for done in range(batches):
            model(torch.randn(32, 6, 8))
            progress(done + 1, batches)
    assert reported == list(range(1, batches + 1))
    return audits.after([SEVERAL])


@pytest.mark.parametrize("wrapper", [FloatForLargeBatches, NothingForLargeBatches])
def test_what_holds_for_small_batches_only_is_named(wrapper: type[planted.Wrapped]) -> None:
    words = "the model: input of linear has values off the grid of its quantizer (in the evaluation)"
    assert evaluated(Layer(wrapper(quantizer()))).violations == (words,)


def test_values_beside_a_quantizer_are_float_in_the_evaluation() -> None:
    class Aside(Layer):
        def forward(self, x: Tensor) -> Tensor:
            quantised = self.left(x)
            return functional.linear(x * 1.0 if len(x) > 8 else quantised, self.right(self.weight))

    words = "the model: input of linear stayed float (in the evaluation)"
    assert evaluated(Aside(quantizer())).violations == (words,)


def test_other_products_in_the_evaluation_are_named() -> None:
    class Large(Layer):
        def forward(self, x: Tensor) -> Tensor:
            return x @ self.weight.T if len(x) > 8 else super().forward(x)

    assert (
        "the model: left of matmul was not there for one image (in the evaluation)"
        in evaluated(Large(quantizer())).violations
    )


def test_what_a_task_computes_beside_the_model_is_its_own() -> None:
    audits = EvaluationAudit(Layer(quantizer()), W4A4, lambda net, batch: net(*batch))
    audits.before([SEVERAL[:1]])
    with audits.during(lambda done, total: None), torch.no_grad():
        nn.Linear(8, 8)(SEVERAL) @ torch.eye(8)
    assert audits.after([SEVERAL]).clean


@pytest.mark.parametrize("batches", [0, 1, 3])
def test_evaluation_of_the_same_model_is_clean(batches: int) -> None:
    assert evaluated(Layer(quantizer()), batches=batches).clean


def test_task_inside_a_mode_of_its_own_keeps_it() -> None:
    model = Layer(quantizer())
    audits = EvaluationAudit(model, W4A4, lambda net, batch: net(*batch))
    audits.before([SEVERAL[:1]])
    with audits.during(lambda done, total: None) as progress, torch.no_grad(), torch.device("meta"):
        model(SEVERAL)
        progress(1, 1)
        assert torch.zeros(1).device.type == "meta"
    assert torch.zeros(1).device.type == "cpu"
    assert torch._C._len_torch_function_stack() == 0
