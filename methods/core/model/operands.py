"""Products with named operands: what a linear layer, a convolution or an attention product reads, each in a slot."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from vitptq.bench.bits import FLOAT_BITS, BitSpec, Role
from vitptq.bench.contracts.quantizer import Quantizer
from vitptq.bench.errors import Unsupported


class Operand(nn.Module):
    """The slot in front of one side of a product: passes the tensor on, watches it, or quantises it.

    `channel_axis` is the axis of the tensor that holds the channels; `head_axis` that of the heads.
    """

    name: str
    """Its place in the model, such as blocks.0.mlp.fc1.input_operand: the key in `PreparedModel.operands`."""
    role: Role
    """What the tensor is to its product, such as "weight", "query", "softmax"."""
    bits: int
    quantizer: Quantizer | None
    """None until a method sets it."""
    on: bool
    """Whether it quantises."""
    watcher: Callable[[Operand, Tensor], None] | None
    """What sees each tensor that enters; see `watching`."""

    def __init__(self, role: Role, bits: int, *, channel_axis: int, head_axis: int | None = None) -> None:
        super().__init__()
        self.name = ""
        self.role = role
        self.bits = bits
        self.channel_axis = channel_axis
        self.head_axis = head_axis
        self.quantizer = None
        self.on = False
        self.watcher = None

    def forward(self, x: Tensor) -> Tensor:
        """Return `x` on the grid when switched on, else `x` itself."""
        if self.watcher is not None and x.numel():  # a detector without proposals runs its heads on nothing
            self.watcher(self, x)
        if self.on and self.quantizer is not None and self.bits != FLOAT_BITS:
            quantised: Tensor = self.quantizer(x)
            return quantised
        return x

    def by_channel(self, x: Tensor) -> Tensor:
        """Arrange `x` as (channels, values)."""
        return x.movedim(self.channel_axis, 0).flatten(1)

    def extra_repr(self) -> str:
        """Describe the slot in a printed model."""
        return f"role={self.role}, bits={self.bits}, on={self.on}"


class Linear(nn.Linear):
    """A linear layer with both operands in slots; shares the original's parameters.

    Where zeros may be padded between a normalisation and this layer (`behind_padding`), a shift cannot move into the
    normalisation, because the padding would miss it. It is kept in `shift` (in,), and the module that holds the layer
    adds it behind the padding, with `shifted`.
    """

    input_operand: Operand
    weight_operand: Operand
    shift: Tensor | None
    behind_padding = False

    def __init__(self, layer: nn.Linear, bits: BitSpec, role: Role = "input") -> None:
        super().__init__(layer.in_features, layer.out_features, layer.bias is not None, device="meta")
        self.weight, self.bias = layer.weight, layer.bias
        self.register_buffer("shift", None)
        self.input_operand = Operand(role, bits.width(role), channel_axis=-1)
        self.weight_operand = Operand("weight", bits.width("weight"), channel_axis=0)

    def forward(self, input: Tensor) -> Tensor:
        """Apply the layer, shape (..., in) to (..., out)."""
        return nn.functional.linear(self.input_operand(input), self.weight_operand(self.weight), self.bias)


def shifted(x: Tensor, layer: nn.Module) -> Tensor:
    """Return what `layer` has to be given: `x`, plus the layer's shift where it keeps one."""
    shift: Tensor | None = getattr(layer, "shift", None)
    return x if shift is None else x + shift


class Conv2d(nn.Conv2d):
    """A convolution with both operands in slots; shares the original's parameters."""

    input_operand: Operand
    weight_operand: Operand

    def __init__(self, layer: nn.Conv2d, bits: BitSpec, role: Role = "input") -> None:
        super().__init__(
            layer.in_channels,
            layer.out_channels,
            _pair(layer.kernel_size),
            _pair(layer.stride),
            _padding(layer.padding),
            _pair(layer.dilation),
            layer.groups,
            layer.bias is not None,
            layer.padding_mode,
            device="meta",
        )
        self.weight, self.bias = layer.weight, layer.bias
        self.input_operand = Operand(role, bits.width(role), channel_axis=1)
        self.weight_operand = Operand("weight", bits.width("weight"), channel_axis=0)

    def forward(self, input: Tensor) -> Tensor:
        """Apply the convolution, shape (B, in, H, W) to (B, out, H', W')."""
        out: Tensor = self._conv_forward(self.input_operand(input), self.weight_operand(self.weight), self.bias)
        return out


