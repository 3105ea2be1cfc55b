"""Adapters with planted faults. The contract test and the audit must catch every one; none may be taken out."""

from __future__ import annotations

import importlib
import io
import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torchvision
from PIL import Image
from torch import Tensor, nn

from vitptq.bench import registry
from vitptq.bench.bits import BitSpec
from vitptq.bench.contracts import locations, reporting
from vitptq.bench.contracts.method import Calibration, DataFree, Method
from vitptq.bench.contracts.quantizer import Quantizer
from vitptq.bench.contracts.reporting import keep_images
from vitptq.bench.errors import Unsupported
from vitptq.methods.core.model.prepare import PreparedModel, prepare
from vitptq.methods.core.ranges.estimation import uniform
from vitptq.methods.core.ranges.observers import RunningMinMax, observe_activations, observe_weights
from vitptq.tasks import decoding, kept_images


def _minmax(model: nn.Module, calibration: Calibration, bits: BitSpec) -> PreparedModel:
    net = prepare(model, bits)
    observe_weights(net)
    observe_activations(net, calibration, RunningMinMax)
    net.switch(True)
    return net


@dataclass(frozen=True)
class Planted(Method):
    """Base of the planted adapters: an honest min-max with a fault added by the subclass."""

    name = "planted"
    title = "Planted"
    fidelity = "paper"

    def quantize(self, model: nn.Module, calibration: Calibration, bits: BitSpec) -> nn.Module:
        """Quantise honestly."""
        return _minmax(model, calibration, bits).model


@dataclass(frozen=True)
class FloatLayer(Planted):
    """Leaves one layer's input in float."""

    def quantize(self, model: nn.Module, calibration: Calibration, bits: BitSpec) -> nn.Module:
        """Switch one slot off."""
        net = _minmax(model, calibration, bits)
        next(operand for operand in net.activations.values() if operand.role == "gelu").on = False
        return net.model


@dataclass(frozen=True)
class InPlace(Planted):
    """Computes in float and hides it: float values overwrite the quantised ones, which come back behind the layer."""

    def quantize(self, model: nn.Module, calibration: Calibration, bits: BitSpec) -> nn.Module:
        """Overwrite one layer's input in place, behind its quantizer."""
        net = _minmax(model, calibration, bits)
        slot = next(operand for operand in net.activations.values() if operand.role == "gelu")
        overwritten: list[tuple[Tensor, Tensor]] = []

        def overwrite(module: nn.Module, args: tuple[Tensor], output: Tensor) -> None:
            overwritten.append((output, output.clone()))
            output.copy_(args[0])

        def put_back(module: nn.Module, args: tuple[Tensor], output: Tensor) -> None:
            for tensor, values in overwritten:
                tensor.copy_(values)
            overwritten.clear()

        slot.register_forward_hook(overwrite)
        net.model.get_submodule(slot.name.rpartition(".")[0]).register_forward_hook(put_back)
        return net.model


@dataclass(frozen=True)
class MoreBits(Planted):
    """Says W4A4 and uses eight bits in one place."""

    def quantize(self, model: nn.Module, calibration: Calibration, bits: BitSpec) -> nn.Module:
        """Quantise one weight at 8 bits."""
        net = _minmax(model, calibration, bits)
        wide = _minmax(model, calibration, BitSpec(8, 8))
        name = next(iter(net.weights))
        net.operands[name].quantizer = wide.operands[name].quantizer
        return net.model


class Pretender(Quantizer):
    """Says that it has 2^bits values and passes everything through."""

    granularity = "tensor"  # type: ignore[assignment]

    def quantise(self, x: Tensor) -> Tensor:
        """Return a copy of `x`."""
        return x.clone()

    def grid(self) -> Tensor:
        """Return a grid of the right size."""
        return torch.linspace(-1, 1, 2**self.bits)[None]

    def groups(self, x: Tensor) -> Tensor:
        """Arrange as one group."""
        return x.reshape(1, -1)


