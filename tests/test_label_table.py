"""Labels from a CSV file."""

import unicodedata

from PIL import Image
import pytest

from lfr_darts_jax import config as schema
from lfr_darts_jax.data import datasets
from lfr_darts_jax.errors import UsageError


@pytest.fixture
def folder(tmp_path):
  """Twelve images `0.png` to `11.png`, each of its number, in a folder of its own."""
  for i in range(12):
    (tmp_path / "images").mkdir(exist_ok=True)
    Image.new("L", (2, 2), i).save(tmp_path / "images" / f"{i}.png")
  return tmp_path / "images"


def rows(count=12, first=0, split=""):
  return "".join(f"{i}.png,{['odd', 'even'][i % 2 == 0]}{split}\n" for i in range(first, first + count))


def load(folder, text=None, labels="labels.csv", alone=False, **data):
  if text is not None:
    (folder / "labels.csv").write_bytes(text.encode() if isinstance(text, str) else text)
  config = schema.get_config()
  config.data.update(name="folder", dir=str(folder), labels=labels, image_size=4, channels=1, num_classes=2, **data)
  config.train.cutout = 0
  schema.validate(config)
  return datasets.open_dataset(config, alone)


def values(arrays):
  """The number of every image and the name of its class."""
  images, labels = arrays
  return sorted(zip(images[:, 0, 0, 0].tolist(), (["even", "odd"][label] for label in labels), strict=True))


def refused(folder, text, words, **data):
  for loading in ("device", "stream"):
    with pytest.raises(UsageError, match=words):
      load(folder, text, loading=loading, **data)


def test_a_fifth_of_every_class_is_held_out(folder):
  dataset = load(folder, "file,label\n" + rows())
  assert dataset.class_names == ("even", "odd") and len(dataset.test()[1]) == 2
  assert sorted(values(dataset.train) + values(dataset.test())) == [(i, ["even", "odd"][i % 2]) for i in range(12)]
  assert dataset.identity.images == {"train": {"even": 6, "odd": 6}}
  assert dataset.notes == (
    "no test split: a fifth of every class by data.split_seed 0, 2 of 12 images, is held out for the test",
  )
  stream = load(folder, loading="stream")
  assert stream.identity == dataset.identity and [stream.test()[i][1] for i in (0, 1)] == [0, 1]


def test_the_order_of_rows_does_not_matter(folder):
  dataset = load(folder, "file,label\n" + rows())
  lines = rows().splitlines()[::-1]
  other = load(folder, "file,label\n" + "\n".join(lines))
  assert other.identity == dataset.identity
  assert other.train[0].tobytes() == dataset.train[0].tobytes()
  assert load(folder, "file,label\n" + rows().replace("3.png,odd", "3.png,even")).identity != dataset.identity
  swapped = rows().replace("3.png,odd", "3.png,even").replace("4.png,even", "4.png,odd")
  assert load(folder, "file,label\n" + swapped).identity.digest != dataset.identity.digest


def test_splits_are_told_by_a_column(folder):
  text = "split,file,label\n" + "".join(
    f"{split},{line}\n"
    for first, count, split in ((0, 6, "Training"), (6, 4, "val"), (10, 2, "TEST"))
    for line in rows(count, first).splitlines()
  )
  dataset = load(folder, text)
  assert values(dataset.test()) == [(10, "even"), (11, "odd")] and dataset.train_images == 6
  assert dataset.identity.splits == {"train": "training", "test": "test"}
  assert dataset.notes[0].startswith(
    "the split 'val' is not used (4 images); --config.data.train_split=training+val tr"
  )
  assert load(folder, train_split="training+val").train_images == 10
  assert len(load(folder, test_split="validation").test()[1]) == 4
  refused(folder, text.replace("val", "spare"), "config.data.test_split: 'val'; allowed are", test_split="val")
  spare = load(folder, text.replace("val", "spare"))
  assert spare.notes == ("not used: 4 images of other splits ('spare')",)


def test_rows_of_a_test_alone(folder):
  text = "file,label,split\n" + rows(split=",test")
  refused(folder, text, "has no train split; it has 'test'")
  assert len(load(folder, text, alone=True).test()[1]) == 12


@pytest.mark.parametrize(
  "text",
  [
    b"\xef\xbb\xbfFile, Label\r\n" + rows().replace("\n", "\r\n").encode(),
    "file;label\n" + rows().replace(",", ";"),
    "label\tfile\n" + "".join("\t".join(reversed(line.split(","))) + "\n" for line in rows().splitlines()),
    '"file","label"\n\n'
    + "".join(f'"./{line.split(",")[0]}", {line.split(",")[1]} \n\n' for line in rows().splitlines()),
  ],
)
def test_as_spreadsheets_write_it(folder, text):
  expected = load(folder, "file,label\n" + rows())
  assert load(folder, text).identity == expected.identity


def test_labels_are_any_text(folder):
  text = "file,label\n" + rows().replace("odd", '"cat, or ""dog"""').replace("even", "caf\u00e9")
  assert load(folder, text).class_names == ("caf\u00e9", 'cat, or "dog"')
  apart = unicodedata.normalize("NFD", "caf\u00e9")
  mixed = text.replace("0.png,caf\u00e9", f"0.png,{apart}")
  assert mixed != text and load(folder, mixed).class_names == ("caf\u00e9", 'cat, or "dog"')


def test_names_of_files_in_any_unicode_form(folder):
  name = "\u00e9.png"
  (folder / "0.png").rename(folder / unicodedata.normalize("NFD", name))
  assert load(folder, "file,label\n" + rows().replace("0.png", name, 1)).train_images == 10


