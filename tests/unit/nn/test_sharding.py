"""Whether a model is held in parts: by FSDP 2, by the mark that ZeRO-3 leaves on parameters, or not at all."""

from collections.abc import Iterator

import pytest
import torch
from torch import distributed as dist
from torch import nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard

from meco_hub.nn.sharding import is_sharded


@pytest.fixture
def group() -> Iterator[None]:
    """A group of this process alone."""
    store = dist.HashStore()  # pyright: ignore[reportPrivateImportUsage]
    dist.init_process_group("gloo", store=store, rank=0, world_size=1)
    yield
    dist.destroy_process_group()


def test_alone_nothing_is_held_in_parts() -> None:
    model = nn.Linear(2, 2)
    setattr(model.weight, "ds_id", 0)  # noqa: B010 (no such attribute for a type checker)
    assert not is_sharded(model)


def test_fsdp_and_zero_3_are_seen(group: None) -> None:
    model = nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2))
    assert not is_sharded(model)
    setattr(model[1].weight, "ds_id", 0)  # noqa: B010 (no such attribute for a type checker)
    assert is_sharded(model)
    assert not is_sharded(model[0])
    other = nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2))
    fully_shard(other[1], mesh=init_device_mesh("cpu", (1,)))
    assert is_sharded(other)
    assert other(torch.ones(1, 2)).shape == (1, 2)
