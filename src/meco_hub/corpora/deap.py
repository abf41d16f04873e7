"""DEAP: 32 people watch 40 one-minute music videos; EEG and peripheral signals, rated afterwards.

Koelstra et al. 2012, "DEAP: a database for emotion analysis using physiological signals", IEEE T-AFFC 3(1):18–31; under an
agreement with its owners. Read are the files of `data_preprocessed_python`, in a folder or a zip; or, where there are none, the
original BDF files, see `deap_bdf.py`:

    s01.dat … s32.dat       a pickle of `data` (40 trials, 40 channels, 8064 samples) and `labels` (40, 4): valence, arousal,
                            dominance, liking, 1 to 9

8064 samples are 63 s at 128 Hz: 3 s before the video and 60 s of it. The owners have already removed eye movements, filtered
to 4–45 Hz, referenced to the average and sorted the trials by video, so trial n of everybody is video n: its number must
never be a feature. All channels share one clock; missing and shifted streams must be simulated. People 1–22 were recorded in
Twente, 23–32 in Geneva. The pickles are read without running anything (`numpy_pickles.py`).

A row is a trial. Its clock is 0 where the video begins; the 3 s before it lie in the streams at negative times. A person's
`reference` is median and scale of the seconds before all their videos: label-free, the person under test included.

This file knows what DEAP is; it does not read it.
"""

from . import Corpus, Target
from .modalities import Layout

_EEG = "Fp1 AF3 F3 F7 FC5 FC1 C3 T7 CP5 CP1 P3 P7 PO3 O1 Oz Pz Fp2 AF4 Fz F4 F8 FC6 FC2 Cz C4 T8 CP6 CP2 P4 P8 PO4 O2"
EEG = tuple(_EEG.split())
PERIPHERAL = ("hEOG", "vEOG", "zEMG", "tEMG", "GSR", "RESP", "PPG", "TEMP")
CHANNELS = EEG + PERIPHERAL
RATE = 128.0
BASELINE, SAMPLES = 384, 8064
"""Samples before the video, and in all."""
TRIALS = 40
TARGETS = (Target("valence", 1.0, 9.0), Target("arousal", 1.0, 9.0), Target("dominance", 1.0, 9.0))

LAYOUTS: dict[str, Layout] = {
    "deap_4": {"eeg": EEG, "eye": PERIPHERAL[:2], "emg": PERIPHERAL[2:4], "ans": PERIPHERAL[4:]},
    "deap_7": {
        "eeg": EEG,
        "eye": PERIPHERAL[:2],
        "emg": PERIPHERAL[2:4],
        "gsr": ("GSR",),
        "resp": ("RESP",),
        "ppg": ("PPG",),
        "temp": ("TEMP",),
    },
    "deap_2": {"eeg": EEG, "peripheral": PERIPHERAL},
}

corpus = Corpus(
    name="deap",
    kind="signals",
    labels=None,
    description="DEAP: EEG and peripheral signals during 40 one-minute music videos, rated once per video. Everybody sees the "
    "same videos in the same order of files.",
    layout="data_preprocessed_python/ with s01.dat … s32.dat, or a folder with s01.bdf … s32.bdf and participant_ratings.csv",
    loader="meco_hub.corpora.deap_files:read",
    reader="meco_hub.corpora.deap_files:read_row",
    options={
        "modalities": f"which channels make a stream: {', '.join(LAYOUTS)}, or a mapping {{stream: [channel, …]}}; default deap_4",
        "folds": "what the column fold means: P1 (everybody's own trials), P2 (one person each), P3 (groups of people, both "
        "sites in each; the default) or P0 (random, leaky)",
    },
    targets=TARGETS,
    groups=("site",),
    suspicious_above=0.6,
    citation='Koelstra et al. 2012, "DEAP: a database for emotion analysis using physiological signals", IEEE T-AFFC 3(1)',
    licence="End user licence agreement with Queen Mary University of London; no redistribution.",
)
