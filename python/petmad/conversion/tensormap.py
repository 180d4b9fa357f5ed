"""Serialized maps of metatensor, read and written with zipfile and numpy alone.

Such a map is an uncompressed zip of ``keys.npy`` and, for every key,
``blocks/K/{values,samples,properties}.npy`` and ``blocks/K/components/C.npy``; labels
are structured int32 arrays.
"""

import io
import re
import zipfile
from typing import NamedTuple

import numpy as np
import torch


class Block(NamedTuple):
    """One block: values [n_samples, components..., n_properties] and their labels."""

    values: np.ndarray
    sample_names: tuple[str, ...]
    samples: np.ndarray
    """[n_samples, n_sample_names] int"""


def read_map(buffer: torch.Tensor) -> list[Block]:
    """Blocks of a serialized map.

    Args:
        buffer: [n] uint8, the bytes of the zip.

    Raises:
        ValueError: the bytes are not such a map.
    """
    try:
        with zipfile.ZipFile(io.BytesIO(buffer.numpy().tobytes())) as archive:
            numbers = {
                int(found[1])
                for name in archive.namelist()
                if (found := re.match(r"blocks/(\d+)/values\.npy", name))
            }
            return [_read_block(archive, number) for number in sorted(numbers)]
    except (zipfile.BadZipFile, KeyError) as error:
        raise ValueError(
            f"a serialized map in this checkpoint cannot be read ({error}); the file "
            "is damaged, download it again"
        ) from error


def _read_block(archive: zipfile.ZipFile, number: int) -> Block:
    def array(name: str) -> np.ndarray:
        content = io.BytesIO(archive.read(f"blocks/{number}/{name}.npy"))
        return np.load(content, allow_pickle=False)

    samples = array("samples")
    names = samples.dtype.names or ()
    rows = [samples[name] for name in names]
    return Block(array("values"), tuple(names), np.stack(rows, axis=-1))


def only_block(buffer: torch.Tensor, owner: str) -> Block:
    """The block of a map that has one.

    Raises:
        ValueError: it has several; the message names ``owner``.
    """
    blocks = read_map(buffer)
    if len(blocks) != 1:
        raise ValueError(
            f"{owner} has {len(blocks)} blocks; petmad reads scalar and Cartesian "
            "targets, which have one"
        )
    return blocks[0]


def write_map(
    values: np.ndarray,
    samples: tuple[tuple[str, ...], np.ndarray],
    components: list[str],
    property_name: str,
) -> torch.Tensor:
    """The bytes [n] uint8 of a serialized map with one block, as upstream reads it.

    Args:
        values: [n_samples, components..., n_properties].
        samples: names, and rows [n_samples, n_names] int.
        components: name of each axis between.
        property_name: name of the last axis.
    """
    axes = {f"components/{k}": name for k, name in enumerate(components)}
    axes["properties"] = property_name
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w") as archive:
        _write_array(archive, "keys", _labels(("_",), np.zeros((1, 1))))
        _write_array(archive, "blocks/0/values", np.asarray(values, dtype=np.float64))
        _write_array(archive, "blocks/0/samples", _labels(*samples))
        for (axis, name), size in zip(axes.items(), values.shape[1:], strict=True):
            counted = np.arange(size).reshape(-1, 1)
            _write_array(archive, f"blocks/0/{axis}", _labels((name,), counted))
    return torch.frombuffer(bytearray(content.getvalue()), dtype=torch.uint8)


def _labels(names: tuple[str, ...], rows: np.ndarray) -> np.ndarray:
    """A structured int32 array with one field per name."""
    kind = [(name, "<i4") for name in names]
    return np.array([tuple(row) for row in rows], dtype=kind)


def _write_array(archive: zipfile.ZipFile, name: str, array: np.ndarray) -> None:
    # Upstream compares lengths when it loads a buffer, and writes zip64 entries.
    with archive.open(f"{name}.npy", "w", force_zip64=True) as file:
        np.save(file, array)
