"""A second device on machines without one: tensors of the CPU, told apart by their storages, as strictly as CUDA does.

Every tensor keeps its own memory, views, hooks and gradients, because it is an ordinary one; what is emulated is on
which device it counts as being. Python asks `Tensor.device`, which looks at the storage's mark; every operation passes
a dispatch mode, which refuses to mix devices where CUDA refuses it, marks what comes out, and notes what makes the
host wait or copies to the device. What a GPU's own kernels do (rounding, missing kernels) is not emulated.
"""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType, MappingProxyType
from typing import Any, ClassVar

import pytest
import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode

CPU = torch.device("cpu")
GPU = torch.device("cuda", 0)
ROOT = f"{Path(__file__).resolve().parents[1]}/"
aten = torch.ops.aten

INDEXED = frozenset({"index", "index_put", "index_put_", "_index_put_impl_", "_unsafe_index", "_unsafe_index_put"})
"""Their indices may stay on the CPU, which costs a copy."""
SCALARS = frozenset({"where", "masked_fill", "masked_fill_", "index_fill", "index_fill_", "fill", "fill_", "lerp_"})
"""Beside what torch tags as pointwise: operations that take a CPU tensor without dimensions for a number."""
MIXES = frozenset({"copy_", "_copy_from", "set_", "_has_compatible_shallow_copy_type", "is_same_size"})
WAITS = frozenset(
    {"_local_scalar_dense", "nonzero", "equal", "masked_select", "_unique2", "unique_dim", "unique_consecutive"}
    | {"bincount", "is_nonzero"}
)
"""Operations whose result's size or value the host needs."""
NOT_REPEATABLE = frozenset(
    {"cumsum", "kthvalue", "_histogramdd_bin_edges", "histc", "put_", "_adaptive_avg_pool2d_backward"}
)
"""Operations without a deterministic form on CUDA (torch.use_deterministic_algorithms), of floats."""
FREE_MEMORY = 2**34


def is_marked(x: Tensor) -> bool:
    """Tell whether a tensor counts as being on the emulated GPU."""
    return getattr(x.untyped_storage(), "on_emulated_gpu", False)


def device_of(x: Tensor) -> torch.device:
    """Return the device that a tensor counts as being on."""
    return GPU if is_marked(x) else CPU


class MixedDevices(RuntimeError):
    """What CUDA refuses: an operation on tensors of two devices."""


