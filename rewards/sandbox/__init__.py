"""Jailed processes for code that nobody has read: system calls, files, memory, processor and wall-clock time are all
bounded.

Read in this order: `jail.py` (the layers), `zygote.py` (the process that forks jailed children), `zygote_process.py`
and `pair_pool.py` (their parent), `inside/` (what runs in the jailed children).
"""
