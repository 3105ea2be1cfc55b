"""Install mmcv with its compiled operators: `python tasks/openmmlab/install_mmcv.py`.

mmcv is published as source only and is compiled against the torch of the environment. Built where torch is missing, it
installs without a word and without its operators, so this step builds it here, proves that the operators run, and keeps
the wheel under the versions it was built for. The keeping is ours because the caches of pip and uv know neither torch's
version nor, with some registries, how long a source archive stays fresh, and then they compile again.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import time
from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TextIO

PACKAGE = "onedl-mmcv"
VERSION = "2.3.6"

# Without optimisation worth the name, since nothing here spends its time in these operators. Measured on 2 cores:
# 6 min 14 s (10 min 48 s of user time) with these flags, 16 min with the compiler flags of Python itself.
COMPILER_FLAGS = "-O1 -g0"
USUAL_MINUTES_ON_TWO_CORES = 7
GIGABYTES_PER_COMPILER = 1.5

_PROVE_OPERATORS = """
import torch
from mmcv.ops import nms
boxes = torch.tensor([[0.0, 0.0, 10.0, 10.0], [1.0, 1.0, 10.0, 10.0]])
_, kept = nms(boxes, torch.tensor([0.5, 0.9]), 0.5)
assert kept.tolist() == [1], f"nms kept {kept.tolist()}, expected [1]"
import mmdet, mmseg
"""


class SetupError(Exception):
    """mmcv could not be installed; the message says what to do."""


def main() -> int:
    """Install mmcv unless it is there and proven; return the exit status."""
    try:
        ensure_mmcv()
    except SetupError as error:
        print(f"mmcv: {error}", file=sys.stderr)
        return 1
    return 0


def ensure_mmcv() -> None:
    """Install mmcv from the kept wheel or from source, and prove that its operators run."""
    wanted = fingerprint()
    proof = Path(sys.prefix, "mmcv-proven.json")
    if installed_version(PACKAGE) == VERSION and read_proof(proof) == wanted:
        return
    wheels = wheel_folder(wanted)
    kept = kept_wheel(wheels)
    if kept is not None:
        say(f"installing the wheel that was built here earlier ({kept})")
        install(kept)
        failure = operators_failure()
        if failure is None:
            write_proof(proof, wanted)
            return
        say("the operators of that wheel do not run here, so it is built once more")
        kept.unlink()
    install(build_wheel(wheels))
    failure = operators_failure()
    if failure is not None:
        raise SetupError(
            f"built and installed, but the compiled operators do not run:\n{failure}\n"
            f"Remove the folder {wheels} and run the command again; if it fails again, report the lines above."
        )
    write_proof(proof, wanted)
    say("ready, compiled operators checked")


def fingerprint() -> dict[str, str]:
    """Return everything that a wheel of mmcv depends on."""
    torch = installed_version("torch")
    if torch is None:
        raise SetupError(
            "torch is missing from this environment, and mmcv is compiled against it. "
            "Install requirements/lock.txt first; `python3 start.py tests` does both."
        )
    return {
        "package": f"{PACKAGE} {VERSION}",
        "torch": torch,
        "python": f"cp{sys.version_info.major}{sys.version_info.minor}",
        "operators": "cuda" if builds_for_cuda() else "cpu",
        "flags": compiler_flags(),
    }


def installed_version(distribution: str) -> str | None:
    """Return the version of an installed distribution, or None."""
    try:
        return version(distribution)
    except PackageNotFoundError:
        return None


def builds_for_cuda() -> bool:
    """Tell whether CUDA operators can be built: a GPU and the CUDA compiler have to be there.

    mmcv's own build asks for the GPU only, and fails where the compiler is missing.
    """
    return Path("/dev/nvidiactl").exists() and cuda_compiler() is not None


def cuda_compiler() -> str | None:
    """Return the path of the CUDA compiler, or None."""
    home = os.environ.get("CUDA_HOME", "/usr/local/cuda")
    return shutil.which("nvcc") or shutil.which("nvcc", path=f"{home}/bin")


def compiler_flags() -> str:
    """Return the flags for the C++ compiler; VITPTQ_MMCV_FLAGS replaces the default."""
    return os.environ.get("VITPTQ_MMCV_FLAGS", COMPILER_FLAGS)


def read_proof(path: Path) -> dict[str, str] | None:
    """Return what the operators were last proven for in this environment, or None."""
    try:
        proof: dict[str, str] = json.loads(path.read_text(encoding="utf-8"))
    except (FileNotFoundError, json.JSONDecodeError):
        return None
    return proof


def write_proof(path: Path, wanted: dict[str, str]) -> None:
    """Note that the operators ran, so that the next start need not import torch to know."""
    path.write_text(json.dumps(wanted, indent=1) + "\n", encoding="utf-8")


def wheel_folder(wanted: dict[str, str]) -> Path:
    """Return the folder that keeps wheels built for exactly these versions."""
    cache = os.environ.get("VITPTQ_CACHE") or Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache", "vitptq")
    parts = (wanted["python"], f"torch-{wanted['torch']}", wanted["operators"], wanted["flags"])
    return Path(cache, "wheels", re.sub(r"[^\w.+-]+", "_", "-".join(parts)))


def kept_wheel(folder: Path) -> Path | None:
    """Return the wheel kept in a folder, or None."""
    return next(iter(sorted(folder.glob(f"{PACKAGE.replace('-', '_')}-{VERSION}-*.whl"))), None)


def install(wheel: Path) -> None:
    """Install a wheel into this environment; what it depends on is in requirements/lock.txt."""
    command = [sys.executable, "-m", "uv", "pip", "install", "--python", sys.executable]
    done = subprocess.run(
        [*command, "--quiet", "--no-deps", "--reinstall", str(wheel)], capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise SetupError(f"the wheel {wheel} could not be installed:\n{done.stderr.strip()}")


def operators_failure() -> str | None:
    """Return why mmcv, mmdet or mmseg cannot be used, or None; asked in a process of its own."""
    done = subprocess.run(
        [sys.executable, "-P", "-W", "ignore", "-c", _PROVE_OPERATORS], capture_output=True, text=True, check=False
    )
    return None if done.returncode == 0 else tail(done.stderr.splitlines(), 8)


def build_wheel(folder: Path) -> Path:
    """Compile mmcv and return the kept wheel."""
    say(
        f"compiling {PACKAGE} {VERSION} for torch {installed_version('torch')}; this happens once, "
        f"takes about {USUAL_MINUTES_ON_TWO_CORES} minutes on 2 cores, and the wheel is kept in {folder}"
    )
    if Path("/dev/nvidiactl").exists() and not builds_for_cuda():
        say("there is a GPU but no CUDA compiler (nvcc), so mmcv's own operators will run on the CPU only")
    folder.mkdir(parents=True, exist_ok=True)
    log = folder / "build.log"
    unfinished = folder / f"unfinished-{os.getpid()}"
    try:
        status, last_lines = run_build(unfinished, log)
        built = kept_wheel(unfinished)
        if status or built is None:
            raise SetupError(build_failure(last_lines, log))
        return built.replace(folder / built.name)
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)


def run_build(folder: Path, log: Path) -> tuple[int, list[str]]:
    """Run pip's build with a progress display; return its status and the end of its output."""
    command = [sys.executable, "-m", "pip", "wheel", "--verbose", "--no-deps", "--no-build-isolation"]
    command += ["--no-cache-dir", "--no-binary", PACKAGE, "--wheel-dir", str(folder), f"{PACKAGE}=={VERSION}"]
    last_lines: deque[str] = deque(maxlen=400)
    with (
        log.open("w", encoding="utf-8") as log_file,
        subprocess.Popen(
            command,
            env=build_environment(),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
        ) as process,
    ):
        assert process.stdout is not None
        for line in show_progress(process.stdout, Progress()):
            log_file.write(line)
            last_lines.append(line.rstrip())
    return process.returncode, list(last_lines)


