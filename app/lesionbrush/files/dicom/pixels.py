"""The pixels of a slice as the file holds them, and their HU.

pydicom hands out what is not compressed, ITK's GDCM decodes the rest. GDCM sees a copy of the slice that says
nothing about meaning: it would invert MONOCHROME1, and read "0,5" as a slope of 1.
"""

from __future__ import annotations

from pathlib import Path
from tempfile import TemporaryDirectory

import SimpleITK as sitk  # noqa: N813
from pydicom.dataset import Dataset, FileDataset, FileMetaDataset
from pydicom.encaps import decode_data_sequence, encapsulate
from pydicom.pixel_data_handlers.numpy_handler import get_pixeldata
from pydicom.pixel_data_handlers.rle_handler import get_pixeldata as unpack_runs
from pydicom.uid import (
    UID,
    CTImageStorage,
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    JPEGBaseline8Bit,
    JPEGExtended12Bit,
    JPEGLosslessP14,
    JPEGLosslessSV1,
    JPEGLSLossless,
    JPEGLSNearLossless,
    RLELossless,
    UID_dictionary,
)

from lesionbrush.core.volume import Array
from lesionbrush.errors import DamagedFile, UnsupportedSeries
from lesionbrush.files.dicom.headers import UNREADABLE, name_of, read_header, text_of
from lesionbrush.files.dicom.values import StoredValues, read_stored_values

_OF_32_BITS = (ImplicitVRLittleEndian, ExplicitVRLittleEndian, DeflatedExplicitVRLittleEndian)
_OF_WHOLE_CELLS = (
    JPEGLosslessP14, JPEGLosslessSV1, JPEGLSLossless, JPEGLSNearLossless, JPEGBaseline8Bit, JPEGExtended12Bit,
)  # fmt: skip
_END_OF_IMAGE = b"\xff\xd9"  # of JPEG, JPEG-LS and JPEG 2000
_ANY_UID = UID("2.25.1")
_PLAIN = (*_OF_32_BITS, ExplicitVRBigEndian)


def slice_hu(header: Dataset) -> tuple[Array, int]:
    """int16 HU, (column, row), and how many padded pixels 16 bits could not hold.

    header: the slice's tags, of `values.KEYWORDS` at least, and where its file is. Raises DamagedFile,
    UnsupportedSeries (a compression that cannot be read), NotACT.
    """
    meaning = read_stored_values(header)
    cells = read_cells(read_header(Path(header.filename), (), pixels=True), meaning)
    hu, padded = meaning.hounsfield(cells, name_of(header))
    return hu.T, padded


def read_cells(header: Dataset, meaning: StoredValues) -> Array:
    """Unsigned integers of `bits_allocated` bits, (row, column), as stored. Raises as `slice_hu` does."""
    name = name_of(header)
    if "PixelData" not in header or not header.PixelData:
        raise DamagedFile(f"{name} holds no pixels: it ends too early, or is no image; copy it again")
    syntax = transfer_syntax(header)
    _require_known(name, syntax, meaning.bits_allocated)
    unpack = _read_uncompressed if syntax in _PLAIN else _decode
    try:
        cells = unpack(_plain_image(header, syntax, meaning), name)
    except UNREADABLE as error:
        raise DamagedFile(f"{name}: its pixels cannot be read, the file is damaged") from error
    found = (*cells.shape, 8 * cells.itemsize)
    if found != (meaning.rows, meaning.columns, meaning.bits_allocated):
        raise DamagedFile(
            f"{name} holds {found[1]} x {found[0]} pixels of {found[2]} bits, its header says "
            f"{meaning.columns} x {meaning.rows} of {meaning.bits_allocated}"
        )
    return cells


def _require_known(name: str, syntax: UID, bits_allocated: int) -> None:
    if UID_dictionary.get(syntax, ("", ""))[1] != "Transfer Syntax":
        raise UnsupportedSeries(
            f"{name} is compressed in a way that is not known here (TransferSyntaxUID {syntax}): export the "
            "series without compression"
        )
    if bits_allocated == 32 and syntax not in _OF_32_BITS:
        raise UnsupportedSeries(
            f"{name} has BitsAllocated 32 in {syntax.name}: export the series without compression, in 16 bits"
        )


