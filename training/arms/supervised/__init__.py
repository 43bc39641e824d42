"""What STaR, Pair-SFT and SFT share: sample, make examples of what was sampled, fine-tune the original policy on them.

sampling     which problems are asked, and how much is sampled
hints        a problem with its answer as a hint
settings     their groups of settings
examples     from judged episodes to what is learnt, token for token
fine_tuning  TRL's SFTTrainer
run          loop after loop, in a run folder
"""
