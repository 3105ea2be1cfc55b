"""Records and evidence that lie or are broken: each entry changes a copy of an honest results folder in one way.

The quick tests try them on the tiny task, `attack.py` on records of real models.
"""

from __future__ import annotations

import io
import json
import os
import struct
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from vitptq.bench.results.cell import Cell, sha256

Content = dict[str, Any]


@dataclass
class Case:
    """One honest record in a folder of its own, to be spoilt."""

    root: Path
    content: Content

    def __post_init__(self) -> None:
        """Take the table of operands apart, so that single ones can be spoilt; the schema reads a list as well."""
        audit = self.content["audit"]
        if isinstance(audit["operands"], dict):
            columns = audit["operands"]
            audit["operands"] = [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]

    @property
    def path(self) -> Path:
        return self.root / "records" / f"{self.content['id']}.json"

    @property
    def evidence_path(self) -> Path:
        return self.root / "evidence" / self.content["evidence"]["file"]

    def write(self) -> None:
        self.path.write_text(json.dumps(self.content))

    def replace_evidence(self, data: bytes) -> None:
        """Put other bytes in place of the evidence, and their hash into the record."""
        self.evidence_path.write_bytes(data)
        self.content["evidence"] |= {"sha256": sha256(data), "bytes": len(data)}
        self.write()

    def rename(self, **changes: Any) -> None:
        """Make it the record of another cell, evidence included, as somebody would who knows how ids are made."""
        self.path.unlink()
        old = self.evidence_path
        self.content["cell"] |= changes
        self.content["id"] = Cell(**self.content["cell"]).id
        self.content["evidence"]["file"] = f"{self.content['id']}.npz"
        self.evidence_path.write_bytes(old.read_bytes())
        old.unlink()
        self.write()


@dataclass(frozen=True)
class Forgery:
    """What is done to the record, and words of the sentence that names it."""

    spoil: Callable[[Case], None]
    words: str


def arrays(**values: Any) -> bytes:
    buffer = io.BytesIO()
    np.savez_compressed(buffer, **values)
    return buffer.getvalue()


def npy(values: Any) -> bytes:
    buffer = io.BytesIO()
    np.save(buffer, np.asarray(values))
    return buffer.getvalue()


def npy_header(shape: str, descr: str = "<i2") -> bytes:
    header = f"{{'descr': '{descr}', 'fortran_order': False, 'shape': {shape}, }}".encode()
    header += b" " * (63 - (len(header) + 10) % 64) + b"\n"
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(header)) + header


def archive(members: dict[str, bytes], method: int = zipfile.ZIP_DEFLATED) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", method) as packed:
        for name, data in members.items():
            packed.writestr(name, data)
    return buffer.getvalue()


def encrypted() -> bytes:
    data = bytearray(archive({"labels.npy": npy([1, 2])}))
    for signature, offset in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        data[data.index(signature) + offset] |= 1
    return bytes(data)


