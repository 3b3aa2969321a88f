"""How much comes in, and whether a file is what its type says: checked before anything is unpacked or read.

A file type is claimed by a name or a parameter, from an allow-list; the first bytes have to confirm it. The
header says how many voxels there are; that is compared with the limits before memory is taken, and compressed
files may not unpack to more than the header says.
"""

from __future__ import annotations

import math
import re
import shutil
import struct
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from pydicom.filereader import _read_file_meta_info, read_preamble
from pydicom.uid import DeflatedExplicitVRLittleEndian

from lesionbrush.errors import DamagedFile, StorageFull
from lesionbrush.files.dicom.headers import START_BYTES, UNREADABLE, is_dicom, read_header, whole_of
from lesionbrush.server.errors import TooLarge
from lesionbrush.server.settings import ServerSettings

_CHUNK_BYTES = 1 << 20
_HEADER_BYTES = 1 << 20
_NIFTI_BYTES = 540
_FAR_BYTES = 1 << 26  # no voxels begin farther into a file
_SLACK_BYTES = 1 << 20  # header extensions, and what some writers put behind the voxels
_DEFLATED_SLICE_BYTES = 1 << 28
_GZIP = b"\x1f\x8b\x08"
_NIFTI_MAGIC = {348: (344, (b"n+1\0",)), 540: (4, (b"n+2\0",))}
_NRRD_SIZES = re.compile(rb"^\s*sizes\s*:[ \t]*([^\r\n]*)", re.IGNORECASE | re.MULTILINE)
_META_SIZES = re.compile(rb"^\s*DimSize\s*[=:][ \t]*([^\r\n]*)", re.IGNORECASE | re.MULTILINE)
_META_CHANNELS = re.compile(
    rb"^\s*ElementNumberOfChannels\s*[=:][ \t]*(\d{1,9})", re.IGNORECASE | re.MULTILINE
)
_META_COMPRESSED = re.compile(rb"^\s*CompressedData\s*[=:]\s*T", re.IGNORECASE | re.MULTILINE)
_META_DATA = re.compile(rb"^\s*ElementDataFile\s*[=:][^\r\n]*\r?\n", re.IGNORECASE | re.MULTILINE)
_META_START = re.compile(rb"\s*[A-Za-z]\w*\s*[=:]")
_WIDEST_BYTES = 8


@dataclass(frozen=True)
class SizeLimits:
    """upload_bytes: of one request; unpacked_bytes, voxels: of one volume; free_bytes: left on the disk."""

    upload_bytes: int = 4_000_000_000
    unpacked_bytes: int = 8_000_000_000
    voxels: int = 1 << 30
    free_bytes: int = 1_000_000_000

    @classmethod
    def of(cls, settings: ServerSettings) -> SizeLimits:
        unpacked, free = int(settings.unpacked_gb * 1e9), int(settings.free_gb * 1e9)
        return cls(int(settings.upload_gb * 1e9), unpacked, settings.voxels, free)

    @classmethod
    def current(cls) -> SizeLimits:
        """Those of the environment. Raises InvalidRequest."""
        return cls.of(ServerSettings.from_environment())

    def require_room(self, size_bytes: int, folder: Path) -> None:
        """StorageFull unless the disk takes so much and keeps its reserve."""
        free = shutil.disk_usage(folder).free
        if free - size_bytes < self.free_bytes:
            raise StorageFull(
                f"the server's disk has too little room for {size_bytes / 1e9:.3f} GB; try later"
            )


class _Declared(NamedTuple):
    """What a header promises.

    voxels: numbers in all; data_bytes: header and voxels, None where the header's pixel type was not looked
    at; packed_at: where compressed bytes begin, None when nothing is compressed.
    """

    voxels: int
    data_bytes: int | None
    packed_at: int | None


