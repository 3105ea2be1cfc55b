"""What may lie where a record should: a record, or one sentence that says why it is none."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.bench.record_factory import make_record
from vitptq.bench.errors import BadInput
from vitptq.bench.results.record import SCHEMA_VERSION
from vitptq.bench.results.record_file import NewerRecord, parse_record, read_record

TEXT = make_record().model_dump_json()


def test_a_record_reads_back_equal(tmp_path: Path) -> None:
    record = make_record()
    path = tmp_path / f"{record.id}.json"
    path.write_text(record.model_dump_json())
    assert read_record(path) == record


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "is not JSON"),
        ("[1, 2]", "JSON of another kind"),
        ("[" * 100_000, "is not JSON"),
        (TEXT[:-40], "is not JSON"),
        (TEXT.replace('"images":', '"images":NaN,"x":'), "is not JSON"),
        (TEXT.replace('"seed":0', '"seed":"none"'), "does not fit the schema"),
        (TEXT.replace('"bits":"W4A4"', '"bits":"W9A9"'), "record x"),
        (TEXT.replace('"parameters":{}', '"parameters":{"a":1' + "0" * 400 + "}"), "record x"),
        (TEXT.replace('"parameters":{}', '"parameters":{"a":1e308}'), "record x"),
    ],
)
def test_what_is_no_record_is_one_sentence(text: str, words: str) -> None:
    with pytest.raises(BadInput) as caught:
        parse_record(text.encode(), "record x")
    assert words in str(caught.value)
    assert "\n" not in str(caught.value) and len(str(caught.value)) < 1000
    assert "delete" not in str(caught.value)


def test_a_newer_record_says_update_and_nothing_else() -> None:
    newer = TEXT.replace(f'"schema_version":{SCHEMA_VERSION}', f'"schema_version":{SCHEMA_VERSION + 1}')
    with pytest.raises(NewerRecord, match="it is left as it is: update vitptq to read it"):
        parse_record(newer.encode(), "record x")


@pytest.mark.parametrize("kind", ["folder", "link"])
def test_a_folder_or_a_link_to_nothing_is_one_sentence(tmp_path: Path, kind: str) -> None:
    path = tmp_path / f"{'a' * 64}.json"
    if kind == "folder":
        path.mkdir()
    else:
        path.symlink_to(tmp_path / "nowhere")
    with pytest.raises(BadInput, match="record "):
        read_record(path)
