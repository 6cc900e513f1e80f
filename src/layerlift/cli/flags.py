"""A command's flags, read from the option classes that its function takes; see `with_flags`."""

from collections.abc import Callable
from dataclasses import MISSING, Field, dataclass, fields, is_dataclass
from functools import wraps
from inspect import Parameter, Signature, signature
from typing import Annotated, Any, get_args, get_origin

import typer
from typer.models import ArgumentInfo

from layerlift.flags import Flag, check_ranges

# Typed, but no setting of what is made.
_ASIDE = ("report", "overwrite", "verbose", "resume")


class Typed(dict[str, Any]):
    """What was typed, for the settings of a report: by the flags' names, with the defaults of those left out.

    Attributes:
        flags: as they are typed, by these names, where that is more than the name with two dashes before it.
        arguments: the names of what is typed without a flag.
    """

    flags: dict[str, str]
    arguments: tuple[str, ...]


class Without:
    """``Annotated[EffectOptions, Without("dilate")]``: a field that is no flag of a command and keeps its default."""

    def __init__(self, *names: str) -> None:
        self.names = names


class Only:
    """``Annotated[RemovalOptions, Only("steps")]``: the fields that are flags of a command; the others keep their
    defaults."""

    def __init__(self, *names: str) -> None:
        self.names = names


class Default:
    """``Annotated[RuntimeOptions, Default(model="demo")]``: a command's own defaults, instead of the class's.

    A text is what the flag's `parse` makes a value of: ``Default(size="288x192")``, which the help then shows.
    """

    def __init__(self, **values: Any) -> None:
        self.values = values


@dataclass(frozen=True, slots=True)
class _Option:
    """One flag of a command: equal options of two classes are one flag.

    Attributes:
        name: of the parameter that typer sees, after the flag: --refine-steps is refine_steps.
        names: as typed.
        flag: as the field says.
        takes: the type of what is typed.
        default: the field's, or the command's own.
        untyped: what typer gives where the flag is left out.
        switches_off: a bool that is True until the flag, such as --no-cache, is given.
    """

    name: str
    names: tuple[str, ...]
    flag: Flag
    takes: Any
    default: Any
    untyped: Any
    switches_off: bool

    def parameter(self) -> Parameter:
        """As typer reads it."""
        flag = self.flag
        option = typer.Option(
            self.untyped,
            *self.names,
            metavar=flag.metavar,
            help=flag.help,
            min=None if flag.parse else flag.least,
            max=None if flag.parse else flag.most,
            rich_help_panel=flag.group,
        )
        return Parameter(self.name, Parameter.KEYWORD_ONLY, default=option, annotation=self.takes)

    def value(self, typed: Any) -> Any:
        """The field's value. Raises InputError as the flag's `parse` does."""
        if typed == self.untyped:
            return self.default
        if self.flag.parse is not None:
            return self.flag.parse(typed)
        return not typed if self.switches_off else typed

    def setting(self, typed: Any) -> Any:
        """What a report says."""
        return self.default if typed is None else typed


@dataclass(frozen=True, slots=True)
class _Group:
    """An option class that a command takes: which of its fields are which flags, and its other values."""

    made: Callable[..., Any]
    options: dict[str, _Option]
    others: dict[str, Any]

    def gather(self, typed: dict[str, Any]) -> Any:
        values = {field: option.value(typed[option.name]) for field, option in self.options.items()}
        made = self.made(**values, **self.others)
        check_ranges(made)
        return made


def with_flags(command: Callable[..., None]) -> Callable[..., None]:
    """Make a command of a function whose parameters may be option classes; typer sees a flag for each of their fields.

    Every field with a `Flag` becomes one, in the order of parameters and fields, and the function is called with the
    classes, made of what was typed. Fields of two classes that are the same flag with the same default are one flag and
    get the same value. `Without`, `Only` and `Default` say what is different for one command. A parameter of type
    `Typed` gets what was typed.

    Raises AssertionError where two different flags have one name, and where a field that is named does not exist.
    """
    groups: dict[str, _Group] = {}
    shared: dict[str, _Option] = {}
    parameters: dict[str, Parameter] = {}
    own, wants_typed = [], []
    for given in signature(command).parameters.values():
        kind, *extras = get_args(given.annotation) if get_origin(given.annotation) is Annotated else [given.annotation]
        if kind is Typed:
            wants_typed.append(given.name)
        elif is_dataclass(kind):
            groups[given.name] = group = _read_class(kind, extras)
            for option in group.options.values():
                known = shared.setdefault(option.name, option)
                assert known == option, f"{option.names[-1]} is two flags: {known} and {option}"
                parameters[option.name] = option.parameter()
        else:
            own.append(given.name)
            parameters[given.name] = given.replace(kind=Parameter.KEYWORD_ONLY)
    assert not shared.keys() & {*own}, f"{shared.keys() & {*own}}: a parameter of its own, and a field's flag"

    flags = {name: flag for name in own if (flag := _typed_as(parameters[name]))}
    arguments = tuple(name for name in own if _is_argument(parameters[name]))

    def gather(typed: dict[str, Any]) -> dict[str, Any]:
        said = {name: shared[name].setting(typed[name]) if name in shared else typed[name] for name in parameters}
        settings = Typed({name: value for name, value in said.items() if name not in _ASIDE})
        settings.flags, settings.arguments = flags, arguments
        gathered = {name: group.gather(typed) for name, group in groups.items()}
        return {**{name: typed[name] for name in own}, **gathered, **dict.fromkeys(wants_typed, settings)}

    @wraps(command)
    def call(**typed: Any) -> None:
        command(**gather(typed))

    call.gather = gather  # type: ignore[attr-defined]
    call.__signature__ = Signature([*parameters.values()])  # type: ignore[attr-defined]
    call.__annotations__ = {name: parameter.annotation for name, parameter in parameters.items()}
    return call


