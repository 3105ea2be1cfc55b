"""Read an evidence file from anywhere without unpacking what it only claims to hold.

An `.npz` is a ZIP of arrays. Each member's declared size, its array header and its compression are checked before a
byte is unpacked, so that neither a bomb nor a header of a million gigabytes takes the memory of the reader.
"""

from __future__ import annotations

import io
import math
import zipfile
from typing import Any

import numpy as np
from numpy.lib import format as npy
from numpy.typing import NDArray

from vitptq.bench.errors import BadInput, brief

LARGEST_FILE = 2**30
LARGEST_UNPACKED = 2**30
"""Bytes of all arrays of one file. The largest real evidence, COCO's boxes and masks, is a tenth of it."""
MOST_ARRAYS = 256
HEADER = 4096
"""Bytes within which the array header of plain numbers ends."""


def read_arrays(data: bytes, what: str) -> dict[str, NDArray[Any]]:
    """Return the arrays by name; BadInput says in one sentence why `data` is not evidence."""
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            members = archive.infolist()
            _refuse_bomb(members)
            return {member.filename.removesuffix(".npy"): _array(archive, member) for member in members}
    except Exception as error:  # noqa: BLE001  ZIP, zlib, NumPy and its tokenizer each have errors of their own
        reason = brief(error) or type(error).__name__
        raise BadInput(f"{what} cannot be read: {reason}; copy it anew from where the record was made") from None


def _refuse_bomb(members: list[zipfile.ZipInfo]) -> None:
    if len(members) > MOST_ARRAYS:
        raise ValueError(f"it holds {len(members)} arrays, at most {MOST_ARRAYS} are read")
    if len({member.filename for member in members}) < len(members):
        raise ValueError("it holds two arrays of one name")
    unpacked = sum(member.file_size for member in members)
    if unpacked > LARGEST_UNPACKED:
        raise ValueError(f"it declares {unpacked} bytes of arrays, at most {LARGEST_UNPACKED} are unpacked")
    for member in members:
        if member.flag_bits & 0x1:
            raise ValueError(f'"{brief(member.filename)}" in it is encrypted')
        if member.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
            raise ValueError(f'"{brief(member.filename)}" in it is packed with ZIP method {member.compress_type}')


def _array(archive: zipfile.ZipFile, member: zipfile.ZipInfo) -> NDArray[Any]:
    """Return one array, after comparing what its header declares with the member's declared size."""
    with archive.open(member) as stream:
        head = io.BytesIO(stream.read(HEADER))
    shape, fortran, dtype = _header(head)
    if dtype.hasobject or dtype.itemsize == 0 or dtype.names or dtype.kind not in "biufUS":
        raise ValueError(f'"{brief(member.filename)}" in it holds {brief(dtype)} instead of plain numbers')
    declared = math.prod(shape) * dtype.itemsize
    if head.tell() + declared != member.file_size:
        raise ValueError(
            f'"{brief(member.filename)}" in it declares {brief(declared)} bytes of values '
            f"and has {member.file_size - head.tell()}"
        )
    values = np.frombuffer(bytearray(archive.read(member)), dtype=dtype, offset=head.tell())
    return values.reshape(shape, order="F" if fortran else "C")


def _header(head: io.BytesIO) -> tuple[tuple[int, ...], bool, np.dtype[Any]]:
    version = npy.read_magic(head)  # type: ignore[no-untyped-call]
    readers = {(1, 0): npy.read_array_header_1_0, (2, 0): npy.read_array_header_2_0}
    if version not in readers:
        raise ValueError(f"an array in it has format {version}; known: {', '.join(map(str, readers))}")
    shape, fortran, dtype = readers[version](head)  # type: ignore[no-untyped-call]
    if any(length < 0 for length in shape):
        raise ValueError(f"an array in it has the shape {brief(shape)}")
    return shape, fortran, dtype
