"""The contract test: what every adapter must do, tried on two-block models with random weights and random data.

On a GPU, the outcome is compared with the CPU's, too.
"""

from __future__ import annotations

import copy
import inspect
from collections.abc import Iterator
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, get_args

import torch
from timm.models.swin_transformer import SwinTransformer
from timm.models.vision_transformer import VisionTransformer
from torch import Tensor, nn

from vitptq.bench.bits import FLOAT, BitSpec
from vitptq.bench.contracts.method import Calibration, DataFree, Fidelity, InputSpec, Method
from vitptq.bench.errors import BadInput, Unsupported, described
from vitptq.bench.run import evaluation_audit
from vitptq.bench.run.audit import audit
from vitptq.bench.run.cell_run import fingerprint, out_of_reach, seed_everything
from vitptq.bench.run.device_agreement import CPU, disagreement, in_one_row
from vitptq.bench.run.evaluation_audit import EvaluationAudit

IMAGES = 8
BIT_SPECS = ("W8A8", "W4A4", "W3A3")
LOW_RANK_SPECS = ("W32A32+lowrank20", "W32A32+lowrank40", "W8A8+lowrank40")
BRANCH_SPECS = tuple(f"{bits}+branch" for bits in BIT_SPECS)
INPUT = InputSpec((3, 32, 32), (0.5, 0.5, 0.5), (0.25, 0.25, 0.25))
REFUSED = "is refused in one sentence, as unsupported"


@dataclass(frozen=True)
class Finding:
    """The outcome of one rule."""

    rule: str
    problem: str = ""

    @property
    def ok(self) -> bool:
        """Tell whether the adapter keeps the rule."""
        return not self.problem


class RandomImages(Calibration):
    """Random images; counts how often they are asked for."""

    def __init__(self, device: torch.device = CPU) -> None:
        self.input = INPUT
        self.device = device
        self.reads = 0

    def batches(self) -> Iterator[Tensor]:
        """Yield one batch, the same at every call."""
        self.reads += 1
        yield random_images(IMAGES, 7, self.device)

    def forward(self, model: nn.Module, batch: Any) -> Tensor:
        """Return the logits."""
        logits: Tensor = model(batch)
        return logits


def random_images(count: int, seed: int, device: torch.device) -> Tensor:
    """Return images that are the same on every device, (count, 3, 32, 32)."""
    return torch.randn(count, *INPUT.shape, generator=torch.Generator().manual_seed(seed)).to(device)


def check(cls: type[Method], device: torch.device = CPU) -> Iterator[Finding]:
    """Yield a finding per rule, as it is tried on `device`; takes well under a minute."""
    yield from _described(cls)
    try:
        method = cls()
    except Exception as error:  # noqa: BLE001  whatever an adapter does is a finding
        yield Finding("has a default for every parameter", _say(error, cls))
        return
    yield Finding("parameters survive a round trip through JSON", _round_trip(method))
    if cls.trial:
        try:
            method = cls.configured(cls.trial)
        except BadInput as error:
            yield Finding("can be tried with its `trial` parameters", str(error))
            return
    specs = [FLOAT] if cls.category == "float" else [BitSpec.parse(text) for text in _specs(cls)]
    handled = False
    for name, model in two_block_models().items():
        for bits in specs:
            findings = list(_quantises(method, model, bits, device))
            handled |= findings[0].rule != REFUSED
            yield from (Finding(f"{name} {bits}: {finding.rule}", finding.problem) for finding in findings)
    yield Finding("handles at least one of the models", "" if handled else "every model is unsupported")
    if cls.category != "float":
        yield Finding("names what it does not support", _refuses(method, specs[0], device))


def _specs(cls: type[Method]) -> tuple[str, ...]:
    return {"low-rank": LOW_RANK_SPECS, "float-branch": BRANCH_SPECS}.get(cls.category, BIT_SPECS)


def two_block_models() -> dict[str, nn.Module]:
    """Return a ViT and a Swin with two blocks each and random weights, in eval mode."""
    torch.manual_seed(3)
    vit = VisionTransformer(img_size=32, patch_size=8, embed_dim=32, depth=2, num_heads=2, num_classes=10)
    swin = SwinTransformer(
        img_size=32, patch_size=4, embed_dim=16, depths=(1, 1), num_heads=(1, 2), window_size=4, num_classes=10
    )
    return {"ViT": vit.eval(), "Swin": swin.eval()}


def _described(cls: type[Method]) -> Iterator[Finding]:
    missing = [name for name in ("name", "title", "fidelity") if not isinstance(getattr(cls, name, None), str)]
    yield Finding("states name, title and fidelity", f"missing: {', '.join(missing)}" if missing else "")
    fidelity = getattr(cls, "fidelity", None)
    known = get_args(Fidelity)
    yield Finding("states a known fidelity", "" if fidelity in known else f"{fidelity!r}; known: {', '.join(known)}")
    listed = fidelity != "inferred" or bool(cls.inferred)
    yield Finding("lists what was inferred", "" if listed else 'fidelity is "inferred" and `inferred` is empty')
    strange = sorted(set(cls.parity) - {parameter.name for parameter in fields(cls)})
    yield Finding("`parity` names its parameters", f"it has no {', '.join(strange)}" if strange else "")
    unshown = cls.parity and not cls.parity_test
    yield Finding("names the test that shows its parity", "`parity_test` is empty" if unshown else "")
    own_doc = cls.__doc__ if "__doc__" in vars(cls) else None
    generated = not own_doc or own_doc.startswith(f"{cls.__name__}(")  # what dataclass makes up where there is none
    own_fields = "__dataclass_params__" in vars(cls)
    yield Finding("is a dataclass", "" if own_fields else "without @dataclass its parameters are in no record")
    yield Finding("has a docstring", "the class has none" if generated else "")


