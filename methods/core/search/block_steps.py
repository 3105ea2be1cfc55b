"""A block in steps: the layers that read one tensor, with the attention products that run behind them."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import nn

from vitptq.methods.core.model.operands import Convolution, Layer, Linear, MatMul, Operand
from vitptq.methods.core.model.prepare import PreparedModel
from vitptq.methods.core.search.module_run import ModuleRun
from vitptq.methods.core.search.recording import Operator, sides


@dataclass(frozen=True)
class Step:
    """What is searched at once."""

    layers: tuple[Layer, ...]
    """They read the same tensor."""
    norm: nn.LayerNorm | None
    """The normalisation that they alone read, if there is one."""
    products: tuple[MatMul, ...]
    """They run before the next layer does."""

    @property
    def name(self) -> str:
        """Return the name of the first slot."""
        return (self.inputs or self.sides)[0].name

    @property
    def inputs(self) -> list[Operand]:
        """Return the slots of what the layers read."""
        return [layer.input_operand for layer in self.layers]

    @property
    def sides(self) -> list[Operand]:
        """Return the slots of what the products read, but for attention probabilities."""
        return [slot for product in self.products for slot in sides(product) if slot.role != "softmax"]

    @property
    def probabilities(self) -> list[Operand]:
        """Return the slots of attention probabilities."""
        return [slot for product in self.products for slot in sides(product) if slot.role == "softmax"]

    @property
    def modules(self) -> list[nn.Module]:
        """Return what a change of the step's channels changes."""
        return [*self.layers, *([self.norm] if self.norm is not None else [])]


def attention_blocks(net: PreparedModel) -> list[str]:
    """Return the blocks with an attention product or a LayerNorm that takes a fold, in execution order."""
    norms = {norm for norm, _ in net.norm_readers()}
    return [
        name
        for name, block in net.blocks()
        if any(isinstance(part, MatMul) or part in norms for part in block.modules())
    ]


@torch.no_grad()
def steps_of(net: PreparedModel, run: ModuleRun) -> list[Step]:
    """Return a block's steps in the order in which they run."""
    readers: dict[Operator, tuple[nn.LayerNorm, tuple[Linear, ...]]] = {
        reader: (norm, found) for norm, found in net.norm_readers() for reader in found
    }
    steps: list[Step] = []
    done: set[Operator] = set()
    for operator in _in_order(run):
        if operator in done:
            continue
        if isinstance(operator, MatMul):
            before = steps.pop() if steps else Step((), None, ())
            steps.append(Step(before.layers, before.norm, (*before.products, operator)))
        elif operator in readers:
            norm, layers = readers[operator]
            steps.append(Step(layers, norm, ()))
            done |= set(layers)
        else:
            steps.append(Step((operator,), None, ()))
        done.add(operator)
    return steps


def _in_order(run: ModuleRun) -> list[Operator]:
    order: list[Operator] = []
    operators = [m for m in run.module.modules() if isinstance(m, Linear | Convolution | MatMul)]
    handles = [m.register_forward_pre_hook(lambda module, _: order.append(module)) for m in operators]
    try:
        run.output(run.calls[0])
    finally:
        for handle in handles:
            handle.remove()
    return order
