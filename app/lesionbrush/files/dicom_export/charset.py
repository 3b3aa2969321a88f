"""What the bytes of a text in a DICOM file say, by the character set that the file declares, and no guess.

Real files declare none and hold umlauts, or declare one there is not, or another than they use. Of such a
file ASCII is still understood, which all of DICOM's character sets share.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from pydicom.charset import ESC, decode_bytes, default_encoding, python_encoding
from pydicom.valuerep import DEFAULT_CHARSET_VR, PN_DELIMS, TEXT_VR_DELIMS, VR

_ASCII = "ascii"
_UTF8 = "ISO_IR 192"
_ENCODINGS = {**python_encoding, "ISO_IR 203": "iso8859_15"}  # Latin-9: newer than pydicom's table
_WRITTEN = {_UTF8, *(f"ISO_IR {number}" for number in (100, 101, 109, 110, 126, 127, 138, 144, 148, 166))}
_BETWEEN_VALUES = {ord("\\"), ord("=")}
_MISREAD = re.compile(rb"\x1b\(B[^\x1b]*[\x80-\xff]")  # pydicom takes these bytes for Latin-1
_LOST = "\ufffd"  # pydicom puts it where it cannot decode


@dataclass(frozen=True)
class Charset:
    """encodings: Python's names, the first one for text without an escape sequence.

    term: what a copy declares. Sets of one byte a character, and UTF-8, stay what they were; text in the
    others becomes UTF-8, for there a byte of a character may look like a backslash. None: ASCII alone.
    """

    encodings: tuple[str, ...] = (_ASCII,)
    term: str | None = None

    @classmethod
    def declared(cls, terms: Sequence[str]) -> Charset:
        """By the values of Specific Character Set (0008,0005); none, or one that nobody knows: ASCII."""
        terms = [_spell(term) for term in terms]
        known = [_ENCODINGS.get(term) for term in terms]
        encodings = tuple(_ASCII if name == default_encoding else name for name in known if name)
        if len(encodings) < len(terms) or set(encodings) <= {_ASCII}:
            return cls()
        simple = len(terms) == 1 and terms[0] in _WRITTEN
        return cls(encodings, terms[0] if simple else _UTF8)

    def decode(self, data: bytes, vr: str) -> str | None:
        """All values of an element, backslashes between them; None for bytes that are no text in this set."""
        if vr in DEFAULT_CHARSET_VR:
            return Charset().decode(data, VR.LO)
        try:
            if ESC not in data or self.term in _WRITTEN - {_UTF8}:
                return data.decode(self.encodings[0])
            if _MISREAD.search(data):
                return None
            delimiters = TEXT_VR_DELIMS | _BETWEEN_VALUES | (PN_DELIMS if vr == VR.PN else set())
            text = decode_bytes(data, self.encodings, delimiters)
        except (UnicodeError, LookupError):
            return None
        return None if _LOST in text else text


def _spell(term: str) -> str:
    """As the standard spells it: also ISO-IR 100, iso_ir 192 and the like."""
    found = re.fullmatch(r"ISO[ _-]?(2022)?[ _-]?IR[ _-]?(\d+)", term.strip(" \0").upper())
    if not found:
        return term.strip(" \0")
    return f"ISO 2022 IR {found[2]}" if found[1] else f"ISO_IR {found[2]}"
