"""Repeat the attacks on records, evidence and the command line, and print how many were caught.

    python -m tests.reliability.attack --results FOLDER      a folder that `vitptq run quick` has filled

Each forgery is tried on one quantised record per task of a copy of FOLDER; each mutation changes bytes of a record or
of its evidence at random; each wrong command line must end in one sentence. It takes minutes, so the quick tests leave
it out. The counts are in docs/reliability.md.
"""

from __future__ import annotations

import argparse
import json
import random
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

from typer.testing import CliRunner

from tests.reliability.forgeries import FORGERIES, Case
from tests.reliability.wrong_commands import wrong_commands
from vitptq.bench import registry
from vitptq.bench.cli import app

AFTER = " after "
Outcome = tuple[bool, str]
"""Whether the attack was caught, and what was said, for the one that was not."""


def main() -> None:
    """Run the attacks that are asked for; exit code 1 where one was not caught."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--results", type=Path, required=True)
    parser.add_argument("--mutations", type=int, default=600)
    parser.add_argument("--only", choices=("forged", "mutated", "commands"))
    asked = parser.parse_args()
    kinds: dict[str, Callable[[], Iterator[tuple[str, Outcome]]]] = {
        "forged": lambda: forged(asked.results),
        "mutated": lambda: mutated(asked.results, asked.mutations),
        "commands": lambda: commanded(asked.results),
    }
    missed = 0
    for kind, attacks in kinds.items():
        if asked.only in (None, kind):
            outcomes = dict(attacks())
            later = {name: outcome for name, outcome in outcomes.items() if AFTER in name}
            missed += told(kind, {name: outcome for name, outcome in outcomes.items() if name not in later})
            missed += told("other commands on what was forged", later) if later else 0
    sys.exit(bool(missed))


def told(kind: str, outcomes: dict[str, Outcome]) -> int:
    """Print how many were caught, and what was said to each that was not; return how many those are."""
    escaped = {name: said for name, (caught, said) in outcomes.items() if not caught}
    print(f"{kind}: {len(outcomes)} tried, {len(outcomes) - len(escaped)} caught")
    for name, said in escaped.items():
        print(f"  not caught: {name}: {said}")
    return len(escaped)


def forged(results: Path) -> Iterator[tuple[str, Outcome]]:
    """Try every forgery on one quantised record of each task."""
    for name, forgery in FORGERIES.items():
        for task in ("imagenet", "coco", "ade20k"):
            with copied(results, task) as case:
                forgery.spoil(case)
                code, output = vitptq("verify", "--results", str(case.root))
                caught = code == 1 and forgery.words in output and "Traceback" not in output
                yield f"{name} ({task})", (caught, output[-300:])
                if not caught:
                    continue
                yield from survived(f"{name} ({task})", case.root)


def survived(name: str, root: Path) -> Iterator[tuple[str, Outcome]]:
    """Check that no other command stumbles over what `verify` has named."""
    commands = {
        "board": ["board"],
        "csv": ["board", "--format", "csv"],
        "latex": ["board", "--format", "latex"],
        "compare": ["compare", "minmax"],
        "status": ["status", "quick"],
        "site": ["site", "--out", str(root / "site")],
    }
    for command, words in commands.items():
        code, output = vitptq(*words, "--results", str(root))
        allowed = (0, 1, 2) if command == "compare" else (0, 1)  # nothing may be left to compare with
        yield f"{command}{AFTER}{name}", (code in allowed and "Traceback" not in output, output[-300:])


def mutated(results: Path, count: int) -> Iterator[tuple[str, Outcome]]:
    """Change a few bytes at random; nothing may end in a traceback, and changed evidence must be noticed."""
    chance = random.Random(0)
    for i in range(count):
        with copied(results, "imagenet") as case:
            path = case.path if i % 2 else case.evidence_path
            data = bytearray(path.read_bytes())
            for _ in range(chance.choice((1, 1, 4, 64))):
                data[chance.randrange(len(data))] = chance.randrange(256)
            path.write_bytes(data)
            code, output = vitptq("verify", "--results", str(case.root))
            named = code == 1 or bool(i % 2)  # a byte of a note may be another and the record be as good
            yield f"mutation {i} of {path.parent.name}", (code in (0, 1) and named, output[-300:])


def commanded(results: Path) -> Iterator[tuple[str, Outcome]]:
    """Give wrong command lines; each must end in one sentence and an exit code that is not 0."""
    with tempfile.TemporaryDirectory() as name:
        for words in wrong_commands(Path(name), results):
            code, output = vitptq(*words)
            yield " ".join(words)[:200], (code != 0 and "Traceback" not in output, output[-300:])


class copied:  # noqa: N801  used like a function
    """Copy one task's float record and one quantised record; use as a context manager."""

    def __init__(self, results: Path, task: str) -> None:
        self.results, self.task = results, task

    def __enter__(self) -> Case:
        self.folder = tempfile.TemporaryDirectory()
        root = Path(self.folder.name) / "results"
        for name in ("records", "evidence"):
            (root / name).mkdir(parents=True)
        contents = [json.loads(path.read_text()) for path in sorted(self.results.glob("records/*.json"))]
        asked = {"task": self.task, "method": "minmax", "bits": "W4A4"}
        quantised = next(c for c in contents if asked.items() <= c["cell"].items())
        for content in contents:
            if content["id"] in (quantised["id"], quantised["gate"]["float_cell"]):
                shutil.copy(self.results / "records" / f"{content['id']}.json", root / "records")
                shutil.copy(self.results / "evidence" / content["evidence"]["file"], root / "evidence")
        return Case(root, quantised)

    def __exit__(self, *_: object) -> None:
        self.folder.cleanup()


def vitptq(*words: str) -> tuple[int, str]:
    """Run a command in this process; return its exit code and all that it printed, an unexpected error included."""
    with registry.temporary():
        result = CliRunner().invoke(app, list(words))
    unexpected = result.exception is not None and not isinstance(result.exception, SystemExit)
    return result.exit_code, result.output + (f"Traceback: {result.exception!r}" if unexpected else "")


if __name__ == "__main__":
    main()
