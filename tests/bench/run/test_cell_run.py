"""One cell: gate, failures, retries, provenance and costs."""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
import torch
from pydantic import JsonValue
from torch import nn

from tests.bench import planted
from vitptq.bench import registry
from vitptq.bench.bits import BitSpec
from vitptq.bench.contracts.method import Calibration, run_time
from vitptq.bench.contracts.reporting import note_details
from vitptq.bench.isolation.surroundings import Surroundings
from vitptq.bench.results import suites
from vitptq.bench.results.cell import Cell
from vitptq.bench.results.record import Record
from vitptq.bench.results.store import LEFT_OVER_S, Store
from vitptq.bench.results.verify import verify
from vitptq.bench.run.cell_run import Run, run_cell


def cell(model: str = "vit", method: str = "minmax", bits: str = "W4A4", **parameters: JsonValue) -> Cell:
    group = suites.Group(
        task="tiny", edition="test", models=[model], methods=[method], bits=[bits], parameters=parameters
    )
    return suites.expand(group)[-1]


def measured(cell: Cell, run: Run) -> Record:
    record = run_cell(cell, run)
    assert record is not None
    return record


def plant(monkeypatch: pytest.MonkeyPatch, cls: type[planted.Planted]) -> None:
    monkeypatch.setattr(registry, "methods", lambda: {**_METHODS, "planted": cls})


_METHODS = registry.methods()


def test_float_cell_is_measured_first_and_opens_the_gate(tiny: None, run: Run) -> None:
    record = measured(cell(), run)
    assert record.counts
    assert record.gate is not None
    reference = next(r for r in run.store.records() if r.cell.is_float)
    assert record.gate.float_cell == reference.id
    assert record.gate.measured == reference.scores["top1"] == 100


def test_a_record_keeps_what_its_task_declares_of_its_scores(tiny: None, run: Run) -> None:
    record = measured(cell(), run)
    assert record.metrics == registry.task("tiny", "test").metrics
    assert run.store.record(cell()) == record


def test_shut_gate_skips_the_other_cells_of_its_model(tiny: None, run: Run) -> None:
    record = measured(cell("wrong_reference"), run)
    assert record.failure is not None
    assert record.failure.kind == "gate"
    assert "50.00 points apart, 0.50 allowed" in record.failure.message
    assert not run.store.evidence_dir.joinpath(f"{record.id}.npz").exists()
    assert measured(cell("wrong_reference"), run) == record
    assert measured(cell("vit"), run).counts


def test_skipped_cell_is_measured_past_the_gate_and_does_not_count(tiny: None, run: Run) -> None:
    skipped = measured(cell("wrong_reference"), run)
    record = measured(cell("wrong_reference"), replace(run, past_gate=True))
    assert record.status == "ok"
    assert not record.counts
    assert record.earlier == (skipped.failure,)


