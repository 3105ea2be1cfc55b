"""The float model, measured like any other cell: the reference that the float gate and every drop refer to."""

from __future__ import annotations

import copy
from dataclasses import dataclass

from torch import nn

from vitptq import BitSpec, Calibration, Method


@dataclass(frozen=True)
class Float32(Method):
    """The checkpoint as it is, evaluated through the same loop, on the same images.

    Its score opens the float gate: no quantised cell of a model counts until this one is within the stated tolerance of
    the checkpoint's reference.
    """

    name = "float"
    title = "Float"
    fidelity = "reference"
    category = "float"

    def quantize(self, model: nn.Module, calibration: Calibration, bits: BitSpec) -> nn.Module:
        """Return a copy of `model`."""
        return copy.deepcopy(model)
