"""Data sets for benchmarks and tests: of TFDS, written without TensorFlow, and in memory."""

from collections.abc import Mapping, Sequence
import io
import json
import pathlib

VERSION = "1.0.0"


def write(
  data_dir: pathlib.Path,
  name: str,
  splits: Mapping[str, Sequence[tuple[bytes, int]]],
  classes: int,
  shape: tuple[int | None, int | None, int] = (None, None, 3),
) -> None:
  """Writes a data set of JPEGs as array_record files.

  Args:
    data_dir: TFDS's.
    name: of the data set.
    splits: by name, encoded photographs and their labels.
    classes: how many there are.
    shape: that all photographs have; None for what varies.
  """
  from array_record.python.array_record_module import ArrayRecordWriter
  import tensorflow_datasets as tfds

  folder = data_dir / name / VERSION
  folder.mkdir(parents=True)
  features = tfds.features.FeaturesDict(
    {
      "image": tfds.features.Image(shape=shape, encoding_format="jpeg"),
      "label": tfds.features.ClassLabel(num_classes=classes),
    }
  )
  features.save_config(str(folder))
  for split, photographs in splits.items():
    writer = ArrayRecordWriter(str(folder / f"{name}-{split}.array_record-00000-of-00001"), "group_size:1")
    for encoded, label in photographs:
      writer.write(features.serialize_example({"image": io.BytesIO(encoded), "label": label}))
    writer.close()
  info = {
    "name": name,
    "version": VERSION,
    "fileFormat": "array_record",
    "splits": [
      {
        "name": split,
        "shardLengths": [str(len(photographs))],
        "filepathTemplate": "{DATASET}-{SPLIT}.{FILEFORMAT}-{SHARD_X_OF_Y}",
      }
      for split, photographs in splits.items()
    ],
  }
  (folder / "dataset_info.json").write_text(json.dumps(info))


class Memory:
  """Photographs that need not be read; a source of `stream.Stream`."""

  def __init__(self, encoded: Sequence[bytes], count: int):
    """Takes photographs, to be repeated to so many."""
    self._encoded, self._count = encoded, count

  def __len__(self) -> int:
    """Number of images."""
    return self._count

  def read(self, indices: Sequence[int]) -> list[tuple[bytes, int]]:
    """Encoded images; all labels are 0."""
    return [(self._encoded[i % len(self._encoded)], 0) for i in indices]

  def name(self, index: int) -> str:
    """What to call an image in a message."""
    return f"photograph {index}"
