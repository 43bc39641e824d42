"""The terms of Quiet-STaR's loss, as pure functions (arXiv 2403.09629, sections 4.3 and 4.4).

Streams are ordered by position, the K thoughts of one position beside each other: S = P x K.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from selfcorrect.agents.quiet.model import mixed_logits


@dataclass(slots=True)
class Targets:
    """What the streams should predict.

    Attributes:
        ids_BNS: the n-th token after each anchor; any id where there is none.
        valid_BNS: whether there is one.
    """

    ids_BNS: Tensor
    valid_BNS: Tensor


@dataclass(slots=True)
class Terms:
    """The loss and its parts, scalars with gradient, and what is logged.

    Attributes:
        total: nll + policy_weight x reinforce.
        nll: of the mixture, nats per predicted token.
        reinforce: the policy-gradient term; its value means nothing, its gradient does.
        advantage: mean size of what thoughts are paid by, nats per position.
    """

    total: Tensor
    nll: Tensor
    reinforce: Tensor
    advantage: float


def targets_of(ids_BT: Tensor, mask_BT: Tensor, anchor_BS: Tensor, ahead: int) -> Targets:
    """The `ahead` tokens after each anchor, N of them; those past the end of a text are not valid."""
    step_N = torch.arange(1, ahead + 1, device=ids_BT.device)
    column_BNS = anchor_BS[:, None] + step_N[None, :, None]
    inside_BNS = column_BNS < ids_BT.shape[1]
    column_BNS = column_BNS.clamp(max=ids_BT.shape[1] - 1)
    there_BNS = mask_BT[:, None].expand(-1, ahead, -1).gather(2, column_BNS)
    anchored_BS = mask_BT.gather(1, anchor_BS)
    return Targets(
        ids_BT[:, None].expand(-1, ahead, -1).gather(2, column_BNS), inside_BNS & there_BNS & anchored_BS[:, None]
    )


def talk_logprobs(
    base_BTV: Tensor, thought_BNSV: Tensor, weight_BS: Tensor, anchor_BS: Tensor, targets: Targets
) -> Tensor:
    """log p_talk (B, N, S) of each target under the mixture, 0 where there is none.

    One weight, that of the thought's end, serves all tokens ahead.
    """
    ahead = thought_BNSV.shape[1]
    step_N = torch.arange(ahead, device=base_BTV.device)
    column_BNS = (anchor_BS[:, None] + step_N[None, :, None]).clamp(max=base_BTV.shape[1] - 1)
    row_B = torch.arange(len(base_BTV), device=base_BTV.device)[:, None, None]
    mixed_BNSV = mixed_logits(base_BTV[row_B, column_BNS], thought_BNSV, weight_BS[:, None].expand(-1, ahead, -1))
    logprob_BNS = torch.log_softmax(mixed_BNSV.float(), dim=-1).gather(3, targets.ids_BNS[..., None])[..., 0]
    return logprob_BNS.masked_fill(~targets.valid_BNS, 0.0)


def advantages(reward_BPK: Tensor, *, positive_part: bool) -> Tensor:
    """r_j = log p_talk under thought j minus the mean over the K thoughts of its position; without gradient.

    Args:
        reward_BPK: log-likelihood of the tokens ahead under each thought, nats.
        positive_part: pay only thoughts that are better than the mean, as the paper does for stability (at the price of
            a bias).
    """
    reward_BPK = reward_BPK.detach()
    advantage_BPK = reward_BPK - reward_BPK.mean(dim=2, keepdim=True)
    return advantage_BPK.clamp(min=0) if positive_part else advantage_BPK


def quiet_loss(
    talk_BNS: Tensor, logprob_BS: Tensor, targets: Targets, *, thoughts: int, policy_weight: float, positive_part: bool
) -> Terms:
    """NLL of the mixture + policy_weight x REINFORCE (Williams 1992).

    Args:
        talk_BNS: from `talk_logprobs`.
        logprob_BS: log-probability of each thought.
        targets: what was predicted.
        thoughts: K.
        policy_weight: of the REINFORCE term.
        positive_part: see `advantages`.

    Returns:
        NLL as the mean over predicted tokens; REINFORCE, -r_j log p(thought j), as the mean over thoughts.
    """
    counted = targets.valid_BNS.sum().clamp(min=1)
    nll = -talk_BNS.sum() / counted
    live_BPK = _by_position(targets.valid_BNS[:, 0], thoughts)
    reward_BPK = _by_position(talk_BNS.sum(1), thoughts)
    advantage_BPK = advantages(reward_BPK, positive_part=positive_part) * live_BPK
    live = live_BPK.sum().clamp(min=1)
    reinforce = -(advantage_BPK * _by_position(logprob_BS, thoughts)).sum() / live
    size = float((advantage_BPK.abs().sum() / live).detach())
    return Terms(nll + policy_weight * reinforce, nll, reinforce, size)


def _by_position(values_BS: Tensor, thoughts: int) -> Tensor:
    return values_BS.view(values_BS.shape[0], -1, thoughts)
