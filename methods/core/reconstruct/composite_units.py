"""Units of reconstruction that are no module of the model: halves of a block, parts of an attention, chains of blocks.

A half is the block with its other branch silenced: a residual branch that puts out nought leaves the shortcut alone, in
every family, without a line about how the family writes its blocks.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from vitptq.bench.contracts.method import Calibration
from vitptq.methods.core.model.operands import Operand
from vitptq.methods.core.model.prepare import PreparedModel
from vitptq.methods.core.reconstruct.plan import block_units, plan

HOME = "units"
"""The child of the model that holds its composite units while they exist."""
ATTENTIONS, MLPS, PROJECTION = ("attn",), ("mlp", "ffn"), "proj"
"""What blocks call their branches, and attentions their last layer."""


class Half(nn.Module):
    """One branch of a block with its shortcut: what the block does while its other branch is silent."""

    def __init__(self, block: nn.Module, branch: nn.Module, other: nn.Module) -> None:
        super().__init__()
        self.branch = branch
        self._apart = block, other  # no submodules: the block holds both halves

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        """Apply the branch and its shortcut."""
        block, other = self._apart
        with putting(other, _nought):
            return _plain(block)(*args, **kwargs)


class BeforeProjection(nn.Module):
    """A block up to what the output projection of its attention reads; windows stay on the first axis."""

    puts_out_rows = True

    def __init__(self, block: nn.Module, attention: nn.Module) -> None:
        super().__init__()
        self.parts = nn.ModuleDict({n: m for n, m in attention.named_children() if n != PROJECTION})
        self._apart = block, attention

    def forward(self, *args: Any, **kwargs: Any) -> Tensor:
        """Return the projection's input."""
        block, attention = self._apart
        with projecting(attention, _Reached.at):
            try:
                _plain(block)(*args, **kwargs)
            except _Reached as reached:
                return reached.x
        raise AssertionError("the attention did not run")


class Chain(nn.Module):
    """Blocks that follow each other directly, as one."""

    def __init__(self, blocks: Sequence[nn.Module]) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(blocks)
        self.outputs: list[Any] = []
        """Of every block at the last call: a backbone may hand some of them on."""

    def forward(self, x: Any, *args: Any, **kwargs: Any) -> Any:
        """Apply the blocks; what is given besides x is the same for all."""
        self.outputs.clear()
        for block in self.blocks:
            x = _plain(block)(x, *args, **kwargs)
            self.outputs.append(x)
        return x

    def first(self, *args: Any, **kwargs: Any) -> Any:
        """Stand in for the first block: run all of them."""
        self(*args, **kwargs)
        return self.outputs[0]

    def later(self, place: int) -> Callable[..., Any]:
        """Return what stands in for another block: it has run already."""
        return lambda *args, **kwargs: self.outputs[place]


@dataclass(frozen=True)
class Branches:
    """The two residual branches of a transformer block."""

    attention: nn.Module
    mlp: nn.Module


def branches(block: nn.Module) -> Branches | None:
    """Return the branches of a block that consists of an attention and an MLP; None of any other."""
    children = dict(block.named_children())
    attention = next((children[name] for name in ATTENTIONS if name in children), None)
    mlp = next((children[name] for name in MLPS if name in children), None)
    if attention is None or mlp is None or _slots(attention) + _slots(mlp) != _slots(block):
        return None
    return Branches(attention, mlp) if _slots(attention) and _slots(mlp) else None


@contextmanager
def halves(nets: Sequence[PreparedModel]) -> Iterator[list[str]]:
    """Give every model of `nets` its halves as units inside; yields their names, other blocks whole.

    The models must have the same blocks (a quantised model and its float twin). They are as before afterwards.
    """
    with ExitStack() as stack:
        yield _same_names([stack.enter_context(_divided(net, _two_halves)) for net in nets])


@contextmanager
def parts(nets: Sequence[PreparedModel]) -> Iterator[list[str]]:
    """As `halves`, with the attention divided once more: up to its projection, the projection, and the MLP's half."""
    with ExitStack() as stack:
        yield _same_names([stack.enter_context(_divided(net, _three_parts)) for net in nets])


@contextmanager
def joined(nets: Sequence[PreparedModel], chains: Sequence[Sequence[str]]) -> Iterator[list[str]]:
    """Give every model of `nets` its `chains` of blocks as units inside; yields a name for each chain."""
    with ExitStack() as stack:
        yield _same_names([stack.enter_context(_joined(net, chains)) for net in nets])


def chains(net: PreparedModel, calibration: Calibration, length: int) -> list[list[str]]:
    """Return the blocks in runs of up to `length` that follow each other directly and lie in one stage."""
    found: list[list[str]] = []
    for unit in plan(net, calibration, block_units(net)):
        last = found[-1][-1] if found else ""
        alike = type(net.model.get_submodule(unit.name)) is type(net.model.get_submodule(last))
        follows = unit.link == (0,) and _stage(unit.name) == _stage(last) and alike
        if follows and len(found[-1]) < length:
            found[-1].append(unit.name)
        else:
            found.append([unit.name])
    return found


def stages(net: PreparedModel) -> int:
    """Return in how many containers the transformer blocks lie: 1 of a ViT, 4 of a Swin."""
    return len({_stage(name) for name, block in net.blocks() if branches(block) is not None})