def test_paths_begin_from_the_only_folder_that_has_them(folder):
  (folder.parent / "labels.csv").write_text("file,label\n" + rows())
  dataset = load(folder.parent)
  assert dataset.train_images == 10
  assert dataset.notes[0] == f"the paths in '{folder.parent}/labels.csv' begin from '{folder}'"
  named = load(folder.parent, "file,label\n" + "".join(f"images/{line}\n" for line in rows().splitlines()))
  assert named.identity == dataset.identity and len(named.notes) == 1


def test_where_the_table_may_lie(folder, tmp_path, monkeypatch):
  expected = load(folder, "file,label\n" + rows()).identity
  (folder / "labels.csv").rename(tmp_path / "own.csv")
  assert load(folder, labels=str(tmp_path / "own.csv")).identity == expected
  monkeypatch.setenv("HOME", str(tmp_path))
  assert load(folder, labels="~/own.csv").identity == expected
  monkeypatch.chdir(tmp_path)
  assert load(folder, labels="own.csv").identity == expected
  (folder / "own.csv").write_text("file,label\n" + rows())
  refused(
    folder,
    None,
    "config.data.labels: 'own.csv' is here and below config.data.dir; allowed is its whole path",
    labels="own.csv",
  )
  monkeypatch.chdir(folder)
  assert load(folder, labels="own.csv").identity == expected
  refused(folder, None, "config.data.labels: 'no.csv' is not there; allowed is a CSV file", labels="no.csv")


def test_images_that_it_does_not_name_are_told(folder):
  (folder / "more").mkdir()
  (folder / "more" / "notes.txt").write_text("no image")
  for i in range(3):
    Image.new("L", (2, 2)).save(folder / "more" / f"{i}.gif")
  dataset = load(folder, "file,label\n" + rows(10))
  assert dataset.notes[0] == (
    "not used: 1 files that are no images ('more/notes.txt'); 5 images that the table does not name ('10.png')"
  )


@pytest.mark.parametrize(
  "text,words",
  [
    ("", "begins with the columns ; allowed are file, label and"),
    (rows(), "begins with the columns '0.png', 'even'; allowed are file, label"),
    (
      "file,label,age\n" + rows(split=",3"),
      "begins with the columns 'file', 'label', 'age'; allowed are file, label and",
    ),
    (",file,label\n0,0.png,odd\n", "begins with the columns '', 'file', 'label'; allowed"),
    ("file,label,label\n0.png,odd,odd\n", "begins with the columns 'file', 'label', 'label'; allowed"),
    ("file\n0.png\n", "begins with the columns 'file'; allowed"),
    ("file,label\n", "has no rows; allowed is one for every image"),
    ("file,label\n0.png,odd\n1.png\n", "line 3 has 1 values, '1.png'; allowed are 2"),
    ("file,label\n0.png,odd,even\n", "line 2 has 3 values, '0.png', 'odd', 'even'; allowed are 2"),
    ("file,label\n0.png,odd\n1.png, \n", "line 3 has an empty label .'1.png', ' '."),
    ("file,label\n,odd\n", "line 2 has an empty file"),
    ("file,label,split\n0.png,odd,train\n1.png,even,\n", "line 3 has an empty split"),
    ("file,label\n0.png,odd\n99.png,even\n", "line 3: '99.png' is no file below '.*images'; allowed are those"),
    ("file,label\n0.png,odd\n\n./0.png,even\n", "line 4: './0.png' stands in line 2 already; .*with one label"),
    ("file,label\n../images/0.png,odd\n", "line 2: '../images/0.png'; allowed are paths below"),
    ("file,label\n/etc/passwd,odd\n", "line 2: '/etc/passwd'; allowed are paths below"),
    ("file,label\n.,odd\n", "line 2: '.' is no file below"),
    ("file,label\n0.png,odd\n1.png,odd\n", "has 1 classes .'odd'.; at least two are allowed"),
    ('file,label\n0.png,"odd\n', "line 2 can't be read as CSV: .*; allowed"),
    ("file,label\n0.png\x00,a\n", "line 2: '0.png.x00' is no file below"),
    ("file,label\n0.png,caf\u00e9\n".encode("latin-1"), "byte 20 is not UTF-8; allowed is a CSV file in it"),
    ("file,label\n0.png,odd\n".encode("utf-16"), "byte 0 is not UTF-8; allowed is a CSV file in it"),
    (
      "file,label,split\n0.png,odd,train\n1.png,even,train\n2.png,old,test\n",
      "has the classes 'old' in test alone; allowed are those of train, 'even', 'odd'; did you mean 'odd'",
    ),
  ],
)
def test_a_wrong_table_is_refused_by_its_row(folder, text, words):
  refused(folder, text, f"^config.data.labels: '.*/labels.csv'[: ].*{words}")


def test_splits_need_their_column(folder):
  words = "config.data.train_split: 'train'; allowed is None, as .*has no column split"
  refused(folder, "file,label\n" + rows(), words, train_split="train")


def test_one_file_by_two_links(folder):
  (folder / "link.png").symlink_to("0.png")
  refused(folder, "file,label\n" + rows() + "link.png,odd\n", "'0.png' and 'link.png' are the same file")


def test_bad_images_are_named_as_in_a_folder(folder):
  (folder / "3.png").write_bytes(b"no image")
  text = "file,label\n" + rows()
  refused(folder, text, "1 of 12 images can't be read: '3.png'; allowed")
  for loading in ("device", "stream"):
    dataset = load(folder, text, skip_bad_files=True, loading=loading)
    assert dataset.skipped == ("3.png",) and dataset.identity.left_out == 1
