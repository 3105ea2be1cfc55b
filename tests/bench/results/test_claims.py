"""Published numbers: what the file may hold."""

from __future__ import annotations

from pathlib import Path

import pytest

from vitptq.bench.errors import BadInput, Missing
from vitptq.bench.results import claims

ROOT = Path(__file__).parents[3]
HEADER = ",".join(claims.Claim.model_fields)
ROW = (
    "RepQ-ViT,deit_tiny_patch16_224,imagenet,,4,4,,top1,57.43,72.21,original,RepQ-ViT,2212.08254,README,https://a.org/b"
)


def written(folder: Path, *rows: str, header: str = HEADER) -> Path:
    (folder / claims.FILE).write_text("\n".join([header, *rows]) + "\n")
    return folder


def test_shipped_claims_are_read_and_say_nothing_twice() -> None:
    found = claims.read(ROOT / "results" / "claims")
    assert {claim.task for claim in found} == {"imagenet", "coco", "ade20k"}
    assert claims.repeated(found) == []


def test_readme_counts_the_rows() -> None:
    found = claims.read(ROOT / "results" / "claims")
    text = (ROOT / "results" / "claims" / "README.md").read_text()
    by_task = {task: sum(claim.task == task for claim in found) for task in ("imagenet", "coco", "ade20k")}
    assert f"{len(found):,} rows ({by_task['imagenet']:,} of ImageNet, {by_task['coco']} of COCO" in text
    assert f"{sum(not claim.url for claim in found)} rows have no address" in text


def test_a_claim_gives_its_bit_spec_unless_widths_are_mixed(tmp_path: Path) -> None:
    mixed = ROW.replace(",4,4,", ",4.7,5.9,")
    plain, averaged = claims.read(written(tmp_path, ROW, mixed))
    assert (plain.bits, averaged.bits) == ("W4A4", None)


def test_a_width_that_is_said_to_be_an_average_is_one(tmp_path: Path) -> None:
    at_the_width = ROW.replace(",4,4,", ",8 (MP avg),8 (MP avg),")
    in_the_name = ROW.replace("RepQ-ViT,deit", "X (mixed precision; average 4 bits),deit", 1)
    assert [claim.bits for claim in claims.read(written(tmp_path, at_the_width, in_the_name))] == [
        "W8A8+mixed", "W4A4+mixed"
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("old", "new", "problem"),
    [
        ("57.43", "157.43", "line 3: value: Value error, 157.43 is not a percentage"),
        ("57.43", "nan", "line 3: value"),
        ("imagenet", "imagenet1k", "line 3: task: Input should be 'imagenet', 'coco' or 'ade20k'"),
        ("original", "own", "line 3: kind"),
        ("https://a.org/b", "a preprint", 'line 3: url: Value error, "a preprint" is no address'),
        ("RepQ-ViT,deit", ",deit", "line 3: method: Value error, is empty"),
        ("https://a.org/b", "https://a.org/b,more", "line 3: more columns than the header"),
        (",README,https://a.org/b", "", "line 3: table"),
    ],
)
def test_a_wrong_row_is_named_by_its_line(tmp_path: Path, old: str, new: str, problem: str) -> None:
    with pytest.raises(BadInput, match=problem.replace("(", r"\(")):
        claims.read(written(tmp_path, ROW, ROW.replace(old, new, 1)))


def test_other_columns_and_an_absent_file_are_refused(tmp_path: Path) -> None:
    with pytest.raises(Missing, match="name the folder with --claims"):
        claims.read(tmp_path)
    with pytest.raises(BadInput, match="line 1: the columns must be method,model,task"):
        claims.read(written(tmp_path, ROW, header=HEADER.replace("method", "name")))


def test_repetition_is_found_whatever_its_kind(tmp_path: Path) -> None:
    found = claims.read(written(tmp_path, ROW, ROW.replace("original", "reprint"), ROW.replace("57.43", "57.44")))
    assert [claim.kind for claim in claims.repeated(found)] == ["reprint"]
