"""PySide6 classes made to look like PythonQt's: properties are attributes, signals are connected by name."""

from __future__ import annotations

import ctypes
import inspect
import os
import sys
from collections.abc import Callable
from types import ModuleType
from typing import Any

os.environ.setdefault("QT_QPA_PLATFORM", "offscreen")

if sys.version_info < (3, 12):
    # PySide6 6.12 gives None away as if it were immortal, which it is only from Python 3.12 on:
    # each call of a method without a result takes one reference too many, and Python aborts at the end.
    for thing in (None, True, False):
        ctypes.c_ssize_t.from_address(id(thing)).value += 1 << 40

from PySide6 import QtCore, QtGui, QtWidgets

# Qt calls a virtual method of these names; an attribute in their place would be taken for it.
VIRTUAL = {"sizeHint", "minimumSizeHint", "singleShot", "staticMetaObject"}
NOT_FOR_SLOTS = (inspect.Parameter.VAR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)


def count_of_arguments(slot: Callable[..., Any]) -> int:
    """How many arguments a slot can take by position; PythonQt passes no more than that."""
    parameters = inspect.signature(slot).parameters.values()
    if any(p.kind is inspect.Parameter.VAR_POSITIONAL for p in parameters):
        return 99
    return sum(p.kind not in NOT_FOR_SLOTS for p in parameters)


def _signal(sender: Any, signature: str) -> Any:
    """The signal `clicked(bool)`, in the overload that is asked for."""
    name, _, rest = signature.partition("(")
    signal = getattr(sender, name, None)
    if signal is None or not hasattr(signal, "connect"):
        raise ValueError(f"{type(sender).__name__} has no signal {signature!r}")
    known = {"int": int, "bool": bool, "double": float, "QString": str}
    types = tuple(known[t] for t in rest.rstrip(")").split(",") if t in known)
    if not types:
        return signal
    try:
        return signal[types if len(types) > 1 else types[0]]
    except (KeyError, IndexError, TypeError):
        return signal


def connect(self: Any, signature: str, slot: Callable[..., Any]) -> bool:
    """PythonQt's `sender.connect("clicked(bool)", slot)`."""
    wanted = count_of_arguments(slot)

    def forward(a: Any = None, b: Any = None, c: Any = None) -> None:
        slot(*(a, b, c)[: min(wanted, arguments)])

    inside = signature.partition("(")[2].rstrip(")")
    arguments = len(inside.split(",")) if inside else 0
    # PySide hands over as many values as a slot has parameters.
    wrapped: Callable[..., Any] = [lambda: forward(), lambda a: forward(a), forward][min(arguments, 2)]
    _signal(self, signature).connect(wrapped)
    self.__dict__.setdefault("_slots", []).append((signature, slot, wrapped))
    return True


def disconnect(self: Any, signature: str, slot: Callable[..., Any]) -> bool:
    """Undo one `connect`. ValueError when there was none."""
    slots = self.__dict__.get("_slots", [])
    for entry in slots:
        if entry[:2] == (signature, slot):
            _signal(self, signature).disconnect(entry[2])
            slots.remove(entry)
            return True
    raise ValueError(f"{signature} was not connected to {slot}")


def _property(cls: type, name: str) -> property:
    capital = name[0].upper() + name[1:]
    get = getattr(cls, name, None) or getattr(cls, "is" + capital, None)
    put = getattr(cls, "set" + capital, None)
    return property(
        lambda self: get(self) if callable(get) else QtCore.QObject.property(self, name),
        lambda self, value: put(self, value) if put else QtCore.QObject.setProperty(self, name, value),
    )


def _strict(cls: type) -> Callable[[Any, str, Any], None]:
    """PythonQt refuses an attribute that a C++ object does not have; a spelling mistake is found here too."""

    def set_attribute(self: Any, name: str, value: Any) -> None:
        child = isinstance(value, QtCore.QObject)  # the loader of .ui files makes children attributes
        if not name.startswith("_") and not child and not hasattr(type(self), name):
            raise AttributeError(f"{type(self).__name__} has no property {name!r}")
        cls.__setattr__(self, name, value)

    return set_attribute


def _for_subclass(cls: Any, **_: Any) -> None:
    """PySide looks past an inherited `connect`: every class gets its own."""
    for name, function in (("connect", connect), ("disconnect", disconnect)):
        if name not in cls.__dict__:
            setattr(cls, name, function)


def like_pythonqt(cls: type) -> type:
    """A subclass of a Qt class with properties as attributes and connection by name."""
    body: dict[str, Any] = {"connect": connect, "disconnect": disconnect, "__setattr__": _strict(cls)}
    meta = getattr(cls, "staticMetaObject", None)
    if meta is not None:
        names = {meta.property(index).name() for index in range(meta.propertyCount())} - VIRTUAL
        body.update({name: _property(cls, name) for name in names})
    body["__init_subclass__"] = classmethod(_for_subclass)
    body["delete"] = lambda self: self.deleteLater()
    return type(cls.__name__, (cls,), body)


def _subclassable(cls: Any) -> bool:
    return isinstance(cls, type) and issubclass(cls, QtCore.QObject) and cls.__name__ != "QApplication"


def qt_module() -> ModuleType:
    """The module `qt`: all of QtCore, QtGui and QtWidgets in one name space."""
    module = ModuleType("qt")
    for source in (QtCore, QtGui, QtWidgets):
        for name in dir(source):
            thing = getattr(source, name)
            if not name.startswith("_"):
                setattr(module, name, like_pythonqt(thing) if _subclassable(thing) else thing)
    return module


def application() -> Any:
    """The one QApplication of this process."""
    return QtWidgets.QApplication.instance() or QtWidgets.QApplication(["tests"])
