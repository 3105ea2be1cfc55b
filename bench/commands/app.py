"""The command line's application, and how its commands end."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from functools import wraps
from importlib.metadata import PackageNotFoundError, version
from inspect import cleandoc
from typing import Annotated, Any

import typer

from vitptq.bench import process
from vitptq.bench.errors import VitptqError, brief

app = typer.Typer(
    name="vitptq",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)


def command(function: Callable[..., Any]) -> Callable[..., Any]:
    """Register a command; an error that is the user's to act on is printed in one line, without a traceback."""

    # the summary is given whole: typer cuts what it finds itself
    @app.command(function.__name__.rstrip("_"), short_help=cleandoc(function.__doc__ or ""))
    @wraps(function)
    def guarded(*args: Any, **kwargs: Any) -> Any:
        process.prepare()
        try:
            with process.stopped_by_sigterm():
                return function(*args, **kwargs)
        except VitptqError as error:
            print(f"vitptq: {error}", file=sys.stderr)
            raise typer.Exit(2) from None
        except KeyboardInterrupt as stop:
            print(f"vitptq: {str(stop) or 'stopped'}; {_AFTER.get(function.__name__, _AFTER_ANY)}", file=sys.stderr)
            raise typer.Exit(143 if isinstance(stop, process.Terminated) else 130) from None
        except BrokenPipeError:  # `vitptq board | head`
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            raise typer.Exit(0) from None
        except OSError as error:  # the user's disk, folders and rights; one line says which
            where = f" ({brief(error.filename, 400)})" if error.filename else ""
            print(f"vitptq: {error.strerror or error}{where}; choose another place, or mend this one", file=sys.stderr)
            raise typer.Exit(2) from None

    return guarded


_AFTER = {"run": "what was measured is kept, the same command goes on from here"}
_AFTER_ANY = "nothing was left half done, the same command starts anew"


def _show_version(asked: bool) -> None:
    if asked:
        try:
            print(f"vitptq {version('vitptq')}")
        except PackageNotFoundError:
            print("vitptq, not installed: run from its folder")
        raise typer.Exit


@app.callback()
def top(
    version: Annotated[
        bool, typer.Option("--version", callback=_show_version, is_eager=True, help="Show the version and exit.")
    ] = False,
) -> None:
    """Measure post-training quantisation of vision transformers and publish the results as a static leaderboard."""
