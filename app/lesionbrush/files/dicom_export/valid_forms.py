"""One value of a DICOM element in the form that the standard asks for, where it has one.

Real archives are full of values without: a decimal comma, 20 digits, a date with dots, a sex spelled out.
pydicom's validators decide what is valid; where they let pass what is not, `_beyond_pydicom` has the rest.
"""

from __future__ import annotations

import math
import re
import unicodedata
from collections.abc import Callable
from datetime import date

from pydicom.valuerep import MAX_VALUE_LEN, STR_VR_REGEXES, VALIDATORS, VR, format_number_as_ds

_LONG_TEXT = {VR.LT, VR.ST, VR.UT}
"""Leading spaces and lines mean something there, and a backslash is a character."""
_PADDING = " \0"
_LARGEST_INTEGER = 2**31
_NAME_PARTS = 5


def is_one_text(vr: str) -> bool:
    """Whether a backslash is a character of the text, and separates nothing."""
    return vr in _LONG_TEXT or vr == VR.UR


def valid_form(vr: str, text: str) -> str | None:
    """A value without padding: as it is, or rewritten where that says the same; else None.

    vr: one of pydicom's STR_VR. A DS of more than 16 characters is rounded to that length.
    """
    text = text.rstrip(_PADDING) if vr in _LONG_TEXT else text.strip(_PADDING)
    for form in (text, _REWRITE.get(vr, _on_one_line)(text)):
        if _is_valid(vr, form):
            return form
    return None


def allows(multiplicity: str, count: int) -> bool:
    """Whether an element may have so many values. multiplicity: "1", "1-3", "2-2n", as in PS3.6."""
    least, _, most = multiplicity.partition("-")
    if not most:
        return count == int(least)
    if most.endswith("n"):
        return count >= int(least) and count % int(most[:-1] or 1) == 0
    return int(least) <= count <= int(most)


def _is_valid(vr: str, text: str) -> bool:
    validate = VALIDATORS.get(vr)
    if validate and not validate(vr, text)[0]:
        return False
    allowed = "\t\n\f\r" if vr in _LONG_TEXT else ""
    if any(unicodedata.category(c) == "Cc" and c not in allowed for c in text):
        return False
    return _beyond_pydicom(vr, text)


def _beyond_pydicom(vr: str, text: str) -> bool:
    if vr == VR.DS:
        return text != "" and math.isfinite(float(text))
    if vr == VR.IS:
        return text != "" and -_LARGEST_INTEGER <= int(text) < _LARGEST_INTEGER
    if vr == VR.PN:
        return all(group.count("^") < _NAME_PARTS for group in text.split("="))
    if vr == VR.TM:
        return "-" not in text  # a range, which is for queries
    if vr in (VR.DA, VR.DT):
        return _is_moment(vr, text)
    return True


def _is_moment(vr: str, text: str) -> bool:
    """A day there is, and no range of them."""
    form = r"\d{8}" if vr == VR.DA else r"\d{4,14}(\.\d{1,6})?([+-]\d{4})?"
    if text and not re.fullmatch(form, text):
        return False
    try:
        return len(text) < len("YYYYMMDD") or bool(date(int(text[:4]), int(text[4:6]), int(text[6:8])))
    except ValueError:
        return False


def _on_one_line(text: str) -> str:
    return re.sub(r"[\t\n\f\r]+", " ", text).strip(" ")


def _decimal(text: str) -> str:
    """A decimal point for a comma, and no more characters than there may be."""
    number = text if "." in text else text.replace(",", ".")
    if len(number) <= MAX_VALUE_LEN[VR.DS] or not STR_VR_REGEXES[VR.DS].match(number):
        return number
    return format_number_as_ds(float(number)) if math.isfinite(float(number)) else number


def _integer(text: str) -> str:
    """14.0 is 14, and so is 0000000000014; 14.5 is no integer."""
    found = re.fullmatch(r"([+-]?)0*(\d+)(?:[.,]0*)?", text)
    return f"{found[1]}{found[2]}" if found else text


def _day(text: str) -> str:
    """Year, month, day with marks between them: the old form of the standard, and ISO's."""
    return re.sub(r"(\d{4})([./-])(\d\d)\2(\d\d)", r"\1\3\4", text)


def _time(text: str) -> str:
    return _short_fraction(re.sub(r"^(\d\d):(\d\d)(?::(\d\d))?", r"\1\2\3", text))


def _day_and_time(text: str) -> str:
    """Also as ISO writes it: 2024-05-06T10:11:12+01:00."""
    text = re.sub(r"^(\d{4})-(\d\d)-(\d\d)[T ](\d\d):(\d\d):(\d\d)", r"\1\2\3\4\5\6", text)
    return _short_fraction(re.sub(r"([+-]\d\d):(\d\d)$", r"\1\2", text))


def _short_fraction(text: str) -> str:
    return re.sub(r"(\.\d{6})\d+", r"\1", text)


def _age(text: str) -> str:
    """45Y is 045Y; 45 might be months."""
    found = re.fullmatch(r"(\d{1,3})([DWMY])", text.upper())
    return f"{found[1]:0>3}{found[2]}" if found else text


_REWRITE: dict[str, Callable[[str], str]] = {
    VR.DS: _decimal,
    VR.IS: _integer,
    VR.DA: _day,
    VR.TM: _time,
    VR.DT: _day_and_time,
    VR.AS: _age,
    VR.CS: str.upper,
}
