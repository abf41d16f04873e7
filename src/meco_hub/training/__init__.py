"""Training: a recipe file, one loop on Accelerate, and a folder that the Auto classes load.

    recipes.py       what a training is, key by key         recipe_files.py  found, read, checked, written
    arguments.py     the same from the command line         construction.py  recipe → model and processor
    data.py          corpus → samples → batches             sampling.py      the order of samples, balanced or not
    loaders.py       the two put together                   losses.py        cross-entropy and its variants
    optimization.py  optimiser, rates, schedule             ema.py           averaged weights
    loop.py          the events in order                    validation.py    how weights are judged
    checkpoints.py   complete or absent, never half         output.py        the run's folder
    result.py        what a run ends with                   settlement.py    operating point and calibration
    examples.py      recordings → clips → batches           energy.py        joules, where they are counted
    durable.py       folders that survive a kill            interruption.py  being told to stop
    accumulation.py  what a batch weighs in a step          trackers.py      looked for before the run
    compilation.py   torch.compile                          references.py    a straight line beside the model
    permutation.py   controls that must learn nothing
    record.py        what is written about a run            distillation.py, teachers.py   a second opinion in training

This file knows the table above and imports nothing.
"""
