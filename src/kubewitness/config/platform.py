"""How the flags and files of an API server are given to it, by what runs it."""

from __future__ import annotations

import textwrap
from collections.abc import Callable
from typing import Any

import yaml

from kubewitness.config.webhook import FOLDER, Flag, flags


def kubeadm() -> str:
    """A part of ClusterConfiguration; a cluster that is there takes it node by node."""
    return _told(
        f"""\
        kubeadm: copy the files to {FOLDER} on each control-plane node, add this to its
        ClusterConfiguration and run there

          kubeadm init phase control-plane apiserver --config FILE

        and once, so that upgrades know of it, 'kubeadm init phase upload-config kubeadm --config
        FILE'. 'kubectl -n kube-system get configmap kubeadm-config -o yaml' has what to add it to.
        """,
        _cluster_configuration("v1beta4"),
    )


def kind() -> str:
    """A cluster on this machine."""
    patches = [
        _yaml({**_cluster_configuration(version), "kind": "ClusterConfiguration"})
        for version in ("v1beta3", "v1beta4")
    ]
    return _told(
        """\
        kind: run 'kind create cluster --config FILE' in the folder that has control-plane. The
        receiver is reached at the address of the gateway of the network named kind. Of the two
        patches kind takes the one for its version of kubeadm.
        """,
        {
            "kind": "Cluster",
            "apiVersion": "kind.x-k8s.io/v1alpha4",
            "nodes": [
                {
                    "role": "control-plane",
                    "extraMounts": [
                        {
                            "hostPath": "./control-plane",
                            "containerPath": FOLDER,
                            "readOnly": True,
                        }
                    ],
                    "kubeadmConfigPatches": patches,
                }
            ],
        },
    )


def k3s() -> str:
    """The API server is a part of the one process."""
    return _told(
        f"""\
        k3s: copy the files to {FOLDER} on each server, add this to
        /etc/rancher/k3s/config.yaml and restart the service k3s, one server after the other.
        """,
        {"kube-apiserver-arg": [f"{flag.name}={flag.value}" for flag in flags()]},
    )


def rke2() -> str:
    """The API server is a static pod; RKE2 mounts the policy, other files are mounted on demand."""
    policy, *others = flags()
    return _told(
        f"""\
        RKE2: copy the files to {FOLDER} on each server, add this to
        /etc/rancher/rke2/config.yaml and restart the service rke2-server, one server after the
        other.
        """,
        {
            policy.name: policy.value,
            "kube-apiserver-arg": [f"{flag.name}={flag.value}" for flag in others],
            "kube-apiserver-extra-mount": [f"{FOLDER}:{FOLDER}:ro"],
        },
    )


def by_hand() -> str:
    """The command line of kube-apiserver, and why each flag."""
    told = "".join(f"# {_wrapped(flag)}\n--{flag.name}={flag.value}\n" for flag in flags())
    return (
        f"# Copy the files to {FOLDER}; where kube-apiserver is a pod, mount that folder.\n{told}"
    )


PLATFORMS: dict[str, Callable[[], str]] = {
    "flags": by_hand,
    "kubeadm": kubeadm,
    "kind": kind,
    "k3s": k3s,
    "rke2": rke2,
}
"""By name, what makes an API server read ``control-plane`` in ``FOLDER``."""


def _cluster_configuration(version: str) -> dict[str, Any]:
    """v1beta3 has flags as a table, v1beta4 as a list of names and values."""
    named: dict[str, str] = {flag.name: flag.value for flag in flags()}
    listed = [{"name": name, "value": value} for name, value in named.items()]
    return {
        "apiVersion": f"kubeadm.k8s.io/{version}",
        "kind": "ClusterConfiguration",
        "apiServer": {
            "extraArgs": named if version == "v1beta3" else listed,
            "extraVolumes": [
                {
                    "name": "kubewitness",
                    "hostPath": FOLDER,
                    "mountPath": FOLDER,
                    "readOnly": True,
                    "pathType": "Directory",
                }
            ],
        },
    }


def _told(comment: str, document: dict[str, Any]) -> str:
    lines = textwrap.dedent(comment).splitlines()
    return "".join(f"# {line}".rstrip() + "\n" for line in lines) + _yaml(document)


def _yaml(document: dict[str, Any]) -> str:
    text: str = yaml.dump(document, Dumper=_Readable, sort_keys=False, width=1 << 20)
    return text


def _wrapped(flag: Flag) -> str:
    return "\n# ".join(textwrap.wrap(f"{flag.why[:1].upper()}{flag.why[1:]}.", 98))


class _Readable(yaml.SafeDumper):
    """Texts of several lines as blocks."""


def _block(dumper: yaml.SafeDumper, text: str) -> yaml.ScalarNode:
    style = "|" if "\n" in text else None
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style=style)


_Readable.add_representer(str, _block)
