"""Loading a checkpoint's model and processor, with our errors where transformers would answer with a riddle."""

import os
from pathlib import Path
from typing import Any

from transformers import (
    AutoConfig,
    AutoFeatureExtractor,
    AutoImageProcessor,
    AutoProcessor,
    PreTrainedConfig,
    PreTrainedModel,
)

from . import plugins
from .configuration import hold_to_limits
from .errors import CheckpointError, MecoError
from .exported import is_exported, load_exported
from .reading import MAX_JSON, check_size, read_json
from .weight_files import CONFIG, check_folder, explain_absence

PROCESSOR_FILE = "preprocessor_config.json"
COMBINED_FILE = "processor_config.json"
"""Of processors that hold several, each in a section of its own."""


def read_config(checkpoint: str, trust_remote_code: bool = False) -> PreTrainedConfig:
    """The config of a checkpoint.

    Args:
        checkpoint: folder or Hub id.
        trust_remote_code: run the code that a config of no registered architecture brings; without it nobody is asked, and the
            answer is no.

    Raises:
        CheckpointError: it is not there, or nobody can read it.
    """
    folder = Path(checkpoint)
    try:
        for file in folder.glob("*.json"):  # transformers reads them to their end
            if os.path.isfile(file):  # noqa: PTH113 — a Path raises the system's
                check_size(file.stat().st_size, str(file), CheckpointError, MAX_JSON)
        return AutoConfig.from_pretrained(checkpoint, trust_remote_code=trust_remote_code)
    except CheckpointError:
        raise
    except Exception as error:  # whatever transformers and a config's class raise on a file that was written by hand
        if folder.is_dir() and not os.path.isfile(folder / CONFIG[0]):  # noqa: PTH113 — a Path raises the system's
            check_folder(folder)  # says what lies there instead
        absence = explain_absence(checkpoint, CONFIG) if isinstance(error, OSError) else None
        raise absence or CheckpointError(
            f"The config of {checkpoint} cannot be read: {_brief(error).rstrip('.')}. Expected that of an architecture which "
            "`meco list` names."
        ) from error


def _brief(error: Exception) -> str:
    named = isinstance(error, OSError | ValueError | MecoError)
    return str(error) if named else f"{type(error).__name__}: {str(error)[:200]}"


def load_model(checkpoint: str, **options: Any) -> PreTrainedModel:
    """The head saved in a checkpoint, by the plugin that its config names.

    Args:
        checkpoint: folder or Hub id.
        options: handed to `from_pretrained`.

    Raises:
        CheckpointError: incomplete or unsafe folder, or a config that nobody can read.
        UnknownNameError: no plugin provides its architecture.
    """
    folder = Path(checkpoint)
    if is_exported(folder):
        return load_exported(folder, read_config(checkpoint))
    if folder.is_dir():
        check_folder(folder)
    config = read_config(checkpoint)
    head = plugins.load_dotted(plugins.architecture(config.model_type).head)
    return head.from_pretrained(checkpoint, **options)


def _declared(folder: Path) -> str | None:
    """Which kind of processor a folder holds, by the key that names its class."""
    if (folder / COMBINED_FILE).is_file():
        return "processor"
    file = folder / PROCESSOR_FILE
    if not file.is_file():
        return None
    content = read_json(file, CheckpointError, "Expected what `save_pretrained` wrote. Copy the folder again.")
    if not isinstance(content, dict):
        raise CheckpointError(f"{file} holds {type(content).__name__}; expected an object. Copy the folder again.")
    return "feature_extractor" if "feature_extractor_type" in content else "image_processor"


def _expected(checkpoint: str) -> str:
    """Which kind of processor a Hub id should come with: that which its architecture declares."""
    entry = plugins.architecture(read_config(checkpoint).model_type)
    if entry.processor is not None:
        return "processor"
    return "image_processor" if entry.image_processor is not None else "feature_extractor"


def load_processor(checkpoint: str, **options: Any) -> Any:
    """The processor saved with a checkpoint.

    Args:
        checkpoint: folder or Hub id.
        options: settings that shall differ from the saved ones.

    Raises:
        CheckpointError: it has none, or it cannot be loaded.
    """
    folder = Path(checkpoint)
    kind = _declared(folder) if folder.is_dir() else _expected(checkpoint)
    if kind is None:
        raise CheckpointError(
            f"{checkpoint} came without its processor: {PROCESSOR_FILE} was expected beside the weights. Save it there with "
            "`processor.save_pretrained(folder)`; a pipeline also takes one as `image_processor=…` or `feature_extractor=…`."
        )
    auto: Any = {
        "processor": AutoProcessor,
        "image_processor": AutoImageProcessor,
        "feature_extractor": AutoFeatureExtractor,
    }[kind]
    try:
        for name in (PROCESSOR_FILE, COMBINED_FILE):
            if (folder / name).is_file():
                hold_to_limits(read_json(folder / name, CheckpointError, "Copy the folder again."))
        return auto.from_pretrained(checkpoint, trust_remote_code=False, **options)
    except Exception as error:  # whatever transformers and a processor's class raise on a file that was written by hand
        usual = COMBINED_FILE if kind == "processor" else PROCESSOR_FILE
        absence = explain_absence(checkpoint, tuple(dict.fromkeys((usual, PROCESSOR_FILE, COMBINED_FILE))))
        if absence is not None:
            raise absence from error
        # transformers answers with the list of all its models; the first sentence is what concerns the reader
        raise CheckpointError(
            f"The processor of {checkpoint} cannot be loaded: {_brief(error).split('. ')[0]}. Fix or replace its "
            f"{PROCESSOR_FILE}, whose {kind}_type must be a class that an installed package registers."
        ) from error
