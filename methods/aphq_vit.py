"""APHQ-ViT: ReLU in place of GELU, and block reconstruction weighted by the average perturbation Hessian."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import ClassVar, Literal

from torch import Tensor, nn

from vitptq import BitSpec, Calibration, MatMul, PreparedModel, RoundingMethod, note, prepare
from vitptq.methods.core.model.rotation import Rotation, rotated
from vitptq.methods.core.reconstruct import (
    Loss,
    LossFor,
    Settings,
    StepTensors,
    Unit,
    all_units,
    divergence,
    reconstruct,
    squared_error,
)
from vitptq.methods.core.reconstruct.losses import Terms
from vitptq.methods.core.reconstruct.method_settings import ITERATIONS, reduced
from vitptq.methods.core.reconstruct.relu_mlp import mlps_of, reconstruct_mlps
from vitptq.methods.core.search.bound_search import search_bounds
from vitptq.methods.core.search.fpcs import FPCSBudget
from vitptq.methods.core.search.recording import FirstImages, recorded_inputs
from vitptq.methods.core.search.stem_search import search_stem_bounds
from vitptq.methods.core.search.uniform_search import fold_norms, refuse_float_sides, search_layer
from vitptq.methods.core.sensitivity import perturbation_diagnostics as diagnostics
from vitptq.methods.core.sensitivity.fisher import fisher_mc
from vitptq.methods.core.sensitivity.perturbation_hessian import average_perturbation_hessian, relative

FIRST_LOSS = 2.0
"""What the reconstruction term is at the first step."""
RELEASED_CLAMP = {4: 0.98, 2: 0.98}
"""The released code's clamp quantile, where it is not the paper's, by the width of the activations."""
CHECKED = 32
"""Images with which H is told from noise."""


@dataclass(frozen=True)
class APHQViT(RoundingMethod):
    """Blocks are trained as in QDrop, by their squared error weighted with its effect on the predictions.

    1. Perturbation Hessian H of every output value of every block, an average over the images, from the float model.
    2. Every GELU becomes a ReLU; the two layers of each MLP are trained to put out what they did, also with hidden
       values clamped to a quantile, so that the second layer's input gets a smaller range.
    3. Scale search, uniform grids throughout; per-channel grids behind LayerNorm are folded.
    4. Block reconstruction with QDrop's mixing, AdaRound and learned scales; the loss is mean(d^2 H), twice its value
       at the first step. The head: divergence of the logits. Targets are those of the model with GELU.
    """

    name = "aphq-vit"
    title = "APHQ-ViT"
    fidelity = "paper"
    parity_test = "tests/parity/test_aphq_vit.py"
    inferred = (
        'hessian "perturbation" is the released recipe; what it measures is rounding noise, because a constant added '
        "to all channels of a token is taken off by the LayerNorms before any prediction, so it depends on the device "
        'and the batches; "fisher" is the diagonal of the Hessian that the paper means',
        "temperature 20 in the divergence that H is taken of, from the released code; the paper states none",
        "for detectors and segmenters the divergence is the squared difference of the outputs over their variance",
        "neck and heads, where a bit spec names them, have the plain squared error",
        "where images differ in size, H is per channel; where H is 0, the error is not weighted and a note says so",
        "all MLPs are reconstructed first, on float inputs (released code); the paper goes block by block",
        "zero points are searched around that of the range (released code: around the middle code, which loses codes "
        "of one-sided tensors from 6 bits on); a tensor without negative values has the zero point 0",
        "LayerNorms are folded at every bit spec (released code: only where weights and activations have equal bits)",
        "output errors are computed on up to 16,384 evenly spread rows of a linear layer's input",
        "convolutions: weights and input by their own squared error; the image enters at 8 bits, not in float",
        "clamp quantile 0.99 throughout (released code: 0.98 at 4 and 2 bits, 0.999 on COCO); no scales per token at "
        "2 bits",
        "mini-batches are drawn without replacement; a unit whose error on the calibration set grew keeps its state "
        'before training (not with form="released")',
        'form="released": clamp quantile 0.98 at 4 and 2 bits, the image in float, the patch embedding\'s filters by '
        "bounds of least output error, LayerNorms folded at equal widths alone, the inputs behind them searched anew",
        "beside the official code, tests/parity/test_aphq_vit.py: the released form's search gives the layers of "
        "mini_vit at W4A4 the official scales (to 1e-5) and zero points, and attention factors theirs at 6, 4 and 3 "
        "bits; losses of all candidates, reparameterisation, losses, learned rounding and steps, schedules; not "
        "compared: the patch embedding's filters, MLP reconstruction and the trained model",
    )
    paper = "Wu et al., APHQ-ViT, CVPR 2025, arXiv 2504.02508"
    trial: ClassVar = {"iterations": 4, "mlp_iterations": 4, "rounds": 1, "candidates": 32, "draws": 1}

    form: Literal["paper", "released"] = "paper"
    """"released" is what the authors' code does beyond the paper; see `inferred`."""
    hessian: Literal["perturbation", "fisher"] = "perturbation"
    """H: "perturbation" as published, two passes per unit; "fisher" its diagonal by drawing predictions, `draws`
    backward passes in all."""
    mlp: bool = True
    """Replace GELU by ReLU and reconstruct the MLPs."""
    mlp_iterations: int = ITERATIONS
    """Steps per MLP."""
    search_images: int = 128
    rounds: int = 3
    candidates: int = 128
    temperature: float = 20.0
    perturbation: float = 1e-6
    draws: int = 4
    """Drawn predictions per image for the Fisher diagonal, which the published H is compared with in the record."""
    clamp_percentile: float = 0.99
    clamp_weight: float = 2.0
    mlp_rate: float = 4e-5
    scale_rate: float = 4e-5
    quantised_probability: float = 0.5
    """Of a value of an activation, and of a block's input, to be quantised while the block is trained."""
    rotation: Rotation = "none"
    """Rotate the float model first."""

    def quantize(self, model: nn.Module, calibration: Calibration, bits: BitSpec) -> nn.Module:
        """Return the reconstructed model."""
        model = rotated(model, self.rotation, calibration.seed)
        net, twin = prepare(model, bits), prepare(model, bits)
        refuse_float_sides(net, "APHQ-ViT")
        mlps = [mlp.whole for mlp in mlps_of(net)] if self.mlp else []
        weights = self.weights(twin, calibration, [*backbone_units(net), *mlps])
        settings = self.block_settings(calibration)
        if self.mlp:
            reconstruct_mlps(
                net, twin, calibration, self.mlp_settings(settings), weights,
                percentile=self._clamp_percentile(bits.activations),
            )  # fmt: skip
        self.search(net, FirstImages(calibration, self.search_images))
        net.switch(True, image=not self._released)
        reconstruct(net, twin, calibration, settings, loss=weighted_by(weights), units=all_units(net))
        return net.model

    def block_settings(self, calibration: Calibration) -> Settings:
        """Return the settings of the block reconstruction."""
        return replace(
            self.reconstruction(calibration), scale_rate=self.scale_rate, normalise=FIRST_LOSS,
            quantised_input_probability=self.quantised_probability, quantised_probability=self.quantised_probability,
            keep_better=not self._released,
        )  # fmt: skip

    def mlp_settings(self, blocks: Settings) -> Settings:
        """Return the settings of the MLP reconstruction, which quantises nothing."""
        return replace(
            blocks, iterations=self.mlp_iterations, weights="ste", weight_rate=self.mlp_rate,
            weight_schedule="cosine", biases=True, scales=False, input="float", quantised_probability=1.0,
            normalise=None, term_weights={"clamped": self.clamp_weight},
        )  # fmt: skip

    def weights(self, twin: PreparedModel, calibration: Calibration, units: list[str]) -> dict[str, Tensor | None]:
        """Return each unit's H relative to its mean; the run's page gets what tells it from rounding noise."""
        fisher = fisher_mc(twin, calibration, units, draws=self.draws, temperature=self.temperature)
        published = self.hessian == "perturbation"
        found = fisher
        if published:
            found = average_perturbation_hessian(
                twin, calibration, units, temperature=self.temperature, epsilon=self.perturbation
            )
        diagnostics.note_hessian(
            twin, FirstImages(calibration, CHECKED), found, fisher if published else None,
            temperature=self.temperature, epsilon=self.perturbation, draws=self.draws,
        )  # fmt: skip
        return {name: relative(h) for name, h in found.items()}

    def search(self, net: PreparedModel, calibration: Calibration) -> None:
        """Fold the LayerNorms and give every slot its quantizer."""
        budget = FPCSBudget(self.candidates, steps=1)
        if not self._released or net.bits.weights == net.bits.activations:
            fold_norms(net, calibration, budget)
        for _, operator, inputs in recorded_inputs(net, calibration):
            if isinstance(operator, MatMul):
                search_bounds(operator, inputs, self.candidates, self.rounds)
            else:
                search_layer(operator, inputs, budget, self.rounds, keep_folded=not self._released)
        if self._released:
            search_stem_bounds(net, calibration, self.candidates)

    @property
    def _released(self) -> bool:
        return self.form == "released"

    def _clamp_percentile(self, bits: int) -> float:
        return RELEASED_CLAMP.get(bits, self.clamp_percentile) if self._released else self.clamp_percentile

    def notes(self) -> list[str]:
        """Say so where the steps are fewer than the paper's."""
        mlp = reduced(self.mlp_iterations, self.paper_iterations, "MLP") if self.mlp else []
        return [*super().notes(), *mlp]


def backbone_units(net: PreparedModel) -> list[str]:
    """Return the units outside the neck and the heads of a detector or segmenter, those of the backbone."""
    backbone = replace(net.bits, parts=())
    return [name for name in all_units(net) if not backbone.leaves(name)]


def weighted_by(weights: Mapping[str, Tensor | None]) -> LossFor:
    """Return the losses of all units: mean(d^2 H); the divergence of the logits for the head.

    A unit that is not in `weights`, has several outputs, or an H of 0, has the plain squared error.
    """

    def make(unit: Unit) -> Loss:
        if unit.final:
            return divergence(unit)
        plain, weight = squared_error(unit), weights.get(unit.name)
        if weight is None:
            if unit.name in weights:
                note(f"{unit.name} has an H of 0, so its error is not weighted")
            return plain
        if weight.ndim == 1 and isinstance(unit.module, nn.Conv2d):
            weight = weight[:, None, None]

        def loss(seen: StepTensors) -> Terms:
            if len(seen.outputs) > 1:
                return plain(seen)
            return ((seen.output - seen.target).square() * weight).mean()

        return loss

    return make