def check_volume(path: Path, limits: SizeLimits | None = None, name: str = "") -> None:
    """Refuse a file, or each file of a folder of DICOM slices, that must not be read.

    name: claims the type, where it is not that of the file.

    Raises DamagedFile (not what its type says), TooLarge (header or content beyond the limits),
    UnsupportedSeries. What only a reader finds, it finds later.
    """
    limits, name = limits or SizeLimits.current(), name or path.name
    if path.is_dir():
        _check_series(path, limits)
        return
    look = next((look for suffix, look in _LOOKS.items() if name.lower().endswith(suffix)), None)
    if look is None:
        return  # the reader knows no other type either
    try:
        with path.open("rb") as stream:
            declared = look(stream.read(_HEADER_BYTES))
    except (ValueError, struct.error) as error:
        raise DamagedFile(f"{name} cannot be read, it is damaged or misnamed: {error}") from error
    _require_modest(name, declared, limits)
    if declared.packed_at is not None:
        _require_no_bomb(path, name, declared, limits)


def _require_modest(name: str, declared: _Declared, limits: SizeLimits) -> None:
    size_bytes = declared.data_bytes if declared.data_bytes is not None else declared.voxels
    if declared.voxels > limits.voxels or size_bytes > limits.unpacked_bytes:
        raise TooLarge(
            f"{name} says it holds {declared.voxels} voxels; this server takes up to {limits.voxels} voxels "
            f"and {limits.unpacked_bytes / 1e9:.1f} GB"
        )


def _require_no_bomb(path: Path, name: str, declared: _Declared, limits: SizeLimits) -> None:
    """Unpack without keeping anything, up to what the header promised; every member of a gzip file counts.

    Damage is left to the reader, who says more about it.
    """
    promised = declared.data_bytes if declared.data_bytes is not None else declared.voxels * _WIDEST_BYTES
    allowed = min(promised, limits.unpacked_bytes) + _SLACK_BYTES
    try:
        with path.open("rb") as stream:
            stream.seek(declared.packed_at or 0)
            unpacked = _count_unpacked(stream.read, allowed)
    except zlib.error:
        return
    if unpacked > allowed:
        raise TooLarge(f"{name} unpacks to more than the {promised} bytes its header promises")


def _count_unpacked(read: Callable[[int], bytes], enough: int, wbits: int = zlib.MAX_WBITS | 32) -> int:
    """Counted up to `enough` and a little; memory stays at a chunk. wbits: see zlib. Raises zlib.error."""
    total, inflate, left = 0, zlib.decompressobj(wbits), b""
    while total <= enough:
        left = left or read(_CHUNK_BYTES)
        if not left:
            break
        total += len(inflate.decompress(left, _CHUNK_BYTES))
        left = inflate.unconsumed_tail
        if inflate.eof:
            left = inflate.unused_data
            if left.strip(b"\0"):
                inflate = zlib.decompressobj(wbits)
            else:  # zeros behind the end are padding
                left = b""
    return total


def _look_nifti(start: bytes) -> _Declared:
    order = "<" if start[:4] in (struct.pack("<i", 348), struct.pack("<i", 540)) else ">"
    (header_bytes,) = struct.unpack_from(f"{order}i", start)
    offset, magics = _NIFTI_MAGIC.get(header_bytes, (0, ()))
    if start[offset : offset + 4] not in magics:
        raise ValueError("its first bytes are not those of a NIfTI file")
    if header_bytes == 348:
        rank, *sizes = struct.unpack_from(f"{order}8h", start, 40)
        bits, voxels_at = _number(f"{order}h", start, 72), _number(f"{order}f", start, 108)
    else:
        rank, *sizes = struct.unpack_from(f"{order}8q", start, 16)
        bits, voxels_at = _number(f"{order}h", start, 14), _number(f"{order}q", start, 168)
    if not 1 <= rank <= 7 or min(sizes[:rank]) < 0 or bits < 0 or not 0 <= voxels_at < _FAR_BYTES:
        raise ValueError("its header has impossible numbers")
    voxels = math.prod(max(size, 1) for size in sizes[:rank])
    return _Declared(voxels, int(voxels_at) + math.ceil(voxels * bits / 8), None)


