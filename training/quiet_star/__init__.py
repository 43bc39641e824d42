"""Training of Quiet-STaR (arXiv 2403.09629). For the letters in names of tensors see `selfcorrect.agents.quiet`."""
