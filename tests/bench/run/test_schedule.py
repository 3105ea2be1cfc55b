"""Whole runs on worker processes: killed, sharded, hanging and dying ones."""

from __future__ import annotations

import os
import random
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from pydantic import JsonValue

from vitptq.bench.results.store import Store

HERE = Path(__file__).parents[1]
ROOT = HERE.parent.parent
KILLS = int(os.environ.get("VITPTQ_TEST_KILLS", "3"))


def start(suite: Path, results: Path, *options: str) -> subprocess.Popen[str]:
    arguments = [sys.executable, "-m", "vitptq.bench.cli", "run", str(suite), "--adapter", str(HERE / "tiny_task.py")]
    return subprocess.Popen(
        [*arguments, "--results", str(results), *options],
        cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
    )  # fmt: skip


def finish(suite: Path, results: Path, *options: str) -> str:
    process = start(suite, results, *options)
    output, _ = process.communicate(timeout=300)
    return output


def kill(process: subprocess.Popen[str]) -> None:
    process.send_signal(signal.SIGKILL)
    process.communicate()


def outcome(results: Path) -> list[dict[str, JsonValue]]:
    return [record.result() for record in Store(results).records()]


@pytest.fixture(scope="module")
def module_suite(tmp_path_factory: pytest.TempPathFactory) -> Path:
    from tests.bench.conftest import SUITE

    path = tmp_path_factory.mktemp("suite") / "tiny.toml"
    path.write_text(SUITE)
    return path


