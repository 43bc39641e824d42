"""Episodes as a run's folder keeps them: what was shown and written, token for token, and what each token earned.

A row of episodes.jsonl and of training_episodes.jsonl is an episode: `id`, `prompt`, `reference` of the problem,
`policy` ("before", "after" or "training"), `step` (of training episodes), `stop_reason`, and `turns`. A turn has
`role`, `text`, and where they are known `node`, `path` (the nodes from the outermost graph's in), `verdict`, `answer`,
`reason`, `reward`, and

    after     the earlier turn, counted from 0, that it goes on from; null where the policy saw a new conversation
    prompt    what it saw beyond that, decoded
    tokens    {"prompt_ids": ids of that, "ids": what it sampled, "pieces": each as text, "logprobs": of each, in nats,
              "advantages": what each earned}

so the ids of a conversation are those of its turns in order, `prompt_ids` before `ids`, never rendered again.
"""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from selfcorrect.agents.state import Generation

if TYPE_CHECKING:
    from selfcorrect.training.ppo.rollouts import Episode

_UNFINISHED = "\ufffd"
"""What tokenizers write for the first bytes of a character."""


def pieces_of(tokenizer: Any, ids: Sequence[int]) -> list[str]:
    """What each id adds to the text, special tokens too; a character of several tokens stands with the last of them.

    Each is decoded behind the one before it, without which some tokenizers write it differently (SentencePiece leaves
    the first space away).
    """
    pieces: list[str] = []
    before, told = 0, 0  # the text of ids[before:told] is known, and what comes behind it is new
    for end in range(1, len(ids) + 1):
        known, text = _decoded(tokenizer, ids[before:told]), _decoded(tokenizer, ids[before:end])
        if text.endswith(_UNFINISHED) and end < len(ids):
            pieces.append("")
            continue
        pieces.append(text[len(known) :])
        before, told = told, end
    return pieces


def _decoded(tokenizer: Any, ids: Sequence[int]) -> str:
    return str(tokenizer.decode(list(ids), skip_special_tokens=False, clean_up_tokenization_spaces=False))


def token_records(
    generations: Sequence[Generation], tokenizer: Any, advantages: Sequence[Sequence[float]] | None = None
) -> list[dict[str, Any]]:
    """For each call of an episode `after`, `prompt` and `tokens`; {} for calls of policies without token ids.

    Args:
        generations: the calls' in order.
        advantages: of each call's tokens, in training.
    """
    records: list[dict[str, Any]] = []
    seen: list[list[int]] = []
    for index, generation in enumerate(generations):
        prompt, ids = list(generation["prompt_ids"]), list(generation["completion_ids"])
        fits = [at for at, before in enumerate(seen) if before and prompt[: len(before)] == before]
        after = max(fits, key=lambda at: len(seen[at]), default=None)
        seen.append(prompt + ids if ids else [])
        if not ids:
            records.append({})
            continue
        new = prompt if after is None else prompt[len(seen[after]) :]
        tokens = {"prompt_ids": new, "ids": ids, "pieces": pieces_of(tokenizer, ids)}
        tokens["logprobs"] = [float(value) for value in generation["logprobs"]]
        if advantages is not None:
            tokens["advantages"] = list(advantages[index])
        records.append({"after": after, "prompt": _decoded(tokenizer, new), "tokens": tokens})
    return records


def training_rows(
    episodes: Sequence["Episode"], advantages: Sequence[Sequence[float]], tokenizer: Any, *, count: int, step: int
) -> list[dict[str, Any]]:
    """`count` of a step's episodes, evenly spread over its problems, for training_episodes.jsonl.

    Args:
        episodes: all that the step learns from.
        advantages: of each call of all of them in order, its tokens'; [] for a call without tokens.
        count: more than there are keeps all.
        step: of the run, from 1.
    """
    offsets = [0]
    for episode in episodes:
        offsets.append(offsets[-1] + len(episode.calls))
    kept = min(count, len(episodes))
    chosen = [place * len(episodes) // kept for place in range(kept)]
    return [
        {"step": step, **_training_row(episodes[at], advantages[offsets[at] : offsets[at + 1]], tokenizer)}
        for at in chosen
    ]


def _training_row(episode: "Episode", advantages: Sequence[Sequence[float]], tokenizer: Any) -> dict[str, Any]:
    problem, error = episode.problem, episode.error
    state = episode.state if isinstance(episode.state, Mapping) else {}
    return {
        "id": problem.id,
        "policy": "training",
        "prompt": problem.prompt,
        "reference": problem.reference,
        "turns": call_records(episode, tokenizer, advantages),
        "stop_reason": str(state.get("stop_reason", "")) if error is None else str(error),
    }


def call_records(
    episode: "Episode", tokenizer: Any, advantages: Sequence[Sequence[float]] | None = None
) -> list[dict[str, Any]]:
    """The turns of an episode whose policy calls were recorded, in any graph."""
    tokens = token_records([call.generation for call in episode.calls], tokenizer, advantages)
    judged = _verdicts(episode)
    return [
        {
            "role": judged[at].get("role", signal.kind),
            "node": call.node,
            "path": list(call.nodes),
            "text": call.text,
            "verdict": None,
            **{name: value for name, value in judged[at].items() if name != "role"},
            "reward": signal.reward,
            "learns": signal.learns,
            **tokens[at],
        }
        for at, (call, signal) in enumerate(zip(episode.calls, episode.signals, strict=True))
    ]


def _verdicts(episode: "Episode") -> list[dict[str, Any]]:
    """Role and verdict of each call, where the graph's state has turns as `build_graph`'s do."""
    state = episode.state if isinstance(episode.state, Mapping) else {}
    turns = state.get("turns", ()) if episode.scores else ()
    turns = [turn for turn in turns if turn["generation"]["completion_ids"]]
    if len(turns) != len(episode.calls):
        return [{} for _ in episode.calls]
    return [{"role": turn["role"], **verdict_fields(turn["verdict"])} for turn in turns]


def verdict_fields(verdict: Mapping[str, Any] | None) -> dict[str, Any]:
    """A verdict as rows have it."""
    if verdict is None:
        return {}
    return {"verdict": verdict["status"], "answer": verdict["answer"], "reason": verdict["reason"]}
