"""Frozen dataclasses and TYPE_CHECKING without importing `dataclasses` and `typing`. stdlib only.

`TYPE_CHECKING` is true for type checkers, which know it by its name. What only annotations need is imported under it.

`dataclasses` imports `inspect`, `ast` and `dis` and compiles five methods for every class, which takes longer than an
inference. `__init__`, equality, hash and repr are written here once for all classes; the rest of a dataclass is made
when it is first used: `dataclasses.replace`, `asdict`, `fields` and `is_dataclass` work, and type checkers see the
standard library's decorator. With DERMEDGE_PLAIN the decorator is the standard library's.
"""

from __future__ import annotations

from edge_runtime._startup import PLAIN

TYPE_CHECKING = False

if TYPE_CHECKING:
    from dataclasses import dataclass as dataclass
    from typing import Any
else:

    def dataclass(*, frozen: bool):
        """Decorate a class as a frozen dataclass.

        A field may have a default that is a plain value. `COMPARED = ("a", ...)` in the body restricts equality, hash
        and repr to these fields.

        Raises:
            TypeError: `frozen` is false.
        """
        if not frozen:
            raise TypeError("only frozen=True is supported; use the standard library's dataclass")
        return _standard if PLAIN else _decorate


def _standard(cls: Any) -> Any:
    import dataclasses

    for name in set(cls.__annotations__) - set(cls.__dict__.get("COMPARED", cls.__annotations__)):
        default = cls.__dict__.get(name, dataclasses.MISSING)
        setattr(cls, name, dataclasses.field(default=default, compare=False, repr=False))
    return dataclasses.dataclass(frozen=True)(cls)


def _decorate(cls: Any) -> Any:
    fields = tuple(cls.__annotations__)
    protocol: dict[str, Any] = {"__match_args__": fields}
    protocol |= {name: _OfTwin(name) for name in ("__dataclass_fields__", "__dataclass_params__")}
    for name, value in protocol.items():
        setattr(cls, name, value)
    compared = getattr(cls, "COMPARED", fields)
    defaults = {name: cls.__dict__[name] for name in fields if name in cls.__dict__}

    def init(self: Any, *values: Any, **named: Any) -> None:
        given = dict(zip(fields, values, strict=False))
        wrong = len(values) > len(fields) or given.keys() & named.keys() or named.keys() - set(fields)
        given = {**defaults, **given, **named}
        if wrong or len(given) != len(fields):
            missing = [name for name in fields if name not in given]
            raise TypeError(
                f"{cls.__name__} takes {', '.join(fields)}; found {len(values)} by position and {sorted(named)} "
                f"by name; missing: {', '.join(missing) or 'nothing'}"
            )
        # Past __setattr__, which refuses.
        self.__dict__.update(given)

    def equal(self: Any, other: object) -> Any:
        if other.__class__ is not self.__class__:
            return NotImplemented
        return all(self.__dict__[name] == other.__dict__[name] for name in compared)

    def hashed(self: Any) -> int:
        return hash(tuple(self.__dict__[name] for name in compared))

    def shown(self: Any) -> str:
        values = ", ".join(f"{name}={self.__dict__[name]!r}" for name in compared)
        return f"{cls.__qualname__}({values})"

    cls.__init__, cls.__eq__, cls.__hash__, cls.__repr__ = init, equal, hashed, shown
    cls.__setattr__ = cls.__delattr__ = _refuse
    return cls


def _refuse(_: Any, name: str, *values: object) -> None:
    from dataclasses import FrozenInstanceError

    raise FrozenInstanceError(f"cannot {'assign to' if values else 'delete'} field {name!r}")


class _OfTwin:
    """An attribute that `dataclasses` sets on a class; made on first use, by a real dataclass with the same fields."""

    def __init__(self, name: str) -> None:
        self.name = name

    def __get__(self, instance: object, owner: type) -> Any:
        import dataclasses

        body = {"__annotations__": owner.__annotations__, "__module__": owner.__module__}
        body |= {name: owner.__dict__[name] for name in owner.__annotations__ if name in owner.__dict__}
        twin: Any = dataclasses.dataclass(frozen=True)(type(owner.__name__, (), body))
        made = getattr(twin, self.name)
        setattr(owner, self.name, made)
        return made
