"""What `typing.NamedTuple` makes, made in a tenth of the time: a host makes forty at each start."""

from __future__ import annotations

from operator import itemgetter

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import NamedTuple as Record
else:

    class Record(tuple):
        """A tuple whose items have names, as the class lists them, and defaults."""

        __slots__ = ()
        _fields = ()
        _field_defaults = {}  # noqa: RUF012 - one a class

        def __init_subclass__(cls) -> None:
            own = vars(cls)
            cls._fields = tuple(getattr(cls, "__annotations__", ()))
            cls._field_defaults = {name: own[name] for name in cls._fields if name in own}
            for number, name in enumerate(cls._fields):
                setattr(cls, name, property(itemgetter(number)))

        def __new__(cls, *values, **named):  # noqa: ANN002, ANN003, ANN204, D102
            left = cls._fields[len(values) :]
            try:
                values += tuple(
                    named.pop(name) if name in named else cls._field_defaults[name] for name in left
                )
            except KeyError as error:
                raise TypeError("%s: no %s is given" % (cls.__name__, error)) from None
            if named or len(values) != len(cls._fields):
                raise TypeError("%s has no place for what is given" % cls.__name__)
            return tuple.__new__(cls, values)

        def __repr__(self) -> str:
            pairs = ", ".join("%s=%r" % pair for pair in zip(self._fields, self))
            return "%s(%s)" % (type(self).__name__, pairs)

        def _asdict(self) -> dict[str, object]:
            return dict(zip(self._fields, self))

        def _replace(self, **changed: object):  # noqa: ANN202
            return type(self)(**{**self._asdict(), **changed})


__all__ = ["Record"]
