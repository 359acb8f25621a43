"""What a run will take, before anything trains: rows, tokens, steps, memory by part, time, disk.

parts         a plan: its table, its JSON, its verdict; and its nouns
costs         the size of a model, and memory and time from it
rehearsal     the trainer made to count its batches, or to fit a few of them against the clock
command       sft plan: puts a plan together from what was counted and measured
"""
