"""Verifiers that are language models: by likelihood, by an outcome head, by a head on every step."""