def test_mended_checkpoint_opens_the_gate_of_a_model_on_retry(
    tiny: None, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    target = cell("wrong_reference")
    reference = suites.float_cell(registry.task("tiny", "test"), "wrong_reference")
    measured(target, run)
    card = replace(registry.task("tiny", "test").models()["vit"], name="wrong_reference")
    models = registry.task("tiny", "test").models() | {"wrong_reference": card}  # type: ignore[operator]
    monkeypatch.setattr(type(registry.task("tiny", "test")), "models", lambda self: models)
    again = replace(run, retry_failed=True)
    assert measured(reference, again).counts
    assert measured(target, again).counts


def test_shut_gate_is_recorded_with_its_reason(tiny: None, run: Run) -> None:
    record = measured(cell("wrong_reference"), replace(run, past_gate=True))
    assert record.status == "ok"
    assert not record.counts
    assert record.gate is not None
    assert "50.00 points apart, 0.50 allowed" in record.gate.reason


def test_float_record_of_another_environment_does_not_open_the_gate(
    tiny: None, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    measured(cell(), run)
    monkeypatch.setattr("vitptq.bench.run.provenance.device_name", lambda device: "elsewhere")
    record = measured(cell(bits="W8A8"), run)
    assert record.counts  # measured again here, and within tolerance
    assert record.gate is not None
    assert record.gate.evidence is not None
    assert not [problem for verdict in verify(run.store) for problem in verdict.problems]


def test_audit_costs_and_provenance_are_in_the_record(tiny: None, run: Run) -> None:
    record = measured(cell(), run)
    assert record.audit is not None and record.audit.clean
    assert record.audit.quantised_macs == record.audit.macs > 0
    assert record.costs is not None
    stem = 3 * 8 * 8 * 32 * 16  # MACs of the patch embedding, whose input has 8 bits
    assert record.costs.bit_operations == (record.audit.macs - stem) * 16 + stem * 32
    assert record.costs.peak_host_mib > 50
    model = registry.task("tiny", "test").load("vit", torch.device("cpu"))
    weights = sum(m.weight.numel() for m in model.modules() if isinstance(m, torch.nn.Linear | torch.nn.Conv2d))
    everything = sum(p.numel() for p in model.parameters())
    assert record.costs.model_mib == pytest.approx((weights * 4 + (everything - weights) * 32) / 8 / 2**20, abs=1e-3)
    assert record.provenance.versions["torch"] == torch.__version__
    assert record.provenance.commit


def test_same_cell_twice_gives_the_same_result(tiny: None, run: Run, tmp_path: Path) -> None:
    from vitptq.bench.results.store import Store

    again = replace(run, store=Store(tmp_path / "again"))
    assert measured(cell(method="repq-vit"), run).result() == measured(cell(method="repq-vit"), again).result()


@pytest.mark.parametrize(
    ("cls", "kind", "words"),
    [
        (planted.Raises, "raised", "RuntimeError: planted failure"),
        (planted.Mutates, "raised", "changed the float model"),
        (planted.PeeksAtImages, "raised", "has no attribute 'batches'"),
    ],
)
def test_failure_is_a_record(
    tiny: None, run: Run, monkeypatch: pytest.MonkeyPatch, cls: type[planted.Planted], kind: str, words: str
) -> None:
    plant(monkeypatch, cls)
    record = measured(cell(method="planted"), run)
    assert record.status == "failed"
    assert record.failure is not None
    assert record.failure.kind == kind
    assert words in record.failure.message


@pytest.mark.parametrize(("error", "kind"), [(torch.OutOfMemoryError, "out_of_memory"), (MemoryError, "out_of_memory")])
def test_out_of_memory_is_told_apart(
    tiny: None, run: Run, monkeypatch: pytest.MonkeyPatch, error: type[Exception], kind: str
) -> None:
    def fail() -> None:
        raise error("no memory")

    plant(monkeypatch, planted._fault(fail))
    record = measured(cell(method="planted"), run)
    assert record.failure is not None
    assert record.failure.kind == kind


def test_traceback_ends_where_the_adapter_failed(tiny: None, run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    plant(monkeypatch, planted.Raises)
    failure = measured(cell(method="planted"), run).failure
    assert failure is not None
    assert 'raise RuntimeError("planted failure")' in failure.traceback


def test_failed_cell_is_kept_until_a_retry_and_its_reason_afterwards(
    tiny: None, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    broken = {"broken": True}

    def sometimes() -> None:
        if broken["broken"]:
            raise RuntimeError("planted failure")

    @planted.dataclass(frozen=True)
    class Sometimes(planted.Planted):
        """Fails until it does not."""

        def quantize(self, model, calibration, bits):  # type: ignore[no-untyped-def]
            sometimes()
            return super().quantize(model, calibration, bits)

    plant(monkeypatch, Sometimes)
    target = cell(method="planted")
    first = measured(target, run)
    broken["broken"] = False
    assert measured(target, run) == first
    second = measured(target, replace(run, retry_failed=True))
    assert second.status == "ok"
    assert [failure.message for failure in second.earlier] == ["RuntimeError: planted failure"]


def test_violations_are_in_the_record_of_a_cell_that_runs(
    tiny: None, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    plant(monkeypatch, planted.FloatLayer)
    record = measured(cell(method="planted"), run)
    assert record.audit is not None
    assert not record.audit.clean
    assert record.audit.float_operands == ("blocks.0.mlp.fc2: input",)
    assert record.audit.quantised_macs < record.audit.macs


def test_verify_recomputes_scores_and_notices_a_changed_one(tiny: None, run: Run) -> None:
    record = measured(cell(), run)
    assert all(not verdict.problems for verdict in verify(run.store))
    path = run.store.records_dir / f"{record.id}.json"
    forged = record.model_copy(update={"scores": {"top1": record.scores["top1"] - 1}})
    path.write_text(forged.model_dump_json())
    problems = [problem for verdict in verify(run.store) for problem in verdict.problems]
    assert len(problems) == 1
    assert "the evidence gives" in problems[0]


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda r: {"gate": r.gate.model_copy(update={"tolerance": 99.0})}, "the model's card 100.0 +- 0.5"),
        (
            lambda r: {"gate": r.gate.model_copy(update={"measured": 99.9})},
            "the float gate says 99.9, its evidence 100.0",
        ),
        (lambda r: {"images": 63}, "the evidence covers 64 images"),
    ],
)
def test_forged_figures_are_noticed(
    tiny: None, run: Run, change: Callable[[Record], dict[str, object]], words: str
) -> None:
    record = measured(cell(), run)
    path = run.store.records_dir / f"{record.id}.json"
    path.write_text(record.model_copy(update=change(record)).model_dump_json())
    assert words in str([verdict.problems for verdict in verify(run.store)])


def test_forged_labels_are_noticed(tiny: None, run: Run) -> None:
    record = measured(cell(), run)
    assert record.evidence is not None
    evidence = run.store.evidence(record.evidence)
    reference = run.store.add_evidence(record.id, {**evidence, "labels": evidence["predictions"]})
    forged = record.model_copy(update={"evidence": reference, "scores": {"top1": 100.0}})
    (run.store.records_dir / f"{record.id}.json").write_text(forged.model_dump_json())
    assert "labels in the evidence differ" in str([verdict.problems for verdict in verify(run.store)])


def test_failed_float_cell_fails_the_cell_and_both_can_be_retried(
    tiny: None, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr("vitptq.methods.float32.Float32.quantize", planted.Raises.quantize)
        record = measured(cell(), run)
    assert record.failure is not None
    assert "the float cell of vit failed (RuntimeError: planted failure)" in record.failure.message
    assert measured(cell(), replace(run, retry_failed=True)).counts


def test_what_a_method_draws_depends_on_the_seed_alone(tiny: None, run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    drawn: list[float] = []

    @planted.dataclass(frozen=True)
    class Draws(planted.Planted):
        """Draws a number."""

        def quantize(self, model, calibration, bits):  # type: ignore[no-untyped-def]
            drawn.append(torch.rand(()).item())
            return super().quantize(model, calibration, bits)

    plant(monkeypatch, Draws)
    first = cell(method="planted")  # measures the float cell as well
    for target in (first, cell(method="planted", bits="W8A8"), first.model_copy(update={"seed": 1})):
        measured(target, run)
    assert drawn[0] == drawn[1] != drawn[2]


@pytest.mark.parametrize("category", ["ptq", "data-free"])
def test_the_seed_of_the_cell_reaches_the_method(
    tiny: None, run: Run, monkeypatch: pytest.MonkeyPatch, category: str
) -> None:
    told: list[int] = []

    @planted.dataclass(frozen=True)
    class Seeded(planted.Planted):
        """Keeps the seed that it is told."""

        def quantize(self, model, calibration, bits):  # type: ignore[no-untyped-def]
            told.append(calibration.seed)
            raise RuntimeError("planted failure")

    Seeded.category = category  # type: ignore[assignment]
    plant(monkeypatch, Seeded)
    measured(cell(method="planted").model_copy(update={"seed": 3}), run)
    assert told == [3]


def test_exit_in_an_adapter_is_a_failed_cell(tiny: None, run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    plant(monkeypatch, planted._fault(lambda: exit(3)))
    failure = measured(cell(method="planted"), run).failure
    assert failure is not None
    assert failure.message == "SystemExit: 3"


def test_a_run_time_parameter_reaches_the_method_and_the_record_but_no_second_cell(
    tiny: None, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    used: list[int] = []

    @planted.dataclass(frozen=True)
    class Budgeted(planted.Planted):
        """Notes how much memory it may use."""

        memory_mb: int = run_time(256)

        def quantize(self, model, calibration, bits):  # type: ignore[no-untyped-def]
            used.append(self.memory_mb)
            return super().quantize(model, calibration, bits)

    plant(monkeypatch, Budgeted)
    small, default = cell(method="planted", memory_mb=16), cell(method="planted")
    assert small.id == default.id
    assert measured(small, run).cell.run_time == {"memory_mb": 16}
    assert measured(default, run).cell.run_time == {"memory_mb": 16}  # the record that there is
    assert used == [16]


def test_a_figure_that_no_record_can_hold_fails_the_cell_before_the_evaluation(
    tiny: None, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    @planted.dataclass(frozen=True)
    class TellsNan(planted.Planted):
        """Tells a figure that is no number."""

        def quantize(self, model, calibration, bits):  # type: ignore[no-untyped-def]
            note_details("loss", float("nan"))
            return super().quantize(model, calibration, bits)

    plant(monkeypatch, TellsNan)
    steps: list[str] = []
    record = measured(cell(method="planted"), replace(run, say=lambda step, done, total: steps.append(step)))
    assert record.failure is not None
    assert record.failure.message.startswith('method planted told nan in note_details("loss")')
    assert steps[-1] == "quantise"


def test_what_a_task_says_and_no_record_can_hold_fails_the_cell_before_the_evaluation(
    tiny: None, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    task = registry.task("tiny", "test")
    monkeypatch.setattr(type(task), "details", lambda self, model: {"scale": float("nan")})
    steps: list[str] = []
    record = measured(cell(method="float", bits="W32A32"), replace(run, say=lambda *what: steps.append(what[0])))
    assert record.status == "failed"
    assert steps[-1] == "quantise"


def test_what_a_method_tells_is_shown_and_recorded(tiny: None, run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    plant(monkeypatch, planted.Tells)
    said: list[tuple[str, int, int]] = []
    record = measured(cell(method="planted"), replace(run, say=lambda *what: said.append(what)))
    assert ("quantise: block 1/2, loss 0.5", 1, 2) in said
    assert record.notes == ("told twice",)
    assert record.details.method.figures == {"finished before": []}
    assert not run.store.work_dir(record.cell).exists()


def test_a_failed_method_keeps_its_state_for_the_next_attempt(
    tiny: None, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    plant(monkeypatch, planted.Tells)
    asked = cell(method="planted")
    with monkeypatch.context() as broken:
        broken.setattr(planted, "_minmax", lambda *args: 1 / 0)
        assert measured(asked, run).status == "failed"
    assert [path.name for path in run.store.work_dir(asked).iterdir()] == ["block-1"]
    record = measured(asked, replace(run, retry_failed=True))
    assert record.details.method.figures == {"finished before": ["block-1"]}
    assert not run.store.work_dir(asked).exists()


def test_images_that_a_method_made_are_kept_beside_the_evidence(
    tiny: None, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    plant(monkeypatch, planted.Paints)
    record = measured(cell(method="planted"), run)
    ref = record.details.method.images["painted"]
    assert ref.file == f"{record.id}.painted.npz"
    assert run.store.evidence(ref)["painted"].shape == (1, 2, 4, 4, 3)


def test_verify_notices_kept_images_that_changed_or_are_gone(
    tiny: None, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    plant(monkeypatch, planted.Paints)
    record = measured(cell(method="planted"), run)
    path = run.store.evidence_dir / record.details.method.images["painted"].file

    def problems() -> list[str]:
        return [problem for verdict in verify(run.store) for problem in verdict.problems]

    assert problems() == []
    path.write_bytes(path.read_bytes() + b"0")
    (changed,) = problems()
    assert changed.startswith("painted images: ") and "its record says" in changed
    path.unlink()
    (gone,) = problems()
    assert gone.startswith("painted images: ") and "is missing; copy it from where the record was made" in gone


def test_kept_images_survive_copying_and_sweeping(tiny: None, run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    plant(monkeypatch, planted.Paints)
    record = measured(cell(method="planted"), run)
    kept = record.details.method.images["painted"]
    old = time.time() - 10 * LEFT_OVER_S
    os.utime(run.store.evidence_dir / kept.file, (old, old))
    run.store.sweep()
    shutil.copytree(run.store.root, run.store.root.parent / "merged")
    merged = Store(run.store.root.parent / "merged")
    assert merged.evidence(kept)["painted"].shape == (1, 2, 4, 4, 3)
    assert not [problem for verdict in verify(merged) for problem in verdict.problems]


def test_method_that_replaces_a_function_is_marked_and_the_process_with_it(
    tiny: None, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    softmax = torch.nn.functional.softmax

    @planted.dataclass(frozen=True)
    class Replaces(planted.Planted):
        """Replaces a function of torch."""

        def quantize(self, model, calibration, bits):  # type: ignore[no-untyped-def]
            monkeypatch.setattr(torch.nn.functional, "softmax", lambda *args, **options: softmax(*args, **options))
            return super().quantize(model, calibration, bits)

    plant(monkeypatch, Replaces)
    watched = replace(run, surroundings=Surroundings())
    record = measured(cell(method="planted"), watched)
    assert record.audit is not None
    assert record.audit.violations == ("the method replaced torch.nn.functional.softmax",)
    assert any("torch.nn.functional.softmax" in note for note in record.notes)
    assert watched.changes == ["torch.nn.functional.softmax"]


def test_method_that_leaves_its_process_alone_is_not_marked(tiny: None, run: Run) -> None:
    watched = replace(run, surroundings=Surroundings())
    record = measured(cell(), watched)
    assert record.audit is not None and record.audit.clean
    assert (record.notes, watched.changes) == ((), [])


def test_a_cell_in_another_precision_has_a_record_of_its_own_behind_the_gate_of_fp32(tiny: None, run: Run) -> None:
    plain, halved = (measured(cell().model_copy(update={"precision": p}), run) for p in ("fp32", "bf16"))
    assert (plain.status, halved.status) == ("ok", "ok"), halved.failure
    assert plain.id != halved.id
    assert plain.gate == halved.gate
    assert {record.cell.precision for record in run.store.records() if record.cell.is_float} == {"fp32"}


def test_an_operation_without_a_repeatable_form_is_recorded(
    tiny: None, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    @dataclass(frozen=True)
    class Unrepeatable(planted.Planted):
        def quantize(self, model: nn.Module, calibration: Calibration, bits: BitSpec) -> nn.Module:
            torch.zeros(3).put_(torch.tensor([1]), torch.ones(1))
            return super().quantize(model, calibration, bits)

    plant(monkeypatch, Unrepeatable)
    torch.use_deterministic_algorithms(True, warn_only=True)
    try:
        record, clean = measured(cell(method="planted"), run), measured(cell(), run)
    finally:
        torch.use_deterministic_algorithms(False)
    assert (record.provenance.deterministic, record.provenance.unrepeatable) == (False, ("put_",))
    assert (clean.provenance.deterministic, clean.provenance.unrepeatable) == (True, ())
