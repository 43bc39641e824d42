"""A small model from nothing that knows the words: it writes, checks and rewrites queries, often wrongly. Then it
can learn."""

import random
from collections.abc import Iterable, Iterator
from typing import Any

import torch

from selfcorrect import Problem, TransformersPolicy
from sql_repair.checker import SqlChecker
from sql_repair.data import CITIES, NUMBERS, TEAMS, SqlTask, vocabulary
from sql_repair.graph import in_words

PAD, EOS = "<pad>", "<eos>"


def tokenizer(known: Iterable[str] | None = None) -> Any:
    """One token a word of `known`; None is this example's vocabulary."""
    from tokenizers import Tokenizer
    from tokenizers.models import WordLevel
    from tokenizers.pre_tokenizers import WhitespaceSplit
    from transformers import PreTrainedTokenizerFast

    words = {word: number for number, word in enumerate([PAD, EOS, *(vocabulary() if known is None else known)])}
    inner = Tokenizer(WordLevel(words, unk_token=EOS))  # all that is ever shown is in the vocabulary
    inner.pre_tokenizer = WhitespaceSplit()
    return PreTrainedTokenizerFast(
        tokenizer_object=inner, pad_token=PAD, eos_token=EOS, unk_token=EOS, padding_side="left"
    )


def untrained(words: Any, *, hidden: int = 64, layers: int = 2, max_new_tokens: int = 24) -> TransformersPolicy:
    """A random model of about `hidden` ** 2 * 12 * `layers` parameters."""
    from transformers import LlamaConfig, LlamaForCausalLM

    config = LlamaConfig(
        vocab_size=len(words),
        hidden_size=hidden,
        intermediate_size=2 * hidden,
        num_hidden_layers=layers,
        num_attention_heads=4,
        max_position_embeddings=128,
        tie_word_embeddings=True,
        bos_token_id=None,
        eos_token_id=words.eos_token_id,
        pad_token_id=words.pad_token_id,
    )
    return TransformersPolicy(LlamaForCausalLM(config), words, max_new_tokens=max_new_tokens)


def documents(seed: int, *, wrong: float = 0.15) -> Iterator[tuple[str, str]]:
    """Prompts and continuations as the graph's nodes make them; a share of the continuations is `wrong`."""
    dice, checker = random.Random(seed), SqlChecker()
    problems = SqlTask().problems("train", SqlTask().available("train"))
    while True:
        problem = dice.choice(problems)
        first = _spoilt(problem, dice) if dice.random() < 0.5 else str(problem.gold)
        outcome = in_words(checker.outcome(first, problem.reference["database"]))
        seen = f"{problem.prompt} : {first} ; {outcome}"
        answer = _spoilt(problem, dice) if dice.random() < wrong else str(problem.gold)
        right = (first == problem.gold) != (dice.random() < wrong)
        yield dice.choice(
            [
                (f"{problem.prompt} :", answer),
                (f"{seen} check", "right" if right else "wrong"),
                (f"{seen} again :", answer),
            ]
        )


def _spoilt(problem: Problem, dice: random.Random) -> str:
    """The right query with one word changed for one of its kind, or left out."""
    words = str(problem.gold).split()
    place = dice.randrange(len(words))
    kinds = [
        [f"'{name}'" for name in (*CITIES, *TEAMS)],
        [str(number) for number in NUMBERS],
        ["<", ">"],
        ["MAX", "MIN"],
        ["name", "city", "team", "age", "pay"],
    ]
    kind = next((kind for kind in kinds if words[place] in kind), [""])
    return " ".join([*words[:place], *dice.choice(kind).split(), *words[place + 1 :]])


def warm_up(
    policy: TransformersPolicy, *, steps: int, rows: int = 64, learning_rate: float = 3e-3, seed: int = 0
) -> None:
    """Supervised steps on `documents`."""
    source = documents(seed)
    optimiser = torch.optim.AdamW(policy.model.parameters(), lr=learning_rate, weight_decay=0.0)
    for step in range(steps):
        for group in optimiser.param_groups:
            group["lr"] = learning_rate * min(1.0, (step + 1) / 20, 2 * (steps - step) / steps)
        optimiser.zero_grad()
        _loss(policy, [next(source) for _ in range(rows)]).backward()  # type: ignore[no-untyped-call]
        torch.nn.utils.clip_grad_norm_(policy.model.parameters(), 1.0)
        optimiser.step()


def _loss(policy: TransformersPolicy, batch: list[tuple[str, str]]) -> torch.Tensor:
    encode = policy.tokenizer.encode
    shown = [encode(prompt) for prompt, _ in batch]
    whole = [[*ids, *encode(f"{text} {EOS}")] for ids, (_, text) in zip(shown, batch, strict=True)]
    length = max(map(len, whole))
    ids = torch.full((len(batch), length), policy.tokenizer.pad_token_id)
    labels = torch.full((len(batch), length), -100)
    for row, (prompt, both) in enumerate(zip(shown, whole, strict=True)):
        ids[row, : len(both)] = torch.tensor(both)
        labels[row, len(prompt) : len(both)] = ids[row, len(prompt) : len(both)]
    loss: torch.Tensor = policy.model(input_ids=ids, labels=labels).loss
    return loss
