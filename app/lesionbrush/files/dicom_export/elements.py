"""One element of a real DICOM file, copied in a valid form or not at all. Which are wanted is not known here.

The VR is the dictionary's, whatever the file says; texts are read here, since pydicom gives a value that it
cannot parse another VR and passes it on.
"""

from __future__ import annotations

import math
from typing import Any

from pydicom.datadict import dictionary_has_tag, dictionary_VM, dictionary_VR
from pydicom.dataelem import DataElement, RawDataElement
from pydicom.dataset import Dataset
from pydicom.multival import MultiValue
from pydicom.sequence import Sequence as Items
from pydicom.tag import BaseTag, Tag
from pydicom.valuerep import STR_VR, VALIDATORS, VR, PersonName

from lesionbrush.files.dicom.headers import UNREADABLE
from lesionbrush.files.dicom_export.charset import Charset
from lesionbrush.files.dicom_export.valid_forms import allows, is_one_text, valid_form

_CHARSET = Tag("SpecificCharacterSet")
_FLOATS, _INTEGERS = {VR.FD, VR.FL}, {VR.US, VR.SS, VR.UL, VR.SL, VR.UV, VR.SV}
_COPIED = {VR.SQ, *STR_VR, *_FLOATS, *_INTEGERS}
_NEEDED_IN_ITEMS = {
    Tag(keyword)
    for keyword in (
        "CodeValue", "CodingSchemeDesignator", "CodeMeaning", "Manufacturer",
        "PurposeOfReferenceCodeSequence", "LocalNamespaceEntityID", "UniversalEntityID",
        "UniversalEntityIDType",
    )
}  # fmt: skip
"""An item that has one of these, and no valid one, says nothing and goes."""


class Source:
    """A data set as it is in the file. inherited: the character set around it, where it is an item."""

    def __init__(self, dataset: Dataset, inherited: Charset | None = None) -> None:
        self._dataset = dataset
        self._charset = inherited or Charset()
        if _CHARSET in dataset:
            self._charset = Charset.declared(self._texts(_CHARSET, VR.CS) or [])

    def copy(self, keyword: str | BaseTag) -> DataElement | None:
        """An element of the standard; None where it is missing, empty, or has no valid form."""
        tag = Tag(keyword)
        if tag not in self._dataset:
            return None
        vr = dictionary_VR(tag)
        values = self._values(tag, vr)
        if vr == VR.SQ:
            return DataElement(tag, vr, Items(values)) if values else None
        if not values or not allows(dictionary_VM(tag), len(values)):
            return None
        return DataElement(tag, vr, values if len(values) > 1 else values[0])

    def _values(self, tag: BaseTag, vr: str) -> list[Any]:
        """In a valid form; none where one of them has none."""
        if tag == _CHARSET:
            return [self._charset.term] if self._charset.term else []
        if vr == VR.SQ:
            return self._items(tag)
        if vr in STR_VR:
            return self._valid_texts(tag, vr)
        return self._numbers(tag, vr)

    def _valid_texts(self, tag: BaseTag, vr: str) -> list[str]:
        forms = [valid_form(vr, text) for text in self._texts(tag, vr)]
        valid = [form for form in forms if form is not None]
        return valid if any(valid) and len(valid) == len(forms) else []

    def _texts(self, tag: BaseTag, vr: str) -> list[str]:
        """As they are written; none where the bytes are no text."""
        element = self._raw(tag)
        if element is None:
            return [
                str(value) for value in self._parse(tag) if isinstance(value, (str, PersonName, int, float))
            ]
        if element.VR not in {None, VR.UN, *STR_VR}:
            return [str(value) for value in self._parse(tag) if isinstance(value, (int, float))]
        text = self._charset.decode(element.value or b"", vr)
        if text is None:
            return []
        return [text] if is_one_text(vr) else text.split("\\")

    def _raw(self, tag: BaseTag) -> RawDataElement | None:
        """The element as the file has it; None where it was made by a program, or has no value."""
        try:
            element = self._dataset.get_item(tag)
        except UNREADABLE:  # pydicom parses an element without value, and with it the character set
            return None
        return element if isinstance(element, RawDataElement) else None

    def _numbers(self, tag: BaseTag, vr: str) -> list[Any]:
        values = [value for value in self._parse(tag) if isinstance(value, (int, float))]
        if vr in _FLOATS:
            return [float(value) for value in values] if all(map(math.isfinite, values)) else []
        if vr in _INTEGERS:
            return values if all(VALIDATORS[vr](vr, value)[0] for value in values) else []
        return []

    def _items(self, tag: BaseTag) -> list[Dataset]:
        items = [value for value in self._parse(tag) if isinstance(value, Dataset)]
        copies = [self._item(item) for item in items]
        return [copy for copy in copies if copy]

    def _item(self, item: Dataset) -> Dataset | None:
        """Without private elements. What has no valid form is left empty: it may be of type 2."""
        source, copy = Source(item, self._charset), Dataset()
        for tag in sorted(item.keys()):
            if not dictionary_has_tag(tag) or dictionary_VR(tag) not in _COPIED:
                continue
            element = source.copy(tag)
            if element is None and tag in _NEEDED_IN_ITEMS:
                return None
            if element is not None:
                copy.add(element)
            elif tag != _CHARSET:
                copy.add(DataElement(tag, dictionary_VR(tag), None))
        return copy

    def _parse(self, tag: BaseTag) -> list[Any]:
        """The values as pydicom has them; none where it fails."""
        try:
            value = self._dataset[tag].value
        except UNREADABLE:
            return []
        if value is None:
            return []
        return list(value) if isinstance(value, (MultiValue, Items, list, tuple)) else [value]