def build_environment() -> dict[str, str]:
    """Return the environment variables of the build."""
    flags = compiler_flags()
    environment = {
        **os.environ,
        # Where the build needs a tool of this environment (ninja), it looks on PATH.
        "PATH": os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", os.defpath)]),
        "CFLAGS": flags,
        "CXXFLAGS": flags,
        "MAX_JOBS": os.environ.get("MAX_JOBS", str(parallel_compilers())),
    }
    if not builds_for_cuda():
        environment["CUDA_VISIBLE_DEVICES"] = ""
    return environment


def parallel_compilers() -> int:
    """Return how many compilers the cores and the free memory allow."""
    free_gigabytes = os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") / 1e9
    return max(1, min(len(os.sched_getaffinity(0)), int(free_gigabytes / GIGABYTES_PER_COMPILER)))


@dataclass
class Progress:
    """How far the build is: one line that renews itself on a terminal, a line every 30 seconds in a log."""

    stream: TextIO = field(default_factory=lambda: sys.stdout)
    seconds_between_lines: float = 30.0
    started: float = field(default_factory=time.monotonic)
    compiling_since: float | None = None
    shown: float = 0.0

    def update(self, done: int, total: int) -> None:
        """Show that `done` of `total` steps are finished, unless the last line is too recent."""
        now = time.monotonic()
        if self.compiling_since is None:
            self.compiling_since = now
        wait = 0.2 if self.stream.isatty() else self.seconds_between_lines
        if done < total and now - self.shown < wait:
            return
        self.shown = now
        text = progress_text(done, total, now - self.started, now - self.compiling_since)
        on_terminal = self.stream.isatty()
        print(f"\r\033[K{text}" if on_terminal else text, end="" if on_terminal else "\n", file=self.stream, flush=True)
        if on_terminal and done == total:
            print(file=self.stream, flush=True)


