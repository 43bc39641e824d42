"""Every term of the loss against the slow way to work it out, on toy models and by hand."""

import itertools

import pytest
import torch
from quiet_models import one_by_one, thinkable, thinker
from torch import Tensor

from selfcorrect.agents.quiet.model import QuietModel, given
from selfcorrect.agents.quiet.streams import read_texts
from selfcorrect.training.quiet_star.loss import Terms, advantages, quiet_loss, talk_logprobs, targets_of

TEXT = [5, 9, 4, 7]
AHEAD = 2


def terms_of(
    model: QuietModel, thoughts_BSM: Tensor, anchors: list[int], *, policy_weight: float, positive_part: bool = False
) -> Terms:
    """The loss of one text whose thoughts are given; K = 2 of them at each anchor."""
    ids = torch.tensor([TEXT])
    mask = torch.ones_like(ids, dtype=torch.bool)
    anchor_BS = torch.tensor([anchors]).repeat_interleave(2, dim=1)
    reading = read_texts(model.lm, ids, mask)
    thoughts = model.think(reading, anchor_BS, given(thoughts_BSM), ahead=AHEAD)
    targets = targets_of(ids, mask, anchor_BS, AHEAD)
    talk = talk_logprobs(reading.logits_BTV, thoughts.logits_BNSV, thoughts.weight_BS, anchor_BS, targets)
    return quiet_loss(
        talk, thoughts.logprob_BS, targets, thoughts=2, policy_weight=policy_weight, positive_part=positive_part
    )


def slow_talk(model: QuietModel, anchor: int, thought: list[int]) -> list[Tensor]:
    """log p_talk of each token ahead, from whole texts: the thought's weight on one side, the text's on the other."""
    plain = model.lm(input_ids=torch.tensor([TEXT]), output_hidden_states=True)
    logits, hidden = one_by_one(model, TEXT[: anchor + 1], thought, TEXT[anchor + 1 : anchor + AHEAD])
    end = anchor + 1 + model.thinking.tokens + 1  # the column of the end mark
    weight = model.mixing(plain.hidden_states[-1][0, anchor], hidden[end])
    found = []
    for step in range(min(AHEAD, len(TEXT) - 1 - anchor)):
        base = torch.log_softmax(plain.logits[0, anchor + step], dim=-1)
        after = torch.log_softmax(logits[end + step], dim=-1)
        mixed = (1 - weight) * base + weight * after
        found.append(mixed[TEXT[anchor + 1 + step]] - mixed.exp().sum().log())
    return found


def slow_logprob(model: QuietModel, anchor: int, thought: list[int]) -> Tensor:
    logits, _ = one_by_one(model, TEXT[: anchor + 1], thought, [])
    told = thinkable(model, logits[anchor + 1 : anchor + 1 + len(thought)])
    return torch.stack([told[place, token] for place, token in enumerate(thought)]).sum()


def gradients(model: QuietModel, loss: Tensor) -> list[Tensor]:
    found = torch.autograd.grad(loss, list(model.parameters()), allow_unused=True, retain_graph=True)
    return [torch.zeros_like(p) if g is None else g for p, g in zip(model.parameters(), found, strict=True)]


def assert_same_gradients(model: QuietModel, found: list[Tensor], wanted: list[Tensor]) -> None:
    for (name, _), one, two in zip(model.named_parameters(), found, wanted, strict=True):
        torch.testing.assert_close(one, two, atol=2e-4, rtol=2e-3, msg=lambda text, name=name: f"{name}: {text}")


def test_the_nll_is_that_of_the_mixture_worked_out_text_by_text() -> None:
    model = thinker(tokens=2)
    thoughts = [[8, 3], [6, 6], [4, 9], [5, 5], [7, 8], [3, 3]]
    terms = terms_of(model, torch.tensor([thoughts]), [0, 1, 2], policy_weight=0.0)
    talks = [
        slow_talk(model, anchor, thoughts[2 * number + k]) for number, anchor in enumerate([0, 1, 2]) for k in (0, 1)
    ]
    flat = [value for talk in talks for value in talk]
    assert len(flat) == 2 * (2 + 2 + 1)  # the last position has one token ahead, not two
    torch.testing.assert_close(terms.nll, -torch.stack(flat).mean(), atol=1e-4, rtol=0)
    torch.testing.assert_close(terms.total, terms.nll)
    assert_same_gradients(model, gradients(model, terms.total), gradients(model, -torch.stack(flat).mean()))


@pytest.mark.parametrize("positive_part", [False, True])
def test_reinforce_pays_each_thought_by_what_it_did_for_the_tokens_ahead(positive_part: bool) -> None:
    model = thinker(tokens=2)
    thoughts = [[8, 3], [6, 6], [4, 9], [5, 5]]
    terms = terms_of(model, torch.tensor([thoughts]), [1, 2], policy_weight=1.0, positive_part=positive_part)
    slow = torch.zeros(())
    for number, anchor in enumerate([1, 2]):
        pair = thoughts[2 * number : 2 * number + 2]
        rewards = [float(torch.stack(slow_talk(model, anchor, thought)).sum().detach()) for thought in pair]
        for thought, reward in zip(pair, rewards, strict=True):
            paid = reward - sum(rewards) / 2
            paid = max(paid, 0.0) if positive_part else paid
            slow = slow - paid * slow_logprob(model, anchor, thought) / 4
    torch.testing.assert_close(terms.reinforce, slow, atol=1e-4, rtol=1e-3)
    assert_same_gradients(model, gradients(model, terms.reinforce), gradients(model, slow))


