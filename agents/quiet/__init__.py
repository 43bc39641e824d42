"""Quiet-STaR (Zelikman et al. 2024, arXiv 2403.09629): a language model that thinks before each of its tokens.

Shapes, here and in `training/quiet_star`: B texts, T their columns, P positions that think, K thoughts of one position,
S = P x K streams (one stream is one thought with what follows it, K neighbours belong to one position), L tokens of a
stream, N tokens ahead, V vocabulary, D hidden size, H heads.
"""