def _number(kind: str, start: bytes, offset: int) -> float:
    number: float = struct.unpack_from(kind, start, offset)[0]
    return number


def _look_nifti_gz(start: bytes) -> _Declared:
    if not start.startswith(_GZIP):
        raise ValueError("its first bytes are not those of a gzip file")
    try:
        inside = zlib.decompressobj(zlib.MAX_WBITS | 16).decompress(start, _NIFTI_BYTES)
    except zlib.error as error:
        raise ValueError("it is no gzip file") from error
    return _look_nifti(inside)._replace(packed_at=0)


def _look_nrrd(start: bytes) -> _Declared:
    if not re.match(rb"NRRD000\d", start):
        raise ValueError("its first bytes are not those of a NRRD file")
    header = re.split(rb"\n\r?\n", start, maxsplit=1)[0]
    return _Declared(_largest(_NRRD_SIZES.findall(header)), None, None)


def _look_metaimage(start: bytes) -> _Declared:
    if not _META_START.match(start) or b"\0" in start[:64]:
        raise ValueError("its first bytes are not those of a MetaImage file")
    end = _META_DATA.search(start)
    header = start[: end.end() if end else None]
    channels = max(map(int, _META_CHANNELS.findall(header)), default=1)
    packed_at = len(header) if _META_COMPRESSED.search(header) else None
    return _Declared(_largest(_META_SIZES.findall(header)) * max(channels, 1), None, packed_at)


def _largest(sizes: list[bytes]) -> int:
    """Voxels of the largest of several size lines: readers differ in which one counts."""
    products = []
    for line in sizes:
        numbers = line.split()
        if not numbers or not all(re.fullmatch(rb"\d{1,12}", number) for number in numbers):
            raise ValueError("its sizes are no numbers")
        products.append(math.prod(max(int(number), 1) for number in numbers))
    if not products:
        raise ValueError("its header has no sizes")
    return max(products)


def _check_series(folder: Path, limits: SizeLimits) -> None:
    """DICOM slices: none packed as a whole, and no more pixels in all than a volume may have."""
    pixels = 0
    for path in sorted(file for file in folder.rglob("*") if file.is_file()):
        pixels += _pixels_of(path, limits)
        if pixels > limits.voxels:
            raise TooLarge(
                f"the series says it holds more than {limits.voxels} voxels, the most this server takes"
            )


def _pixels_of(path: Path, limits: SizeLimits) -> int:
    """0 for a file that is no DICOM image; damage is left to the reader."""
    with path.open("rb") as stream:
        if not is_dicom(stream.read(START_BYTES)):
            return 0
    _require_no_deflated_bomb(path, limits)
    wanted = ["Rows", "Columns", "NumberOfFrames"]
    try:
        header = read_header(path, wanted)
    except DamagedFile:
        return 0
    return math.prod(whole_of(header, keyword) or 1 for keyword in wanted) if "Rows" in header else 0


def _require_no_deflated_bomb(path: Path, limits: SizeLimits) -> None:
    """A deflated slice is unpacked as a whole before its first tag can be read."""
    allowed = min(_DEFLATED_SLICE_BYTES, limits.unpacked_bytes)
    with path.open("rb") as stream:
        try:
            read_preamble(stream, force=True)
            meta = _read_file_meta_info(stream)  # where pydicom itself begins to unpack, whatever lengths say
            if meta.get("TransferSyntaxUID") != DeflatedExplicitVRLittleEndian:
                return
            unpacked = _count_unpacked(stream.read, allowed, -zlib.MAX_WBITS)
        except UNREADABLE:
            return
    if unpacked > allowed:
        raise TooLarge(f"{path.name} is a deflated slice of more than {allowed} bytes")


_LOOKS: dict[str, Callable[[bytes], _Declared]] = {
    ".nii.gz": _look_nifti_gz,
    ".nii": _look_nifti,
    ".nrrd": _look_nrrd,
    ".mha": _look_metaimage,
}
