"""`tf.flags`: options of a program on its command line, parsed when one is first read."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Iterator, Sequence
from typing import Any


class FlagValues:
    """The flags of a program, by name.

    Reading one parses the command line.  What is no flag is left for `tf.app.run` to hand on.
    """

    def __init__(self) -> None:
        self.__dict__["_parser"] = argparse.ArgumentParser(allow_abbrev=False, add_help=False)
        self.__dict__["_required"] = set()
        self._forget()

    def _forget(self) -> None:
        self.__dict__.update(_values={}, _parsed=False, _rest=[])

    def _define(self, name: str, default: Any, help: str | None, convert: Any, **more: Any) -> None:
        known = {a.dest: a for a in self._parser._actions}
        if name in known:  # as when a notebook cell runs again
            known[name].default = default
        else:
            options = [f"--{name}", f"-{name}"]
            self._parser.add_argument(
                *options, dest=name, default=default, type=convert, help=help, **more
            )
        self.__dict__["_parsed"] = False

    def _offer_help(self, description: str | None) -> None:
        self._parser.description = description
        if "--help" not in self._parser._option_string_actions:  # nor a flag of the program's own
            self._parser.add_argument("--help", action="help", help="print the flags")

    def __call__(self, argv: Sequence[str] | None = None, known_only: bool = True) -> list[str]:
        """Parse a command line; the program's name and what is no flag.

        Raises:
          SystemExit: a value does not convert, or a required flag is missing.
        """
        arguments = list(sys.argv if argv is None else argv)
        found, rest = self._parser.parse_known_args(arguments[1:])
        missing = [n for n in sorted(self._required) if getattr(found, n, None) is None]
        if missing:
            self._parser.error(f"flags are required: {', '.join('--' + n for n in missing)}")
        values = {**vars(found), **self.__dict__.get("_set", {})}
        self.__dict__.update(_values=values, _parsed=True, _rest=arguments[:1] + rest)
        return list(self._rest)

    def __getattr__(self, name: str) -> Any:
        if name == "__flags":
            return self._all()
        if name.startswith("__"):
            raise AttributeError(name)
        values = self._all()
        if name not in values:
            raise AttributeError(f"no flag is called {name!r}")
        return values[name]

    def __setattr__(self, name: str, value: Any) -> None:
        self._all()[name] = value
        self.__dict__.setdefault("_set", {})[name] = value

    def __getitem__(self, name: str) -> Any:
        return _Flag(getattr(self, name))

    def __contains__(self, name: str) -> bool:
        return name in self._all()

    def __iter__(self) -> Iterator[str]:
        return iter(self._all())

    def __dir__(self) -> list[str]:
        return list(self._all())

    def _all(self) -> dict[str, Any]:
        if not self.__dict__["_parsed"]:
            self()
        return self.__dict__["_values"]

    def _parse_flags(self, args: Any = None) -> None:
        self(args)

    def flag_values_dict(self) -> dict[str, Any]:
        """Names and values."""
        return dict(self._all())


class _Flag:
    def __init__(self, value: Any):
        self.value = value


FLAGS = FlagValues()


def _boolean(text: Any) -> bool:
    if isinstance(text, bool):
        return text
    lowered = str(text).lower()
    if lowered in ("true", "t", "1", "yes", "y"):
        return True
    if lowered in ("false", "f", "0", "no", "n"):
        return False
    raise argparse.ArgumentTypeError(f"{text!r} is neither true nor false")


def DEFINE_string(name: str, default: Any, help: str | None = None, **_: Any) -> None:
    """A flag whose value is text."""
    FLAGS._define(name, default, help, str)


def DEFINE_integer(name: str, default: Any, help: str | None = None, **_: Any) -> None:
    """A flag whose value is an int."""
    FLAGS._define(name, default, help, int)


def DEFINE_float(name: str, default: Any, help: str | None = None, **_: Any) -> None:
    """A flag whose value is a float."""
    FLAGS._define(name, None if default is None else float(default), help, float)


def DEFINE_boolean(name: str, default: Any, help: str | None = None, **_: Any) -> None:
    """A flag that is true or false; alone it means true, and --noNAME false."""
    FLAGS._define(name, default, help, _boolean, nargs="?", const=True)
    negative = f"--no{name}"
    if negative not in FLAGS._parser._option_string_actions:
        FLAGS._parser.add_argument(negative, dest=name, action="store_false", default=default)


def DEFINE_list(name: str, default: Any, help: str | None = None, **_: Any) -> None:
    """A flag whose value is a list, given with commas."""
    FLAGS._define(name, _listed(default), help, _listed)


def DEFINE_enum(
    name: str, default: Any, enum_values: Sequence[str], help: str | None = None, **_: Any
) -> None:
    """A flag whose value is one of a few."""
    FLAGS._define(name, default, help, str, choices=list(enum_values))


DEFINE_bool = DEFINE_boolean


def mark_flag_as_required(flag_name: str) -> None:
    """Parsing fails where the flag is not given."""
    FLAGS._required.add(flag_name)
    FLAGS.__dict__["_parsed"] = False


def _listed(value: Any) -> Any:
    return value.split(",") if isinstance(value, str) else value


def run(main: Callable[[list[str]], Any] | None = None, argv: Sequence[str] | None = None) -> None:
    """`tf.app.run`: parse the flags, call the program's `main` with what is left, and exit.

    --help prints the flags instead.

    Raises:
      SystemExit: with what `main` returns.
    """
    FLAGS._offer_help(sys.modules["__main__"].__doc__)
    rest = FLAGS(argv)
    function = main or sys.modules["__main__"].main
    sys.exit(function(rest))
