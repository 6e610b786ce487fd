"""PyTorch checkpoints in the format from before PyTorch 1.6: several pickles, then raw numbers. Needs no PyTorch.

The only pickle that Verger ever reads: the weights of EfficientNet-Lite0 come in this format and in no other. They
are read once, to make ONNX, and by an unpickler that knows tensors and nothing else.
"""

import io
import math
import pickle
from collections import OrderedDict
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.lib.stride_tricks import as_strided
from numpy.typing import NDArray

from verger.errors import SettingError

_TORCH_MAGIC, _TORCH_PROTOCOL = 0x1950A86A20F9469CFC6C, 1001
_STORAGES = {"FloatStorage": "<f4", "LongStorage": "<i8"}  # the only two that a network's state needs
_BROKEN_PICKLE = (
    pickle.UnpicklingError, EOFError, ValueError, KeyError, IndexError, TypeError, AttributeError, OverflowError,
)  # fmt: skip


@dataclass(frozen=True)
class _Storage:
    """A run of numbers that follows the pickles. `numel` counts them."""

    key: str
    dtype: str
    numel: int


@dataclass(frozen=True)
class _Tensor:
    """A view of a storage. `offset` and `strides` count numbers, not bytes."""

    storage: _Storage
    offset: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]


class _TensorUnpickler(pickle.Unpickler):
    """Makes tensors and nothing else: any other name in the file is refused before it is even imported."""

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) == ("collections", "OrderedDict"):
            return OrderedDict
        if (module, name) == ("torch._utils", "_rebuild_tensor_v2"):
            return _rebuild_tensor
        if module == "torch" and name in _STORAGES:
            return _STORAGES[name]
        raise SettingError(
            "a weights file that holds tensors and nothing else",
            f"a file that asks for `{module}.{name}`",
            "Nothing of it was run. Do not use this file; take the weights from their official source.",
        )

    def persistent_load(self, identity: Any) -> _Storage:
        _, dtype, key, _, numel, *_ = identity
        return _Storage(str(key), str(dtype), int(numel))


def _rebuild_tensor(storage: _Storage, offset: int, size: list[int], stride: list[int], *_unused: object) -> _Tensor:
    """Stands in for torch's function of that name, with its positional arguments."""
    return _Tensor(storage, offset, tuple(size), tuple(stride))


def read_torch_state(data: bytes) -> dict[str, NDArray[Any]]:
    """Tensors of a PyTorch checkpoint in the format from before 1.6: pickles, then raw numbers.

    Raises:
        SettingError: the file is damaged, in another format, or holds anything that is not a tensor.
    """
    file = io.BytesIO(data)
    try:
        if _TensorUnpickler(file).load() != _TORCH_MAGIC or _TensorUnpickler(file).load() != _TORCH_PROTOCOL:
            raise ValueError("not a PyTorch checkpoint")
        _TensorUnpickler(file).load()  # the writer's machine: byte order and sizes of C types
        state, keys = _TensorUnpickler(file).load(), _TensorUnpickler(file).load()
        tensors: dict[str, _Tensor] = {name: value for name, value in state.items() if isinstance(value, _Tensor)}
        storages = {tensor.storage.key: tensor.storage for tensor in tensors.values()}
        numbers = {key: _read_storage(file, storages[key]) for key in keys}
        return {name: _view(numbers[tensor.storage.key], tensor) for name, tensor in tensors.items()}
    except _BROKEN_PICKLE as error:
        raise SettingError(
            "a PyTorch state dictionary in the legacy format (`_use_new_zipfile_serialization=False`)",
            f"a file that breaks off or differs: {error}",
            "Reinstall the package that it came with, or leave --weights out.",
        ) from error


def _view(numbers: NDArray[Any], tensor: _Tensor) -> NDArray[Any]:
    """A tensor's numbers. NumPy makes such views unchecked, so one that reaches outside is stopped here.

    Not earlier: a pickle can change what it made, up to its last byte.
    """
    offset, shape, strides = tensor.offset, tensor.shape, tensor.strides
    last = offset + sum((length - 1) * step for length, step in zip(shape, strides, strict=True))
    whole = all(type(value) is int and value >= 0 for value in (offset, *shape, *strides))
    if not whole or last >= numbers.size or math.prod(shape) > numbers.size:
        raise ValueError(f"a tensor of shape {shape}, strides {strides} and offset {offset} does not fit its storage")
    return as_strided(numbers[offset:], shape, [step * numbers.itemsize for step in strides], writeable=False)


def _read_storage(file: io.BytesIO, storage: _Storage) -> NDArray[Any]:
    if storage.dtype not in _STORAGES.values():
        raise ValueError(f"storage {storage.key} holds {storage.dtype}")
    dtype = np.dtype(storage.dtype)
    numel = int.from_bytes(file.read(8), "little")
    raw = file.read(storage.numel * dtype.itemsize)
    if numel != storage.numel or len(raw) != storage.numel * dtype.itemsize:
        raise EOFError(f"storage {storage.key} should hold {storage.numel} numbers")
    return np.frombuffer(raw, dtype=dtype)