def _is_argument(parameter: Parameter) -> bool:
    """Whether a command's own parameter is typed without a flag."""
    return any(isinstance(extra, ArgumentInfo) for extra in get_args(parameter.annotation)[1:])


def _typed_as(parameter: Parameter) -> str | None:
    """The flag of a command's own parameter where it says so; None: it is called like the parameter."""
    options = [extra for extra in get_args(parameter.annotation)[1:] if hasattr(extra, "param_decls")]
    # As typer has it, the first name of an annotation stands where a default would.
    said = [name for option in options for name in (option.default, *(option.param_decls or ()))]
    names = (name for name in said if isinstance(name, str) and name.startswith("--"))
    return next((name.partition("/")[0] for name in names), None)


def gathered(command: Callable[..., None], typed: dict[str, Any]) -> dict[str, Any]:
    """What a command of `with_flags` calls its function with, for what typer read.

    Raises InputError as the flags' `parse` does.
    """
    return command.gather(typed)  # type: ignore[attr-defined]


def changed(*options: Any, apart_from: Any = None) -> list[str]:
    """The flags of option classes' fields that do not have their defaults, as they are typed.

    Those that `apart_from` has, too, are left out: it is a class that shares them.
    """
    shared = set() if apart_from is None else {field.name for field in fields(apart_from)}
    return [
        _names(field, field.metadata["flag"])[-1].split("/")[0]
        for group in options
        for field in fields(group)
        if "flag" in field.metadata and field.name not in shared and getattr(group, field.name) != field.default
    ]


def _read_class(kind: Any, extras: list[Any]) -> _Group:
    """What a command that takes `kind` makes flags of, with its `Without`, `Only` and `Default`."""
    left_out = {name for extra in extras if isinstance(extra, Without) for name in extra.names}
    only = {name for extra in extras if isinstance(extra, Only) for name in extra.names}
    defaults = {name: value for extra in extras if isinstance(extra, Default) for name, value in extra.values.items()}
    known = {field.name: field for field in fields(kind)}
    unknown = (left_out | only | defaults.keys()) - known.keys()
    assert not unknown, f"{kind.__name__} has no {', '.join(sorted(unknown))}"
    options = {
        name: _read_field(field, defaults)
        for name, field in known.items()
        if "flag" in field.metadata and name not in left_out and (not only or name in only)
    }
    return _Group(kind, options, {name: value for name, value in defaults.items() if name not in options})


def _read_field(field: "Field[Any]", defaults: dict[str, Any]) -> _Option:
    flag: Flag = field.metadata["flag"]
    takes = field.type if flag.takes is None else flag.takes
    assert not isinstance(takes, str), f"{field.name} has a type that is known by name only: say what its flag takes"
    assert field.default is not MISSING, f"{field.name} has no default"
    names = _names(field, flag)
    switches_off = takes is bool and field.default is True and "/" not in names[-1]
    assert not switches_off or names[-1].startswith("--no-"), f"{names[-1]} is True already, and cannot be switched off"
    given = defaults.get(field.name, field.default)
    parse = flag.parse if field.name in defaults and isinstance(given, str) else None
    return _Option(
        name=names[-1].split("/")[0].removeprefix("--").replace("-", "_"),
        names=names,
        flag=flag,
        takes=takes,
        default=given if parse is None else parse(given),
        untyped=not given if switches_off else _as_typed(given, flag.takes),
        switches_off=switches_off,
    )


def _names(field: "Field[Any]", flag: Flag) -> tuple[str, ...]:
    """The flag as it is typed, the long name last."""
    names = flag.names or (f"--{field.name.replace('_', '-')}",)
    assert names[-1].startswith("--"), f"{field.name}: the last name of a flag is the long one"
    return names


def _as_typed(default: Any, takes: Any) -> Any:
    """A default that could be typed, which the help then shows; else None."""
    return default if takes is None or isinstance(default, get_origin(takes) or takes) else None