@dataclass(frozen=True)
class OffGrid(Planted):
    """Has a quantizer whose output is not on its grid."""

    def quantize(self, model: nn.Module, calibration: Calibration, bits: BitSpec) -> nn.Module:
        """Put the pretender in one slot."""
        net = _minmax(model, calibration, bits)
        operand = next(iter(net.activations.values()))
        operand.quantizer = Pretender(operand.bits)
        return net.model


class Liar(Pretender):
    """Passes everything through and has a grid made to fit any tolerance."""

    def __init__(self, bits: int, lie: str) -> None:
        super().__init__(bits)
        self.lie = lie
        self.seen = torch.zeros(1)

    def quantise(self, x: Tensor) -> Tensor:
        """Return a copy of `x`, and remember it."""
        self.seen = x
        return x.clone()

    def grid(self) -> Tensor:
        """Return one value, two far apart, or for every element its own."""
        grids = {"zeros": [[0.0, 0.0]], "huge": [[0.0, 1e9]]}
        return self.seen.reshape(-1, 1) if self.lie == "own" else torch.tensor(grids[self.lie])

    def groups(self, x: Tensor) -> Tensor:
        """Arrange to fit the grid."""
        return x.reshape(-1, 1) if self.lie == "own" else x.reshape(1, -1)


@dataclass(frozen=True)
class LyingGrid(Planted):
    """Passes one operand through behind a grid made to fit."""

    lie: str = "own"

    def quantize(self, model: nn.Module, calibration: Calibration, bits: BitSpec) -> nn.Module:
        """Put the liar in one slot."""
        net = _minmax(model, calibration, bits)
        operand = next(iter(net.activations.values()))
        operand.quantizer = Liar(operand.bits, self.lie)
        return net.model


@dataclass(frozen=True)
class LyingZeros(LyingGrid):
    """Has a grid of two equal values."""

    lie: str = "zeros"


@dataclass(frozen=True)
class LyingHuge(LyingGrid):
    """Has a grid of two values far apart."""

    lie: str = "huge"


class Wrapped(Quantizer):
    """Base of the quantizers that spoil an honest one."""

    def __init__(self, inner: Quantizer) -> None:
        super().__init__(inner.bits)
        self.inner = inner

    @property
    def granularity(self) -> str:
        """Say what the honest one says."""
        return self.inner.granularity

    def quantise(self, x: Tensor) -> Tensor:
        """Quantise honestly."""
        return self.inner.quantise(x)

    def grid(self) -> Tensor:
        """Return the honest grid."""
        return self.inner.grid()

    def groups(self, x: Tensor) -> Tensor:
        """Arrange honestly."""
        return self.inner.groups(x)


class FloatForBatches(Wrapped):
    """Lets through in float what comes in larger batches."""

    def quantise(self, x: Tensor) -> Tensor:
        """Quantise one image."""
        return x.clone() if _is_batch(x) else super().quantise(x)


class WideForBatches(Wrapped):
    """Has a fine grid for larger batches."""

    def quantise(self, x: Tensor) -> Tensor:
        """Quantise one image at the nominal width."""
        grid = self.inner.grid()
        fine = uniform(grid[:, 0], grid[:, -1], 8)
        return fine.quantise(x) if _is_batch(x) else super().quantise(x)


class FloatLater(Wrapped):
    """Gives way after two calls."""

    calls = 0

    def quantise(self, x: Tensor) -> Tensor:
        """Quantise twice."""
        self.calls += 1
        return super().quantise(x) if self.calls <= 2 else x.clone()


class Noisy(Wrapped):
    """Adds noise before it rounds."""

    def quantise(self, x: Tensor) -> Tensor:
        """Draw, and quantise."""
        return super().quantise(x + torch.rand_like(x) * 0.5)


class RangePerBatch(Wrapped):
    """Takes its range from what it is given."""

    def quantise(self, x: Tensor) -> Tensor:
        """Set the range, and quantise."""
        self.inner = uniform(x.min().reshape(1), x.max().reshape(1), self.bits)
        return super().quantise(x)


