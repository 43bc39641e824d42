"""An outcome verifier (ORM): a head on the hidden state of a response's last token (Cobbe et al. 2021, arXiv 2110.14168)."""

from collections.abc import Sequence

import torch

from selfcorrect.rewards.verifiers.encoding import Encoded
from selfcorrect.rewards.verifiers.head_verifier import HeadVerifier
from selfcorrect.rewards.verifiers.model_verifier import padded


class ClassifierVerifier(HeadVerifier):
    """Scores a response by the logit of "right" at its EOS token; the card's logistic curve makes it a probability."""

    def _encode(self, prompt: str, response: str) -> Encoded | None:
        return self.encoder.whole(prompt, response)

    def _read(self, batch: Sequence[Encoded]) -> list[float]:
        ids, mask = padded([one.ids for one in batch], device=self.model.body.device)
        logits = self.model(ids, mask)
        last = torch.tensor([len(one.ids) - 1 for one in batch], device=ids.device)
        return [float(value) for value in logits.gather(1, last[:, None])[:, 0]]
