"""What differs between plugins for faces, eyes and signals, in a few words each; what differs in code is in the templates.

This file knows what the templates say of each kind.
"""

from dataclasses import asdict, dataclass


@dataclass(frozen=True)
class Kind:
    """A kind of recording, in words.

    Attributes:
        looks_at: after "looks at …".
        answers: what comes out.
        answered: the same, as the synthetic corpus has it.
        corpus: whose look-alike the recipe trains on.
        people: how many are drawn in it.
        processors: lines of the `Architecture`.
        tiny: config overrides that make the default network tiny, as Python source.
        who_else: what else people differ by that matters here.
        example: an argument of the pipeline, as Python source.
    """

    looks_at: str
    answers: str
    answered: str
    corpus: str
    people: int
    processors: str
    tiny: str
    who_else: str
    example: str

    def slots(self) -> dict[str, str]:
        """What templates call them."""
        return {name: str(value) for name, value in asdict(self).items()} | {"draw": self.draw}

    @property
    def draw(self) -> str:
        """The command that writes the look-alike."""
        return f"meco synthetic {self.corpus} data --seed 0 --people {self.people}"


_MODULE = "{_PACKAGE}.processing_{{module}}:{{prefix}}"

KINDS = {
    "face": Kind(
        looks_at="the picture of a face",
        answers="expressions",
        answered="neutral, happiness, surprise",
        corpus="image_folder",
        people=40,
        processors=f'    image_processor=f"{_MODULE}ImageProcessor",\n    native_heads=("AutoModelForImageClassification",),',
        tiny='{"image_size": 32, "widths": [4, 8]}',
        who_else="skin, glasses, beards, headwear",
        example='"portrait.jpg"',
    ),
    "eye": Kind(
        looks_at="frames and events of one eye",
        answers="expressions",
        answered="happiness, sadness, anger, disgust, surprise, fear, neutral",
        corpus="see",
        people=12,
        processors=(
            f'    image_processor=f"{_MODULE}ImageProcessor",\n'
            '    feature_extractor="meco_hub.processing.event_voxelizer:EventVoxelizer",\n'
            f'    processor=f"{_MODULE}Processor",\n'
            '    native_heads=("AutoModelForVideoClassification",),'
        ),
        tiny='{"image_size": 32, "widths": [4, 8], "num_frames": 2}',
        who_else="glasses, squint, make-up, light",
        example='{"frames": "clip.mp4", "events": "clip.raw"}',
    ),
    "signals": Kind(
        looks_at="signals of heart, skin and breath",
        answers="values over time",
        answered="valence, arousal",
        corpus="case",
        people=6,
        processors=f'    feature_extractor=f"{_MODULE}SignalWindower",',
        tiny='{"window_s": 4.0, "d_model": 8, "num_layers": 1}',
        who_else="medicines, fitness, skin under the electrodes",
        example='"session.edf"',
    ),
}
"""What a model can look at."""
