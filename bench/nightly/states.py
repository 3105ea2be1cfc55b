"""A state of the results that a person names: a results folder, or what was known at a commit."""

from __future__ import annotations

import subprocess
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path

from vitptq.bench.errors import BadInput, Missing, brief
from vitptq.bench.results.history import History, Measured, Progress, newest
from vitptq.bench.results.store import Store
from vitptq.bench.run.provenance import ROOT

MOST_NAMED = 8
SHORTEST = 4
"""Characters of a commit, as git has it."""


@dataclass(frozen=True)
class State:
    """The newest records of one state, and all that was known then."""

    name: str
    history: History
    known: tuple[Measured, ...]
    """In the order of time."""

    @property
    def newest(self) -> list[Measured]:
        """Return the last record of each thing and seed."""
        return newest(self.known)


def state_of(name: str, results: Path, progress: Progress = iter) -> State:
    """Return the state that `name` means: a results folder, else a commit among the records of `results`.

    At a commit that git knows, every record counts that it or an ancestor of it measured; at any other only its own.
    """
    if name and _is_there(Path(name)):
        Store(Path(name)).require()
        history = History.read(Path(name), progress)
        return State(brief(name), history, _some(history))
    if not (results / "records").is_dir():
        raise Missing(
            f'"{brief(name)}" is no results folder, and {brief(results)} has no records in which to look for a commit; '
            "name two folders, or the folder of the commits with --results"
        )
    history = History.read(results, progress)
    commits = {each.commit for each in _some(history)}
    chosen = _commits(name, commits)
    known = tuple(each for each in history.measured if each.commit in chosen)
    if not known:
        raise BadInput(
            f'"{brief(name)}" is neither a results folder nor a commit of which {brief(results)} has a record; '
            f"commits there: {_listed(history)}"
        )
    return State(brief(name), history, known)


def _is_there(path: Path) -> bool:
    try:
        return path.exists()
    except (OSError, ValueError):  # a name that is too long, or with a null byte
        return False


def _some(history: History) -> tuple[Measured, ...]:
    if not history.measured:
        raise BadInput(f"none of the records in {brief(history.root)} can be read: {history.problems[0]}")
    return history.measured


def _commits(name: str, measured: Collection[str]) -> set[str]:
    """Return the commits whose records count at the one that is named."""
    full = _git("rev-parse", "--verify", "--quiet", "--end-of-options", f"{name}^{{commit}}").strip()
    if full:
        return {full, *_git("rev-list", full).split()}
    return {commit for commit in measured if len(name) >= SHORTEST and commit.startswith(name)}


def _listed(history: History) -> str:
    """Name the newest commits, the newest first."""
    commits = list(dict.fromkeys(each.commit[:7] for each in reversed(history.measured)))
    more = len(commits) - MOST_NAMED
    return ", ".join(commits[:MOST_NAMED]) + (f" and {more} more" if more > 0 else "")


def _git(*arguments: str) -> str:
    """Return what git prints; nothing where there is no git, no clone, or no such name."""
    try:
        done = subprocess.run(["git", "-C", str(ROOT), *arguments], capture_output=True, text=True, check=False)
    except (OSError, ValueError):  # a ValueError: a name with a null byte
        return ""
    return done.stdout if done.returncode == 0 else ""
