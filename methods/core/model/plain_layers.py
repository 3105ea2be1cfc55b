"""Layers that can be replaced by ones with slots: nothing hangs on them that the replacement would lose in silence.

A hook, a weight that is computed anew at every call (weight norm, pruning masks, parametrisations) or a weight that two
layers share changes what a model computes. The layers that `prepare` puts in place hold the parameters alone.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from torch import nn
from torch.nn.utils import parametrize

from vitptq.bench.errors import Unsupported

LAYERS = (nn.Linear, nn.Conv2d, nn.ConvTranspose2d)
_HOOKS = ("_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_backward_pre_hooks")


def refuse_lost_parts(model: nn.Module, replaced: Sequence[tuple[str, nn.Module]]) -> None:
    """Raise Unsupported where replacing one of the modules, (name, module) each, would change the float function."""
    for name, module in replaced:
        for inner, part in module.named_modules(prefix=name):
            _refuse_computed(inner, part)
            _refuse_hooks(inner, part)
    _refuse_shared(model)


def _refuse_computed(name: str, layer: nn.Module) -> None:
    if not isinstance(layer, LAYERS):
        return
    if parametrize.is_parametrized(layer) or "weight" not in layer._parameters:
        raise Unsupported(
            f"the weight of {name} is computed at every call (weight norm, a pruning mask or another parametrisation); "
            "make it a plain parameter first: torch.nn.utils.parametrize.remove_parametrizations, "
            "torch.nn.utils.remove_weight_norm or torch.nn.utils.prune.remove"
        )


def _refuse_hooks(name: str, module: nn.Module) -> None:
    for kind in _HOOKS:
        if getattr(module, kind):
            raise Unsupported(
                f"{name} has {kind.strip('_').replace('_', ' ')}, which quantisation would lose; remove them first: "
                "what registering returned has remove()"
            )


def _refuse_shared(model: nn.Module) -> None:
    owners: dict[int, str] = {}
    for name, layer in _layers(model):
        weight = layer._parameters.get("weight")
        owner = owners.setdefault(id(weight), name)
        if weight is not None and owner != name:
            raise Unsupported(
                f"{owner} and {name} share one weight, and each layer needs a grid of its own; "
                "give each a copy of it: layer.weight = torch.nn.Parameter(layer.weight.detach().clone())"
            )


def _layers(model: nn.Module) -> Iterator[tuple[str, nn.Module]]:
    """Yield every layer under each of its names: a module that hangs in two places is shared, too."""
    found = model.named_modules(remove_duplicate=False)
    yield from ((name, module) for name, module in found if isinstance(module, LAYERS))