def flipped(data: bytes) -> bytes:
    spoilt = bytearray(data)
    for i in range(60, len(spoilt) // 2, 7):
        spoilt[i] ^= 0xFF
    return bytes(spoilt)


def bomb() -> bytes:
    """Return a small ZIP whose directory declares arrays of 3.75 GiB."""
    data = bytearray(archive({"labels.npy": npy_header("(2013265920,)") + bytes(2**20)}))
    struct.pack_into("<I", data, data.index(b"PK\x01\x02") + 24, 0xF0000000)
    return bytes(data)


def _set(*path: str | int, value: Any) -> Callable[[Case], None]:
    def spoil(case: Case) -> None:
        place: Any = case.content
        for step in path[:-1]:
            place = place[step]
        place[path[-1]] = value
        case.write()

    return spoil


def _literal(key: str, literal: str) -> Callable[[Case], None]:
    """Return what puts a JSON literal that Python's writer would not write in place of a field's value."""

    def spoil(case: Case) -> None:
        group, _, name = key.partition(".")
        place = case.content[group]
        place = place["task"] if group == "details" and case.content["schema_version"] > 1 else place
        place[name] = "LITERAL"
        case.path.write_text(json.dumps(case.content).replace('"LITERAL"', literal))

    return spoil


def _evidence(data: Callable[[bytes], bytes]) -> Callable[[Case], None]:
    return lambda case: case.replace_evidence(data(case.evidence_path.read_bytes()))


def _cell(**changes: Any) -> Callable[[Case], None]:
    return lambda case: case.rename(**changes)


def _everywhere(**changes: Any) -> Callable[[Case], None]:
    """Return what changes every operand of the audit."""

    def spoil(case: Case) -> None:
        for operand in case.content["audit"]["operands"]:
            operand.update(changes)
        case.write()

    return spoil


def _drop_operands(case: Case) -> None:
    case.content["audit"]["operands"] = case.content["audit"]["operands"][:-2]
    case.write()


def _smaller_model(case: Case) -> None:
    audit = case.content["audit"]
    audit["operands"] = audit["operands"][:4]
    macs = sum(operand["macs"] for operand in audit["operands"][::2])
    audit.update(macs=macs, quantised_macs=macs, float_operands=[])
    case.write()


def _stem_everywhere(case: Case) -> None:
    for operand in case.content["audit"]["operands"]:
        if operand["role"] == "input":
            operand.update(role="stem_input", bits=8, grid=256)
    case.write()


def _wider(case: Case) -> None:
    operand = next(o for o in case.content["audit"]["operands"] if o["role"] == "weight")
    operand.update(bits=8, grid=256)
    case.write()


def _foreign_image(case: Case) -> None:
    """Say that the method made images, and name the evidence of the predictions."""
    details = case.content["details"]
    place = details["method"] if case.content["schema_version"] > 1 else details
    place["images"] = {"painted": case.content["evidence"]}
    case.write()


def _other_gate_evidence(case: Case) -> None:
    case.content["gate"]["evidence"] = case.content["evidence"]
    case.write()


def _other_file(case: Case) -> None:
    other = case.root / "evidence" / f"{'0' * 64}.npz"
    case.evidence_path.rename(other)
    case.content["evidence"]["file"] = other.name
    case.write()


def _folder_of_records(case: Case) -> None:
    (case.path.parent / "x.json").mkdir()


def _pipe(case: Case) -> None:
    os.mkfifo(case.path.parent / "x.json")


def _evidence_pipe(case: Case) -> None:
    case.evidence_path.unlink()
    os.mkfifo(case.evidence_path)


def _evidence_folder(case: Case) -> None:
    case.evidence_path.unlink()
    case.evidence_path.mkdir()


def _dangling(case: Case) -> None:
    (case.path.parent / "x.json").symlink_to("/nowhere/at/all")


def _loop(case: Case) -> None:
    (case.path.parent / "x.json").symlink_to("x.json")


def _raw(data: bytes | Callable[[bytes], bytes]) -> Callable[[Case], None]:
    return lambda case: case.path.write_bytes(data(case.path.read_bytes()) if callable(data) else data) and None


def _nested(case: Case) -> None:
    text = json.dumps(case.content)
    deep = '"deep": ' + "[" * 100_000 + "]" * 100_000
    case.path.write_text(text[:-1] + ", " + deep + "}")


LONG = "long" * 2500

FORGERIES: dict[str, Forgery] = {
    # what the record says of itself
    "better score": Forgery(_set("scores", value={"top1": 99.9}), "the evidence gives"),
    "more images": Forgery(_set("images", value=50_000), "the evidence covers"),
    "higher fidelity": Forgery(_set("fidelity", value="parity"), 'the record says fidelity "parity"'),
    "unknown fidelity": Forgery(_set("fidelity", value="certified"), 'the record says fidelity "certified"'),
    "older than the project": Forgery(
        _set("provenance", "started", value="2019-01-01T00:00:00Z"), "before the project"
    ),
    "from the future": Forgery(_set("provenance", "finished", value="2126-01-01T00:00:00Z"), "in the future"),
    "ends before it starts": Forgery(_set("provenance", "finished", value="2026-11-22T00:00:00Z"), "before it started"),
    "no date": Forgery(_set("provenance", "started", value="yesterday"), "is no date"),
    "date of 10 kB": Forgery(_set("provenance", "started", value=LONG), "is no date"),
    "other versions": Forgery(_set("provenance", "versions", value={"torch": "9.9"}), "its versions and device give"),
    "other device": Forgery(_set("provenance", "device", value="NVIDIA H100"), "its versions and device give"),
    "parameters of no adapter": Forgery(_cell(parameters={"magic": 1}), "has no parameter magic"),
    # costs
    "smaller model": Forgery(_set("costs", "model_mib", value=0.001), "is less than every weight at 4 bits"),
    "negative cost": Forgery(_set("costs", "quantise_s", value=-1.0), "costs.quantise_s"),
    "endless cost": Forgery(_set("costs", "model_mib", value=1e308), "costs.model_mib"),
    "negative memory": Forgery(_set("costs", "peak_host_mib", value=-5), "costs.peak_host_mib"),
    "total less than its parts": Forgery(_set("costs", "total_s", value=0.0), "is less than quantising"),
    "fewer bit operations": Forgery(_set("costs", "bit_operations", value=1), "bit operations, the record says 1"),
    # the audit
    "wider weight": Forgery(_wider, "the audit leaves out a violation"),
    "float left out": Forgery(_everywhere(bits=None), "the audit leaves out a violation"),
    "grid too fine": Forgery(_everywhere(grid=4096), "the audit leaves out a violation"),
    "off the grid": Forgery(_everywhere(off_grid=True), "values off the grid"),
    "operands dropped": Forgery(_drop_operands, "the audit leaves out a violation"),
    "a smaller model": Forgery(_smaller_model, "multiply-accumulates, the float model has"),
    "more levels than values": Forgery(_everywhere(levels=10_000), "takes 10000 of"),
    "stem everywhere": Forgery(_stem_everywhere, "is said to read the image"),
    "more quantised than there is": Forgery(_set("audit", "quantised_macs", value=10**12), "quantised multiply-acc"),
    "fewer in all than seen": Forgery(_set("audit", "macs", value=1), "multiply-accumulates in the operands"),
    "nothing seen": Forgery(
        _set("audit", value={"operands": [], "macs": 0, "quantised_macs": 0, "float_operands": [], "violations": []}),
        "the audit saw no",
    ),
    "one operand without its pair": Forgery(
        lambda c: _set("audit", "operands", value=c.content["audit"]["operands"][1:])(c), "which are no pairs"
    ),
    "ranges said to be dynamic": Forgery(_set("audit", "dynamic", value=True), "says that ranges are dynamic"),
    # names and the gate
    "unknown task": Forgery(_cell(task="imagenet9"), 'unknown task "imagenet9'),
    "unknown edition": Forgery(_cell(edition="maxi"), "unknown task"),
    "unknown model": Forgery(_cell(model="vit_enormous"), "unknown model"),
    "model of 10 kB": Forgery(_cell(model=LONG), "unknown model"),
    "unknown checkpoint": Forgery(_cell(checkpoint="f" * 64), "is not that of"),
    "unknown method": Forgery(_cell(method="oracle"), 'method "oracle" is not installed'),
    "method named by a file": Forgery(_cell(method="/etc/passwd.py"), "is not installed"),
    "other data": Forgery(_cell(data="better-data-2"), "data"),
    "other calibration list": Forgery(_cell(calibration_list="0" * 64), "is not the published one"),
    "a list without images": Forgery(_cell(calibration_size=0), "but no calibration image"),
    "own tolerance": Forgery(_set("gate", "tolerance", value=100.0), "the model's card"),
    "own reference": Forgery(_set("gate", "reference", value=12.5), "the model's card"),
    "own float score": Forgery(_set("gate", "measured", value=99.99), "its evidence"),
    "gate opened by force": Forgery(_set("gate", "passed", value=False), "the float gate is shut, although"),
    "gate open with a reason": Forgery(_set("gate", "reason", value="why not"), "and gives the reason"),
    "gate on a cell that is not here": Forgery(_set("gate", "float_cell", value="a" * 64), "not in this folder"),
    "gate on itself": Forgery(
        lambda c: _set("gate", "float_cell", value=c.content["id"])(c), "which has no float model"
    ),
    "gate's evidence of another": Forgery(_other_gate_evidence, "which is not its float cell's file"),
    "images of another name": Forgery(_foreign_image, "is not this cell's own file"),
    # the evidence
    "evidence of another name": Forgery(_other_file, "not in this cell's own file"),
    "evidence outside": Forgery(_set("evidence", "file", value="../../../etc/passwd"), "is not a file name"),
    "evidence of an absolute path": Forgery(_set("evidence", "file", value="/etc/passwd"), "is not a file name"),
    "evidence name of 10 kB": Forgery(_set("evidence", "file", value=LONG), "is not a file name"),
    "evidence name with a null byte": Forgery(_set("evidence", "file", value="a\0b.npz"), "is not a file name"),
    "evidence gone": Forgery(lambda c: c.evidence_path.unlink(), "is missing"),
    "evidence changed": Forgery(
        lambda c: c.evidence_path.write_bytes(b"x" * c.content["evidence"]["bytes"]) and None, "has sha256"
    ),
    "evidence is a folder": Forgery(_evidence_folder, "is a folder"),
    "evidence is a pipe": Forgery(_evidence_pipe, "is no regular file"),
    "evidence of 0 bytes": Forgery(_evidence(lambda _: b""), "cannot be read"),
    "evidence of half the bytes": Forgery(_evidence(lambda data: data[: len(data) // 2]), "cannot be read"),
    "evidence as npy": Forgery(_evidence(lambda _: npy([1, 2, 3])), "cannot be read"),
    "evidence as text": Forgery(_evidence(lambda _: b"<!doctype html>"), "cannot be read"),
    "evidence encrypted": Forgery(_evidence(lambda _: encrypted()), "is encrypted"),
    "evidence in lzma": Forgery(
        _evidence(lambda _: archive({"labels.npy": npy([1])}, zipfile.ZIP_LZMA)), "ZIP method 14"
    ),
    "evidence in bzip2": Forgery(
        _evidence(lambda _: archive({"labels.npy": npy([1])}, zipfile.ZIP_BZIP2)), "ZIP method 12"
    ),
    "evidence flipped": Forgery(_evidence(flipped), "cannot be read"),
    "evidence is a bomb": Forgery(_evidence(lambda _: bomb()), "bytes of arrays, at most"),
    "evidence with a giant header": Forgery(
        _evidence(lambda _: archive({"labels.npy": npy_header("(1000000000000000,)")})),
        "declares 2000000000000000 bytes",
    ),
    "evidence with a negative length": Forgery(
        _evidence(lambda _: archive({"labels.npy": npy_header("(-1,)")})), "has the shape"
    ),
    "evidence with a header of nonsense": Forgery(
        _evidence(lambda _: archive({"labels.npy": npy_header("(1,")})), "cannot be read"
    ),
    "evidence of objects": Forgery(
        _evidence(lambda _: archive({"labels.npy": npy_header("(1,)", "|O")})), "plain numbers"
    ),
    "evidence of other arrays": Forgery(_evidence(lambda _: arrays(something=np.zeros(3))), ""),
    "evidence of other shapes": Forgery(
        _evidence(lambda _: arrays(predictions=np.zeros(3, np.int16), labels=np.zeros((2, 2), np.int16))), ""
    ),
    "evidence of text": Forgery(_evidence(lambda _: arrays(predictions=np.array(["a"]), labels=np.array(["a"]))), ""),
    "evidence without an image": Forgery(
        _evidence(lambda _: arrays(predictions=np.zeros(0, np.int16), labels=np.zeros(0, np.int16))), ""
    ),
    "evidence without an array": Forgery(_evidence(lambda _: archive({})), ""),
    # the file
    "bits W9A9": Forgery(_set("cell", "bits", value="W9A9"), "9 bits for weights"),
    "bits of no form": Forgery(_set("cell", "bits", value="four"), "is not of the form"),
    "negative seed": Forgery(_set("cell", "seed", value=-1), "cell.seed"),
    "seed of 400 digits": Forgery(_literal("cell.seed", "1" + "0" * 400), "cell.seed"),
    "score of 1e308": Forgery(_set("scores", value={"top1": 1e308}), "scores.top1"),
    "score of 400 digits": Forgery(_literal("scores.top1", "1" + "0" * 400), "scores.top1"),
    "score of NaN": Forgery(_literal("scores.top1", "NaN"), "is not JSON"),
    "endless score": Forgery(_literal("scores.top1", "Infinity"), "is not JSON"),
    "score of 1e999": Forgery(_literal("scores.top1", "1e999"), "scores.top1"),
    "details of NaN": Forgery(_literal("details.x", "NaN"), "is not JSON"),
    "details of 400 digits": Forgery(_literal("details.x", "1" + "0" * 400), "out of range"),
    "parameters of NaN": Forgery(lambda c: _literal("cell.parameters", '{"a": NaN}')(c), "is not JSON"),
    "a metric that ranks instead": Forgery(
        _set("metrics", value=[{"name": "top1", "title": "Top-1", "ranks": False}]), "other metrics than its task"
    ),
    "unknown key": Forgery(_set("verified", value=True), "verified"),
    "without an audit": Forgery(_set("audit", value=None), "needs scores, evidence, gate, audit and costs"),
    "other id": Forgery(
        lambda c: _raw(lambda data: data.replace(c.content["id"].encode(), b"0" * 64))(c), "not the hash"
    ),
    "a newer version": Forgery(_set("schema_version", value=99), "update vitptq"),
    "a version of text": Forgery(_set("schema_version", value="two"), "schema_version"),
    "half a record": Forgery(_raw(lambda data: data[: len(data) // 2]), "is not JSON"),
    "empty record": Forgery(_raw(b""), "is not JSON"),
    "a list": Forgery(_raw(b"[]"), "JSON of another kind"),
    "not UTF-8": Forgery(_raw(b"\xff\xfe{}"), "is not JSON"),
    "a lone surrogate": Forgery(_set("notes", value=["\ud800"]), "is not JSON"),
    "nested 100,000 deep": Forgery(_nested, "is not JSON"),
    "another name": Forgery(lambda c: c.path.rename(c.path.with_stem("1" * 64)) and None, "rename it"),
    "folder called x.json": Forgery(_folder_of_records, "is a folder"),
    "pipe called x.json": Forgery(_pipe, "is no regular file"),
    "link to nothing": Forgery(_dangling, "a link to nothing"),
    "link to itself": Forgery(_loop, "cannot be read"),
}
