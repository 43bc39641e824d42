"""The credit and the loss of published recipes, as names of settings and nothing else.

Each is a preset of its own, over `demo`: `selfcorrect train multi-turn --preset dapo`. What a recipe says of models,
batches and learning rates is not in it.
"""

from collections.abc import Mapping, Sequence

_WHOLE_EPISODE = ("credit={kind: outcome}",)

RECIPES: Mapping[str, Sequence[str]] = {
    # Shao et al. 2024, arXiv 2402.03300
    "grpo": (*_WHOLE_EPISODE, "optimiser.baseline=group_mean_std", "optimiser.normalise_loss=turn"),
    # Liu et al. 2025, arXiv 2503.20783
    "dr-grpo": (
        *_WHOLE_EPISODE,
        "optimiser.baseline=group_mean",
        "optimiser.normalise_loss=40",
    ),
    # Yu et al. 2025, arXiv 2503.14476
    "dapo": (
        *_WHOLE_EPISODE,
        "optimiser.baseline=group_mean_std",
        "optimiser.clip_high=0.28",
        "optimiser.no_spread=resample",
        "optimiser.overlong={limit: 40, buffer: 8}",
        "optimiser.kl=false",
    ),
    # Ahmadian et al. 2024, arXiv 2402.14740: one update a batch, no clip to reach
    "rloo": (
        *_WHOLE_EPISODE,
        "optimiser.baseline=leave_one_out",
        "optimiser.minibatches=1",
        "optimiser.ppo_epochs=1",
    ),
    # Schulman et al. 2017, arXiv 1707.06347, over whole episodes
    "ppo": ("optimiser.baseline=leave_one_out", "optimiser.critic={turn_discount: 1.0}"),
    # Kumar et al. 2024, arXiv 2409.12917, Table 8 (MATH); the KL between whole turns of Eq. 3
    "score-paper": (
        "score.alpha=10.0",
        "score.beta1=0.01",
        "score.beta2=0.1",
        "score.beta_first=null",
        "optimiser.baseline=leave_one_out",
        "optimiser.kl_over=turn",
        "optimiser.minibatches=1",
        "optimiser.ppo_epochs=1",
        "optimiser.learning_rate_decay=false",
    ),
    # Jiang et al. 2025, arXiv 2506.10406; with a baseline where the paper has a critic
    "pag-paper": (
        "score.alpha=1.0",
        "score.beta1=0.0",
        "score.beta_first=null",
        "optimiser.clip_high=0.28",
        "optimiser.normalise_by=role",
        "optimiser.kl=false",
    ),
}
"""By name: overrides such as `--set` takes, over the preset `demo`."""
