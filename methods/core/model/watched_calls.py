"""Forward passes that are watched at some modules, and end where everything wanted was seen."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from torch import nn

ALL = math.inf
"""As a number of calls: all of them; the forward pass runs to its end."""

See = Callable[[nn.Module, tuple[Any, ...], dict[str, Any], Any], object]
"""(module, its arguments, its keyword arguments, its output)."""


class StopForward(Exception):
    """Ends a forward pass inside `watched_calls`."""


@contextmanager
def watched_calls(calls: Mapping[nn.Module, float], see: See, *, entering: bool = False) -> Iterator[None]:
    """Show `see` the first `calls[module]` calls of each module inside, and end the forward pass with the last of them.

    One `with` is for one forward pass. Calls are shown when they return, or with `entering` before they run, with None
    as the output.
    """
    left = dict(calls)

    def returned(module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], output: Any) -> None:
        if not left[module]:
            return
        left[module] -= 1
        see(module, args, kwargs, output)
        if not any(left.values()):
            raise StopForward

    def entered(module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        returned(module, args, kwargs, None)

    handles = [
        module.register_forward_pre_hook(entered, with_kwargs=True)
        if entering
        else module.register_forward_hook(returned, with_kwargs=True)
        for module in calls
    ]
    try:
        yield
    except StopForward:
        pass
    finally:
        for handle in handles:
            handle.remove()
