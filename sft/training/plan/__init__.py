"""What a run will take, before anything trains: rows, tokens, steps, memory by part, time, disk. No model is needed.

    parts         the nouns: machine, model, batch, work, memory, time, disk, and settings that would fit
    arithmetic    memory and time from them
    plan          Plan: all of it, as a table, as JSON, and its verdict

``command`` puts a plan together from what was counted and measured. Sizes are bytes, times seconds.
"""

from sft.runs.machine import Machine, size
from sft.training.plan.arithmetic import PROCESS, certain_bytes, cost_of, estimate, fitted_cost, looks, remedies
from sft.training.plan.parts import Batch, Disk, Fit, Memory, Model, Remedy, Time, Work, duration
from sft.training.plan.plan import Plan

__all__ = [
    "PROCESS",
    "Batch",
    "Disk",
    "Fit",
    "Machine",
    "Memory",
    "Model",
    "Plan",
    "Remedy",
    "Time",
    "Work",
    "certain_bytes",
    "cost_of",
    "duration",
    "estimate",
    "fitted_cost",
    "looks",
    "remedies",
    "size",
]