def test_on_average_the_gradient_is_that_of_the_expected_likelihood() -> None:
    # All pairs of thoughts of one token, each weighed by its probability: E[gradient] against the gradient of E. With
    # the mean of K = 2 as baseline REINFORCE is (K - 1) / K of the true gradient; N = 2 tokens ahead make the NLL's
    # mean half the sum.
    model = thinker(tokens=1)
    words = list(range(46))
    probabilities = torch.stack([slow_logprob(model, 1, [word]) for word in words]).exp()
    assert float(probabilities.sum().detach()) == pytest.approx(1, abs=1e-5)
    likely = probabilities.topk(3).indices.tolist()
    share = (
        probabilities[likely] / probabilities[likely].sum()
    ).detach()  # conditional on three thoughts: a smaller sum

    def conditional(model: QuietModel) -> Tensor:
        told = torch.stack([slow_logprob(model, 1, [word]) for word in likely])
        likelihood = torch.stack([torch.stack(slow_talk(model, 1, [word])).sum() for word in likely])
        return -(torch.softmax(told, dim=0) * likelihood).sum() / AHEAD

    wanted = gradients(model, conditional(model))
    weight = (1 / AHEAD) * 2
    found = [torch.zeros_like(p) for p in model.parameters()]
    for i, j in itertools.product(range(3), repeat=2):
        terms = terms_of(model, torch.tensor([[[likely[i]], [likely[j]]]]), [1], policy_weight=weight)
        # within the three, a thought's log-probability is log p - log(sum of the three): the second part cancels, as
        # the two advantages of a pair add up to zero
        for total, part in zip(found, gradients(model, terms.total), strict=True):
            total += share[i] * share[j] * part
    assert_same_gradients(model, found, wanted)


def test_straight_through_gives_the_gradient_of_the_mean_embedding() -> None:
    model = thinker(tokens=2)
    ids, mask = torch.tensor([TEXT]), torch.ones(1, 4, dtype=torch.bool)
    thought = torch.tensor([[[8, 3]]])

    def likelihood(straight_through: bool) -> Tensor:
        reading = read_texts(model.lm, ids, mask)
        found = model.think(reading, torch.tensor([[1]]), given(thought), straight_through=straight_through)
        return torch.log_softmax(found.logits_BNSV[0, 0, 0], dim=-1)[TEXT[2]]

    def slowly() -> Tensor:
        table, marks = model.lm.get_input_embeddings().weight, model.marks()
        read = [*table[torch.tensor(TEXT[:2])], marks[0]]
        for token in (8, 3):
            logits = model.lm(inputs_embeds=torch.stack(read)[None], use_cache=False).logits[0, -1]
            mean = thinkable(model, logits).exp() @ table
            read.append(table[token] + mean - mean.detach())
        read.append(marks[1])
        return torch.log_softmax(model.lm(inputs_embeds=torch.stack(read)[None]).logits[0, -1], dim=-1)[TEXT[2]]

    torch.testing.assert_close(likelihood(True), likelihood(False), atol=1e-5, rtol=0)
    through, without = gradients(model, likelihood(True)), gradients(model, likelihood(False))
    assert_same_gradients(model, through, gradients(model, slowly()))
    assert any(not torch.allclose(one, two, atol=1e-3) for one, two in zip(through, without, strict=True))


def test_advantages_are_differences_from_the_mean_of_the_position() -> None:
    rewards = torch.tensor([[[1.0, 3.0, 2.0], [0.0, 0.0, 6.0]]])
    both = advantages(rewards, positive_part=False)
    torch.testing.assert_close(both, torch.tensor([[[-1.0, 1.0, 0.0], [-2.0, -2.0, 4.0]]]))
    torch.testing.assert_close(advantages(rewards, positive_part=True), both.clamp(min=0))
    assert not advantages(rewards.requires_grad_(), positive_part=False).requires_grad


def test_targets_end_where_the_text_ends() -> None:
    ids = torch.tensor([[5, 6, 7, 8], [9, 4, 0, 0]])
    mask = torch.tensor([[True] * 4, [True, True, False, False]])
    targets = targets_of(ids, mask, torch.tensor([[0, 2], [0, 2]]), 2)
    assert targets.valid_BNS.tolist() == [[[True, True], [True, False]], [[True, False], [False, False]]]
    assert targets.ids_BNS[0].tolist()[0] == [6, 8] and targets.ids_BNS[0, 1, 0] == 7


def test_padding_changes_no_term() -> None:
    model = thinker(tokens=2)
    thoughts = torch.tensor([[[8, 3], [6, 6], [4, 9], [5, 5]]])
    alone = terms_of(model, thoughts, [1, 2], policy_weight=1.0)
    ids = torch.tensor([[*TEXT, 0, 0]])
    mask = torch.tensor([[True] * 4 + [False] * 2])
    anchors = torch.tensor([[1, 1, 2, 2, 4, 4]])
    reading = read_texts(model.lm, ids, mask)
    padded = torch.cat([thoughts, torch.full((1, 2, 2), 7)], dim=1)
    found = model.think(reading, anchors, given(padded), ahead=AHEAD)
    targets = targets_of(ids, mask, anchors, AHEAD)
    talk = talk_logprobs(reading.logits_BTV, found.logits_BNSV, found.weight_BS, anchors, targets)
    terms = quiet_loss(talk, found.logprob_BS, targets, thoughts=2, policy_weight=1.0, positive_part=False)
    torch.testing.assert_close(terms.total, alone.total, atol=1e-5, rtol=1e-4)
    assert terms.advantage == pytest.approx(alone.advantage, rel=1e-3)
