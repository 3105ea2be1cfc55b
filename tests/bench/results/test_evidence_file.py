"""Evidence files of any origin: what is sound is read, what is not is one sentence, and no bomb is unpacked."""

from __future__ import annotations

import io
import zipfile
from collections.abc import Callable

import numpy as np
import pytest
from numpy.lib import format as npy

from vitptq.bench.errors import BadInput
from vitptq.bench.results import evidence_file
from vitptq.bench.results.evidence_file import read_arrays

ARRAYS = {"scores": np.linspace(0, 1, 7, dtype=np.float32), "labels": np.arange(6).reshape(2, 3)}


def packed(**arrays: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    np.savez_compressed(buffer, **arrays)  # type: ignore[arg-type]
    return buffer.getvalue()


def archive(content: bytes, *, method: int = zipfile.ZIP_DEFLATED, names: tuple[str, ...] = ("scores.npy",)) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", method) as file:
        for name in names:
            file.writestr(name, content)
    return buffer.getvalue()


def array(header: str | None = None) -> bytes:
    """Return an .npy, with another text in its header where one is given."""
    buffer = io.BytesIO()
    if header is None:
        npy.write_array(buffer, ARRAYS["scores"])
        return buffer.getvalue()
    text = header.encode().ljust(117) + b"\n"
    return npy.magic(1, 0) + len(text).to_bytes(2, "little") + text + bytes(28)


def test_arrays_read_back_as_they_were_written() -> None:
    found = read_arrays(packed(**ARRAYS, turned=np.asfortranarray(ARRAYS["labels"])), "evidence x")
    assert set(found) == {"scores", "labels", "turned"}
    for name, expected in [*ARRAYS.items(), ("turned", ARRAYS["labels"])]:
        assert found[name].dtype == expected.dtype
        np.testing.assert_array_equal(found[name], expected)


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (lambda: b"", "cannot be read"),
        (lambda: b"\x93NUMPY and nothing of a ZIP", "cannot be read"),
        (lambda: packed(**ARRAYS)[:-20], "cannot be read"),
        (lambda: archive(array(), method=zipfile.ZIP_LZMA), "ZIP method 14"),
        (lambda: archive(array(), names=tuple(f"{i}.npy" for i in range(257))), "257 arrays, at most 256"),
        (lambda: archive(array("{'descr': '|O', 'fortran_order': False, 'shape': (7,)}")), "instead of plain numbers"),
        (lambda: archive(array("{'descr': '<f4', 'fortran_order': False, 'shape': (10**15,)}")), "cannot be read"),
        (lambda: archive(array("{'descr': '<f4', 'fortran_order': False, 'shape': (700,)}")), "declares 2800 bytes"),
        (lambda: archive(array("{'descr': '<f4', 'fortran_order': False, 'shape': (-7,)}")), "has the shape"),
    ],
)
def test_what_is_no_evidence_is_one_sentence(spoil: Callable[[], bytes], words: str) -> None:
    with pytest.raises(BadInput, match=words) as caught:
        read_arrays(spoil(), "evidence x")
    assert str(caught.value).startswith("evidence x")
    assert "\n" not in str(caught.value)


def test_flipped_bytes_inside_the_packed_stream_are_one_sentence() -> None:
    data = bytearray(packed(noise=np.random.default_rng(0).random(500)))
    data[200] ^= 0xFF
    with pytest.raises(BadInput, match="cannot be read"):
        read_arrays(bytes(data), "evidence x")


def test_a_bomb_is_refused_by_its_declared_size(monkeypatch: pytest.MonkeyPatch) -> None:
    bomb = packed(zeros=np.zeros(100_000))
    monkeypatch.setattr(evidence_file, "LARGEST_UNPACKED", 10_000)
    monkeypatch.setattr(zipfile.ZipFile, "open", lambda *_: pytest.fail("it was unpacked"))
    with pytest.raises(BadInput, match=r"declares \d+ bytes of arrays, at most 10000 are unpacked"):
        read_arrays(bomb, "evidence x")


def test_two_arrays_of_one_name_are_refused() -> None:
    with pytest.warns(UserWarning, match="Duplicate name"):
        twice = archive(array(), names=("scores.npy", "scores.npy"))
    with pytest.raises(BadInput, match="two arrays of one name"):
        read_arrays(twice, "evidence x")
