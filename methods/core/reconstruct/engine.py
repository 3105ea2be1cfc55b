"""The engine: caches what units read and must put out, trains one after the other, and keeps what is finished."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from vitptq.bench.contracts import reporting
from vitptq.bench.contracts.method import Calibration
from vitptq.methods.core.model.prepare import PreparedModel
from vitptq.methods.core.model.watched_calls import watched_calls
from vitptq.methods.core.reconstruct.cached_tensors import CachedTensors, CacheMemory, CallRows
from vitptq.methods.core.reconstruct.losses import Loss, LossFor, squared_error
from vitptq.methods.core.reconstruct.plan import UnitPlan, block_units, check_names, plan
from vitptq.methods.core.reconstruct.settings import Settings
from vitptq.methods.core.reconstruct.trainable_quantizer import TrainableQuantizer
from vitptq.methods.core.reconstruct.trainer import Trainer, errors
from vitptq.methods.core.reconstruct.unit import Unit
from vitptq.methods.core.reconstruct.unit_checkpoints import Finished, UnitCheckpoints, fingerprint

REPORT_EVERY_S = 1.0
OUT_OF_MEMORY = ("can't allocate memory", "ALLOC_FAILED")
"""How torch says it where it raises a plain RuntimeError."""


@dataclass(frozen=True)
class Result:
    """How one unit came out: its loss over the calibration set, without dropping and with hard weights."""

    name: str
    before: dict[str, float]
    after: dict[str, float]
    kept: bool
    """False where training made it worse and the state before was put back."""
    resumed: bool


def reconstruct(
    net: PreparedModel,
    twin: PreparedModel,
    calibration: Calibration,
    settings: Settings,
    *,
    loss: LossFor = squared_error,
    units: Sequence[str] | None = None,
    tag: str = "reconstruction",
) -> list[Result]:
    """Train the units of `net` (in place) to put out what they do in `twin`, one after the other in execution order.

    `net` is calibrated and its operands are switched as they shall be while it is trained; `twin` is the same model in
    float (`prepare(model, bits)`, switched off, or another function to imitate), which stays as it is. `units` are
    names of modules, the blocks by default (see `all_units` and `layer_units`). `tag` tells several reconstructions of
    one method apart: their progress, their record and what a killed one goes on from.
    """
    names = list(block_units(net) if units is None else units)
    check_names(net, names)
    run = _Run(net, twin, calibration, settings, loss, plan(twin, calibration, names), tag)
    results = run.all_units()
    assert not any(isinstance(operand.quantizer, TrainableQuantizer) for operand in net.operands.values()), (
        "dropping is still on"
    )
    return results


class _Run:
    def __init__(
        self,
        net: PreparedModel,
        twin: PreparedModel,
        calibration: Calibration,
        settings: Settings,
        loss: LossFor,
        plans: list[UnitPlan],
        tag: str,
    ) -> None:
        self.net, self.twin, self.calibration = net, twin, calibration
        self.settings, self.loss, self.plans, self.tag = settings, loss, plans, tag
        self.memory = CacheMemory(settings.memory, calibration.device)
        self.parts = 1
        self.steps = 0
        """Steps of the units that are done."""
        self.trained = 0
        """Steps taken by this process, and since when."""
        self.started = self.reported = 0.0
        folder = reporting.work_folder()
        key = ""
        if folder is not None:
            what = (settings, str(net.bits), [p.name for p in plans], tag, torch.__version__, str(calibration.device))
            key = fingerprint((net.model, twin.model), calibration, *what)
        self.checkpoints = UnitCheckpoints(folder, tag, key)

    def all_units(self) -> list[Result]:
        """Train every unit and return how they came out."""
        results: list[Result] = []
        previous: Unit | None = None
        for number, unit_plan in enumerate(self.plans):
            unit = Unit(unit_plan, number, self.net, self.twin, self.calibration)
            self._fill(unit, previous)
            results.append(self._one(unit))
            previous = unit
        if previous is not None:
            _release(previous)
        self._record(results)
        return results

    @torch.no_grad()
    def _fill(self, unit: Unit, previous: Unit | None) -> None:
        """Cache the unit's inputs and targets: from what is cached of the unit before, or by one forward pass."""
        link = unit.plan.link if previous is not None else None
        needs_quantised = self.settings.input != "float"
        if link is not None and previous is not None:
            assert previous.targets is not None
            unit.float_inputs = previous.targets.pick(link)
            if needs_quantised:
                assert previous.inputs is not None
                unit.inputs = CachedTensors(self.memory, unit.plan.sizes)
                for entry, after in zip(previous.plan.entries, unit.plan.entries, strict=True):
                    given = previous.inputs.read(entry, self.calibration.device)
                    out = previous.run(previous.module, entry.group, given)
                    unit.inputs.write(after, [out[place] for place in link])
            previous.targets = None  # now the unit's inputs
            _release(previous)
        else:
            if previous is not None:
                _release(previous)
            unit.float_inputs = self._pass(self.twin, unit)
            unit.inputs = self._pass(self.net, unit) if needs_quantised else None
        unit.targets = CachedTensors(self.memory, unit.plan.sizes)
        for entry in unit.plan.entries:
            given = unit.float_inputs.read(entry, self.calibration.device)
            unit.targets.write(entry, unit.run(unit.float_module, entry.group, given))

    def _pass(self, net: PreparedModel, unit: Unit) -> CachedTensors:
        """Return the unit's inputs from one forward pass of each batch that ends at the unit."""
        samples = CachedTensors(self.memory, unit.plan.sizes)
        module = net.model.get_submodule(unit.name)
        by_batch: dict[int, list[CallRows]] = {}
        for entry in unit.plan.entries:
            by_batch.setdefault(entry.batch, []).append(entry)
        for number, batch in enumerate(self.calibration.batches()):
            entries = by_batch.get(number, [])
            waiting = iter(entries)

            def take(module: nn.Module, args: Any, kwargs: Any, _: None, waiting: Iterator[CallRows] = waiting) -> None:
                entry = next(waiting)
                samples.write(entry, unit.plan.calls[entry.group].inputs.split((args, kwargs)))

            if entries:
                with watched_calls({module: len(entries)}, take, entering=True):
                    self.calibration.forward(net.model, batch)
        return samples

    def _one(self, unit: Unit) -> Result:
        """Train one unit, or take it from where a killed run left it."""
        own = _state(unit.module)
        loss = self.loss(unit)
        finished = self.checkpoints.get(unit.number, own)
        resumed = finished is not None
        if finished is None:
            finished = self._trained(unit, loss, own)
            self.checkpoints.put(unit.number, finished)
        else:
            _restore(unit.module, finished.state)
            self.parts = max(self.parts, finished.parts)
        self.steps += self.settings.iterations
        return Result(unit.name, finished.before, finished.after, self._better(finished), resumed)

    def _trained(self, unit: Unit, loss: Loss, own: dict[str, Tensor]) -> Finished:
        before = errors(unit, self.settings, loss)
        while True:
            try:
                after = self._attempt(unit, loss)
                break
            except (RuntimeError, MemoryError) as error:
                if not out_of_memory(error) or self.parts >= self.settings.batch:
                    raise
            _restore(unit.module, own)
            self.parts *= 2
            if self.calibration.device.type == "cuda":
                torch.cuda.empty_cache()
        finished = Finished(_state(unit.module), before, after, self.parts)
        if not self._better(finished):
            _restore(unit.module, own)
            finished = Finished(own, before, after, self.parts)
        return finished

    def _attempt(self, unit: Unit, loss: Loss) -> dict[str, float]:
        trainer = Trainer(unit, self.settings, loss, self.parts)
        try:
            trainer.train(lambda step, value: self._tell(unit, step, value))
            trainer.harden()
        finally:
            trainer.close()
        return errors(unit, self.settings, loss)

    def _better(self, finished: Finished) -> bool:
        """Tell whether training is kept: the weighted terms, in units of their values before, did not grow."""
        if not self.settings.keep_better:
            return True
        total = {name: self.settings.term_weights.get(name, 1.0) for name in finished.before}
        relative = self.settings.normalise is not None
        scale = {n: max(v, 1e-30) if relative else 1.0 for n, v in finished.before.items()}
        before, after = (
            sum(total[n] * v[n] / scale[n] for n in finished.before) for v in (finished.before, finished.after)
        )
        return after <= before

    def _tell(self, unit: Unit, step: int, value: Tensor) -> None:
        now = time.monotonic()
        if self.trained == 0:
            self.started = self.reported = now
        self.trained += 1
        if now - self.reported < REPORT_EVERY_S:
            return
        self.reported = now
        done, all_steps = self.steps + step, self.settings.iterations * len(self.plans)
        left = (now - self.started) / self.trained * (all_steps - done)
        where = f"{self.tag}: block {unit.number + 1}/{len(self.plans)}"
        reporting.report(f"{where}, loss {value.item():.3g}, {left:.0f} s left", done, all_steps)

    def _record(self, results: list[Result]) -> None:
        """Tell the record what a reader must know of this run."""
        if self.settings.autocast != "off":
            reporting.note(f"units trained with {self.settings.autocast} autocast")
        if self.parts > 1:
            reporting.note(
                f"memory ran out: batches of {self.settings.batch} were computed in {self.parts} parts, "
                "their gradients added"
            )
        table = [{"unit": r.name, "before": dict(r.before), "after": dict(r.after), "kept": r.kept} for r in results]
        reporting.note_table(self.tag, table)
        if any(r.resumed for r in results):
            reporting.note_details(f"{self.tag}, resumed units", sum(r.resumed for r in results))
        if self.checkpoints.ignored:
            reporting.note_details(f"{self.tag}, files of other runs ignored", list(self.checkpoints.ignored))


def out_of_memory(error: BaseException) -> bool:
    """Tell whether memory ran out, on the device or the host."""
    known = isinstance(error, torch.OutOfMemoryError | MemoryError)
    return known or any(words in str(error) for words in OUT_OF_MEMORY)


def _state(module: nn.Module) -> dict[str, Tensor]:
    return {name: x.detach().clone() for name, x in module.state_dict().items()}


@torch.no_grad()
def _restore(module: nn.Module, state: dict[str, Tensor]) -> None:
    for name, x in module.state_dict().items():
        x.copy_(state[name])


def _release(unit: Unit) -> None:
    for samples in (unit.inputs, unit.float_inputs, unit.targets):
        if samples is not None:
            samples.release()
    unit.inputs = unit.float_inputs = unit.targets = None
