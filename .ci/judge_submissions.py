"""Run `vitptq verify --submission` on every folder below the one that is named; exit code 1 where one is refused."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path


def main(place: str) -> int:
    """Judge every folder; a place without any is refused as well."""
    folders = sorted(path for path in Path(place).iterdir() if path.is_dir()) if Path(place).is_dir() else []
    if not folders:
        print(f"{place} holds no folder of records; see SUBMITTING.md")
        return 1
    command = ["vitptq", "verify", "--results", "results", "--submission"]
    return max(subprocess.run([*command, str(folder)], check=False).returncode != 0 for folder in folders)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
