"""Which slot of a prepared model an official module's grid belongs to."""

from __future__ import annotations

from torch import Tensor, nn

from vitptq.bench.contracts.quantizer import Quantizer

OURS = {
    "matmul1": "qk",
    "matmul2": "av",
    "input_quantizer": "input_operand",
    "weight_quantizer": "weight_operand",
    "quantizer_A": "left_operand",
    "quantizer_B": "right_operand",
    "a_quantizer": "input_operand",
    "w_quantizer": "weight_operand",
    "A_quantizer": "left_operand",
    "B_quantizer": "right_operand",
    "a_interval": "input_operand",
    "w_interval": "weight_operand",
    "A_interval": "left_operand",
    "B_interval": "right_operand",
}


def slot_name(official: str) -> str:
    """Return our name of the slot behind an official module's name, with dots alone."""
    return ".".join(OURS.get(part, part) for part in official.replace("/", ".").split("."))


def parameter(model: nn.Module, official: str, name: str) -> Tensor:
    """Return a parameter of the quantizer in the slot that an official module's name means."""
    quantizer = model.get_submodule(slot_name(official)).quantizer
    assert isinstance(quantizer, Quantizer)
    found = getattr(quantizer, name)
    assert isinstance(found, Tensor)
    return found
