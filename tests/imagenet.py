"""A tiny ImageNet: tars like the official ones, from which TFDS's own builder prepares it, with TensorFlow.

    python -m tests.imagenet DIR

leaves them where `lfr-darts --config=configs/imagenet.py:small --config.data.dir=DIR` finds them. The
variable IMAGENET_SAMPLE names a folder of photographs, `train/<wnid>/*.JPEG`; without one they are generated.
"""

import io
import os
import pathlib
import sys
import tarfile

from tests.photographs import jpeg

SAMPLE = pathlib.Path(
  os.environ.get("IMAGENET_SAMPLE", pathlib.Path(__file__).parents[2] / "shared" / "imagenet_sample")
)
GENERATED, CLASSES = 48, 24  # Photographs, and how many classes they are of.
TESTED = 20  # Photographs of the validation split, and of the test split, which has no labels.


def make_tars(data_dir):
  """Makes the tars of all three splits; returns the photographs `(wnid, encoded)` of the train split."""
  photographs = found() or generated()
  manual = data_dir / "downloads" / "manual"
  manual.mkdir(parents=True)
  with tarfile.open(manual / "ILSVRC2012_img_train.tar", "w") as tar:
    for wnid in sorted({wnid for wnid, _ in photographs}):
      add(tar, f"{wnid}.tar", tar_of({f"{wnid}_{i}.JPEG": p for i, (w, p) in enumerate(photographs) if w == wnid}))
  for split in ("val", "test"):
    names = (f"ILSVRC2012_{split}_{i + 1:08}.JPEG" for i in range(TESTED))
    tar = tar_of(dict(zip(names, (p for _, p in photographs), strict=False)))
    (manual / f"ILSVRC2012_img_{split}.tar").write_bytes(tar)
  return photographs


def found():
  """The photographs of `SAMPLE`, where it is there."""
  return [(path.parent.name, path.read_bytes()) for path in sorted(SAMPLE.glob("train/*/*"))]


def generated():
  """Photographs of as many classes as possible, the first ones of ImageNet."""
  import tensorflow_datasets as tfds

  path = tfds.core.tfds_path("datasets/imagenet2012/labels.txt")
  wnids = sorted(path.read_text().split())[:CLASSES]
  return [(wnids[i % CLASSES], jpeg(i, 100 + i, 80)) for i in range(GENERATED)]


def tar_of(files):
  """An archive of names to contents."""
  archive = io.BytesIO()
  with tarfile.open(fileobj=archive, mode="w") as tar:
    for name, content in files.items():
      add(tar, name, content)
  return archive.getvalue()


def add(tar, name, content):
  """Adds a file to an archive."""
  member = tarfile.TarInfo(name)
  member.size = len(content)
  tar.addfile(member, io.BytesIO(content))


if __name__ == "__main__":
  print(f"{len(make_tars(pathlib.Path(sys.argv[1])))} photographs")