def progress_text(done: int, total: int, elapsed: float, compiling: float) -> str:
    """Return one line of progress.

    `compiling` is the time since the first step was finished.

    >>> progress_text(26, 78, elapsed=70, compiling=50)
    'mmcv: compiled 26 of 78 (33 %), 1:10 so far, about 1:44 to go'
    """
    left = f", about {clock(compiling / (done - 1) * (total - done))} to go" if 1 < done < total else ""
    return f"mmcv: compiled {done} of {total} ({100 * done // total} %), {clock(elapsed)} so far{left}"


def clock(seconds: float) -> str:
    """Return a duration as minutes and seconds.

    >>> clock(125.4)
    '2:05'
    """
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes}:{rest:02d}"


def show_progress(lines: Iterable[str], progress: Progress) -> Iterator[str]:
    """Pass lines through; those of ninja, such as `[12/78] c++ ...`, move the progress on."""
    for line in lines:
        step = re.match(r"\s*\[(\d+)/(\d+)\] ", line)
        if step:
            progress.update(int(step[1]), int(step[2]))
        yield line


def build_failure(last_lines: list[str], log: Path) -> str:
    """Return what to tell a person whose build failed: the end, the likely cause and the next step."""
    end = tail(last_lines, 25)
    return f"the build failed. The end of its output:\n\n{end}\n\n{likely_cause(last_lines)}\nAll of it: {log}"


_CAUSES = (
    ("Python.h", "Python's header files are missing: install python3-dev (apt install python3-dev)."),
    (r"No space left", "The disk is full: free some space and run the command again."),
    (r"Killed|out of memory|[Cc]annot allocate memory", "Memory ran out: run the command again with MAX_JOBS=1."),
    (r"(c\+\+|g\+\+|gcc).*(not found|No such file)", "There is no C++ compiler: apt install g++."),
    (r"No matching distribution|Connection|Temporary failure|timed out|SSL", "The package could not be downloaded."),
    (r"No module named", "A build tool is missing: install requirements/lock.txt again."),
    (
        r"nvcc|CUDA version|CUDA_HOME",
        "The CUDA compiler and torch do not match: install the version torch was built for.",
    ),
)


def likely_cause(last_lines: list[str]) -> str:
    """Return the likely cause of a failed build and the next step.

    >>> likely_cause(["fatal error: Python.h: No such file or directory"])
    "Likely cause: Python's header files are missing: install python3-dev (apt install python3-dev)."
    """
    errors = "\n".join(line for line in last_lines if re.search(r"(?i)error|killed|cannot|no space|not found", line))
    for pattern, cause in _CAUSES:
        if re.search(pattern, errors):
            return f"Likely cause: {cause}"
    return "The cause is not one of the known ones: look for the first error in the full output."


def tail(lines: list[str], count: int) -> str:
    """Return the last lines as one text, each cut to a readable length."""
    return "\n".join(f"    {line[:300]}" for line in lines[-count:])


def say(text: str) -> None:
    """Tell the person what happens now."""
    print(f"mmcv: {text}", flush=True)


if __name__ == "__main__":
    sys.exit(main())
