"""The table of a machine with a GPU: what failed, shares of a forward pass, and reasons where there is no figure."""

from __future__ import annotations

from tests.bench.record_factory import make_cell, make_provenance, make_record
from vitptq.bench.run.device_table import Checks, checks_text, record_table, timing_table
from vitptq.bench.run.device_timings import FLOAT, Timing


def test_failures_are_listed_below_the_counts() -> None:
    text = checks_text(Checks("Tests", 3, 1, ("ViT-omse",), complete=False))
    assert text == "Tests: 3 passed, 1 skipped, 1 failed; the time was over before the end.\n\n- failed: ViT-omse"


def test_timings_are_shares_of_the_float_forward_pass() -> None:
    timings = [Timing(FLOAT, 0.5, 10.0), Timing("quantise omse W4A4", 1.0), Timing("compiled", None, problem="no | it")]
    assert timing_table(timings).splitlines()[2:] == [
        f"| {FLOAT} | 0.5 | 1.00x | 10 |",
        "| quantise omse W4A4 | 1 | 2.00x |  |",
        "| compiled | no / it | | |",
    ]


def test_records_say_their_score_or_why_there_is_none() -> None:
    shaky = make_provenance(deterministic=False, unrepeatable=("cumsum_cuda_kernel",))
    records = [
        make_record(make_cell(method="omse"), score=81.25, provenance=shaky),
        make_record(make_cell(method="easyquant"), failure="out_of_memory"),
    ]
    lines = record_table(records).splitlines()[2:]
    assert "easyquant" in lines[0] and "out_of_memory: out_of_memory on purpose" in lines[0]
    assert "| 81.25 |" in lines[1] and lines[1].endswith("| no: cumsum_cuda_kernel |")
