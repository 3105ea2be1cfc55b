"""Command lines that are wrong in one way each."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

SUITE = """
title = "wrong"
[[cells]]
task = "imagenet"
edition = "mini"
models = ["mini_vit"]
methods = ["minmax"]
bits = ["W4A4"]
"""


def wrong_commands(folder: Path, results: Path) -> Iterator[list[str]]:
    """Yield the words of each; `folder` is an empty one for their files, `results` a good results folder."""
    (folder / "file").write_text("a file")
    (folder / "empty").mkdir()
    (folder / "full").mkdir()
    (folder / "full" / "thesis.tex").write_text("mine")
    missing, file, empty = folder / "missing", folder / "file", folder / "empty"
    for place in (missing, file, empty, file / "under", folder / ("n" * 300), Path("/proc/1/mem")):
        for words in (["verify"], ["board"], ["compare", "minmax"], ["site", "--out", str(folder / "site")]):
            yield [*words, "--results", str(place)]
    yield from _suites(folder)
    yield from _options(folder)
    for place in (file, file / "under", Path("/proc/x"), Path("/dev/null")):
        yield ["run", "quick", "--only", "id=0", "--results", str(place)]
        yield ["run", "quick", "--only", "model=mini_vit", "--only", "method=float", "--results", str(place)]
    for out in (file, file / "under", folder / "full", Path("/proc/x"), Path("/dev/null"), folder / ("n" * 300)):
        yield ["site", "--out", str(out), "--results", str(results)]
        yield ["data", "mini", "--out", str(out)] if out != folder / "full" else ["data", "maxi", "--out", str(out)]
    for reference in ("", "minmaxx", "minmax:a", "minmax:a=b", "minmax:w_symmetric=maybe", ":", "minmax:=1"):
        yield ["compare", reference, "--results", str(results)]


def _options(folder: Path) -> Iterator[list[str]]:
    filters = ("id=", "method=", "seed=", "bits=W99A99", "metod=minmax", "method", "=", "seed=x", "model=a,b", "id=zz")
    yield from (["plan", "quick", "--only", text] for text in filters)
    some = ["run", "quick", "--results", str(folder / "r")]
    yield from ([*some, "--shard", shard] for shard in ("0/2", "3/2", "1", "a/b", "1/0", "-1/2", "1/2/3"))
    yield from ([*some, "--device", device] for device in ("tpu", "cuda:99", "cuda:-1", "", "cpu:1:2"))
    methods = ("", "minmaxx", "nowhere.py", str(folder), str(folder / "broken.py"), str(folder / "none.py"), "a\0b")
    yield from (["check", method] for method in methods)
    yield from (
        ["list"],
        ["list", "things"],
        ["board", "--format", "pdf"],
        ["nothing"],
        ["run"],
        ["plan"],
        ["--nothing"],
    )
    yield from (
        [*some, *more] for more in (["--workers", "0"], ["--limit", "0"], ["--limit", "nan"], ["--retry", "all"])
    )


def _suites(folder: Path) -> Iterator[list[str]]:
    bodies: dict[str, bytes] = {
        "utf16": SUITE.encode("utf-16"),
        "latin1": SUITE.replace("wrong", "größer").encode("latin-1"),
        "empty": b"",
        "untitled": SUITE.replace('title = "wrong"', "").encode(),
        "cut": SUITE.encode()[:-5],
        "nan": (SUITE + "parameters = { w_symmetric = nan }").encode(),
        "rate": SUITE.replace("minmax", "qdrop").encode() + b"parameters = { weight_rate = nan }",
        "endless": SUITE.replace("minmax", "qdrop").encode() + b"parameters = { weight_rate = inf }",
        "date": (SUITE + "parameters = { w_symmetric = 2020-01-01 }").encode(),
        "parameter": (SUITE + "parameters = { nothing = 1 }").encode(),
        "type": (SUITE + 'parameters = { w_symmetric = "maybe" }').encode(),
        "seed": (SUITE + "seeds = [-1]").encode(),
        "huge": (SUITE + "seeds = [99999999999999999999]").encode(),
        "seedless": (SUITE + "seeds = []").encode(),
        "size": (SUITE + "calibration_size = -1").encode(),
        "toolarge": (SUITE + "calibration_size = 2000000000").encode(),
        "bits": SUITE.replace("W4A4", "W9A9").encode(),
        "float": SUITE.replace("W4A4", "W32A32").encode(),
        "part": SUITE.replace("W4A4", "W4A4+nose").encode(),
        "model": SUITE.replace("mini_vit", "mini_vitt").encode(),
        "method": SUITE.replace("minmax", "minmaxx").encode(),
        "task": SUITE.replace("imagenet", "imagenet1k").encode(),
        "edition": SUITE.replace('"mini"', '"maxi"').encode(),
        "extra": (SUITE + "colour = 1").encode(),
        "null": SUITE.replace("mini_vit", "mini\\u0000vit").encode(),
        "nested": (SUITE + "parameters = { a = " + "[" * 5000 + "]" * 5000 + " }").encode(),
    }
    (folder / "broken.py").write_text("import nothing_of_this_name")
    (folder / "none.py").write_text("x = 1")
    (folder / "folder.toml").mkdir()
    yield ["plan", str(folder / "folder.toml")]
    yield ["plan", str(folder / "missing.toml")]
    yield ["plan", "a\0b"]
    yield ["plan", "n" * 300 + ".toml"]
    yield ["plan", "quick", "--adapter", str(folder / "broken.py")]
    yield ["plan", "quick", "--adapter", str(folder / "missing.py")]
    yield ["plan", "quick", "--method", str(folder / "none.py")]
    for name, body in bodies.items():
        (folder / f"{name}.toml").write_bytes(body)
        yield ["plan", str(folder / f"{name}.toml")]