def _round_trip(method: Method) -> str:
    try:
        again = type(method).configured(method.parameters())
    except Exception as error:  # noqa: BLE001  whatever an adapter does is a finding
        return _say(error, type(method))
    changed = [f.name for f in fields(method) if getattr(method, f.name) != getattr(again, f.name)]
    return f"changed: {', '.join(changed)}" if changed else ""


def _quantises(method: Method, on_cpu: nn.Module, bits: BitSpec, device: torch.device) -> Iterator[Finding]:
    """Yield the findings of one quantisation; stops at the first that makes the rest pointless."""
    model = on_cpu if device == CPU else copy.deepcopy(on_cpu).to(device)
    before = fingerprint(model)
    given = RandomImages(device)
    try:
        quantised = _quantised(method, model, bits, given)
    except Unsupported:
        yield Finding(REFUSED)
        return
    except Exception as error:  # noqa: BLE001  whatever an adapter does is a finding
        yield Finding("quantize() returns", f"it raised {_say(error, type(method))}")
        return
    given_back: object = quantised  # whatever the annotation says
    yield Finding("quantize() returns a module", "" if isinstance(given_back, nn.Module) else type(given_back).__name__)
    if not isinstance(given_back, nn.Module):
        return
    yield Finding(
        "the float model is untouched", "" if fingerprint(model) == before else "parameters, buffers or modules changed"
    )
    try:
        audits = _audits(method, model, quantised.eval(), bits, given)  # before anything runs: it notes the grids
        yield from _outputs(method, model, quantised, bits, device)
        if device != CPU:
            yield Finding("agrees with the CPU", _disagreement(method, on_cpu, bits, device))
        audits.before(random_images(1, 12, device))
        audited = audits.after(random_images(evaluation_audit.IMAGES, 13, device))
    except Exception as error:  # noqa: BLE001  whatever an adapter does is a finding
        yield Finding("the quantised model runs", f"it raised {_say(error, type(method))}")
        return
    more = f" (and {len(audited.violations) - 3} more)" if len(audited.violations) > 3 else ""
    yield Finding("the audit is clean", "; ".join(audited.violations[:3]) + more)


def _audits(
    method: Method, model: nn.Module, quantised: nn.Module, bits: BitSpec, given: RandomImages
) -> EvaluationAudit:
    float_audit = audit(model, FLOAT, random_images(1, 12, given.device), given.forward)
    return EvaluationAudit(quantised, bits, given.forward, float_audit=float_audit, dynamic=method.dynamic)


def _outputs(
    method: Method, model: nn.Module, quantised: nn.Module, bits: BitSpec, device: torch.device
) -> Iterator[Finding]:
    images = random_images(4, 11, device)
    with torch.no_grad():
        expected, logits = model(images), quantised(images)
        shape = getattr(logits, "shape", None)
        yield Finding("has the call signature of the float model", "" if shape == expected.shape else f"output {shape}")
        if shape != expected.shape:
            return
        yield Finding("puts out finite numbers", "" if logits.isfinite().all() else "NaN or infinite logits")
        again = _quantised(method, model, bits, RandomImages(device)).eval()(images)
    yield Finding("the same seed gives the same bits", "" if torch.equal(logits, again) else "two runs differ")


@torch.no_grad()
def _disagreement(method: Method, model: nn.Module, bits: BitSpec, device: torch.device) -> str:
    """Return how the method does otherwise on the device than on the CPU, where the float model is."""
    images = random_images(4, 11, CPU)

    def quantised(where: torch.device, seed: int) -> Tensor:
        there = copy.deepcopy(model).to(where)
        made = _quantised(method, there, bits, RandomImages(where), seed).eval()
        return in_one_row(made(images.to(where)))

    return disagreement(in_one_row(model(images)), quantised, device)


def _quantised(method: Method, model: nn.Module, bits: BitSpec, images: RandomImages, seed: int = 0) -> nn.Module:
    images.seed = seed
    seed_everything(images.seed)
    given: Any = DataFree(INPUT, images.device, images.seed) if method.category in ("data-free", "float") else images
    with out_of_reach(method):
        return method.quantize(model, given, bits)


def _refuses(method: Method, bits: BitSpec, device: torch.device) -> str:
    """Return what is wrong with how the method meets a model that nobody has an operand map for."""
    try:
        _quantised(method, _Strange().eval().to(device), bits, RandomImages(device))
    except Unsupported:
        return ""
    except Exception as error:  # noqa: BLE001  whatever an adapter does is a finding
        said = _say(error, type(method))
        return f"an unknown model made it raise {said}; raise vitptq.bench.errors.Unsupported with one sentence"
    return "it accepted a model without an operand map; raise vitptq.bench.errors.Unsupported"


class _Strange(nn.Module):
    """A model of no known family."""

    def __init__(self) -> None:
        super().__init__()
        self.weights = nn.Parameter(torch.randn(10, 3 * 32 * 32))

    def forward(self, x: Tensor) -> Tensor:
        """Return ten numbers per image."""
        return torch.einsum("bi,oi->bo", x.flatten(1), self.weights)


def _say(error: Exception, cls: type[Method]) -> str:
    return described(error, Path(inspect.getfile(cls)))