class NotFrozen(Wrapped):
    """Widens its range with all that it is given."""

    def quantise(self, x: Tensor) -> Tensor:
        """Widen the range, and quantise."""
        grid = self.inner.grid()
        low, high = x.min().minimum(grid.min()), x.max().maximum(grid.max())
        self.inner = uniform(low.reshape(1), high.reshape(1), self.bits)
        return super().quantise(x)


class Lazy(Wrapped):
    """Has no range until it is given something."""

    def __init__(self, inner: Quantizer) -> None:
        super().__init__(inner)
        del self.inner

    def quantise(self, x: Tensor) -> Tensor:
        """Set the range once, and quantise."""
        if not hasattr(self, "inner"):
            self.inner = uniform(x.min().reshape(1), x.max().reshape(1), self.bits)
        return super().quantise(x)

    granularity = "tensor"  # type: ignore[assignment]


class RangePerToken(Wrapped):
    """Takes one range per image and token from what it is given."""

    granularity = "token"  # type: ignore[assignment]

    def quantise(self, x: Tensor) -> Tensor:
        """Set the ranges, and quantise."""
        rows = x.flatten(0, -2)
        self.inner = uniform(rows.amin(1), rows.amax(1), self.bits, axis=0)
        return self.inner.quantise(rows).reshape(x.shape)

    def groups(self, x: Tensor) -> Tensor:
        """Arrange as (images x tokens, channels)."""
        return x.flatten(0, -2)


class SharesStorage(Wrapped):
    """Returns a quantised tensor that shares its storage with the float values, which are then within reach."""

    def quantise(self, x: Tensor) -> Tensor:
        """Put both side by side."""
        self.both = torch.stack([super().quantise(x), x])
        return self.both[0]


class SortedGroups(Wrapped):
    """Has fine grids for groups of neighbours in size, as many as there are rows."""

    granularity = "channel"  # type: ignore[assignment]

    def quantise(self, x: Tensor) -> Tensor:
        """Sort, and quantise every group by itself."""
        self.order = x.flatten().argsort()
        rows = self.groups(x)
        self.inner = uniform(rows.amin(1), rows.amax(1), self.bits, axis=0)
        found = torch.empty_like(x).flatten()
        found[self.order] = self.inner.quantise(rows).flatten()
        return found.reshape(x.shape)

    def groups(self, x: Tensor) -> Tensor:
        """Arrange by size, in as many groups as the first axis has rows."""
        return x.flatten()[self.order].reshape(x.shape[0], -1)


def _is_batch(x: Tensor) -> bool:
    return x.shape[0] > 1 and not isinstance(x, nn.Parameter)


def _wrapping(wrapper: type[Wrapped], *, weights: bool = False, dynamic: bool = False) -> type[Planted]:
    """Return an adapter whose linear layers' inputs (or weights) are quantised by `wrapper`."""

    @dataclass(frozen=True)
    class Spoilt(Planted):
        def quantize(self, model: nn.Module, calibration: Calibration, bits: BitSpec) -> nn.Module:
            net = _minmax(model, calibration, bits)
            for operand in (net.weights if weights else net.activations).values():
                if operand.quantizer is not None and operand.name.split(".")[-2] in ("qkv", "fc1", "fc2"):
                    operand.quantizer = wrapper(operand.quantizer)
            return net.model

    Spoilt.__doc__ = wrapper.__doc__
    Spoilt.__name__ = wrapper.__name__
    Spoilt.dynamic = dynamic
    return Spoilt


Dynamic = _wrapping(RangePerToken, dynamic=True)
"""Not a fault: says that its ranges are found while the model runs."""


@dataclass(frozen=True)
class AnotherModel(Planted):
    """Measures another model, padded to about as many multiply-accumulates."""

    def quantize(self, model: nn.Module, calibration: Calibration, bits: BitSpec) -> nn.Module:
        """Quantise a ViT of half the depth and a wider MLP."""
        from timm.models.vision_transformer import VisionTransformer

        if not isinstance(model, VisionTransformer):
            raise Unsupported("only a ViT is replaced")
        sizes = {"img_size": 32, "patch_size": 8, "embed_dim": 32, "num_heads": 2, "num_classes": 10}
        other = VisionTransformer(depth=1, mlp_ratio=10.0, **sizes)
        return _minmax(other.eval(), calibration, bits).model


