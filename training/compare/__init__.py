"""Arms of training compared at equal cost: the same base, the same generated tokens, the same optimiser steps, the same
problems.

OUT/ARM/seed-N/               the run folder of one arm and one seed (see `run_directory`)
OUT/ARM/seed-N/greedy.json    what its policy did on every held-out problem, greedily
OUT/ARM/seed-N/sampled.json   the same at a temperature
OUT/compare.json              the whole comparison, for programs
OUT/compare.html              the same for people; opens offline
"""
