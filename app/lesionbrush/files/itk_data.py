"""The voxels of NRRD and MetaImage files, each read once and counted.

ITK fills what is missing with whatever was in memory, leaves unread what is too much, and cuts numbers of
text that its type cannot hold. Here there are as many voxels as the header says, or the file is refused.
"""

from __future__ import annotations

import math
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, Literal

import numpy as np

from lesionbrush.core.volume import Array
from lesionbrush.errors import DamagedFile

_CHUNK_BYTES = 1 << 20
_PADDING_BYTES = 511  # some writers end a file with a line break, or fill a block with zeros
_PADDING = b"\0 \t\r\n"
_BLANKS = b" \t\r\n\v\f"
_GZIP = b"\x1f\x8b"
_LONGEST_WORD = 1000
_EXACT = 1 << 53  # beyond, not every whole number is a float64


@dataclass(frozen=True)
class PixelLayout:
    """How and where voxels are stored.

    begin: offset of the first byte, or of the lines to skip; None where the voxels are the end of the file.
    skip_lines, skip_bytes: to leave out after `begin`, in this order.
    packed_bytes: how long the compressed stream should be; None where that is not stated.
    """

    encoding: Literal["raw", "zlib", "text", "hex"]
    begin: int | None = 0
    skip_lines: int = 0
    skip_bytes: int = 0
    packed_bytes: int | None = None


def read_voxels(path: Path, layout: PixelLayout, shape: tuple[int, ...], dtype: np.dtype[Any]) -> Array:
    """In native byte order, first axis fastest. Raises DamagedFile, ValueError, OSError."""
    need = math.prod(shape) * dtype.itemsize
    with path.open("rb") as stream:
        begin = path.stat().st_size - need if layout.begin is None else layout.begin
        if begin < 0:
            raise _too_short(path.stat().st_size, need)
        stream.seek(begin)
        for _ in range(layout.skip_lines):
            stream.readline()
        stream.seek(layout.skip_bytes, 1)
        if layout.encoding == "raw":
            held = max(path.stat().st_size - stream.tell(), 0)
            if held < need:  # before memory is taken
                raise _too_short(held, need)
        array = np.empty(shape, dtype, order="F")
        slice_bytes = math.prod(shape[:2]) * dtype.itemsize
        padding = min(_PADDING_BYTES, slice_bytes - 1) if layout.encoding == "raw" else 0
        _fill(array.reshape(-1, order="F").view(np.uint8), _pieces(stream, layout, dtype), padding)
    if not dtype.isnative:
        array = array.byteswap(inplace=True).view(dtype.newbyteorder("="))
    return array


def _fill(raw: Array, pieces: Iterator[bytes], padding: int) -> None:
    """padding: how many bytes without meaning may follow."""
    end, rest = 0, b""
    for piece in pieces:
        taken = min(len(piece), raw.size - end)
        raw[end : end + taken] = np.frombuffer(piece, np.uint8, taken)
        end += taken
        rest += piece[taken:]
        if len(rest) > padding or rest.strip(_PADDING):
            raise DamagedFile(
                f"it holds more voxels than its header says: the sizes and the type need {raw.size} bytes, "
                "and more follow. Where the voxels begin is not sure: correct the header, or save it again"
            )
    if end < raw.size:
        raise _too_short(end, raw.size)


def _too_short(held: int, need: int) -> ValueError:
    return ValueError(
        f"it holds fewer voxels than its header says: the sizes and the type need {need} bytes, there are "
        f"{held}. Copy it, or save it, again"
    )


def _pieces(stream: BinaryIO, layout: PixelLayout, dtype: np.dtype[Any]) -> Iterator[bytes]:
    if layout.encoding == "zlib":
        return _inflate(stream, layout.packed_bytes)
    if layout.encoding == "hex":
        return _unhex(stream)
    if layout.encoding == "text":
        return _parse(stream, dtype)
    return iter(lambda: stream.read(_CHUNK_BYTES), b"")


def _inflate(stream: BinaryIO, packed_bytes: int | None) -> Iterator[bytes]:
    """One zlib stream, or gzip streams one after the other. Both have a checksum, which is compared."""
    begin, left, inflate = stream.tell(), b"", zlib.decompressobj(zlib.MAX_WBITS | 32)
    while left := left or stream.read(_CHUNK_BYTES):
        try:
            yield inflate.decompress(left, _CHUNK_BYTES)
        except zlib.error as error:
            raise ValueError(f"its compressed voxels are damaged ({error})") from error
        left = inflate.unconsumed_tail
        if inflate.eof:
            left = inflate.unused_data or stream.read(_CHUNK_BYTES)
            if not left.startswith(_GZIP):
                break
            inflate = zlib.decompressobj(zlib.MAX_WBITS | 32)
    yield inflate.flush()
    if not inflate.eof:
        raise ValueError("its compressed voxels end too early")
    length = stream.tell() - len(left) - begin
    left += stream.read(_PADDING_BYTES + 1)
    if len(left) > _PADDING_BYTES or left.strip(_PADDING):
        raise DamagedFile("other bytes follow its compressed voxels: copy it, or save it, again")
    if packed_bytes is not None and packed_bytes not in (length, length + len(left)):
        raise DamagedFile(
            f"its compressed voxels are {length} bytes, and its header says {packed_bytes} "
            "(CompressedDataSize), so most programs read other voxels: save it again"
        )


def _unhex(stream: BinaryIO) -> Iterator[bytes]:
    left = b""
    while chunk := stream.read(_CHUNK_BYTES):
        digits = left + chunk.translate(None, _BLANKS)
        whole = len(digits) // 2 * 2
        left = digits[whole:]
        try:
            yield bytes.fromhex(digits[:whole].decode("ascii"))
        except ValueError as error:
            raise ValueError("its voxels are not all hexadecimal digits, as its encoding says") from error
    if left:
        raise ValueError("its voxels end within a byte")


def _parse(stream: BinaryIO, dtype: np.dtype[Any]) -> Iterator[bytes]:
    left = b""
    while chunk := stream.read(_CHUNK_BYTES):
        text = left + chunk
        whole = max(text.rfind(bytes([blank])) for blank in _BLANKS) + 1
        left = text[whole:]
        if len(left) > _LONGEST_WORD:
            raise ValueError("its voxels are not text, as its encoding says")
        yield _numbers(text[:whole], dtype)
    yield _numbers(left, dtype)


def _numbers(text: bytes, dtype: np.dtype[Any]) -> bytes:
    words = text.strip(_PADDING).replace(b",", b" ").split()
    try:
        if b"_" in text:  # Python's own idea of a number
            raise ValueError
        values = np.array(words, np.float64)
    except ValueError as error:
        raise ValueError("its voxels are not all numbers of text, as its encoding says") from error
    with np.errstate(over="ignore", invalid="ignore"):
        stored = values.astype(dtype)
    wrong = np.isfinite(values) & ~np.isfinite(stored)
    if dtype.kind in "iu":
        limits = np.iinfo(dtype)
        low, high = max(limits.min, -_EXACT), min(limits.max, _EXACT)
        wrong = ~((values >= low) & (values <= high)) | (values != np.rint(values))
    if wrong.any():
        word = words[int(wrong.argmax())].decode("latin-1")
        raise DamagedFile(
            f"one of its voxels is {word}, and its type, {dtype.name}, holds no such number; most programs "
            "cut it to another: save it again with a type that holds it"
        )
    return stored.tobytes()
