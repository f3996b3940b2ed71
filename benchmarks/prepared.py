"""Writes a data set of TFDS without TensorFlow, for benchmarks and tests."""

from collections.abc import Mapping
from collections.abc import Sequence
import io
import json
import pathlib

VERSION = "1.0.0"


def write(data_dir: pathlib.Path, name: str, splits: Mapping[str, Sequence[tuple[bytes, int]]], classes: int) -> None:
  """Writes a data set of JPEGs as array_record files.

  Args:
    data_dir: TFDS's.
    name: of the data set.
    splits: by name, encoded photographs and their labels.
    classes: how many there are.
  """
  from array_record.python.array_record_module import ArrayRecordWriter
  import tensorflow_datasets as tfds

  folder = data_dir / name / VERSION
  folder.mkdir(parents=True)
  features = tfds.features.FeaturesDict(
    {
      "image": tfds.features.Image(shape=(None, None, 3), encoding_format="jpeg"),
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
