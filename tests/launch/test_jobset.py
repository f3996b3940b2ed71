"""launch/jobset*.yaml against the published schemas of JobSet and Kubernetes, and launch/Dockerfile.

Needs the extra `launch`: Kubeflow Trainer publishes JobSet's schema as classes, kubernetes-validate that of Kubernetes.
"""

import copy
import pathlib
import re
import shutil
import subprocess
import sys

from absl import flags
import pytest

from lfr_darts_jax import main  # noqa: F401 (declares the flags)
from lfr_darts_jax.fields import FIELDS

yaml = pytest.importorskip("yaml")
kubernetes = pytest.importorskip("kubernetes_validate")
jobset = pytest.importorskip("kubeflow_trainer_api.models.jobset_v1alpha2_job_set")

LAUNCH = pathlib.Path(__file__).parents[2] / "launch"
FILES = ("jobset.yaml", "jobset_tpu.yaml")

# What the schema's classes take for text has these values in JobSet's API
# (https://github.com/kubernetes-sigs/jobset/blob/main/api/jobset/v1alpha2/jobset_types.go).
ACTIONS = ("FailJobSet", "RestartJobSet", "RestartJobSetAndIgnoreMaxRestarts")
STRATEGIES = ("Recreate", "BlockingRecreate")
RULE_NAME = r"[A-Za-z]([A-Za-z0-9_,:]*[A-Za-z0-9_])?"


def read(name):
  return yaml.safe_load((LAUNCH / name).read_text())


def validate(manifest):
  """Raises where JobSet's or Kubernetes' schema does not take it."""
  # The classes leave out what they do not know.
  assert jobset.JobsetV1alpha2JobSet.from_dict(copy.deepcopy(manifest)).to_dict() == manifest
  policy = manifest["spec"]["failurePolicy"]
  assert policy["restartStrategy"] in STRATEGIES
  for rule in policy["rules"]:
    assert rule["action"] in ACTIONS and re.fullmatch(RULE_NAME, rule["name"])
  for replicated in manifest["spec"]["replicatedJobs"]:
    job = {"apiVersion": "batch/v1", "kind": "Job", "metadata": {"name": "x"}, **replicated["template"]}
    kubernetes.validate(job, kubernetes.latest_version(), strict=True)


def pod(manifest):
  (replicated,) = manifest["spec"]["replicatedJobs"]
  return replicated["template"]["spec"]["template"]["spec"]


@pytest.mark.parametrize("name", FILES)
def test_the_schemas_take_it(name):
  validate(read(name))


def wrong_strategy(manifest):
  manifest["spec"]["failurePolicy"]["restartStrategy"] = "Blocking"


def unknown_field(manifest):
  manifest["spec"]["coordinators"] = {}


def unknown_field_of_a_pod(manifest):
  pod(manifest)["terminationGracePeriod"] = 120


def text_for_a_number(manifest):
  manifest["spec"]["replicatedJobs"][0]["replicas"] = "2"


def number_for_text(manifest):
  pod(manifest)["containers"][0]["args"].append(2)


@pytest.mark.parametrize(
  "spoil", [wrong_strategy, unknown_field, unknown_field_of_a_pod, text_for_a_number, number_for_text]
)
def test_the_schemas_refuse_what_is_wrong(spoil):
  manifest = read("jobset.yaml")
  spoil(manifest)
  with pytest.raises((AssertionError, ValueError, kubernetes.ValidationError)):
    validate(manifest)


@pytest.mark.skipif(shutil.which("kubectl") is None, reason="needs kubectl")
@pytest.mark.parametrize("name", FILES)
def test_kubectl_reads_the_same(name, tmp_path):
  shutil.copy(LAUNCH / name, tmp_path)
  (tmp_path / "kustomization.yaml").write_text(f"resources: [{name}]\n")
  done = subprocess.run(["kubectl", "kustomize", tmp_path], capture_output=True, text=True, check=True)
  assert yaml.safe_load(done.stdout) == read(name)


