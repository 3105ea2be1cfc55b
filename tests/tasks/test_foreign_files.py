"""What downloads, version control and file managers leave in place of files."""

from __future__ import annotations

from pathlib import Path

import pytest

from vitptq.bench.errors import BadInput, Missing
from vitptq.tasks.foreign_files import disguise, is_system_name, refuse_disguised, stat_of


@pytest.mark.parametrize("name", [".DS_Store", ".ipynb_checkpoints", "._n01440764", "@eaDir", "__MACOSX", "Thumbs.db"])
def test_names_of_operating_systems(name: str) -> None:
    assert is_system_name(name)


@pytest.mark.parametrize("name", ["n01440764", "0", "class_a", "_background_", "@home"])
def test_names_of_classes(name: str) -> None:
    assert not is_system_name(name)


@pytest.mark.parametrize(
    ("content", "found"),
    [
        (b"", "an empty file"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 3\n", "a git-lfs pointer"),
        (b"\xef\xbb\xbf\n <!DOCTYPE HTML><title>Quota exceeded</title>", "a web page"),
        (b"<?xml version='1.0'?><Error>AccessDenied</Error>", "a web page"),
    ],
)
def test_a_disguise_is_named_with_the_file_and_the_next_step(tmp_path: Path, content: bytes, found: str) -> None:
    file = tmp_path / "weights.pth"
    file.write_bytes(content)
    with pytest.raises(BadInput, match=rf"weights\.pth is {found}.*: do this"):
        refuse_disguised(file, "do this")


def test_links_that_lead_nowhere_are_named(tmp_path: Path) -> None:
    link = tmp_path / "link"
    link.symlink_to(tmp_path / "gone")
    for ask in (stat_of, lambda path: refuse_disguised(path, "copy it")):
        with pytest.raises(Missing, match=r"link is a link to .*gone, which is not there"):
            ask(link)
    with pytest.raises(Missing, match=r"gone is not there"):
        stat_of(tmp_path / "gone")


def test_anything_else_may_be_what_it_says(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.write_bytes(b"\x80\x02bytes")
    assert disguise(file) is None
    assert disguise(tmp_path) == "a folder"