@contextmanager
def putting(module: nn.Module, forward: Callable[..., Any]) -> Iterator[None]:
    """Let a module compute something else inside."""
    before = vars(module).get("forward")
    vars(module)["forward"] = forward
    try:
        yield
    finally:
        del vars(module)["forward"]
        if before is not None:
            vars(module)["forward"] = before


@contextmanager
def projecting(attention: nn.Module, function: Callable[[Tensor], Tensor]) -> Iterator[None]:
    """Let an attention have a function in the place of its output projection inside."""
    layer = attention.get_submodule(PROJECTION)
    setattr(attention, PROJECTION, _Function(function))
    try:
        yield
    finally:
        setattr(attention, PROJECTION, layer)


Division = Callable[[ExitStack, str, nn.Module, Branches], dict[str, nn.Module]]
"""Divides a block while the stack is open; returns the units by name, those of the model under their own."""


@contextmanager
def _divided(net: PreparedModel, divide: Division) -> Iterator[list[str]]:
    home, names = nn.ModuleDict(), []
    with ExitStack() as stack:
        for name, block in net.blocks():
            found = branches(block)
            units = {name: block} if found is None else divide(stack, name, block, found)
            own = dict(net.model.named_modules())
            for unit, module in units.items():
                if own.get(unit) is not module:
                    home[unit] = module.eval()
                names.append(unit if own.get(unit) is module else f"{HOME}.{unit}")
        with _at_home(net, home):
            yield names


def _two_halves(stack: ExitStack, name: str, block: nn.Module, found: Branches) -> dict[str, nn.Module]:
    attention = Half(block, found.attention, found.mlp)
    mlp = Half(block, found.mlp, found.attention)
    stack.enter_context(putting(block, _one_after_the_other(attention, mlp)))
    return {_key(name, "attention"): attention, _key(name, "mlp"): mlp}


def _three_parts(stack: ExitStack, name: str, block: nn.Module, found: Branches) -> dict[str, nn.Module]:
    attention = next(
        (m for m in found.attention.modules() if isinstance(getattr(m, PROJECTION, None), nn.Module)), None
    )
    if attention is None:  # of another make: it stays one unit
        return _two_halves(stack, name, block, found)
    first, mlp = Half(block, found.attention, found.mlp), Half(block, found.mlp, found.attention)
    before, projection = BeforeProjection(block, attention), attention.get_submodule(PROJECTION)

    def forward(x: Any, *args: Any, **kwargs: Any) -> Any:
        projected = projection(before(x, *args, **kwargs))
        with projecting(attention, lambda _: projected):
            x = first(x, *args, **kwargs)
        return mlp(x, *args, **kwargs)

    stack.enter_context(putting(block, forward))
    path = next(path for path, module in block.named_modules() if module is projection)
    return {_key(name, "before_projection"): before, f"{name}.{path}": projection, _key(name, "mlp"): mlp}


@contextmanager
def _joined(net: PreparedModel, chains: Sequence[Sequence[str]]) -> Iterator[list[str]]:
    home, names = nn.ModuleDict(), []
    with ExitStack() as stack:
        for members in chains:
            if len(members) == 1:
                names.append(members[0])
                continue
            blocks = [net.model.get_submodule(name) for name in members]
            key = _key(members[0], "to", members[-1].rpartition(".")[2])
            home[key] = chain = Chain(blocks).eval()
            names.append(f"{HOME}.{key}")
            for place, block in enumerate(blocks):
                stack.enter_context(putting(block, chain.later(place) if place else chain.first))
        with _at_home(net, home):
            yield names


@contextmanager
def _at_home(net: PreparedModel, home: nn.Module) -> Iterator[None]:
    """Make the units findable by name in the model, which then holds their parts under two names."""
    assert not hasattr(net.model, HOME), "composite units inside composite units"
    net.model.add_module(HOME, home)
    try:
        yield
    finally:
        delattr(net.model, HOME)


def _one_after_the_other(attention: nn.Module, mlp: nn.Module) -> Callable[..., Any]:
    def forward(x: Any, *args: Any, **kwargs: Any) -> Any:
        return mlp(attention(x, *args, **kwargs), *args, **kwargs)

    return forward


def _plain(module: nn.Module) -> Callable[..., Any]:
    """Return what the module's class computes, whatever stands in for it now."""
    forward = type(module).forward
    return lambda *args, **kwargs: forward(module, *args, **kwargs)


class _Reached(Exception):
    """Ends a forward pass at a layer."""

    def __init__(self, x: Tensor) -> None:
        super().__init__()
        self.x = x

    @staticmethod
    def at(x: Tensor) -> Tensor:
        """Stand in for the layer."""
        raise _Reached(x)


class _Function(nn.Module):
    """A function in the place of a module, without the hooks of that."""

    def __init__(self, function: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.function = function

    def forward(self, x: Tensor) -> Tensor:
        """Apply the function."""
        return self.function(x)


def _nought(x: Tensor, *args: Any, identity: Tensor | None = None, **kwargs: Any) -> Tensor:
    """Stand in for a branch without output; mmcv's branches add their shortcut, `identity`, themselves."""
    return torch.zeros_like(x) if identity is None else identity


def _same_names(found: Sequence[list[str]]) -> list[str]:
    assert all(names == found[0] for names in found), "the models have different blocks"
    return found[0]


def _slots(module: nn.Module) -> int:
    return sum(isinstance(part, Operand) for part in module.modules())


def _stage(name: str) -> str:
    return name.rpartition(".")[0]


def _key(name: str, *more: str) -> str:
    return "_".join([*name.split("."), *more])