@dataclass(frozen=True)
class NoProduct(Planted):
    """Computes a linear layer without a matrix product, in float."""

    def quantize(self, model: nn.Module, calibration: Calibration, bits: BitSpec) -> nn.Module:
        """Replace the head."""
        net = _minmax(model, calibration, bits).model
        head = net.get_submodule("head")
        replacement = _Elementwise(head.fc if hasattr(head, "fc") else head)
        net.set_submodule("head.fc" if hasattr(head, "fc") else "head", replacement)
        return net


class _Elementwise(nn.Module):
    def __init__(self, layer: nn.Module) -> None:
        super().__init__()
        self.weight, self.bias = layer.weight, layer.bias

    def forward(self, x: Tensor) -> Tensor:
        return (x[..., None, :] * self.weight).sum(-1) + self.bias


@dataclass(frozen=True)
class FailsLater(Planted):
    """Returns a model that raises when it runs."""

    def quantize(self, model: nn.Module, calibration: Calibration, bits: BitSpec) -> nn.Module:
        """Return a model without a forward."""
        return nn.Module()


class Undecorated(Planted):
    """Has a parameter that no record would hold."""

    alpha: float = 0.5


@dataclass(frozen=True)
class Hidden(Planted):
    """Computes a product where the audit's list of functions does not see it."""

    def quantize(self, model: nn.Module, calibration: Calibration, bits: BitSpec) -> nn.Module:
        """Add an einsum in front of the model."""
        return _InFront(_minmax(model, calibration, bits).model)


class _InFront(nn.Module):
    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model
        self.register_buffer("identity", torch.eye(32))

    def forward(self, x: Tensor) -> Tensor:
        return self.model(torch.einsum("bchw,wv->bchv", x, self.identity))


@dataclass(frozen=True)
class Mutates(Planted):
    """Changes the float model."""

    def quantize(self, model: nn.Module, calibration: Calibration, bits: BitSpec) -> nn.Module:
        """Scale a parameter of the original."""
        with torch.no_grad():
            next(model.parameters()).mul_(0.5)
        return _minmax(model, calibration, bits).model


@dataclass(frozen=True)
class Raises(Planted):
    """Raises."""

    def quantize(self, model: nn.Module, calibration: Calibration, bits: BitSpec) -> nn.Module:
        """Fail."""
        raise RuntimeError("planted failure")


@dataclass(frozen=True)
class Random(Planted):
    """Draws from a generator that no seed reaches."""

    def quantize(self, model: nn.Module, calibration: Calibration, bits: BitSpec) -> nn.Module:
        """Perturb a bias."""
        net = _minmax(model, calibration, bits)
        generator = torch.Generator()
        generator.seed()
        with torch.no_grad():
            net.model.get_submodule("norm").bias.add_(torch.rand(1, generator=generator))
        return net.model


@dataclass(frozen=True)
class PeeksAtImages(Planted):
    """Calls itself data-free and asks for images."""

    category = "data-free"

    def quantize(self, model: nn.Module, calibration: Calibration, bits: BitSpec) -> nn.Module:
        """Calibrate on images."""
        assert isinstance(calibration, DataFree)
        return _minmax(model, calibration, bits).model


def _cheat(reach: Callable[[], Tensor], doc: str) -> type[Planted]:
    """Return an adapter that calls itself data-free and calibrates on what `reach` finds."""

    @dataclass(frozen=True)
    class Cheat(Planted):
        category = "data-free"

        def quantize(self, model: nn.Module, calibration: Calibration, bits: BitSpec) -> nn.Module:
            return _minmax(model, _Found(reach()), bits).model

    Cheat.__doc__ = doc
    Cheat.__name__ = reach.__name__.strip("_")
    return Cheat


