"""Map-reduce by `Send`: one call a word, in parallel, and one that counts what they said.

Run it from the folder `examples`: `python -m map_reduce`.
"""
