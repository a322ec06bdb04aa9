"""The settings of a comparison as flags of a command, read from the one place where they stand."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Mapping
from typing import Annotated, Any, get_type_hints

import typer

from gnnscale.compare.settings import BUDGET, MODEL, TRAINING, Setting

#: The settings that are flags, by the heading under which ``--help`` shows them.
PANELS: dict[str, dict[str, Setting]] = {"Training": TRAINING, "Model": MODEL, "Budget": BUDGET}


def option(setting: Setting, panel: str) -> Any:
    """A setting as the annotation of a command's parameter; what is not given is None."""
    text = setting.meaning[0].upper() + setting.meaning[1:]
    if setting.type is str:
        text += f": {setting.allowed.replace(chr(39), '')}"
    if setting.default is not None and "default" not in text:
        default = ("yes" if setting.default else "no") if setting.type is bool else setting.default
        text += f" (default: {default})"
    return Annotated[setting.type | None, typer.Option(help=text, rich_help_panel=panel, show_default=False)]


def with_settings(command: Callable[..., None], panels: Mapping[str, Mapping[str, Setting]] = PANELS) -> Any:
    """Give a command a flag for each setting; it gets those that were given as ``settings``, a dict.

    Parameters
    ----------
    command : callable
        Its last parameter is ``settings``.
    panels : mapping of str to mapping
        Settings by the heading of their flags.

    Returns
    -------
    callable
        The same with the flags as parameters, which typer reads.
    """
    options = {name: option(setting, panel) for panel, some in panels.items() for name, setting in some.items()}

    @functools.wraps(command)
    def wrapper(**arguments: Any) -> None:
        command(settings={name: arguments.pop(name) for name in options}, **arguments)

    own = [parameter for name, parameter in inspect.signature(command).parameters.items() if name != "settings"]
    flags = [inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=None) for name in options]
    parameters = [parameter.replace(kind=inspect.Parameter.KEYWORD_ONLY) for parameter in own]
    types = get_type_hints(command, include_extras=True)
    wrapper.__annotations__ = {**{parameter.name: types[parameter.name] for parameter in own}, **options}
    wrapper.__signature__ = inspect.Signature(  # type: ignore[attr-defined]
        [parameter.replace(annotation=wrapper.__annotations__[parameter.name]) for parameter in (*parameters, *flags)]
    )
    return wrapper
