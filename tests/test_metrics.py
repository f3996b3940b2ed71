import errno

import numpy as np
import pytest
from tensorboardX import record_writer
from tensorboardX.proto import event_pb2

from lfr_darts_jax import config as schema
from lfr_darts_jax.report import drawing
from lfr_darts_jax.runtime import metrics, paths, tensorboard
from tests.test_genotype import LAYERED


@pytest.fixture
def writer(tmp_path, config):
  return metrics.Metrics(tmp_path, schema.flatten(config))


def events(path):
  """Values by tag, as (step, value), of a folder's event files; a purge is the tag "purge"."""
  found = {}
  for file in sorted(path.iterdir()):
    data = file.read_bytes()
    while data:
      length = int.from_bytes(data[:8], "little")
      event = event_pb2.Event.FromString(data[12 : 12 + length])
      data = data[16 + length :]
      if event.HasField("session_log"):
        found["purge"] = (event.step, None)
      found |= {value.tag: (event.step, value) for value in event.summary.value}
  return found


def test_lines_and_scalars_and_histograms(tmp_path, writer):
  writer.write("search", 1, 20, {"train_loss": np.float32(0.5), "alphas/n0": np.array([[0.25, 0.75]])}, 120)
  writer.write("search", 1, 40, {"candidates/n0": [["none"], []]}, 140)
  writer.close()
  assert metrics.read(tmp_path) == [
    {"phase": "search", "iteration": 1, "step": 20, "train_loss": 0.5, "alphas/n0": [[0.25, 0.75]]},
    {"phase": "search", "iteration": 1, "step": 40, "candidates/n0": [["none"], []]},
  ]
  found = events(tmp_path / "tensorboard" / "search")
  assert found["train_loss"][0] == 120 and found["train_loss"][1].simple_value == 0.5
  assert found["alphas/n0"][0] == 120 and found["alphas/n0"][1].histo.num == 2
  (text,) = found["config/text_summary"][1].tensor.string_val
  assert "|search.epochs|1|" in text.decode()


def test_drawn_cells(tmp_path, writer):
  png = drawing.render(drawing.cell(LAYERED.cells[0]), "png")
  writer.write_image("cells/n0", png)
  writer.close()
  image = events(tmp_path / "tensorboard" / "pictures")["cells/n0"][1].image
  assert image.width > image.height > 50 and image.colorspace == 3


def test_rewind_drops_what_comes_after(tmp_path, writer):
  for phase, iteration, step in (("search", 0, 10), ("search", 0, 20), ("search", 1, 5), ("train", 0, 5)):
    writer.write(phase, iteration, step, {"loss": step / 3}, step)
  with (tmp_path / "metrics.jsonl").open("a") as file:
    file.write('{"phase": "tra')
  before = (tmp_path / "metrics.jsonl").read_text().splitlines()
  kept = writer.rewind("search", 1, 0, 20)
  assert [(entry["iteration"], entry["step"]) for entry in kept] == [(0, 10), (0, 20)]
  assert (tmp_path / "metrics.jsonl").read_text().splitlines() == before[:2]
  writer.rewind("train", 0, 0, 0)
  assert len(metrics.read(tmp_path)) == 2
  writer.rewind("search", 0, 0, 0)
  assert metrics.read(tmp_path) == []


def test_rewind_keeps_the_rounds_of_pruning_that_are_done(tmp_path, writer):
  for step in (4, 8):
    writer.write("search", 0, step, {"train_loss": 1.0}, step)
    writer.write("search", 0, step, {"pruned_to": 9 - step}, step)
  whole = metrics.read(tmp_path)
  assert writer.rewind("search", 0, 8, 8, rounds=2) == whole
  assert writer.rewind("search", 0, 8, 8, rounds=1) == whole[:3]
  assert writer.rewind("search", 0, 4, 4, rounds=1) == whole[:2]


def test_what_is_not_finite_is_null(tmp_path, writer):
  writer.write("train", 0, 1, {"train_loss": np.float32("nan"), "other": float("inf"), "count": np.int32(3)}, 1)
  writer.close()
  assert metrics.read(tmp_path) == [
    {"phase": "train", "iteration": 0, "step": 1, "train_loss": None, "other": None, "count": 3}
  ]


def test_without_tensorboard_there_are_lines_alone(tmp_path, config, monkeypatch):
  monkeypatch.setattr(tensorboard, "installed", lambda: False)
  writer = metrics.Metrics(tmp_path, schema.flatten(config))
  writer.rewind("train", 0, 0, 0)
  writer.write("train", 0, 5, {"loss": 1.0}, 5)
  writer.write_image("cells/n0", b"")
  writer.close()
  assert [path.name for path in tmp_path.iterdir()] == ["metrics.jsonl"]


def test_tensorboard_drops_it_too(tmp_path, config):
  writer = metrics.Metrics(tmp_path, schema.flatten(config))
  assert writer.rewind("search", 1, 20, 120) == []
  writer.close()
  assert events(tmp_path / "tensorboard" / "search")["purge"][0] == 120


