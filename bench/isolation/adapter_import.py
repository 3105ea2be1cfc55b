"""What a file that a user names may do while it is imported: change nothing in this process, and read no image."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from vitptq.bench.contracts.task import Task
from vitptq.bench.errors import BadInput
from vitptq.bench.isolation import image_guard
from vitptq.bench.isolation.surroundings import Surroundings


def watched(execute: Callable[[], None], tasks: Iterable[Task], data_free: Callable[[], bool]) -> None:
    """Run the module with `execute`; raise BadInput where it reached an image of `tasks` or left the process changed.

    `data_free`, asked afterwards, tells whether a method in it is.
    """
    surroundings = Surroundings()
    with image_guard.closed_import(tasks) as closed:
        execute()
    image_guard.refuse_processes(closed, data_free=data_free())
    changed = surroundings.changed()
    if changed:
        more = f" and {len(changed) - 1} more" if len(changed) > 1 else ""
        raise BadInput(
            f"it changed {changed[0]}{more} in this process, and other methods would run with that; "
            "change what the method needs inside quantize(), and undo it there"
        )