class ConvTranspose2d(nn.ConvTranspose2d):
    """A transposed convolution with both operands in slots; shares the original's memory.

    Its weight has the output channels on the first axis, as every other layer's has. Groups, whose output channels are
    on two axes of the original weight, are refused.
    """

    input_operand: Operand
    weight_operand: Operand

    def __init__(self, layer: nn.ConvTranspose2d, bits: BitSpec, role: Role = "input") -> None:
        if layer.groups != 1:
            raise Unsupported(f"no operand map for a transposed convolution in {layer.groups} groups")
        super().__init__(
            layer.in_channels,
            layer.out_channels,
            _pair(layer.kernel_size),
            _pair(layer.stride),
            _pair(layer.padding),  # type: ignore[arg-type]  # a transposed convolution has numbers here
            _pair(layer.output_padding),
            bias=layer.bias is not None,
            dilation=_pair(layer.dilation),
            device="meta",
        )
        weight = layer.weight.detach().transpose(0, 1)  # (out, in, kH, kW)
        self.weight, self.bias = nn.Parameter(weight, layer.weight.requires_grad), layer.bias
        self.input_operand = Operand(role, bits.width(role), channel_axis=1)
        self.weight_operand = Operand("weight", bits.width("weight"), channel_axis=0)

    def forward(self, input: Tensor, output_size: list[int] | None = None) -> Tensor:
        """Apply the layer, shape (B, in, H, W) to (B, out, H', W')."""
        if output_size is not None:
            raise Unsupported("no operand map for a transposed convolution whose output size is chosen at run time")
        return self._conv_forward(self.input_operand(input), self.weight_operand(self.weight), self.bias)

    def _conv_forward(self, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        assert not isinstance(self.padding, str)
        return nn.functional.conv_transpose2d(
            x,
            weight.transpose(0, 1),
            bias,
            self.stride,
            self.padding,
            self.output_padding,
            self.groups,
            self.dilation,
        )


Convolution = Conv2d | ConvTranspose2d
Layer = Linear | Convolution


class MatMul(nn.Module):
    """A product of two activations; `transpose` multiplies by the right operand's transpose, as queries by keys."""

    left_operand: Operand
    right_operand: Operand

    def __init__(self, left: Role, right: Role, bits: BitSpec, *, transpose: bool = False) -> None:
        super().__init__()
        self.transpose = transpose
        self.left_operand = Operand(left, bits.width(left), channel_axis=-1, head_axis=1)
        self.right_operand = Operand(right, bits.width(right), channel_axis=-1, head_axis=1)

    def forward(self, left: Tensor, right: Tensor) -> Tensor:
        """Return left @ right, both (B, heads, tokens, channels)."""
        left, right = self.left_operand(left), self.right_operand(right)
        return torch.matmul(left, right.transpose(-2, -1) if self.transpose else right)


@contextmanager
def watching(operands: Mapping[str, Operand], watch: Callable[[Operand, Tensor], None]) -> Iterator[None]:
    """Let `watch` see every tensor that enters `operands` inside, float or quantised by the slots before it.

    The slots are released whatever happens; a slot has one watcher at a time.
    """
    for operand in operands.values():
        operand.watcher = watch
    try:
        yield
    finally:
        for operand in operands.values():
            operand.watcher = None


def _pair(value: tuple[int, ...]) -> tuple[int, int]:
    return value[0], value[-1]


def _padding(value: str | tuple[int, ...]) -> str | tuple[int, int]:
    return value if isinstance(value, str) else _pair(value)
