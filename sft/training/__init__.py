"""Fitting the policy: TRL's ``SFTTrainer`` on ids and labels that are ready, and nothing left to its defaults.

The only package that knows trl and peft's training side.

    start         the folder of a run, and whether it is still the same run
    fit           a run's fit: render, account, train, prove
    fitting       train: from rendered rows to a saved adapter or model
    constructing  the trainer's arguments; what it would refuse, tried on a toy
    sequences     rows, joined or packed, and the batches they make
    attention     rows in one line that do not see each other
    batches       whether rows may stand in one line without padding
    each_row_once every row once an epoch, however many processes there are
    trainer       what is changed in the trainer, and why
    resuming      the part of it that stops and goes on
    callbacks     the log, the progress bar, Ctrl-C and SIGTERM
    saving        checkpoints to go on from; the fitted weights, saved whole or not at all
"""
