import json

import numpy as np
from tensorboardX.proto import event_pb2

from lfr_darts_jax import metrics


def lines(path):
  return [json.loads(line) for line in (path / "metrics.jsonl").read_text().splitlines()]


def test_lines_and_events(tmp_path):
  writer = metrics.Metrics(tmp_path)
  writer.write("search", 1, 20, {"train_loss": np.float32(0.5), "alphas/n0": np.array([[0.25, 0.75]])}, 120)
  writer.close()
  assert lines(tmp_path) == [
    {"phase": "search", "iteration": 1, "step": 20, "train_loss": 0.5, "alphas/n0": [[0.25, 0.75]]}
  ]
  (file,) = (tmp_path / "tensorboard" / "search").iterdir()
  tags = {}
  for event in read_events(file):
    for value in event.summary.value:
      tags[value.tag] = (event.step, value.simple_value)
  assert tags["train_loss"] == (120, 0.5) and tags["alphas/n0"][0] == 120


def read_events(file):
  data = file.read_bytes()
  while data:
    length = int.from_bytes(data[:8], "little")
    yield event_pb2.Event.FromString(data[12 : 12 + length])
    data = data[16 + length :]


def test_rewind_drops_what_comes_after(tmp_path):
  writer = metrics.Metrics(tmp_path)
  for phase, iteration, step in (("search", 0, 10), ("search", 0, 20), ("search", 1, 5), ("train", 0, 5)):
    writer.write(phase, iteration, step, {}, step)
  with (tmp_path / "metrics.jsonl").open("a") as file:
    file.write('{"phase": "tra')
  writer.rewind("search", 1, 0)
  assert [(e["iteration"], e["step"]) for e in lines(tmp_path)] == [(0, 10), (0, 20)]
  writer.rewind("train", 0, 0)
  assert len(lines(tmp_path)) == 2


def test_progress_tells_the_time_left(monkeypatch, capsys):
  clock = [100.0]
  monkeypatch.setattr(metrics.time, "monotonic", lambda: clock[0])
  progress = metrics.Progress(1000.0)
  progress.skip(500.0)
  clock[0] += 60
  progress.advance(100.0, "here")
  # 100 of 1000 took a minute, 400 are left.
  assert capsys.readouterr().out == "here | 4 min 00 s left\n"
  clock[0] += 1
  progress.advance(1.0, "too soon")
  assert capsys.readouterr().out == ""
  progress.say("stays")
  assert capsys.readouterr().out == "stays\n"
