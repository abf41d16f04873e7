"""Loading a checkpoint's model and processor, with our errors where transformers would answer with a riddle.

This file knows which files a checkpoint needs and who reads them.
"""

from pathlib import Path
from typing import Any

from transformers import AutoConfig, AutoImageProcessor, PreTrainedModel

from . import plugins
from .errors import CheckpointError
from .modeling import check_folder

PROCESSOR_FILE = "preprocessor_config.json"


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
    if folder.is_dir():
        check_folder(folder)
    try:
        config = AutoConfig.from_pretrained(checkpoint)
    except (OSError, ValueError, KeyError) as error:
        raise CheckpointError(
            f"The config of {checkpoint} cannot be read: {error}. Expected one of a registered architecture; see `meco list`."
        ) from error
    head = plugins.load_dotted(plugins.architecture(config.model_type).head)
    return head.from_pretrained(checkpoint, **options)


def load_processor(checkpoint: str) -> Any:
    """The processor saved with a checkpoint.

    Args:
        checkpoint: folder or Hub id.

    Raises:
        CheckpointError: it has none, or it cannot be loaded.
    """
    folder = Path(checkpoint)
    if folder.is_dir() and not (folder / PROCESSOR_FILE).is_file():
        raise CheckpointError(
            f"{checkpoint} came without its processor: {PROCESSOR_FILE} was expected beside the weights. Save it there with "
            "`processor.save_pretrained(folder)`; a pipeline also takes one as `image_processor=…`."
        )
    try:
        return AutoImageProcessor.from_pretrained(checkpoint)
    except (OSError, ValueError, ImportError, KeyError, TypeError) as error:
        # transformers answers with the list of all its models; the first sentence is what concerns the reader
        raise CheckpointError(
            f"The processor of {checkpoint} cannot be loaded: {str(error).split('. ')[0]}. Mend or replace its {PROCESSOR_FILE}, "
            "whose image_processor_type must be a class that an installed package registers."
        ) from error