def transfer_syntax(header: Dataset) -> UID:
    """What the file says, or for a data set without a file header what it was seen to be."""
    said = text_of(header.file_meta, "TransferSyntaxUID")
    if said:
        return UID(said)
    if header["PixelData"].is_undefined_length:
        raise UnsupportedSeries(
            f"{name_of(header)} is compressed and does not say how (no TransferSyntaxUID): "
            "export the series again"
        )
    if not header.is_little_endian:
        return ExplicitVRBigEndian
    return ImplicitVRLittleEndian if header.is_implicit_VR else ExplicitVRLittleEndian


def _plain_image(header: Dataset, syntax: UID, meaning: StoredValues) -> FileDataset:
    """The pixels, and of the tags what it takes to unpack them."""
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID, meta.TransferSyntaxUID = CTImageStorage, syntax
    meta.MediaStorageSOPInstanceUID = _ANY_UID
    image = FileDataset("", {}, file_meta=meta, preamble=b"\0" * 128)
    image.is_little_endian = bool(header.is_little_endian)
    image.is_implicit_VR = bool(header.is_implicit_VR)
    image.SOPClassUID, image.SOPInstanceUID = CTImageStorage, meta.MediaStorageSOPInstanceUID
    image.SamplesPerPixel, image.PhotometricInterpretation = 1, "MONOCHROME2"
    image.RescaleIntercept, image.RescaleSlope = "0", "1"
    image.Rows, image.Columns = meaning.rows, meaning.columns
    image.BitsAllocated = meaning.bits_allocated
    image.BitsStored, image.HighBit, image.PixelRepresentation = _choose_for_decoder(meaning, syntax)
    image["PixelData"] = header["PixelData"]
    return image


def _choose_for_decoder(meaning: StoredValues, syntax: UID) -> tuple[int, int, int]:
    """BitsStored, HighBit, PixelRepresentation.

    Whole cells where GDCM would not know which bits to take, or would cut off those beyond the stored ones.
    """
    if syntax in _OF_WHOLE_CELLS or not meaning.high_bit == meaning.bits_stored - 1 >= 7:
        return meaning.bits_allocated, meaning.bits_allocated - 1, 0
    return meaning.bits_stored, meaning.high_bit, int(meaning.signed)


def _read_uncompressed(image: Dataset, name: str) -> Array:
    """As `read_cells`; too few bytes, or more of them than zeros behind the end, are damage."""
    image.PixelRepresentation = 0
    data = image.PixelData
    size = image.Rows * image.Columns * image.BitsAllocated // 8
    if len(data) < size:
        raise DamagedFile(f"{name} ends after {len(data)} of {size} bytes of pixels; copy it again")
    if data[size + size % 2 :].strip(b"\0"):
        raise DamagedFile(f"{name} holds {len(data)} bytes of pixels, its header says {size}; copy it again")
    image["PixelData"].value = data[:size] + b"\0" * (size % 2)
    cells = get_pixeldata(image).reshape(image.Rows, image.Columns)
    return cells.astype(cells.dtype.newbyteorder("="), copy=False)


def _decode(image: FileDataset, name: str) -> Array:
    """As `read_cells`, by GDCM, which takes files alone, and fills up what a frame lacks without a word."""
    if image.file_meta.TransferSyntaxUID == RLELossless:
        return _unpack_runs(image)
    frame = b"".join(decode_data_sequence(image.PixelData)).rstrip(b"\0\xff ")
    if not frame.endswith(_END_OF_IMAGE):
        raise DamagedFile(f"{name}: its compressed pixels end too early; copy it again")
    image.PixelData = encapsulate([frame + b"\0" * (len(frame) % 2)])
    with TemporaryDirectory(prefix="lesionbrush-") as folder:
        path = Path(folder) / "slice.dcm"
        image.save_as(path, write_like_original=False)
        try:
            array = sitk.GetArrayFromImage(sitk.ReadImage(str(path), imageIO="GDCMImageIO"))
        except RuntimeError as error:
            syntax = image.file_meta.TransferSyntaxUID.name
            raise DamagedFile(
                f"{name}: its pixels cannot be read ({syntax}): the file is damaged, or compressed in a way "
                "that is not supported; export the series without compression"
            ) from error
    if array.ndim != 3 or array.dtype.kind not in "iu":
        raise DamagedFile(f"{name}: its pixels are unpacked to {array.shape} of {array.dtype}, no slice")
    return array[0].view(f"u{array.dtype.itemsize}")


def _unpack_runs(image: FileDataset) -> Array:
    image.PixelRepresentation = 0
    return unpack_runs(image).reshape(image.Rows, image.Columns)
