"""Turns the authors' Keras weights into a folder that `from_pretrained` loads.

    report = convert(Path("best_model.h5"), Path("converted"), labels="raf_db")

Notable:
- The config is read off the shapes in the file: kernels, widths, picture size, number of experts and labels. What shapes
  cannot show is the published network's: top-2 routing, BatchNorm eps 1e-3, BGR, concatenation orders. A file of the whole
  model states some of it, and what it states is used.
- A file does not say what its classes are called. Seven outputs fit two orders in use, so without `labels` they are called
  LABEL_0 … LABEL_6, which is no use but no lie; eight outputs fit the AffectNet-8 order only.

The steps between reading the file and filling the model are in `keras_weights/`.
"""

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from meco_hub.conversion import ConversionReport, name_classes, refuse_unasked, save_converted
from meco_hub.errors import ConversionError
from meco_hub.labels import LabelSpace
from meco_hub.reading import reading

from .configuration_expressnet_moe import PUBLISHED_LABELS, ExpressNetMoEConfig
from .keras_weights.hdf5 import read_keras_hdf5
from .keras_weights.mapping import find_network, take_bottlenecks
from .keras_weights.translation import backbone_state, config_fields, state_dict
from .modeling_expressnet_moe import ExpressNetMoEForEmotionRecognition
from .processing_expressnet_moe import ExpressNetMoEImageProcessor

logger = logging.getLogger(__name__)

LABEL_SPACES = {
    space.name: space
    for space in (
        LabelSpace("affectnet7", PUBLISHED_LABELS[7], "the authors' AffectNet-7 notebook"),
        LabelSpace("affectnet8", PUBLISHED_LABELS[8], "the authors' AffectNet-8 notebook"),
        LabelSpace("fer2013", PUBLISHED_LABELS[7], "the authors' FER-2013 notebook"),
        LabelSpace(
            "raf_db",
            ("surprise", "fear", "disgust", "happiness", "sadness", "anger", "neutral"),
            "RAF-DB's own label numbers 1 to 7, as in the authors' notebook",
        ),
    )
}
"""Order of the outputs in each of the authors' four models."""

PUBLISHED_COUNTS = {
    "large_kernel_branch": 8_619_824,
    "small_kernel_branch": 458_208,
    "backbone": 23_561_152,
    "fusion": 1_180_160,
    "large_kernel_experts": 1_052_676,
    "fusion_experts": 1_052_676,
}
"""Parameters and BatchNorm statistics per block, as the authors' `model.summary()` prints them."""


@dataclass(frozen=True, kw_only=True)
class Report(ConversionReport):
    """What a conversion did; `counts` include BatchNorm statistics, as Keras counts.

    Attributes:
        keras_version: as the file states it.
    """

    keras_version: str

    @property
    def origin(self) -> str:
        return f"{self.source} (Keras {self.keras_version})"


@reading(
    "The file is not a Keras file of this network, or is damaged",
    ConversionError,
    "Pass the file that its authors saved.",
)
def convert(
    source: str | Path,
    output_dir: str | Path,
    *,
    labels: str | Sequence[str] | None = None,
    image_size: int | None = None,
    overwrite: bool = False,
) -> Report:
    """Convert a Keras 2 HDF5 file (`save_weights("x.h5")` or `model.save("x.h5")`) of the authors' network.

    Writes config.json, model.safetensors and preprocessor_config.json, all of them or nothing.

    Args:
        source: the file.
        output_dir: the folder to write; must not hold anything, unless `overwrite`.
        labels: a name of `LABEL_SPACES`, or the class names in the order of the outputs, as a list or separated by commas.
        image_size: side of the network's pictures, for a file of weights only whose pictures were no multiple of 32.
        overwrite: replace those three files in a folder that is there; other files in it stay.

    Raises:
        ConversionError: the file is damaged, not Keras's, of another network, or ambiguous.
        ConfigurationError: the folder is not empty.
        DependencyError: h5py is not installed.
    """
    source, output_dir = Path(source), Path(output_dir)
    refuse_unasked(output_dir, overwrite)
    file = read_keras_hdf5(source)
    network = find_network(file)
    notes = list(network.notes)
    count = network.head.shape[1]
    if labels is None and count == 8:
        labels = "affectnet8"
        notes.append("Labels were taken in the AffectNet-8 notebook's order, the only one with eight classes.")
    orders = {name: space.names for name, space in LABEL_SPACES.items()}
    names = name_classes(source, count, labels, orders, notes)
    fields = config_fields(file, network, image_size, notes)
    config = ExpressNetMoEConfig(**fields, id2label=dict(enumerate(names)))
    model = ExpressNetMoEForEmotionRecognition(config)
    state = state_dict(network)
    expected = {name: value.shape for name, value in model.state_dict().items() if "num_batches_tracked" not in name}
    wrong = [
        f"{name} {tuple(state[name].shape) if name in state else 'is missing'}, expected {tuple(shape)}"
        for name, shape in expected.items()
        if name not in state or state[name].shape != shape
    ]
    wrong += [f"{name} is not expected" for name in state if name not in expected]
    if wrong:
        raise ConversionError(
            f"{source}: its layers do not form the network: {'; '.join(wrong[:6])}. Is it this network, undamaged?"
        )
    model.load_state_dict(state, strict=False)  # all but num_batches_tracked, which Keras does not have
    processor = ExpressNetMoEImageProcessor(size={"height": config.image_size, "width": config.image_size})
    save_converted(model, processor, output_dir, source, overwrite=overwrite)
    report = Report(
        source=str(source),
        output_dir=str(output_dir),
        keras_version=file.keras_version,
        counts=_counts(state),
        published={**PUBLISHED_COUNTS, "classifier": 1025 * len(names)},
        labels=names,
        notes=notes,
    )
    for note in report.notes:
        logger.warning("%s: %s", source, note)
    return report


def backbone_from_vggface(source: str | Path) -> dict[str, torch.Tensor]:
    """The published backbone's weights from keras-vggface's ResNet-50 file (`rcmalli_vggface_tf_notop_resnet50.h5`).

    A classifier in the file (the version with top) is left out. The weights expect pixels in 0…255 minus a BGR mean: set
    `backbone_input_norm="vggface2_bgr"`, unless the authors' omission of it is wanted.

    Returns:
        A state dict under the backbone's own names. Save it with safetensors and pass the file to `load_backbone_weights`:

        >>> save_file(backbone_from_vggface("rcmalli_vggface_tf_notop_resnet50.h5"), "vggface2.safetensors")  # doctest: +SKIP
        >>> model.load_backbone_weights("vggface2.safetensors")  # doctest: +SKIP

    Raises:
        ConversionError: the file is damaged or holds another network.
        DependencyError: h5py is not installed.
    """
    file = read_keras_hdf5(Path(source))
    layers = take_bottlenecks(file)
    taken = {unit for pair in layers.values() for unit in pair}
    others = [unit.name for unit in file.units if unit not in taken and unit.layer != "classifier"]
    if others:
        raise ConversionError(
            f"{source} holds layers beside keras-vggface's ResNet-50: {', '.join(others[:6])}; expected none but a "
            "classifier. For a file of the whole ExpressNet-MoE use `convert`."
        )
    return backbone_state(layers)


def _counts(state: dict[str, torch.Tensor]) -> dict[str, int]:
    counts = dict.fromkeys([*PUBLISHED_COUNTS, "classifier"], 0)
    for name, value in state.items():
        counts[name.removeprefix("expressnet.").split(".")[0]] += value.numel()
    return counts
