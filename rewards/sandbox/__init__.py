"""Jailed processes for code that nobody has read: system calls, files, memory, processor and wall-clock time are all
bounded.

Read in this order: `jail.py` (the layers, and what is let through on the user's word), `zygote.py` (the process that
forks jailed children), `zygote_process.py` and `zygote_pair.py` (their parent), `inside/` (what runs in the jailed
children). The pool of pairs is that of all processes, `rewards/process_pool.py`.
"""
