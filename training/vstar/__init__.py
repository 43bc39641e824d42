"""V-STaR: a generator and a verifier that learn from the generator's right and wrong answers."""
