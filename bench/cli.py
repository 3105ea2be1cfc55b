"""The command `vitptq`: imports the commands, in the order in which `--help` lists them."""

from __future__ import annotations

# isort: off
from vitptq.bench.commands import machine, measure, nightly, publish, listing  # noqa: F401

# isort: on
from vitptq.bench.commands.app import app


def main() -> None:
    """Run the command line."""
    app()


if __name__ == "__main__":
    main()
