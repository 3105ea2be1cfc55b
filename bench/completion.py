"""What a shell may complete: suites, methods, and the filters of --only."""

from __future__ import annotations

from collections.abc import Iterable


def suite(incomplete: str) -> list[str]:
    """Return the suites that begin so; paths are the shell's to complete."""
    from vitptq.bench.results import suites

    return _beginning(incomplete, suites.names())


def method(incomplete: str) -> list[str]:
    """Return the methods that begin so."""
    from vitptq.bench import catalogue

    return _beginning(incomplete, catalogue.method_cards())


def only(incomplete: str) -> list[str]:
    """Return the filters that begin so: keys first, then the names that a key takes."""
    from vitptq.bench import catalogue
    from vitptq.bench.results import suites

    key, separator, _ = incomplete.partition("=")
    if not separator:
        return _beginning(incomplete, (f"{each}=" for each in suites.FILTERS))
    names = {"method": catalogue.method_cards, "model": catalogue.models}.get(key)
    return _beginning(incomplete, (f"{key}={name}" for name in names())) if names else []


def _beginning(incomplete: str, names: Iterable[str]) -> list[str]:
    return sorted(name for name in names if name.startswith(incomplete))
