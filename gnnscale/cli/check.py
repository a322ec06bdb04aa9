"""``gnnscale check``."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Annotated

import typer

from gnnscale.cli.ends import refuse

if TYPE_CHECKING:
    pass


def check(
    sampler: Annotated[
        str, typer.Argument(metavar="SAMPLER", help="my_sampler.py:MySampler, or a name, also with arguments.")
    ],
    draws: Annotated[int, typer.Option(help="Batches that a mean is taken from; more find a smaller bias.")] = 450,
    layers: Annotated[int, typer.Option(help="Layers that the sampler is asked for.")] = 2,
) -> None:
    """Check a sampler: blocks, repeatability, its estimate against brute force, odd graphs, and more.

    Example: [bold]gnnscale check "my_sampler.py:MySampler(k=3)"[/bold]

    The graphs have 60 nodes: a sampler that takes all of their neighbours is not checked for sampling.

    Exit status: 0 if all checks passed, 1 if one failed, 2 for bad input, 130 after Ctrl-C.
    """
    from gnnscale.compare.parse import parse_choice
    from gnnscale.samplers import make_sampler
    from gnnscale.testing import CHECKS, check_draws
    from gnnscale.testing.graphs import NUM_NODES

    try:
        check_draws(draws)
        name, arguments = parse_choice(sampler)
        if "num_layers" in arguments:
            raise ValueError("num_layers is given in brackets; use --layers for it")
        made = make_sampler(name, num_layers=layers, num_nodes=NUM_NODES, **arguments)
    except (ValueError, TypeError, OSError) as error:
        refuse(error)
    estimate = getattr(made, "estimate", None)
    typer.echo(f"{sampler}, estimate: {estimate or 'unbiased (it declares none)'}")
    failed: dict[str, str] = {}
    width = max(len(check.name) for check in CHECKS)
    try:
        for check in CHECKS:
            typer.echo(f"  {check.name:<{width}}  ", nl=False)
            sys.stdout.flush()
            try:
                check(made, draws=draws)
            except AssertionError as error:
                sentence = " ".join(str(error).split())
                # One mistake fails many checks, and is told once.
                earlier = next((other for other, text in failed.items() if text == sentence), None)
                failed[check.name] = sentence
                typer.echo(f"FAILED: as {earlier}" if earlier else f"FAILED: {sentence.rstrip('.')}.")
            else:
                typer.echo("ok")
    except KeyboardInterrupt:
        typer.echo("\nStopped.", err=True)
        raise typer.Exit(130) from None
    typer.echo(f"{len(CHECKS) - len(failed)} of {len(CHECKS)} checks passed")
    raise typer.Exit(1 if failed else 0)
