"""The audit on hand-made modules: what counts as quantised, and what does not."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from tests.bench.planted import SharesStorage, SortedGroups
from vitptq.bench.bits import FLOAT, BitSpec
from vitptq.bench.results.audit_rules import bit_operations
from vitptq.bench.results.record import Audit
from vitptq.bench.run.audit import audit
from vitptq.methods.core.quantizers.log import LogSqrt2
from vitptq.methods.core.quantizers.uniform import Uniform

W4A4 = BitSpec(4, 4)
X = torch.randn(1, 6, 8)


def quantizer(bits: int = 4, **options: object) -> Uniform:
    return Uniform(bits, torch.tensor(0.2), torch.tensor(2 ** (bits - 1)), **options)  # type: ignore[arg-type]


class Product(nn.Module):
    """q(x) times q(w), computed by `compute`."""

    def __init__(self, compute: Callable[[Tensor, Tensor], Tensor], left: nn.Module, right: nn.Module) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(5, 8))
        self.compute, self.left, self.right = compute, left, right

    def forward(self, x: Tensor) -> Tensor:
        return self.compute(self.left(x), self.right(self.weight))


def audited(
    compute: Callable[[Tensor, Tensor], Tensor] = functional.linear,
    left: nn.Module | None = None,
    right: nn.Module | None = None,
) -> Audit:
    model = Product(compute, left or quantizer(), right or quantizer())
    return audit(model, W4A4, [X], lambda net, batch: net(*batch))


def test_both_sides_quantised_is_clean() -> None:
    found = audited()
    assert found.clean
    assert found.macs == found.quantised_macs == 6 * 8 * 5
    assert bit_operations(found) == 6 * 8 * 5 * 16


@pytest.mark.parametrize(
    "compute",
    [lambda x, w: x @ w.T, lambda x, w: torch.matmul(x, w.transpose(0, 1)), lambda x, w: x.reshape(6, 8).mm(w.t())],
)
def test_views_of_what_a_quantizer_put_out_are_quantised(compute: Callable[[Tensor, Tensor], Tensor]) -> None:
    assert audited(compute).clean


def test_values_that_share_a_storage_with_quantised_ones_are_float() -> None:
    left = SharesStorage(quantizer())
    assert audited(left=left).clean
    assert not audited(lambda x, w: functional.linear(left.both[1], w), left=left).clean


def test_groups_by_size_are_no_grid() -> None:
    found = audited(right=SortedGroups(quantizer()))
    assert found.violations == ("the model: weight of linear has values off the grid of its quantizer",)


def test_product_of_a_matrix_and_a_vector_is_clean_where_both_are_quantised() -> None:
    found = audited(lambda x, w: x @ w[0])
    assert found.clean
    assert found.macs == found.quantised_macs == 6 * 8


def test_model_with_other_products_is_named() -> None:
    x, given = torch.randn(1, 6, 8), lambda net, batch: net(*batch)
    float_audit = audit(nn.Linear(8, 5), FLOAT, [x], given)
    other = Product(functional.linear, quantizer(), quantizer())
    other.weight = nn.Parameter(torch.randn(4, 8))
    found = audit(other, W4A4, [x], given, float_audit=float_audit).violations
    assert any("in the quantised model, not in the float one: another model was measured" in text for text in found)


def test_float_side_is_named_and_its_macs_do_not_count() -> None:
    found = audited(left=nn.Identity())
    assert found.violations == ("the model: input of linear stayed float",)
    assert found.quantised_macs == 0
    assert bit_operations(found) == 6 * 8 * 5 * 32 * 4


def test_change_after_the_quantizer_makes_it_float() -> None:
    assert not audited(lambda x, w: functional.linear(x * 1.0, w)).clean
    assert not audited(lambda x, w: functional.linear(x.add_(0.01), w)).clean


def test_float_values_in_place_of_the_quantised_ones_are_noticed_though_those_come_back() -> None:
    def compute(x: Tensor, w: Tensor) -> Tensor:
        quantised = x.clone()
        product = functional.linear(x.copy_(X), w)
        x.copy_(quantised)
        return product

    assert audited(compute).violations == ("the model: input of linear stayed float",)


def test_wider_grid_is_named() -> None:
    assert audited(right=quantizer(8)).violations == ("the model: weight of linear has 8 bits, W4A4 allows 4",)


def test_one_value_too_many_is_named() -> None:
    extra = LogSqrt2(4, torch.tensor(1.0), zero_code="extra")
    assert "grid of 17 values, 4 bits allow 16" in audited(left=extra).violations[0]


def test_product_in_an_unknown_operation_counts_as_float() -> None:
    found = audited(lambda x, w: torch.einsum("btc,oc->bto", x, w))
    assert "100.0% of the multiply-accumulates run where the audit cannot see them" in found.violations[0]
    assert found.quantised_macs == 0


def test_fused_attention_is_float_whatever_goes_in() -> None:
    found = audited(lambda x, w: functional.scaled_dot_product_attention(x, x, x))
    assert any("left of attention stayed float" in violation for violation in found.violations)


def test_groups_of_few_values_must_be_on_the_grid() -> None:
    class Shifted(Uniform):
        """One grid per row, and values beside it: with 8 values a row, counting could not notice."""

        def quantise(self, x: Tensor) -> Tensor:
            return super().quantise(x) + 0.05

    rows = Shifted(4, torch.full((5,), 0.2), torch.full((5,), 8.0), axis=0, granularity="channel")
    assert "values off the grid" in audited(right=rows).violations[0]


@pytest.mark.parametrize(
    "layer",
    [
        nn.Conv2d(4, 6, 3, padding=1),
        nn.Conv2d(4, 4, 3, groups=4),
        nn.ConvTranspose2d(4, 6, 2, stride=2),
        nn.Linear(9, 3),
    ],
)
def test_macs_agree_with_torchs_counter(layer: nn.Module) -> None:
    shape = (1, 4, 9, 9)
    found = audit(layer, BitSpec(32, 32), torch.randn(shape), lambda net, x: net(x))
    assert found.macs == sum(side.macs for side in found.operands) // 2 > 0


def test_image_enters_at_eight_bits() -> None:
    class Stem(nn.Module):
        def __init__(self, bits: int) -> None:
            super().__init__()
            self.image, self.kernel = quantizer(bits), quantizer(4)
            self.weight = nn.Parameter(torch.randn(4, 3, 2, 2))

        def forward(self, x: Tensor) -> Tensor:
            return functional.conv2d(self.image(x), self.kernel(self.weight), stride=2)

    image = torch.randn(1, 3, 8, 8)
    assert audit(Stem(8), W4A4, image, lambda net, x: net(x)).clean


@pytest.mark.parametrize(("extra", "clean"), [(0, True), (1, True), (2, False)])
def test_image_padded_to_whole_patches_is_still_the_image(extra: int, clean: bool) -> None:
    class Stem(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.image, self.kernel = quantizer(8), quantizer(4)
            self.weight = nn.Parameter(torch.randn(4, 3, 2, 2))

        def forward(self, x: Tensor) -> Tensor:
            return functional.conv2d(self.image(functional.pad(x, (0, extra))), self.kernel(self.weight), stride=2)

    found = audit(Stem(), W4A4, torch.randn(1, 3, 8, 7), lambda net, x: net(x))
    assert found.clean == clean


def test_transposed_convolution_has_a_grid_per_output_channel() -> None:
    class Upsample(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            scale = torch.tensor([0.1, 0.2, 0.3, 0.4, 0.5])
            self.map = quantizer()
            self.kernel = Uniform(4, scale, torch.full((5,), 8.0), axis=1, granularity="channel")
            self.weight = nn.Parameter(torch.randn(3, 5, 2, 2))

        def forward(self, x: Tensor) -> Tensor:
            return functional.conv_transpose2d(self.map(x), self.kernel(self.weight), stride=2)

    found = audit(Upsample(), W4A4, [torch.randn(1, 3, 4, 4)], lambda net, batch: net(*batch))
    assert found.clean
    assert found.operands[1].granularity == "channel"


def test_where_widths_are_mixed_each_operand_has_its_own_and_the_averages_are_checked() -> None:
    def found(weight: int, read: int) -> Audit:
        model = Product(functional.linear, quantizer(read), quantizer(weight))
        return audit(model, BitSpec(4, 4, mixed=True), [X], lambda net, batch: net(*batch))

    assert found(4, 4).clean
    assert [side.values for side in found(4, 4).operands] == [6 * 8, 5 * 8]
    assert found(3, 5).violations == ("the activations have 5.000 bits on average, W4A4+mixed allows 4",)
    assert [side.values for side in audited().operands] == [0, 0]
