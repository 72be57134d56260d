"""Read and write MindSpore `.ckpt` files without MindSpore.

The format is one protocol-buffer message: field 1, repeated, is `Value {1: name, 2: Tensor {1: dims (varints),
2: type name such as "Float32", 3: little-endian bytes}}`. A tensor above 512 MB is split over consecutive
values of the same name. A scalar has no dims (older writers: the single dim 0).
"""

from __future__ import annotations

import math
import mmap
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import numpy as np

from harness.errors import InputError

#: MindSpore type name -> numpy type of the stored bytes. BFloat16 is widened when read.
_TYPES = {
    "Bool": "?",
    "Int8": "<i1",
    "Int16": "<i2",
    "Int32": "<i4",
    "Int64": "<i8",
    "UInt8": "<u1",
    "UInt16": "<u2",
    "UInt32": "<u4",
    "UInt64": "<u8",
    "Float16": "<f2",
    "BFloat16": "<u2",
    "Float32": "<f4",
    "Float64": "<f8",
}
_NAMES = {np.dtype(code): name for name, code in _TYPES.items() if name != "BFloat16"}

#: Bytes of one tensor in one value; MindSpore's own limit.
SLICE_BYTES = 512 * 1024 * 1024

_VARINT, _BYTES = 0, 2


class _MalformedError(ValueError):
    pass


def read(path: Path, wanted: Callable[[str], bool] = lambda name: True) -> dict[str, np.ndarray]:
    """Name -> array, in the order of the file.

    Parameters
    ----------
    path
        The `.ckpt` file.
    wanted
        Says which names to read; the bytes of the others (optimiser state) are not touched.

    Raises
    ------
    InputError
        The file is missing, truncated, or not a MindSpore checkpoint.
    """
    path = Path(path)
    if not path.is_file():
        raise InputError(f"{path} does not exist")
    size = path.stat().st_size
    try:
        if size == 0:
            raise _MalformedError("it is empty")
        with path.open("rb") as stream, mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ) as buffer:
            return _parse(buffer, size, wanted)
    except _MalformedError as error:
        raise InputError(
            f"{path} ({size} bytes) is not a whole MindSpore checkpoint: {error}. "
            "Is the download complete, and is it a file of the CellFM release?"
        ) from None


def _parse(buffer: mmap.mmap, size: int, wanted: Callable[[str], bool]) -> dict[str, np.ndarray]:
    slices: dict[str, list[bytes]] = {}
    forms: dict[str, tuple[str, tuple[int, ...]]] = {}
    for field, wire, start, end in _fields(buffer, 0, size):
        if (field, wire) != (1, _BYTES):
            raise _MalformedError(f"field {field} of type {wire} before byte {end}, expected a named tensor")
        name, kind, dims, data = _value(buffer, start, end)
        if not wanted(name):
            continue
        if forms.setdefault(name, (kind, dims))[0] != kind:
            raise _MalformedError(f"{name} is stored in two types")
        slices.setdefault(name, []).append(buffer[data[0] : data[1]])
    return {name: _array(name, kind, dims, b"".join(slices[name])) for name, (kind, dims) in forms.items()}


def _varint(buffer: mmap.mmap, at: int, end: int) -> tuple[int, int]:
    value = 0
    for shift in range(0, 70, 7):
        if at >= end:
            raise _MalformedError(f"it ends inside a number at byte {at}")
        byte = buffer[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, at
    raise _MalformedError(f"a number of more than ten bytes before byte {at}")


def _fields(buffer: mmap.mmap, at: int, end: int) -> Iterator[tuple[int, int, int, int]]:
    """(field number, wire type, start, end) of each field; a varint's `start` is its value."""
    while at < end:
        key, at = _varint(buffer, at, end)
        field, wire = key >> 3, key & 7
        if wire == _VARINT:
            value, at = _varint(buffer, at, end)
            yield field, wire, value, at
        elif wire == _BYTES:
            length, at = _varint(buffer, at, end)
            if length > end - at:
                raise _MalformedError(f"{length} bytes are announced at byte {at} and {end - at} are there")
            yield field, wire, at, at + length
            at += length
        else:
            raise _MalformedError(f"a field of type {wire} before byte {at}")


def _text(buffer: mmap.mmap, start: int, end: int) -> str:
    try:
        return buffer[start:end].decode()
    except UnicodeDecodeError:
        raise _MalformedError(f"the name at byte {start} is not text") from None


def _value(buffer: mmap.mmap, start: int, end: int) -> tuple[str, str, tuple[int, ...], tuple[int, int]]:
    """Name, type name, dims and byte span of one stored value."""
    name, tensor = "", None
    for field, wire, first, last in _fields(buffer, start, end):
        if (field, wire) == (1, _BYTES):
            name = _text(buffer, first, last)
        elif (field, wire) == (2, _BYTES):
            tensor = (first, last)
    if not name or tensor is None:
        raise _MalformedError(f"the value at byte {start} has no name or no tensor")
    kind, dims, data = "", [], (start, start)
    for field, wire, first, last in _fields(buffer, *tensor):
        if (field, wire) == (1, _VARINT):
            dims.append(first)
        elif (field, wire) == (1, _BYTES):  # packed
            while first < last:
                dim, first = _varint(buffer, first, last)
                dims.append(dim)
        elif (field, wire) == (2, _BYTES):
            kind = _text(buffer, first, last)
        elif (field, wire) == (3, _BYTES):
            data = (first, last)
    return name, kind, tuple(dims), data


def _array(name: str, kind: str, dims: tuple[int, ...], data: bytes) -> np.ndarray:
    if kind not in _TYPES:
        raise _MalformedError(f"{name} is of type {kind or 'none'}, which is not a number")
    dtype = np.dtype(_TYPES[kind])
    shape = () if dims == (0,) and len(data) == dtype.itemsize else dims
    if math.prod(shape) * dtype.itemsize != len(data):
        raise _MalformedError(f"{name} is {kind} {list(dims)} and holds {len(data)} bytes")
    array = np.frombuffer(data, dtype).reshape(shape)
    if kind == "BFloat16":
        return (array.astype(np.uint32) << np.uint32(16)).view(np.float32)
    return array.copy()


def write(path: Path, tensors: Mapping[str, np.ndarray], *, slice_bytes: int = SLICE_BYTES) -> None:
    """Write a checkpoint that `mindspore.load_checkpoint` reads.

    Parameters
    ----------
    path
        File to write.
    tensors
        Name -> array of booleans, integers or floats.
    slice_bytes
        Longer tensors are split over several values.
    """
    with Path(path).open("wb") as stream:
        for name, given in tensors.items():
            array = np.asarray(given, order="C")
            array = array.astype(array.dtype.newbyteorder("<"), copy=False)
            if array.dtype not in _NAMES:
                raise TypeError(f"{name} is {array.dtype}, which a MindSpore checkpoint cannot hold")
            head = b"".join(b"\x08" + _encode(dim) for dim in array.shape)
            head += _delimited(2, _NAMES[array.dtype].encode())
            data = array.tobytes()
            for start in range(0, max(len(data), 1), slice_bytes):
                tensor = head + _delimited(3, data[start : start + slice_bytes])
                stream.write(_delimited(1, _delimited(1, name.encode()) + _delimited(2, tensor)))


def _encode(value: int) -> bytes:
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


def _delimited(field: int, data: bytes) -> bytes:
    return _encode(field << 3 | _BYTES) + _encode(len(data)) + data
