"""Set everything up and start it: `python3 start.py quick` or `python3 start.py tests`.

Needs Python 3.11 or 3.12, git and a C++ compiler; everything else is installed below .tox in this folder. The first
run takes 10 to 20 minutes, most of it for downloading torch and compiling mmcv, later runs start within seconds.
"""

from __future__ import annotations

import configparser
import importlib.util
import os
import shlex
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path

HELP = """\
usage: python3 start.py COMMAND [-- ARGUMENTS]

  python3 start.py quick        set everything up, run the quick suite, build the leaderboard, print its page's path
  python3 start.py tests        set everything up, run the tests
  python3 start.py gpu          set everything up, try it on a GPU: about 10 minutes; -- --device cpu without one
  python3 start.py pretrained   as quick, with a real pretrained ViT instead of the small models

Other commands are the environments of tox.ini: style, typing, benchmark, screenshots, update-lock.
Arguments after -- go to the command, for example: python3 start.py tests -- -k store
"""

ROOT = Path(__file__).resolve().parent
BOOT = ROOT / ".tox" / "boot"
TOOLS = ("tox==4.67.15", "tox-uv==1.37.1", "uv==0.13.9")
PYTHONS = ((3, 12), (3, 11))
LINKS = ("bench", "methods", "tasks")
GIGABYTES_FOR_FIRST_SETUP = 15
GIGABYTES_FOR_NEXT_SETUP = 2


def main(arguments: list[str]) -> int:
    """Check the machine, make the tools ready and hand over to tox; return the exit status."""
    if not arguments or arguments[0] in {"-h", "--help", "help"}:
        print(HELP, end="")
        return 0
    if sys.version_info[:2] not in PYTHONS:
        return start_with_another_python(arguments)
    if arguments[0] not in known_commands():
        known = ", ".join(known_commands())
        print(f'start.py: unknown command "{arguments[0]}"; known: {known}', file=sys.stderr)
        return 2
    problems = find_problems()
    if problems:
        print(f"start.py: {len(problems)} thing(s) to put right before this can start:", file=sys.stderr)
        print("\n".join(f"  - {problem}" for problem in problems), file=sys.stderr)
        return 1
    if not tools_ready() and not make_tools():
        return 1
    return run_tox(arguments[0], arguments[1:])


def start_with_another_python(arguments: list[str]) -> int:
    """Start this file again with a Python that fits, or say that there is none."""
    for major, minor in PYTHONS:
        found = shutil.which(f"python{major}.{minor}")
        # A name on PATH may be a stand-in of a version manager for something that is not installed.
        if found and subprocess.run([found, "-c", ""], capture_output=True, check=False).returncode == 0:
            say(f"this is Python {version_text()}, so {found} is used instead")
            os.execv(found, [found, __file__, *arguments])
    print(
        f"start.py: Python 3.11 or 3.12 is needed, this is {version_text()} and no other was found; "
        "install one (apt install python3.12 python3.12-dev python3.12-venv) and run the command again.",
        file=sys.stderr,
    )
    return 1


def known_commands() -> list[str]:
    """Return the names of the environments in tox.ini."""
    tox = configparser.ConfigParser(interpolation=None)
    tox.read(ROOT / "tox.ini", encoding="utf-8")
    return [section.removeprefix("testenv:") for section in tox.sections() if section.startswith("testenv:")]


def find_problems() -> list[str]:
    """Return everything that has to be put right first, one sentence each."""
    python = f"python{sys.version_info.major}.{sys.version_info.minor}"
    problems = []
    if shutil.which(os.environ.get("CXX", "c++")) is None:
        problems.append("There is no C++ compiler, which mmcv is built with: sudo apt install g++")
    if not Path(sysconfig.get_path("include"), "Python.h").exists():
        problems.append(f"Python's header files are missing, which mmcv is built with: sudo apt install {python}-dev")
    if shutil.which("git") is None:
        problems.append("There is no git, which records name the measured version with: sudo apt install git")
    if not tools_ready() and not can_install_tools():
        problems.append(f"This Python cannot make virtual environments: sudo apt install {python}-venv")
    if not all((ROOT / "vitptq" / name).is_dir() for name in LINKS):
        problems.append(
            "git put no links into the folder vitptq here: git config core.symlinks true && git checkout -- vitptq"
        )
    needed = GIGABYTES_FOR_NEXT_SETUP if has_environment() else GIGABYTES_FOR_FIRST_SETUP
    free = shutil.disk_usage(ROOT).free / 1e9
    if free < needed:
        problems.append(f"Only {free:.1f} GB are free where {ROOT} lies, {needed} GB are needed: free some space.")
    return problems


def can_install_tools() -> bool:
    """Tell whether this Python brings pip along, for the new environment or for itself."""
    return any(importlib.util.find_spec(module) for module in ("ensurepip", "pip"))


def has_environment() -> bool:
    """Tell whether one set-up is there already: others then share most of its files."""
    return any(ROOT.glob(".tox/*/lib/python*/site-packages/torch"))


def tools_ready() -> bool:
    """Tell whether the tools are there in the pinned versions, for this Python."""
    note = BOOT / "tools.txt"
    return note.exists() and note.read_text(encoding="utf-8") == tools_note()


def tools_note() -> str:
    """Return what the folder of the tools has to say of itself."""
    return "\n".join((version_text(), str(BOOT), *TOOLS)) + "\n"


def make_tools() -> bool:
    """Install tox and uv below .tox; tell whether it worked."""
    say("installing tox and uv into .tox/boot (about half a minute, once)")
    own_pip = importlib.util.find_spec("ensurepip") is not None
    make = [sys.executable, "-m", "venv", "--clear", *([] if own_pip else ["--without-pip"]), str(BOOT)]
    pip = [str(BOOT / "bin" / "python"), "-m", "pip"]
    if not own_pip:
        pip = [sys.executable, "-m", "pip", "--python", str(BOOT)]
    for command in (make, [*pip, "install", "--quiet", "--disable-pip-version-check", *TOOLS]):
        if subprocess.run(command, check=False).returncode:
            print(f"start.py: this command failed, its reason is above: {shlex.join(command)}", file=sys.stderr)
            return False
    (BOOT / "tools.txt").write_text(tools_note(), encoding="utf-8")
    return True


def run_tox(environment: str, arguments: list[str]) -> int:
    """Become tox, which makes the environment and runs the command; return only when it cannot start."""
    python = BOOT / "bin" / "python"
    if not (ROOT / ".tox" / environment).exists() and environment in {"quick", "tests", "benchmark", "gpu"}:
        say("first set-up: torch and the other packages (2 GB to download, 1 to 5 minutes), then mmcv is compiled")
        say("mmcv takes about 7 minutes on 2 cores, unless it was compiled here before; all of this happens once")
    say(f"starting `{environment}` with tox")
    os.chdir(ROOT)
    after = arguments if arguments[:1] == ["--"] or not arguments else ["--", *arguments]
    os.execv(python, [str(python), "-m", "tox", "run", "-qq", "-e", environment, *after])


def version_text() -> str:
    """Return the version of the running Python."""
    return ".".join(map(str, sys.version_info[:3]))


def say(text: str) -> None:
    """Tell the person what happens now."""
    print(f"start.py: {text}", flush=True)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
