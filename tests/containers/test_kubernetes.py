"""examples/kubernetes as it stands, in real containers: what a kubelet makes of it, without a cluster.

Whether the server listens depends on the modes of a kubelet's volumes. podman's `kube play` does not have these, and
knows no sidecars. So the test reads the manifest itself, and fails on a key that it does not know.
"""

from __future__ import annotations

import os
import shutil
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from containers.pod import Container

if TYPE_CHECKING:
    from collections.abc import Iterator

    from containers.pod import Engine

pytestmark = [pytest.mark.containers, pytest.mark.timeout(900)]  # the first test can have to build the executable

EXAMPLE = Path(__file__).parents[2] / "examples" / "kubernetes"
IMAGE = "localhost/sidecall:latest"


class Kubelet:
    """Start the containers of a pod, in order, with volumes as a kubelet makes them.

    Args:
        directory: where the volumes go.
    """

    def __init__(self, engine: Engine, directory: Path) -> None:
        self._engine = engine
        self._directory = directory
        self._configurations: dict[str, dict[str, str]] = {}
        self._pod: dict[str, Any] = {}
        self.containers: dict[str, Container] = {}

    def apply(self, manifest: str) -> None:
        """Do what `kubectl apply` leads to."""
        import yaml  # type: ignore[import-untyped]  # Snakemake has it, so it is where these tests run

        for document in yaml.safe_load_all(manifest):
            kind = (document.pop("apiVersion"), document.pop("kind"))
            name = document.pop("metadata")["name"]
            if kind == ("v1", "ConfigMap"):
                self._configurations[name] = document.pop("data")
            else:
                assert kind == ("v1", "Pod")
                self._start(document.pop("spec"))
            assert document == {}

    def remove(self) -> None:
        """Remove what is left of the containers."""
        for container in self.containers.values():
            self._engine.remove(container.name)

    def _start(self, spec: dict[str, Any]) -> None:
        self._pod = spec.pop("securityContext")
        assert self._pod.pop("runAsNonRoot") is True
        assert self._pod.pop("seccompProfile") == {"type": "RuntimeDefault"}  # the engine's default
        for volume in spec.pop("volumes"):
            self._make_volume(volume)
        for container in spec.pop("initContainers"):
            if container.pop("restartPolicy", None) == "Always":
                self._run(container, "--detach")
            else:
                self._run(container, "--rm")
        for container in spec.pop("containers"):
            self._run(container, "--detach")
        assert spec == {}

    def _make_volume(self, volume: dict[str, Any]) -> None:
        """Make a volume: an emptyDir is open to all users, and belongs to `fsGroup`."""
        directory = self._directory / volume.pop("name")
        directory.mkdir()
        if "configMap" in volume:
            for name, content in self._configurations[volume.pop("configMap")["name"]].items():
                (directory / name).write_text(content)
        else:
            assert volume.pop("emptyDir") in ({}, {"medium": "Memory"})
            if os.geteuid() == 0:
                os.chown(directory, 0, self._pod["fsGroup"])
            directory.chmod(0o2777)
        assert volume == {}

    def _run(self, container: dict[str, Any], how: str) -> None:
        name = container.pop("name")
        assert container.pop("imagePullPolicy") == "IfNotPresent"
        options = [how, "--network=none", *self._security(container.pop("securityContext"))]
        options += [self._mount(mount) for mount in container.pop("volumeMounts")]
        if directory := container.pop("workingDir", ""):
            options.append(f"--workdir={directory}")
        image, words = container.pop("image"), container.pop("command", []) + container.pop("args", [])
        probes = [container.pop(probe, None) for probe in ("startupProbe", "readinessProbe", "livenessProbe")]
        assert container == {}
        if how == "--rm":
            self._engine.must("run", *options, image, *words)
            return
        started = self._engine.must("run", *options, image, *words).strip()
        self.containers[name] = Container(self._engine, started)
        for probe in probes:
            if probe is not None:
                self._probe(self.containers[name], probe)

    def _security(self, context: dict[str, Any]) -> list[str]:
        uid, gid, group = context.pop("runAsUser"), self._pod["runAsGroup"], self._pod["fsGroup"]
        assert context.pop("readOnlyRootFilesystem") is True
        assert context.pop("allowPrivilegeEscalation") is False
        assert context.pop("capabilities") == {"drop": ["ALL"]}
        assert context == {}
        assert uid != 0
        options = [f"--user={uid}:{gid}", f"--group-add={group}", "--read-only", "--cap-drop=ALL"]
        if self._engine.name == "podman":  # which otherwise adds a /tmp
            options.append("--read-only-tmpfs=false")
        return [*options, "--security-opt=no-new-privileges"]

    def _mount(self, mount: dict[str, Any]) -> str:
        source = self._directory / mount.pop("name") / mount.pop("subPath", "")
        assert source.is_dir()  # else a kubelet makes it, open to all users
        option = f"--volume={source}:{mount.pop('mountPath')}{':ro' if mount.pop('readOnly', False) else ''}"
        assert mount == {}
        return option

    def _probe(self, container: Container, probe: dict[str, Any]) -> None:
        """Wait until a probe succeeds."""
        command = probe.pop("exec")["command"]
        assert probe.keys() <= {"periodSeconds", "timeoutSeconds", "failureThreshold"}
        deadline = time.monotonic() + 60
        while (done := container.exec(*command)).returncode:
            assert time.monotonic() < deadline, done.stderr + container.logs()
            time.sleep(0.2)  # as the manifest's period


@pytest.fixture
def pod(engine: Engine, standalone: Path, tmp_path: Path) -> Iterator[Kubelet]:
    """Start the example as its README tells."""
    context = tmp_path / "context"
    shutil.copytree(EXAMPLE, context)
    shutil.copy(standalone, context / "sidecall")
    engine.must("build", "--tag", IMAGE, str(context))
    (tmp_path / "volumes").mkdir()
    kubelet = Kubelet(engine, tmp_path / "volumes")
    try:
        kubelet.apply((EXAMPLE / "pod.yaml").read_text())
        yield kubelet
    finally:
        kubelet.remove()


def test_a_pod_of_stock_images_without_root(pod: Kubelet) -> None:
    """The probes succeed, and a call works with files that each container has elsewhere."""
    app, tool = pod.containers["app"], pod.containers["tool"]
    assert [container.exec("id", "-u").stdout.strip() for container in (app, tool)] == ["10002", "10001"]
    words = "mkdir photos && seq 3 >photos/a && sidecall exec tool pack --dir photos --archive photos.tar.gz"
    done = app.exec("sh", "-c", f"PATH=$PATH:/opt/sidecall/bin; {words} && tar -tzf photos.tar.gz")
    assert done.returncode == 0, done.stderr
    assert "./a" in done.stdout.splitlines()
    assert tool.exec("ls", "-n", "/files/photos.tar.gz").stdout.split()[2:4] == ["10001", "10000"]
