"""Reflexion: try, learn from what came of it, note it in the memory, try again with nothing but the memory.

Run it from the folder `examples`: `python -m reflexion`.
"""
