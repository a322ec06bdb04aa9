"""``gnnscale list`` and ``gnnscale doctor``: what there is, and whether it works."""

from __future__ import annotations

from typing import TYPE_CHECKING

import typer

if TYPE_CHECKING:
    pass


def list_names() -> None:
    """Name the datasets, models and samplers, with one line each.

    Example: [bold]gnnscale list[/bold]
    """
    from gnnscale.data import dataset_names
    from gnnscale.nn import MODELS
    from gnnscale.plugins import offered
    from gnnscale.samplers import SAMPLERS

    models = {name: _first_line(model) for name, model in MODELS.items()}
    samplers = {name: _first_line(getattr(sampler, "func", sampler)) for name, sampler in SAMPLERS.items()}
    # Their modules are not imported: a package that is broken must not break the list.
    for name, point in offered().items():
        samplers[name] = f"Of {point.dist.name if point.dist else 'a package'}: {point.value}"
    for title, lines in (("datasets", dataset_names()), ("models", models), ("samplers", samplers)):
        width = max(map(len, lines), default=0)
        typer.echo(f"{title}:")
        for name, line in lines.items():
            typer.echo(f"  {name:<{width}}  {line}")


def doctor() -> None:
    """Tell versions, which native parts are in use, and what is missing, with the remedy.

    Example: [bold]gnnscale doctor[/bold]. The exit status is 1 if something that is needed does not work.
    """
    from gnnscale.doctor import examine

    broken = False
    for finding in examine():
        broken |= finding.broken
        typer.echo(f"{finding.subject + ':':<14}{finding.state}")
        if finding.remedy:
            typer.echo(f"{'':<14}-> {finding.remedy}")
    raise typer.Exit(1 if broken else 0)


def _first_line(thing: object) -> str:
    return (thing.__doc__ or "").strip().partition("\n")[0]
