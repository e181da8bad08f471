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
    NAMES: ClassVar[frozenset[str]] = frozenset()
    NEEDED: ClassVar[frozenset[str]] = frozenset()

    def __init_subclass__(cls) -> None:
        own = {name: kind for name, kind in cls.__annotations__.items() if not kind.startswith("ClassVar")}
        cls.FIELDS = (*cls.FIELDS, *own)
        cls.KINDS = (*cls.KINDS, *own.values())
        cls.NAMES = frozenset(cls.FIELDS)
        cls.NEEDED = cls.NEEDED | (own.keys() - cls.__dict__.keys())

    def __init__(self, *values: object, **named: object) -> None:
        given = dict(zip(self.FIELDS, values, strict=False))
        given.update(named)
        if len(given) != len(values) + len(named) or not self.NEEDED <= given.keys() <= self.NAMES:
            fields = ", ".join(self.FIELDS)
            raise TypeError(f"{type(self).__name__} takes {fields}, and not {len(values)} values and {sorted(named)}")
        self.__dict__.update(given)

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
