"""`AutoModelForEmotionRecognition`: the Auto class for heads of every registered architecture.

transformers offers no public way to make an Auto class, so this derives from `_BaseAutoModelClass` with a `_LazyAutoMapping`,
both private but unchanged for years and pinned down by the tests on both ends of the supported range.
"""

from collections import OrderedDict

from transformers.models.auto.auto_factory import _BaseAutoModelClass, _LazyAutoMapping
from transformers.models.auto.configuration_auto import CONFIG_MAPPING_NAMES  # pyright: ignore[reportPrivateImportUsage]


class AutoModelForEmotionRecognition(_BaseAutoModelClass):
    """Loads the emotion recognition head that fits a checkpoint's config.

    Use it as any other Auto class: `AutoModelForEmotionRecognition.from_pretrained(folder_or_hub_id)`. A plugin's head enters
    by its `Architecture.head`; nothing has to be registered by hand.
    """

    _model_mapping = _LazyAutoMapping(CONFIG_MAPPING_NAMES, OrderedDict())


# The hook fills this class's mapping when transformers' own Auto classes are imported. Whoever imports this class first, and
# nothing else, needs them imported as well; at the end, because the hook asks this module for the class.
import transformers.models.auto.modeling_auto  # noqa: E402, F401