class EmulatedCuda(TorchDispatchMode):
    """Refuses what mixes devices, marks what is on the GPU, and counts what makes the host wait."""

    def __init__(self) -> None:
        super().__init__()
        self.waits: Counter[str] = Counter()
        """How often the host waited for the device, by the line of the project that asked."""
        self.uploads: Counter[str] = Counter()
        """How often something was copied from the host to the device, likewise."""
        self.not_repeatable: set[str] = set()
        """Operations met that CUDA has no deterministic form of."""
        self.python_call: tuple[Any, Any] = ((), {})
        """The arguments of what Python called last."""

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Run an operation where its tensors are."""
        kwargs = dict(kwargs or {})
        name = func._schema.name.partition("::")[2]
        tensors = list(tensors_in(args, kwargs))
        device = self._target(func, name, args, kwargs, tensors)
        if "device" in kwargs:
            kwargs["device"] = CPU
        kwargs.pop("pin_memory", None)
        self._note(name, args, tensors, device)
        before = {x.untyped_storage()._cdata for x in tensors}
        result = func(*args, **kwargs)
        if name != "set_":
            for x in tensors_in((result,)):
                if x.untyped_storage()._cdata not in before:
                    x.untyped_storage().on_emulated_gpu = device == GPU
        return result

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        """Let torch call the method above as it is: its wrapper takes as long again, and nothing is compiled here."""
        return False

    def _target(self, func: Any, name: str, args: Any, kwargs: Any, tensors: list[Tensor]) -> torch.device:
        """Return the device on which the result of an operation is, or refuse it."""
        generator = next((x for x in [*args, *kwargs.values()] if isinstance(x, torch._C.Generator)), None)
        if name in MIXES:
            device = device_of(tensors[0])
        elif name in INDEXED:
            device = _of_indexed(name, args)
        else:
            device = _common(func, name, tensors) if tensors else CPU
        device = self._asked(kwargs.get("device"), device)
        if generator is not None and (generator._cdata in _Generator.on_gpu) != (device == GPU):
            raise MixedDevices(f"{name}: the generator is of another device than the tensor, which is on {device}")
        return device

    def _asked(self, asked: Any, device: torch.device) -> torch.device:
        """Return the device that an operation is asked for.

        Inside of operations, torch asks for that of their tensors, which it takes for the CPU.
        """
        if asked is None or torch.device(asked).type == "cuda":
            return device if asked is None else GPU
        args, kwargs = self.python_call
        if kwargs.get("device") is not None:
            return CPU
        return GPU if any(is_marked(x) for x in tensors_in(args, kwargs)) else CPU

    def _note(self, name: str, args: Any, tensors: list[Tensor], device: torch.device) -> None:
        on_gpu = any(is_marked(x) for x in tensors)
        if on_gpu and (name in WAITS or _by_mask(name, args)):
            self.waits[_asked_by(name)] += 1
        elif name == "_to_copy" and on_gpu != (device == GPU):
            (self.waits if on_gpu else self.uploads)[_asked_by("copy")] += 1
        elif name == "copy_" and is_marked(tensors[0]) != is_marked(tensors[-1]):
            (self.uploads if device == GPU else self.waits)[_asked_by("copy")] += 1
        elif name in INDEXED and device == GPU and not on_gpu_only(tensors):
            self.uploads[_asked_by("index")] += 1
        if on_gpu and name in NOT_REPEATABLE and tensors[0].is_floating_point():
            self.not_repeatable.add(name)


class PythonCalls(TorchFunctionMode):
    """Tells the emulation what Python called, as torch's own parts ask for the device of its tensors, too."""

    def __init__(self, emulation: EmulatedCuda) -> None:
        super().__init__()
        self.emulation = emulation

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Call the function."""
        outer, self.emulation.python_call = self.emulation.python_call, (args, kwargs or {})
        try:
            return func(*args, **(kwargs or {}))
        finally:
            self.emulation.python_call = outer


def on_gpu_only(tensors: list[Tensor]) -> bool:
    """Tell whether all tensors are on the GPU, numbers aside."""
    return all(is_marked(x) for x in tensors if x.ndim)


def tensors_in(args: Any, kwargs: Any = MappingProxyType({})) -> Iterator[Tensor]:
    """Yield the tensors among arguments, and in their lists."""
    for x in (*args, *kwargs.values()):
        if isinstance(x, Tensor):
            yield x
        elif isinstance(x, list | tuple):
            yield from tensors_in(x)


def _common(func: Any, name: str, tensors: list[Tensor]) -> torch.device:
    marks = {is_marked(x) for x in tensors}
    if len(marks) == 1:  # nearly always
        return GPU if marks == {True} else CPU
    numbers = torch.Tag.pointwise in func.tags or name in SCALARS or name.startswith("_foreach")
    weighty = [x for x in tensors if x.ndim or not numbers] or tensors
    devices = {device_of(x) for x in weighty}
    if len(devices) > 1 and len(weighty) == len(tensors) and all(x.ndim == 0 for x in tensors) and numbers:
        devices = {GPU}
    stray = [x for x in tensors if not x.ndim and is_marked(x)] if devices == {CPU} else []
    written = [
        x
        for argument, x in zip(func._schema.arguments, tensors, strict=False)
        if argument.alias_info is not None and argument.alias_info.is_write
    ]
    if len(devices) > 1 or stray or (len(devices) == 1 and any(device_of(x) not in devices for x in written)):
        shapes = ", ".join(f"{tuple(x.shape)} on {device_of(x).type}" for x in tensors)
        raise MixedDevices(f"{name}: expected all tensors to be on the same device, found {shapes}")
    return devices.pop()


def _of_indexed(name: str, args: Any) -> torch.device:
    device = device_of(args[0])
    if device == CPU and any(is_marked(x) for x in tensors_in(args[1])):
        raise MixedDevices(f"{name}: indices should be on the CPU, as the indexed tensor is")
    if len(args) > 2 and isinstance(args[2], Tensor) and args[2].ndim and device_of(args[2]) != device:
        raise MixedDevices(f"{name}: values on {device_of(args[2])}, the indexed tensor on {device}")
    return device


def _by_mask(name: str, args: Any) -> bool:
    return name in INDEXED and any(x.dtype == torch.bool for x in tensors_in(args[1]))


def _asked_by(what: str) -> str:
    """Return the innermost line of the project on the stack."""
    frame: FrameType | None = sys._getframe(1)
    while frame is not None:
        file = frame.f_code.co_filename
        if file.startswith(ROOT) and "/site-packages/" not in file and file != __file__:
            return f"{file.removeprefix(ROOT)}:{frame.f_lineno} {what}"
        frame = frame.f_back
    return what


class _Generator(torch.Generator):
    """A generator that counts as one of the emulated GPU; it draws what one of the CPU draws."""

    on_gpu: ClassVar[set[int]] = set()
    """Torch hands a mode another Python object for the same generator, so they are known by their addresses."""

    def __new__(cls, device: Any = "cpu") -> _Generator:
        made = super().__new__(cls)
        made.place = GPU if torch.device(device).type == "cuda" else CPU  # type: ignore[attr-defined]
        (cls.on_gpu.add if made.place == GPU else cls.on_gpu.discard)(made._cdata)
        return made

    def __init__(self, device: Any = "cpu") -> None:
        """Leave it as `__new__` made it."""

    @property
    def device(self) -> torch.device:  # type: ignore[override]
        """Return the device that this counts as one of."""
        return self.place  # type: ignore[attr-defined,no-any-return]


def _numpy(self: Tensor, *args: Any, **kwargs: Any) -> Any:
    if is_marked(self):
        raise TypeError("can't convert cuda:0 device type tensor to numpy. Use Tensor.cpu() first.")
    with torch._C.DisableTorchFunction():  # it would come here again
        return torch._C.TensorBase.numpy(self, *args, **kwargs)


def _new_tensor(self: Tensor, data: Any, **kwargs: Any) -> Tensor:
    return torch.tensor(data, **{"dtype": self.dtype, "device": self.device} | kwargs)


def _clone_storage(self: torch.UntypedStorage) -> torch.UntypedStorage:
    copied = torch.UntypedStorage(self.nbytes())
    copied.on_emulated_gpu = getattr(self, "on_emulated_gpu", False)  # type: ignore[attr-defined]
    copied.copy_(self)
    return copied


def _methods(mode: EmulatedCuda) -> dict[str, Any]:
    def to(self: Tensor, *args: Any, copy: bool = False, **kwargs: Any) -> Tensor:
        other = args[0] if args and isinstance(args[0], Tensor) else kwargs.pop("other", None)
        if isinstance(other, Tensor):
            args = (other.device, other.dtype, *args[1:])
        memory_format = kwargs.pop("memory_format", torch.preserve_format)
        device, dtype, non_blocking, _ = torch._C._nn._parse_to(*args, **kwargs)
        device = self.device if device is None else GPU if device.type == "cuda" else device
        if device == self.device and not copy and dtype in (None, self.dtype):
            return self
        outer, mode.python_call = mode.python_call, ((), {"device": device})
        try:
            return aten._to_copy.default(
                self, dtype=dtype, device=device, non_blocking=non_blocking, memory_format=memory_format
            )
        finally:
            mode.python_call = outer

    def to_list(self: Tensor) -> Any:
        if is_marked(self):
            mode.waits[_asked_by("tolist")] += 1
        with torch._C.DisableTorchFunction():  # it would come here again
            return torch._C.TensorBase.tolist(self)

    return {
        "device": property(device_of),
        "is_cuda": property(is_marked),
        "is_cpu": property(lambda self: not is_marked(self)),
        "get_device": lambda self: 0 if is_marked(self) else -1,
        "to": to,
        "cpu": lambda self, *_, **__: self.to(CPU),
        "cuda": lambda self, *_, **__: self.to(GPU),
        "numpy": _numpy,
        "tolist": to_list,
        "new_tensor": _new_tensor,
        "pin_memory": lambda self, *_: self,
    }


CUDA: dict[str, Callable[..., Any]] = {
    "_lazy_init": lambda: None,
    "init": lambda: None,
    "is_available": lambda: True,
    "is_initialized": lambda: True,
    "device_count": lambda: 1,
    "current_device": lambda: 0,
    "set_device": lambda device: None,
    "synchronize": lambda device=None: None,
    "empty_cache": lambda: None,
    "get_device_name": lambda device=None: "emulated GPU",
    "get_device_capability": lambda device=None: (9, 0),
    "mem_get_info": lambda device=None: (FREE_MEMORY, 2 * FREE_MEMORY),
    "memory_allocated": lambda device=None: 0,
    "memory_reserved": lambda device=None: 0,
    "max_memory_allocated": lambda device=None: 0,
    "reset_peak_memory_stats": lambda device=None: None,
    "is_current_stream_capturing": lambda: False,
}


@contextmanager
def emulated_cuda() -> Iterator[EmulatedCuda]:
    """Let this thread have a GPU inside: `cuda:0`."""
    torch._C._ensureCUDADeviceGuardSet()
    mode = EmulatedCuda()
    lifted = torch._C._only_lift_cpu_tensors()
    with pytest.MonkeyPatch.context() as patch:
        for name, value in _methods(mode).items():
            patch.setattr(torch.Tensor, name, value)
        for name, function in CUDA.items():
            patch.setattr(torch.cuda, name, function)
        patch.setattr(torch.UntypedStorage, "clone", _clone_storage)
        patch.setattr(torch, "Generator", _Generator)
        torch._C._set_only_lift_cpu_tensors(True)
        try:
            with mode, PythonCalls(mode):
                yield mode
        finally:
            torch._C._set_only_lift_cpu_tensors(lifted)
