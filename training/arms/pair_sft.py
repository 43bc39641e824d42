"""Pair-SFT: learn to correct from answers that were never given in one conversation."""

import random
from collections.abc import Sequence
from functools import partial
from pathlib import Path

from selfcorrect.agents.policies.rendering import choose_template, prompt_after
from selfcorrect.agents.policies.transformers import TransformersPolicy, eos_ids
from selfcorrect.agents.state import Generation, Message
from selfcorrect.tasks.problem import Problem, Task
from selfcorrect.training.arms.star import refuse_other_loops, single_turn_graph
from selfcorrect.training.arms.supervised.examples import SecondPrompt, pairs
from selfcorrect.training.arms.supervised.run import SupervisedPlan, train_supervised
from selfcorrect.training.arms.supervised.sampling import Sampled, sampled_episodes
from selfcorrect.training.runs.given import takes_objects
from selfcorrect.training.runs.opening import prompts_for
from selfcorrect.training.runs.progress import ProgressSink
from selfcorrect.training.runs.run_directory import RunResult
from selfcorrect.training.settings import RunSettings


@partial(takes_objects, reloads=True, unused=["objective"])
def pair_sft(
    settings: RunSettings, *, out: Path, progress: ProgressSink | None = None, resume: bool = False
) -> RunResult:
    """Pair-SFT (Welleck et al. 2023, arXiv 2211.00053, in the form of the SCoRe paper, arXiv 2409.12917, section 4).

    Samples several answers to every problem from the base policy, puts a wrong and a right one together as the two
    turns of a conversation that nobody had, and fine-tunes one model, once, on the second turns.
    `settings.pair_sft.data` is "pairs" (D_SFT) or "pairs+correct", which adds a right answer after a right one
    (D+_SFT). The loss is on the second answer alone. Raises what `train_supervised` raises.
    """
    refuse_other_loops(settings, "pair-sft")
    plan = SupervisedPlan(
        arm=f"pair-sft --data {settings.pair_sft.data}",
        group="pair_sft",
        loops=1,
        seeks=_SEEKS[settings.pair_sft.data],
        harvest=lambda policy, task: _Pairing(settings, policy, task),
    )
    return train_supervised(plan, settings, out=out, progress=progress, resume=resume)


_SEEKS = {
    "pairs": "problem with both a right and a wrong answer",
    "pairs+correct": "problem with a right answer and another one",
}


class _Pairing:
    """Samples first answers and pairs them."""

    def __init__(self, settings: RunSettings, policy: TransformersPolicy, task: Task) -> None:
        self.settings, self.task = settings, task
        self.graph = single_turn_graph(settings, policy, task)
        self.second_prompt = second_prompt(settings, policy)

    def __call__(self, problems: Sequence[Problem], seed: int) -> Sampled:
        group = self.settings.pair_sft
        states = sampled_episodes(self.graph, problems, self.task.checker, temperature=group.temperature, seed=seed)
        keep_correct = group.data == "pairs+correct"
        return Sampled(states, [], pairs(states, self.second_prompt, random.Random(seed), keep_correct=keep_correct))


def second_prompt(settings: RunSettings, policy: TransformersPolicy) -> SecondPrompt:
    """What the graph shows `policy` after a first answer: the same ids, appended in the same way."""
    template = choose_template(policy.tokenizer, settings.policy.template)
    stops = eos_ids(policy.model, policy.tokenizer)
    instruction = Message(role="user", content=prompts_for(settings, policy).revise)

    def prompt_ids(first: Generation) -> list[int]:
        return prompt_after(template, [instruction], first, stops).ids

    return prompt_ids
