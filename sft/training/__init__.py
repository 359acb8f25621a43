"""Fitting the policy: TRL's ``SFTTrainer`` on ids and labels that are ready, and nothing left to its defaults.

The only package that knows trl and peft's training side.

    start         the folder of a run
    going_on      whether it is still the same run, and from which checkpoint it goes on
    fit           a run's fit: render, account, train, prove
    fitting       train: from rendered rows to a saved adapter or model, with the log
    constructing  the trainer's arguments; what it would refuse, tried on a toy
    sequences     rows, joined or packed, and the batches they make
    batches       rows in one line that do not see each other, or rows with padding; their loss
    trainer       what is changed in the trainer, and why
    resuming      the part of it that stops and goes on, with Ctrl-C and SIGTERM
    proof         the fitted weights, saved whole or not at all, and proven to be what was fitted
"""