class _Found(Calibration):
    def __init__(self, images: Tensor) -> None:
        self.images = images

    def batches(self) -> Iterator[Tensor]:
        yield self.images

    def forward(self, model: nn.Module, batch: Any) -> Tensor:
        return model(batch)


def _any_image() -> Path:
    """Return where an evaluation image lies; the guard acts on the name, so it need not exist."""
    from vitptq.tasks.mini.classification import MiniImageNet

    return MiniImageNet().folder / "val" / "0" / "0000.jpg"


def _as_tensor(image: Image.Image) -> Tensor:
    pixels = torch.from_numpy(np.array(image.convert("RGB").resize((32, 32))))
    return pixels.permute(2, 0, 1)[None].float()


def _from_registry() -> Tensor:
    task = registry.task("imagenet", "mini")
    return next(iter(task.calibration("mini_vit", 8, 0, torch.device("cpu")).batches()))


def _with_the_loader() -> Tensor:
    from vitptq.tasks.classification import images
    from vitptq.tasks.mini.models.classifiers import DATA_CONFIG

    image = _any_image()
    source = images.source("loader", image.parent, [image], DATA_CONFIG, 0)
    return next(images.batches(decoding.decoded(source), 1)).float()


def _from_memory() -> Tensor:
    from vitptq.tasks.classification import images

    return next(images.batches(next(iter(kept_images._KEPT.values())), 1)).float()


def _from_the_cache() -> Tensor:
    folder = locations.image_cache()
    assert folder is not None
    content = (folder / "imagenet-mini-evaluation-0" / "images.pixels").read_bytes()
    return torch.frombuffer(bytearray(content[: 3 * 32 * 32]), dtype=torch.uint8).reshape(1, 3, 32, 32).float()


def _from_the_generator() -> Tensor:
    from vitptq.tasks.mini.data import material

    return _as_tensor(Image.fromarray(material.photographs("evaluation")[0]))


def _with_pillow() -> Tensor:
    return _as_tensor(Image.open(_any_image()))


def _with_torchvision() -> Tensor:
    return torchvision.io.read_image(str(_any_image()))[None].float()


def _with_torch() -> Tensor:
    return torch.from_file(str(_any_image()), shared=False, size=12, dtype=torch.uint8)


def _from_a_folder_above() -> Tensor:
    folder = _any_image().parent
    while not folder.is_dir():
        folder = folder.parent
    above = os.open(folder.parent, os.O_RDONLY | os.O_DIRECTORY)
    file = os.open(_any_image().relative_to(folder.parent), os.O_RDONLY, dir_fd=above)
    return _as_tensor(Image.open(os.fdopen(file, "rb")))


def _with_opencv() -> Tensor:
    cv2 = importlib.import_module("cv2")
    return torch.from_numpy(cv2.imread(str(_any_image()))).permute(2, 0, 1)[None].float()


def _with_a_process() -> Tensor:
    content = subprocess.run(["cat", str(_any_image())], check=True, capture_output=True).stdout
    return _as_tensor(Image.open(io.BytesIO(content)))


def _in_silence() -> Tensor:
    try:
        return _with_pillow()
    except Exception:  # noqa: BLE001  the cheat: nothing happened
        return torch.randn(4, 3, 32, 32)


_READ = "a data-free method may not read any image: it "
CHEATS: dict[type[Planted], str] = {
    _cheat(_from_registry, "Asks the registry."): _READ + "asked the registry for tasks",
    _cheat(_with_the_loader, "Uses the task's own loader."): _READ + "opened ",
    _cheat(_from_memory, "Looks for decoded images in memory."): "StopIteration",
    _cheat(_from_the_cache, "Looks for decoded images on disk."): _READ + "opened ",
    _cheat(_from_the_generator, "Generates embedded data."): _READ + "opened ",
    _cheat(_with_pillow, "Opens an image with Pillow."): _READ + "opened ",
    _cheat(_with_torchvision, "Opens an image in C++."): _READ + "called torchvision.io.read_image with ",
    _cheat(_with_torch, "Maps an image into memory in C++."): _READ + "called torch.from_file with ",
    _cheat(_from_a_folder_above, "Opens an image relative to a folder."): _READ + "opened ",
    _cheat(_with_opencv, "Opens an image in C++."): _READ,
    _cheat(_with_a_process, "Lets a process read."): _READ + "started a process",
    _cheat(_in_silence, "Hides that it was refused."): _READ + "opened ",
}
"""Each way to an image that is closed to data-free methods, with the words in which it is refused."""


