"""DREAMER: 23 people watch 18 film clips; EEG and ECG of portable sensors, rated afterwards.

Katsigiannis & Ramzan 2018, "DREAMER: a database for emotion recognition through EEG and ECG signals from wireless low-cost
off-the-shelf devices", IEEE JBHI 22(1):98–107; restricted access. One file:

    DREAMER.mat     struct DREAMER: EEG_SamplingRate 128, ECG_SamplingRate 256, EEG_Electrodes (14), noOfSubjects,
                    noOfVideoSequences, Data {1×23}; Data{i}: ScoreValence, ScoreArousal, ScoreDominance (18×1, whole numbers 1 to
                    5), EEG and ECG, each with `baseline` and `stimuli` {18×1} of samples × channels (14 and 2)

A row is a person watching a clip, of which the last 60 s are used: clips differ in length, so length and absolute time would
tell which it is. The clock is 0 where these begin; up to 10 s before lie in the streams at negative times. EEG is unfiltered,
with a large offset; ECG may hold NaN, which stay. A person's `reference` is median and scale of all their baselines (61 s
before each clip): label-free, the person under test included.

Everything lies in the one file, 2 GB once opened: it is opened once per process, and a quarter of a GB is kept.

This file knows what DREAMER is; it does not read it.
"""

from . import Corpus, Target
from .modalities import Layout

ELECTRODES = ("AF3", "F7", "F3", "FC5", "T7", "P7", "O1", "O2", "P8", "T8", "FC6", "F4", "F8", "AF4")
ECG = ("ECG1", "ECG2")
RATES = {"EEG": 128.0, "ECG": 256.0}
WIDTHS = {"EEG": len(ELECTRODES), "ECG": len(ECG)}
BASELINE_S = 61.0
USED_S, MARGIN_S = 60.0, 10.0
SCORES = ("ScoreValence", "ScoreArousal", "ScoreDominance")
TARGETS = (Target("valence", 1.0, 5.0), Target("arousal", 1.0, 5.0), Target("dominance", 1.0, 5.0))
LAYOUTS: dict[str, Layout] = {"dreamer_2": {"eeg": ELECTRODES, "ecg": ECG}}

corpus = Corpus(
    name="dreamer",
    kind="signals",
    labels=None,
    description="DREAMER: EEG and ECG during 18 film clips, rated once per clip; the last 60 s of each. Everybody sees the same "
    "clips.",
    layout="DREAMER.mat, or a folder that holds it",
    loader="meco_hub.corpora.dreamer_mat:read",
    reader="meco_hub.corpora.dreamer_mat:read_row",
    options={
        "modalities": "which channels make a stream: dreamer_2, or a mapping {stream: [channel, …]} in which EEG and ECG do not "
        "share a stream; default dreamer_2",
        "folds": "what the column fold means: P1 (everybody's own trials, 6 folds of 3), P2 (one person each), P3 (groups of "
        "people; the default) or P0 (random, leaky)",
    },
    targets=TARGETS,
    citation='Katsigiannis & Ramzan 2018, "DREAMER", IEEE JBHI 22(1):98–107',
    licence="By application to its owners (Zenodo record 546113); no redistribution.",
)
