"""A base for small immutable value classes, for the exec path.

`dataclasses` would do the same, but importing it takes longer than a whole call (it pulls in `re` and `inspect`).
A field is an annotation in the class body; a value beside it is its default.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import ClassVar, dataclass_transform
else:

    def dataclass_transform(**_options: object) -> object:
        """Stand in for `typing.dataclass_transform`, which type checkers read and nothing else does."""
        return lambda decorated: decorated


@dataclass_transform(eq_default=True, frozen_default=True)
class Record:
    """Base of immutable values that compare by their fields."""

    FIELDS: ClassVar[tuple[str, ...]] = ()
    KINDS: ClassVar[tuple[str, ...]] = ()

    def __init_subclass__(cls) -> None:
        own = {name: kind for name, kind in cls.__annotations__.items() if not kind.startswith("ClassVar")}
        cls.FIELDS = (*cls.FIELDS, *own)
        cls.KINDS = (*cls.KINDS, *own.values())

    def __init__(self, *values: object, **named: object) -> None:
        if len(values) == len(self.FIELDS) and not named:  # every message of every call comes this way
            self.__dict__.update(zip(self.FIELDS, values, strict=True))
            return
        if len(values) > len(self.FIELDS):
            raise TypeError(f"{type(self).__name__} takes {len(self.FIELDS)} fields, not {len(values)}")
        given = dict(zip(self.FIELDS, values, strict=False))
        if given.keys() & named.keys() or named.keys() - set(self.FIELDS):
            raise TypeError(f"{type(self).__name__} does not take {sorted(named)} here")
        self.__dict__.update(given, **named)
        for name in self.FIELDS:
            if name not in self.__dict__ and not hasattr(type(self), name):
                raise TypeError(f"{type(self).__name__} needs {name}")

    def astuple(self) -> tuple[object, ...]:
        """Return the values of all fields, in the order of their declaration."""
        return tuple([getattr(self, name) for name in self.FIELDS])

    def __setattr__(self, name: str, value: object) -> None:
        raise AttributeError(f"{type(self).__name__}.{name} cannot be set")

    def __eq__(self, other: object) -> bool:
        if type(other) is not type(self):
            return NotImplemented
        return self.astuple() == other.astuple()

    def __hash__(self) -> int:
        return hash((type(self), self.astuple()))

    def __repr__(self) -> str:
        fields = ", ".join(f"{name}={getattr(self, name)!r}" for name in self.FIELDS)
        return f"{type(self).__name__}({fields})"
