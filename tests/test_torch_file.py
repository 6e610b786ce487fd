"""PyTorch checkpoints: tensors come out, and nothing else ever runs."""

import io
import os
import pickle
import struct
from collections import OrderedDict

import numpy as np
import pytest

from verger.architectures import EFFICIENTNET_LITE0, convolutions
from verger.errors import SettingError
from verger.torch_file import read_torch_state
from verger.weights import read_torch, weights_content


class Storage:
    """Pickles as a persistent id, as torch.FloatStorage does."""


class Tensor:
    def __init__(self, offset, size, stride, afterwards=None):
        self.arguments = (Storage(), offset, size, stride, False, OrderedDict())
        self.afterwards = afterwards

    def __reduce__(self):
        return _rebuild_tensor_v2, self.arguments, self.afterwards


def _rebuild_tensor_v2(*arguments):
    raise AssertionError("stands for torch's function in the file, and is never called")


class FloatStorage:
    pass


class TorchPickler(pickle._Pickler):
    """Writes names as PyTorch's own pickles have them; Python's pickler is the one that can be taught to."""

    def persistent_id(self, thing):
        return ("storage", FloatStorage, "k0", "cpu", 12, None) if isinstance(thing, Storage) else None

    def save_global(self, thing, name=None):
        module = {_rebuild_tensor_v2: "torch._utils", FloatStorage: "torch"}.get(thing)
        if module is None:
            super().save_global(thing, name)
        else:
            self.write(f"c{module}\n{thing.__name__}\n".encode())
            self.memoize(thing)


TorchPickler.dispatch = {
    **pickle._Pickler.dispatch,
    type: TorchPickler.save_global,
    type(_rebuild_tensor_v2): TorchPickler.save_global,
}


def checkpoint(state, magic=0x1950A86A20F9469CFC6C):
    buffer = io.BytesIO()
    for part in (magic, 1001, {"little_endian": True}, state, ["k0"]):
        TorchPickler(buffer, protocol=2).dump(part)
    return buffer.getvalue() + struct.pack("<q12f", 12, *range(12))


def test_a_tensor_is_read_with_its_offset_and_strides():
    state = read_torch_state(checkpoint(OrderedDict(a=Tensor(2, (2, 3), (1, 2)))))
    np.testing.assert_array_equal(state["a"], [[2, 4, 6], [3, 5, 7]])


class Malice:
    def __init__(self, function, *arguments):
        self.call = function, arguments

    def __reduce__(self):
        return self.call


@pytest.mark.parametrize("function", [os.system, eval, getattr])
def test_a_malicious_checkpoint_is_refused_and_nothing_of_it_runs(tmp_path, function):
    mark = tmp_path / "it-ran"
    arguments = {os.system: [f"touch {mark}"], eval: [f"open({str(mark)!r}, 'w')"], getattr: ["text", "upper"]}[
        function
    ]
    with pytest.raises(SettingError, match="asks for `") as caught:
        read_torch_state(checkpoint(OrderedDict(a=Malice(function, *arguments))))
    assert function.__name__ in caught.value.received or "posix" in caught.value.received
    assert not mark.exists()


@pytest.mark.parametrize(
    ("offset", "size", "stride"),
    [(0, (13,), (1,)), (6, (7,), (1,)), (0, (2, 2), (-1, 1)), (-1, (2,), (1,)), (0, (99,), (0,))],
)
def test_a_tensor_that_reaches_outside_its_storage_is_refused(offset, size, stride):
    with pytest.raises(SettingError, match="does not fit its storage"):
        read_torch_state(checkpoint(OrderedDict(a=Tensor(offset, size, stride))))


def test_a_tensor_cannot_grow_after_it_was_made():
    with pytest.raises(SettingError, match="does not fit its storage"):
        read_torch_state(checkpoint(OrderedDict(a=Tensor(0, (2,), (1,), afterwards={"shape": (999,)}))))


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"PK\x03\x04 a zip",
        checkpoint(OrderedDict(), magic=7),
        checkpoint(OrderedDict(a=Tensor(0, (12,), (1,))))[:-4],
    ],
    ids=["empty", "zip", "other magic", "truncated"],
)
def test_what_is_not_a_legacy_checkpoint_is_refused(content):
    with pytest.raises(SettingError, match="legacy format"):
        read_torch_state(content)


def test_the_checkpoint_in_the_package_holds_every_weight_of_lite0(tmp_path):
    layers = read_torch(weights_content("efficientnet_lite0", None, tmp_path), convolutions(EFFICIENTNET_LITE0))
    assert [layer.kernel.shape for layer in layers[:3]] == [(32, 3, 3, 3), (32, 1, 3, 3), (16, 32, 1, 1)]
    assert len(layers) == 49


def test_a_checkpoint_of_another_network_is_refused():
    with pytest.raises(SettingError, match=r"_conv_stem\.weight"):
        read_torch(checkpoint(OrderedDict(a=Tensor(0, (12,), (1,)))), convolutions(EFFICIENTNET_LITE0))