@pytest.fixture(scope="module")
def undisturbed(module_suite: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    results = tmp_path_factory.mktemp("undisturbed")
    output = finish(module_suite, results)
    assert "5 done (0 behind a shut float gate), 0 failed, 0 missing" in output
    return results


def test_killed_and_resumed_equals_undisturbed(module_suite: Path, undisturbed: Path, tmp_path: Path) -> None:
    chance = random.Random(0)
    for _ in range(KILLS):
        process = start(module_suite, tmp_path)
        time.sleep(chance.uniform(2, 14))
        kill(process)
        Store(tmp_path).records()  # whole or absent, at any moment
    finish(module_suite, tmp_path)
    assert outcome(tmp_path) == outcome(undisturbed)
    assert len(list((tmp_path / "evidence").glob("[!.]*"))) == 5


def test_killed_run_leaves_no_worker(module_suite: Path, tmp_path: Path) -> None:
    process = start(module_suite, tmp_path)
    deadline = time.monotonic() + 60
    workers: set[int] = set()
    while not workers and time.monotonic() < deadline:
        time.sleep(0.2)
        workers = {pid for pid in children(process.pid) if b"spawn_main" in command(pid)}
    assert workers
    time.sleep(5)  # the worker asks for its parent's fate once it has started
    kill(process)
    deadline = time.monotonic() + 30
    while any(b"spawn_main" in command(pid) for pid in workers) and time.monotonic() < deadline:
        time.sleep(0.2)
    assert not any(b"spawn_main" in command(pid) for pid in workers)


def children(pid: int) -> list[int]:
    try:
        return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    except OSError:
        return []


def command(pid: int) -> bytes:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return b""


def test_two_shards_copied_together_equal_one_run(module_suite: Path, undisturbed: Path, tmp_path: Path) -> None:
    for part in ("1", "2"):
        (tmp_path / part).mkdir()  # a part of few cells may be empty
        finish(module_suite, tmp_path / part, "--shard", f"{part}/2")
        shutil.copytree(tmp_path / part, tmp_path / "merged", dirs_exist_ok=True)
    assert outcome(tmp_path / "merged") == outcome(undisturbed)


def test_two_processes_share_a_folder(module_suite: Path, undisturbed: Path, tmp_path: Path) -> None:
    both = [start(module_suite, tmp_path) for _ in range(2)]
    for process in both:
        output, _ = process.communicate(timeout=300)
        assert "5 done (0 behind a shut float gate), 0 failed, 0 missing" in output
    assert outcome(tmp_path) == outcome(undisturbed)


def test_second_run_measures_nothing(module_suite: Path, undisturbed: Path) -> None:
    before = {path: path.read_bytes() for path in (undisturbed / "records").iterdir()}
    assert "5 cells, 5 done before" in finish(module_suite, undisturbed)
    assert {path: path.read_bytes() for path in (undisturbed / "records").iterdir()} == before


PLANTED = """
import os, signal, time
from dataclasses import dataclass
from vitptq.bench.contracts.method import Method
@dataclass(frozen=True)
class Bad(Method):
    "Planted."
    name, title, fidelity = "bad", "Bad", "paper"
    def quantize(self, model, calibration, bits):
        {fault}
"""


@pytest.mark.parametrize(
    ("fault", "words"),
    [
        ("time.sleep(600)", "failed (hung): no result after 9 s"),
        ("os.kill(os.getpid(), signal.SIGKILL)", "failed (killed): the worker died"),
        ("raise MemoryError('planted')", "failed (out_of_memory)"),
    ],
)
def test_cell_that_is_lost_takes_nothing_with_it(tmp_path: Path, fault: str, words: str) -> None:
    (tmp_path / "bad.py").write_text(PLANTED.format(fault=fault))
    suite = tmp_path / "s.toml"
    suite.write_text(
        'title="t"\n[[cells]]\ntask="tiny"\nedition="test"\nmodels=["vit"]\nmethods=["bad", "minmax"]\nbits=["W4A4"]\n'
    )
    output = finish(suite, tmp_path / "results", "--adapter", str(tmp_path / "bad.py"), "--limit", "0.15")
    assert words in output
    assert "2 done (0 behind a shut float gate), 1 failed, 0 missing" in output
    assert "--retry failed" in output


def test_records_tell_how_to_repeat_their_cell(undisturbed: Path) -> None:
    record = next(r for r in Store(undisturbed).records() if r.cell.method == "repq-vit")
    repeat = record.details.repetition.command
    assert repeat.startswith("vitptq run ")
    assert f"--only id={record.id[:16]}" in repeat
    assert "vitptq.bench.cli" in record.provenance.command or "cli.py" in record.provenance.command


LEAVES_TRACES = """
import os
from dataclasses import dataclass
from torch.nn import functional
from vitptq.bench.contracts.method import Method
from vitptq.methods.minmax import MinMax
@dataclass(frozen=True)
class {name}(Method):
    "Planted: changes the process for whoever comes after it."
    name, title, fidelity = "{name}", "Planted", "paper"
    def quantize(self, model, calibration, bits):
        softmax = functional.softmax
        functional.softmax = lambda *args, **options: softmax(*args, **options) * 0.5
        os.chdir("/")
        return MinMax().quantize(model, calibration, bits)
"""


def test_what_a_method_of_a_file_changes_reaches_no_other_cell(undisturbed: Path, tmp_path: Path) -> None:
    for name in ("first", "second"):
        (tmp_path / f"{name}.py").write_text(LEAVES_TRACES.format(name=name))
    suite = tmp_path / "s.toml"
    suite.write_text(
        'title="t"\n[[cells]]\ntask="tiny"\nedition="test"\nmodels=["vit"]\n'
        'methods=["first", "second", "minmax"]\nbits=["W8A8", "W4A4"]\n'
    )
    options = [word for name in ("first", "second") for word in ("--adapter", str(tmp_path / f"{name}.py"))]
    assert "7 done" in finish(suite, tmp_path / "results", *options)
    records = {(r.cell.method, r.cell.bits): r for r in Store(tmp_path / "results").records()}
    honest = [r.result() for r in Store(undisturbed).records() if r.cell.method in ("float", "minmax")]
    assert sorted(map(str, honest)) == sorted(
        str(r.result()) for (method, _), r in records.items() if method in ("float", "minmax")
    )
    planted = [r for (method, _), r in records.items() if method in ("first", "second")]
    assert len(planted) == 4
    for record in planted:  # each in a process that no other had changed
        assert record.audit is not None
        assert record.audit.violations.count("the method replaced torch.nn.functional.softmax") == 1
        assert any("the working directory" in note for note in record.notes)