@pytest.mark.parametrize("name", FILES)
def test_the_program_has_the_flags(name):
  for argument in pod(read(name))["containers"][0]["args"]:
    flag = argument.removeprefix("--").partition("=")[0]
    assert flag in (*flags.FLAGS, "config") or flag.removeprefix("config.") in FIELDS
  files = [
    argument.partition("=")[2] for argument in pod(read(name))["containers"][0]["args"] if "--config=" in argument
  ]
  assert all((LAUNCH.parent / file).exists() for file in files) and files


@pytest.mark.parametrize("name", FILES)
def test_wrong_input_fails_at_once_and_all_else_starts_anew(name):
  manifest = read(name)
  (replicated,) = manifest["spec"]["replicatedJobs"]
  job, container = replicated["template"]["spec"], pod(manifest)["containers"][0]
  (rule,) = job["podFailurePolicy"]["rules"]
  assert rule["onExitCodes"] == {"containerName": container["name"], "operator": "In", "values": [2]}
  assert rule["action"] == "FailJob" and job["backoffLimit"] == 0 and pod(manifest)["restartPolicy"] == "Never"
  policy = manifest["spec"]["failurePolicy"]
  assert policy["maxRestarts"] > 0
  # The reason of a Job that such a rule has failed; any other one is JobSet's default, a restart.
  assert [(rule["action"], rule["onJobFailureReasons"]) for rule in policy["rules"]] == [
    ("FailJobSet", ["PodFailurePolicy"])
  ]


def test_every_pod_learns_its_place():
  manifest = read("jobset.yaml")
  (replicated,) = manifest["spec"]["replicatedJobs"]
  assert manifest["spec"]["coordinator"] == {"replicatedJob": replicated["name"]}
  # As JobSet and the kubelet do it.
  annotations = {
    "coordinator": f"{manifest['metadata']['name']}-{replicated['name']}-0-0.{manifest['metadata']['name']}",
    "replicatedjob-replicas": str(replicated["replicas"]),
    "job-index": "1",
  }
  container, values = pod(manifest)["containers"][0], {}
  for variable in container["env"]:
    path = variable["valueFrom"]["fieldRef"]["fieldPath"]
    values[variable["name"]] = annotations[
      re.fullmatch(r"metadata\.annotations\['jobset\.sigs\.k8s\.io/(.+)'\]", path)[1]
    ]
  arguments = [re.sub(r"\$\((\w+)\)", lambda match: values[match[1]], argument) for argument in container["args"]]
  assert arguments[:3] == ["--coordinator=lfr-darts-node-0-0.lfr-darts:8476", "--num_processes=2", "--process_id=1"]


def test_a_slice_has_as_many_pods_as_its_topology_says():
  manifest = read("jobset_tpu.yaml")
  job = manifest["spec"]["replicatedJobs"][0]["template"]["spec"]
  chips = 1
  for side in pod(manifest)["nodeSelector"]["cloud.google.com/gke-tpu-topology"].split("x"):
    chips *= int(side)
  each = pod(manifest)["containers"][0]["resources"]["limits"]["google.com/tpu"]
  assert job["parallelism"] == job["completions"] == chips / each


@pytest.mark.skipif(shutil.which("hadolint") is None, reason="needs hadolint")
def test_hadolint_has_nothing_to_say():
  done = subprocess.run(["hadolint", LAUNCH / "Dockerfile"], capture_output=True, text=True)
  assert done.returncode == 0, done.stdout


@pytest.mark.slow
def test_what_the_image_copies_is_enough_to_run(tmp_path):
  image, root = tmp_path / "image", LAUNCH.parent
  image.mkdir()
  for line in re.findall(r"^COPY (.+)$", (LAUNCH / "Dockerfile").read_text(), re.MULTILINE):
    *sources, target = line.split()
    for source in sources:
      if (root / source).is_dir():
        shutil.copytree(root / source, image / target)
      else:
        shutil.copy(root / source, image / target)
  pip = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--target=packages", "."]
  subprocess.run(pip, cwd=image, check=True)
  assert (image / "packages" / "lfr_darts_jax" / "report" / "page.html").exists()
  arguments = ["--mode=describe", "--genotype=DARTS_V2", "--config=configs/cifar10.py"]
  subprocess.run([sys.executable, "-m", "lfr_darts_jax.main", *arguments], cwd=image, check=True)
