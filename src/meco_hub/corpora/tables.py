"""From rows to `datasets`: one way of building a split, shared by every corpus of faces.

Tables are made in memory by pyarrow, so neither a cache folder nor the network is touched. Pictures stay undecoded.
"""

import hashlib
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from ..errors import CorpusError

if TYPE_CHECKING:
    import datasets

logger = logging.getLogger(__name__)


@dataclass(slots=True)
class FaceRow:
    """One picture.

    Attributes:
        label: index into the corpus's label names.
        path: where the picture lies (a file, or `zip://inner::outer`); None when `content` holds it.
    """

    sample_id: str
    label: int
    path: str | None = None
    content: bytes | None = None
    identity: str = ""
    fold: int = -1
    extras: dict[str, Any] = field(default_factory=dict)


def build_splits(
    splits: Mapping[str, Sequence[FaceRow]],
    label_names: Sequence[str],
    *,
    extras: Mapping[str, Any] | None = None,
    note: str = "",
    address: str,
) -> "datasets.DatasetDict":
    """Build a DatasetDict; splits without a row are left out, and said so in the log.

    Args:
        extras: type of each further column, as `feature_of` takes it.
        note: a sentence on this copy of the corpus, kept in every split's `info.description`.
    """
    import datasets

    if not any(splits.values()):
        raise CorpusError(f"{address} holds no picture that can be used. Check that data_dir names the right folder.")
    features = {
        "image": datasets.Image(decode=False),
        "label": datasets.ClassLabel(names=list(label_names)),
        "identity": "string",
        "fold": "int32",
        "sample_id": "string",
        **(extras or {}),
    }
    result = datasets.DatasetDict()
    for name, rows in splits.items():
        if rows:
            columns = {key: [getattr(row, key) for row in rows] for key in ("label", "identity", "fold", "sample_id")}
            columns["image"] = [{"bytes": row.content, "path": row.path} for row in rows]
            columns |= {key: [row.extras[key] for row in rows] for key in extras or {}}
            result[name] = make_split(name, features, columns, note)
        else:
            logger.warning("%s: no rows for the split %r; it is left out.", address, name)
    logger.info("%s: %s", address, ", ".join(f"{name} {len(split)}" for name, split in result.items()))
    return result


def make_split(
    name: str, features: Mapping[str, Any], columns: Mapping[str, Sequence[Any]], note: str = ""
) -> "datasets.Dataset":
    """A split of columns in memory; `features` as `feature_of` takes them, in the order of the columns."""
    import datasets
    import pyarrow as pa

    known = datasets.Features({key: feature_of(kind) for key, kind in features.items()})
    schema = known.arrow_schema
    table = pa.table([pa.array(columns[key], schema.field(key).type) for key in schema.names], schema=schema)
    return _dataset(table, datasets.DatasetInfo(features=known, description=note), datasets.NamedSplit(name))


def feature_of(kind: Any) -> Any:
    """The `datasets` feature of a column: itself, or that of a type by name ("string", "float32")."""
    import datasets

    return datasets.Value(kind) if isinstance(kind, str) else kind


def column(dataset: "datasets.Dataset", name: str, default: Any = None) -> list[Any]:
    """A column's plain values; `default` for every row where there is none and a default is given."""
    if default is not None and name not in dataset.column_names:
        return [default] * len(dataset)
    return list(dataset.with_format(None).select_columns([name])[:][name])


def with_column(dataset: "datasets.Dataset", name: str, values: Sequence[Any], kind: Any) -> "datasets.Dataset":
    """The data set with a column added or replaced, in memory; `Dataset.add_column` may write a cache file on the way."""
    import datasets
    import pyarrow as pa

    table: Any = dataset.with_format("arrow")[:]
    if name in table.column_names:
        table = table.drop_columns([name])
    kept = {column: dataset.features[column] for column in table.column_names}
    features = datasets.Features({**kept, name: feature_of(kind)})
    schema = features.arrow_schema
    table = table.append_column(name, pa.array(values, schema.field(name).type)).cast(schema)
    info = dataset.info.copy()
    info.features = features
    return _dataset(table, info, dataset.split)


def _dataset(table: Any, info: "datasets.DatasetInfo", split: Any) -> "datasets.Dataset":
    """A data set whose cache key is the hash of its table; `datasets` itself would pickle the table, four times its size."""
    import datasets

    digest = hashlib.sha256(table.schema.serialize())
    for batch in table.to_batches(max_chunksize=1024):
        digest.update(batch.serialize())
    return datasets.Dataset(table, info=info, split=split, fingerprint=digest.hexdigest()[:16])
