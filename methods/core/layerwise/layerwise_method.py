"""The loop that layer-wise methods share: for each layer what it reads, a rule for its weight, on to the next."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from torch import Tensor, nn

from vitptq.bench.bits import FLOAT_BITS, BitSpec
from vitptq.bench.contracts.method import Calibration, Method
from vitptq.bench.contracts.reporting import note, note_details, note_table, report
from vitptq.bench.errors import Unsupported
from vitptq.methods.core.layerwise.layer_problem import LayerProblem, problem_of
from vitptq.methods.core.layerwise.matrices import weight_of
from vitptq.methods.core.layerwise.moments import ALL, NOTHING, Wanted, layer_moments, layers_in_order
from vitptq.methods.core.model.operands import Layer, Linear
from vitptq.methods.core.model.prepare import PreparedModel, prepare
from vitptq.methods.core.model.rotation import Rotation, rotated
from vitptq.methods.core.quantizers.uniform import Uniform
from vitptq.methods.core.ranges.estimation import Range, min_max
from vitptq.methods.core.ranges.observers import observe_activations
from vitptq.methods.core.ranges.shrunk import least_error_range
from vitptq.methods.core.reconstruct.least_error_start import LeastErrorOfSample

Rounded = tuple[Tensor, Uniform]
"""A weight on its grid, (groups, outputs, inputs), and the quantizer of the grid."""


@dataclass(frozen=True)
class LayerwiseMethod(Method):
    """A method that rounds one weight after the other; a subclass says how, in `rounded`."""

    wanted: ClassVar[frozenset[Wanted]] = frozenset({"gram"})
    """Which moments of a layer's inputs the rule reads."""

    ranges: Literal["least-error", "min-max"] = "least-error"
    """The grid of an output channel: of 90 shrunk ranges the one of least squared error, or all its weights."""
    activations_first: bool = False
    """Whether activations are quantised already while the weights are rounded; else only afterwards."""
    scope: Literal["all", "block linears"] = "all"
    """"block linears" quantises the linear layers of the blocks alone, and no attention product; the audit lists it."""
    rotation: Rotation = "none"
    """Rotate the float model first."""

    @abstractmethod
    def rounded(self, layer: LayerProblem) -> Rounded:
        """Return the weight of a layer on a grid."""

    def quantize(self, model: nn.Module, calibration: Calibration, bits: BitSpec) -> nn.Module:
        """Return the model with its weights on their grids."""
        if bits.weights == FLOAT_BITS:
            raise Unsupported(f"{self.title} rounds weights, and {bits} leaves them in float; give for example W4A32")
        net = self.start(model, calibration, bits)
        self.round_weights(net, calibration)
        return net.switch(True)

    def start(self, model: nn.Module, calibration: Calibration, bits: BitSpec) -> PreparedModel:
        """Return the model with quantizers for its activations: uniform, per tensor, of least squared error."""
        net = prepare(rotated(model, self.rotation, calibration.seed), bits)
        observe_activations(net, calibration, LeastErrorOfSample)
        return net

    @torch.no_grad()
    def round_weights(self, net: PreparedModel, calibration: Calibration) -> None:
        """Put the weights of `net` on grids, in execution order; the quantizers of its activations stay as they are.

        The float model to compare with is `net` itself with all slots off.
        """
        net.switch(False)
        calls = layers_in_order(net, calibration)
        layers = self._in_scope(net, calls)
        twin = net.twin()
        for operand in net.activations.values():
            operand.on = self.activations_first
        errors = {}
        for place, (name, layer) in enumerate(layers.items()):
            report("layers", place, len(layers))
            moments = layer_moments(net, twin, name, calls.get(name, 0), calibration, self.wanted)
            if moments is NOTHING and self.wanted:
                note(f"{name} read nothing on the calibration set: its weights are rounded to nearest")
            problem = problem_of(layer, moments)
            rounded = self.to_nearest(problem) if moments is NOTHING else self.rounded(problem)
            put(layer, rounded)
            if self.wanted == ALL and moments is not NOTHING:
                errors[name] = moments.output_error(problem.weight, rounded[0])
        if errors:
            _tell(errors)

    def to_nearest(self, layer: LayerProblem) -> Rounded:
        """Return each weight of a layer rounded to the nearest value of its grid."""
        quantizer = layer.quantizer(self.range_of_channels)
        return layer.grid(quantizer).nearest(layer.weight), quantizer

    def range_of_channels(self, channels: Tensor, bits: int) -> Range:
        """Return the range that each channel's grid covers; `channels` is (channels, weights)."""
        return min_max(channels) if self.ranges == "min-max" else least_error_range(channels, bits)

    def _in_scope(self, net: PreparedModel, calls: Mapping[str, int]) -> dict[str, Layer]:
        """Return the layers to round, those that did not run last; what is out of scope loses its quantizers."""
        names = [*calls, *(name for name in net.layers if name not in calls)]
        if self.scope == "all":
            return {name: net.layers[name] for name in names}
        blocks = tuple(f"{name}." for name, _ in net.blocks())
        kept = {n: net.layers[n] for n in names if isinstance(net.layers[n], Linear) and f"{n}.".startswith(blocks)}
        slots = {id(layer.input_operand) for layer in kept.values()}
        for operand in net.activations.values():
            if id(operand) not in slots:
                operand.quantizer = None
        return kept


def _tell(errors: Mapping[str, float]) -> None:
    note_details("mean output error", round(sum(errors.values()) / len(errors), 6))
    rows = [{"layer": name, "error": round(error, 6)} for name, error in errors.items()]
    note_table("output errors", rows, "|W X~ - Q X|² / |W X~|² on the calibration set, X~ and X the layer's inputs in "
               "the float model and behind the layers rounded before it.")  # fmt: skip


def put(layer: Layer, rounded: Rounded) -> None:
    """Give a layer its rounded weight, and switch the grid on."""
    matrix, quantizer = rounded
    layer.weight = nn.Parameter(weight_of(layer, matrix).to(layer.weight), requires_grad=False)
    layer.weight_operand.quantizer = quantizer
    layer.weight_operand.on = True