@dataclass(frozen=True)
class Paints(Planted):
    """Not a fault: keeps images that it made."""

    def quantize(self, model: nn.Module, calibration: Calibration, bits: BitSpec) -> nn.Module:
        """Keep two black images."""
        keep_images("painted", np.zeros((1, 2, 4, 4, 3), dtype=np.uint8))
        return super().quantize(model, calibration, bits)


@dataclass(frozen=True)
class TakesAnything(Planted):
    """Accepts a model that nobody knows."""

    def quantize(self, model: nn.Module, calibration: Calibration, bits: BitSpec) -> nn.Module:
        """Return it as it is."""
        return model


@dataclass(frozen=True)
class Undescribed(Planted):
    inferred = ()
    fidelity = "inferred"


def _fault(fault: Callable[[], object]) -> type[Planted]:
    @dataclass(frozen=True)
    class Faulty(Planted):
        """Does something that no adapter survives."""

        def quantize(self, model: nn.Module, calibration: Calibration, bits: BitSpec) -> nn.Module:
            fault()
            return model

    return Faulty


Hangs = _fault(lambda: time.sleep(600))
Dies = _fault(lambda: os.kill(os.getpid(), signal.SIGKILL))
EXPECTED: dict[type[Planted], str] = {
    FloatLayer: "input of linear stayed float",
    InPlace: "input of linear stayed float",
    MoreBits: "has 8 bits, W4A4 allows 4",
    OffGrid: "values off the grid",
    Hidden: "the audit cannot see",
    LyingGrid: "values off the grid",
    LyingZeros: "values off the grid",
    LyingHuge: "values off the grid",
    NoProduct: "the audit cannot see",
    _wrapping(FloatForBatches): "values off the grid of its quantizer (on several images)",
    _wrapping(WideForBatches): "values off the grid of its quantizer (on several images)",
    _wrapping(FloatLater): "values off the grid of its quantizer (on several images)",
    _wrapping(Noisy): "two runs on the same images differ",
    _wrapping(RangePerBatch): "its grid changed while the model ran",
    _wrapping(RangePerToken): "its grid changed while the model ran",
    _wrapping(NotFrozen): "its grid changed while the model ran",
    _wrapping(Lazy): "its grid changed while the model ran",
    _wrapping(SortedGroups, weights=True): "weight of linear has values off the grid",
    AnotherModel: "another model was measured",
    FailsLater: "NotImplementedError",
    Undecorated: "its parameters are in no record",
    Mutates: "parameters, buffers or modules changed",
    Raises: "RuntimeError: planted failure",
    Random: "two runs differ",
    PeeksAtImages: "'DataFree' object has no attribute 'batches'",
    TakesAnything: "accepted a model without an operand map",
    Undescribed: "`inferred` is empty",
    **CHEATS,
}
"""Each planted fault with the words in which the contract test must name it."""


@dataclass(frozen=True)
class Tells(Planted):
    """Tells what it does and keeps state."""

    def quantize(self, model: nn.Module, calibration: Calibration, bits: BitSpec) -> nn.Module:
        """Report, note, and leave a file in the work folder."""
        folder = reporting.work_folder()
        assert folder is not None
        folder.mkdir(parents=True, exist_ok=True)
        reporting.report("block 1/2, loss 0.5", 1, 2)
        reporting.note("told twice")
        reporting.note("told twice")
        reporting.note_details("finished before", [path.name for path in sorted(folder.iterdir())])
        (folder / "block-1").write_text("state")
        return _minmax(model, calibration, bits).model
