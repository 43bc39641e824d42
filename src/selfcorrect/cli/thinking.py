"""Options that steer a model's thinking, and the measure of what it does not see in itself."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated

import typer

from selfcorrect.cli.console import notes, results, write_json
from selfcorrect.cli.naming import NamedPolicy
from selfcorrect.cli.options import refuse_typed
from selfcorrect.errors import ConfigurationError

if TYPE_CHECKING:
    from selfcorrect.agents.prompts import Prompts
    from selfcorrect.rewards.checker import Checker
    from selfcorrect.tasks.problem import Problem

WAIT_WORD, THINK_END = "Wait", "</think>"
ThinkTokens = Annotated[
    int | None,
    typer.Option(
        "--think-tokens",
        min=1,
        help="Of a model with a thinking section: close it after so many tokens, and let it answer.",
    ),
]
Waits = Annotated[
    int,
    typer.Option(
        "--waits", min=0, help="How often --wait-word takes the place of the end of its thinking (budget forcing)."
    ),
]
WaitWord = Annotated[str, typer.Option("--wait-word", help="What is put there.")]
ThinkEnd = Annotated[
    str,
    typer.Option(
        "--think-end", help="What ends its thinking; '' for a model without a section: the end of its answer then."
    ),
]
BlindSpot = Annotated[
    bool, typer.Option("--blind-spot", help="Measure instead whether it mends its own errors as it does a user's.")
]


def steered(named: NamedPolicy, ctx: typer.Context, *, waits_at_least: int = 0) -> NamedPolicy:
    """`named`, which thinks as the running command's options say; as it is where they say nothing.

    Raises:
        ConfigurationError: an option has no effect, or the policy cannot be steered so.
    """
    tokens, wait, end = ctx.params["think_tokens"], ctx.params["wait_word"], ctx.params["think_end"]
    waits = max(ctx.params["waits"], waits_at_least)
    if tokens is None and not waits:
        refuse_typed(ctx, ("wait_word", "think_end"), "without --waits and --think-tokens nothing is steered")
        return named
    if not waits:
        refuse_typed(ctx, ("wait_word",), "it is what --waits puts in: give --waits, too")
        if not end:
            raise ConfigurationError("--think-tokens closes a thinking section, and --think-end '' says there is none")
    from selfcorrect.agents.policies.thinking import Thinking, ThinkingPolicy

    return NamedPolicy(
        named.name, ThinkingPolicy(named.policy, Thinking(tokens=tokens, waits=waits, wait=wait, end=end))
    )


def measure_blind_spot(
    named: NamedPolicy,
    problems: "Sequence[Problem]",
    checker: "Checker",
    prompts: "Prompts",
    ctx: typer.Context,
) -> None:
    """Measure and show it.

    Raises:
        ConfigurationError: an option has no part in it, or the policy cannot be steered so.
    """
    idle = "--blind-spot compares three ways to meet one error, and this has no part in it"
    refuse_typed(ctx, ("think_tokens", "revisions", "critique", "out"), idle)
    from selfcorrect.agents.policies.thinking import ThinkingPolicy
    from selfcorrect.agents.policy import Sampling
    from selfcorrect.agents.solving.blind_spot import blind_spot

    policy = steered(named, ctx, waits_at_least=1).policy
    assert isinstance(policy, ThinkingPolicy)
    asked = ctx.params
    sampling = Sampling(temperature=asked["temperature"], max_new_tokens=asked["limit"])
    with notes.status("drawing answers, and meeting the wrong ones in three ways ..."):
        found = blind_spot(policy, problems, checker, prompts, sampling=sampling, seed=asked["seed"])
    if asked["as_json"]:
        write_json({"model": named.name, **found.as_dict()})
        return
    word = policy.thinking.wait
    results.print(f"{found.n:,} wrong answers of {named.name}, drawn at temperature 1; mended:", markup=False)
    for way, share, (low, high) in (
        ("in its own unfinished turn", found.own, found.own_ci95),
        (f"the same, with {word!r} behind it", found.forced, found.forced_ci95),
        ("in a user's message", found.user, found.user_ci95),
    ):
        results.print(f"  {way:36} {share:.3f}  [{low:.3f}, {high:.3f}]", markup=False)
    results.print(f"blind spot {found.blind_spot:.3f}, with {word!r} {found.blind_spot_forced:.3f}", markup=False)
