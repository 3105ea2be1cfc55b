"""Activation-aware mixed-rank compression, in two readings."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from vitptq.bench.contracts.method import Calibration
from vitptq.bench.contracts.reporting import note_details
from vitptq.methods.core.lowrank.compensated_method import CompensatedMethod
from vitptq.methods.core.lowrank.components import Components, by_mean_input, by_second_moment
from vitptq.methods.core.lowrank.factored import as_linear
from vitptq.methods.core.lowrank.input_statistics import input_sums
from vitptq.methods.core.model.prepare import PreparedModel

INFERRED = (
    "our reading throughout: no official code is published, and the paper's equations were not at hand",
    "the layers in factors are qkv (as one), proj, fc1 and fc2 of the attention blocks; all else stays dense",
    "ranks: over all layers the component of least energy per parameter is dropped until the budget is met",
    "the residual: rank 8, counted in the budget; Adam, rate 1e-3, 500 steps on the error over all images at once "
    '(residual="exact" is its closed form)',
    "parameters that are not in factors are not trained, and no label is used: the published scores above the dense "
    "model's suggest that the authors do train",
    'compensation="block" trains the residuals of a block together for its output, by the same normalised error, 500 '
    "steps of 32 images, the factors fixed; whether the authors compensate by layers or blocks is not known",
)


@dataclass(frozen=True)
class MixedRankXrep(CompensatedMethod):
    """Singular components by what they do to the mean input, ranks by greedy choice, a residual layer by layer.

    1. W = U S V^T, x the mean input: component i has the energy s_i^2 (v_i^T x)^2 / |W x|^2.
    2. From full rank, drop the component of least energy per parameter, over all layers, until the budget is met.
    3. In execution order: learn a residual of low rank for W x on what the compressed layers before give; merge it.
    """

    name = "mixed-rank-xrep"
    title = "Mixed rank (mean input)"
    fidelity = "inferred"
    inferred = (*INFERRED, "X_rep is the mean over all tokens; components are those of the plain SVD, scored by it")
    paper = "Azizi, Nazemi and Pedram, Memory-Efficient Vision Transformers, arXiv 2402.06004"

    def components(self, net: PreparedModel, calibration: Calibration, names: list[str]) -> Mapping[str, Components]:
        """Return the components by the mean input."""
        sums = input_sums(net, calibration, names, second=False)
        return {name: by_mean_input(as_linear(net.model, name).weight.double(), sums[name].mean) for name in names}


@dataclass(frozen=True)
class MixedRankCnorm(CompensatedMethod):
    """The approximation of least mean normalised error |W x - W_r x|^2 / |W x|^2 over all tokens; else as the other.

    C = mean x x^T / |W x|^2, W C^(1/2) = U S V^T; the factors are U_r S_r^(1/2) and S_r^(1/2) V_r^T C^(-1/2), and
    dropping component i costs exactly s_i^2.
    """

    name = "mixed-rank-cnorm"
    title = "Mixed rank (normalised error)"
    fidelity = "inferred"
    inferred = (*INFERRED, "every token counts alike, so the class token hardly does")
    paper = "Azizi, Nazemi and Pedram, Memory-Efficient Vision Transformers, arXiv 2402.06004"

    def components(self, net: PreparedModel, calibration: Calibration, names: list[str]) -> Mapping[str, Components]:
        """Return the components by the second moment of the inputs."""
        sums = input_sums(net, calibration, names, second=True)
        note_details("tokens without an output", sum(each.skipped for each in sums.values()))
        return {name: by_second_moment(as_linear(net.model, name).weight.double(), sums[name].moment) for name in names}