def test_no_space_for_a_line(tmp_path, writer):
  (tmp_path / "metrics.jsonl").symlink_to("/dev/full")
  with pytest.raises(OSError) as raised:
    writer.write("train", 0, 5, {"loss": 1.0}, 5)
  assert raised.value.errno == errno.ENOSPC and raised.value.filename == str(tmp_path / "metrics.jsonl")


def test_a_run_goes_on_without_tensorboard_and_says_so_once(tmp_path, writer, monkeypatch, capsys):
  writer.write("train", 0, 5, {"loss": 1.0}, 5)
  monkeypatch.setattr(record_writer, "open_file", lambda path: open("/dev/full", "wb"))
  writer.close()
  for step in (10, 15):
    writer.write("train", 0, step, {"loss": 0.5}, step)
  writer.write_image("cells/n0", b"")
  writer.rewind("train", 0, 15, 15)
  writer.close()
  assert [entry["step"] for entry in metrics.read(tmp_path)] == [5, 10, 15]
  (line,) = capsys.readouterr().out.splitlines()
  assert line.startswith("without further events in tensorboard (OSError: [Errno 28] No space left on device: ")


def test_a_place_that_is_taken_is_no_place_for_tensorboard(tmp_path, writer, capsys):
  (tmp_path / "tensorboard").write_text("")
  for step in (5, 10):
    writer.write("train", 0, step, {"loss": 0.5}, step)
  assert len(metrics.read(tmp_path)) == 2 and capsys.readouterr().out.count("\n") == 1


def test_a_half_written_line_is_cut_off_and_written_again(small_disk, config):
  # Of nested lists TensorBoard shows nothing: the line comes first to the end of the space.
  entries = lambda part: [("train", 0, step, {"more": [[step] * 150]}, step) for step in part]
  whole, parts = small_disk.path / "whole", small_disk.path / "parts"
  whole.mkdir()
  parts.mkdir()
  writer = metrics.Metrics(whole, schema.flatten(config))
  for entry in entries(range(1, 40)):
    writer.write(*entry)
  writer.close()
  writer = metrics.Metrics(parts, schema.flatten(config))
  for entry in entries(range(1, 12)):
    writer.write(*entry)
  small_disk.fill()
  with pytest.raises(OSError, match="No space left on device"):
    for entry in entries(range(12, 40)):
      writer.write(*entry)
  assert not (parts / "metrics.jsonl").read_text().endswith("\n")
  small_disk.free()
  writer = metrics.Metrics(parts, schema.flatten(config))
  writer.rewind("train", 0, 10, 10)
  for entry in entries(range(11, 40)):
    writer.write(*entry)
  assert (parts / "metrics.jsonl").read_text() == (whole / "metrics.jsonl").read_text()


def test_a_missing_file_has_no_entries(tmp_path):
  assert metrics.read(tmp_path) == []


def test_a_store_gets_them_now_and_then(bucket, config, monkeypatch):
  writer = metrics.Metrics(bucket, schema.flatten(config))
  writer.write("train", 0, 5, {"loss": 1.0}, 5)
  assert metrics.read(bucket) == []
  writer.flush()
  assert [entry["step"] for entry in metrics.read(bucket)] == [5]
  monkeypatch.setattr(metrics, "PUT_SECONDS", 0)
  writer.write("train", 0, 10, {"loss": 0.5}, 10)
  assert [entry["step"] for entry in metrics.read(bucket)] == [5, 10]
  monkeypatch.undo()
  writer.write("train", 0, 15, {"loss": 0.25}, 15)
  writer.close()
  assert [entry["step"] for entry in metrics.read(bucket)] == [5, 10, 15]
  with paths.fetched(bucket / "tensorboard" / "train") as folder:
    assert events(folder)["loss"][0] == 15


def test_lines_in_a_store_are_gone_on_with(tmp_path, bucket, config):
  for place in (tmp_path, bucket):
    for step in (5, 10):
      writer = metrics.Metrics(place, schema.flatten(config))
      writer.write("train", 0, step, {"loss": 1 / step}, step)
      writer.write("train", 0, step + 1, {"loss": 2 / step}, step + 1)
      writer.close()
    writer = metrics.Metrics(place, schema.flatten(config))
    assert [entry["step"] for entry in writer.rewind("train", 0, 10, 10)] == [5, 6, 10]
    writer.write("train", 0, 12, {"loss": 3.0}, 12)
    writer.close()
    assert [entry["step"] for entry in metrics.read(place)] == [5, 6, 10, 12]
  assert (tmp_path / "metrics.jsonl").read_bytes() == (bucket / "metrics.jsonl").read_bytes()


def test_what_is_closed_before_it_was_opened_writes_nothing(bucket, config):
  metrics.Metrics(bucket, schema.flatten(config)).close()
  assert paths.names(bucket) == []
