"""``kubewitness init``."""

from __future__ import annotations

from pathlib import Path

import click

from kubewitness.cli import streams

_PLATFORMS = ("flags", "kubeadm", "kind", "k3s", "rke2")
_FEEDS = ("eks", "gke", "aks")
_FILE = click.Path(path_type=Path, dir_okay=False, exists=True)


@click.group()
def init() -> None:
    """Write what makes a cluster send its audit log."""


@init.command()
@click.argument("folder", type=click.Path(path_type=Path, file_okay=False), metavar="DIR")
@click.option("--cluster", required=True, metavar="NAME", help="Name of the cluster.")
@click.option(
    "--server",
    required=True,
    metavar="URL",
    help="Where its API servers reach kubewitness, as https://witness.example:8443.",
)
@click.option(
    "--for",
    "platform",
    type=click.Choice(_PLATFORMS),
    default="flags",
    show_default=True,
    help="Print the settings of the API server for this.",
)
@click.option(
    "--generate",
    is_flag=True,
    help="Make what is not given: a token, and a certificate with a CA of its own.",
)
@click.option("--token-file", type=_FILE, metavar="FILE", help="The token to be shown.")
@click.option(
    "--client-certificate", type=_FILE, metavar="FILE", help="The certificate to be shown (PEM)."
)
@click.option("--client-key", type=_FILE, metavar="FILE", help="The key of that certificate (PEM).")
@click.option(
    "--ca",
    type=_FILE,
    metavar="FILE",
    help="The CA that signed kubewitness's certificate (PEM), unless the system trusts it.",
)
def webhook(
    folder: Path,
    cluster: str,
    server: str,
    platform: str,
    generate: bool,
    token_file: Path | None,
    client_certificate: Path | None,
    client_key: Path | None,
    ca: Path | None,
) -> None:
    """Write the files of an audit webhook, and print the settings of the API server.

    DIR gets control-plane (kubeconfig, policy and credential, for each node with an API server) and
    receiver (a configuration of kubewitness that takes what is sent). Nothing is replaced.
    """
    if bool(client_certificate) != bool(client_key):
        raise click.UsageError("--client-certificate and --client-key go together")
    if not (token_file or client_certificate or generate):
        raise click.UsageError(
            "say what the API server shows: --token-file, --client-certificate with --client-key,"
            " or --generate"
        )
    if token_file and client_certificate:
        raise click.UsageError("give a token or a certificate, not both")
    from kubewitness.config import webhook as library
    from kubewitness.config.platform import PLATFORMS
    from kubewitness.policy.reading import detection_policy

    try:
        url = library.server_url(server, cluster)
    except ValueError as error:
        raise click.UsageError(str(error)) from None
    written = library.connect(
        folder,
        cluster,
        url,
        policy=detection_policy(),
        token=token_file,
        client=(client_certificate, client_key) if client_certificate and client_key else None,
        authority=ca,
        generate=generate,
    )
    with streams.stdout():
        click.echo(PLATFORMS[platform](), nl=False)
    for path in written:
        click.echo(f"{path} written", err=True)
    click.echo(
        f"Next: 'kubewitness config check {folder / 'receiver' / 'serve.yaml'}', then copy"
        f" {folder / 'control-plane'} to the nodes.",
        err=True,
    )


@init.command()
@click.argument("platform", type=click.Choice(_FEEDS))
def feed(platform: str) -> None:
    """Print a configuration that reads the log of a managed cluster, and what it takes there.

    Words in capitals are to be replaced.
    """
    from importlib import resources

    text = resources.files("kubewitness.config").joinpath(f"feeds/{platform}.yaml")
    with streams.stdout():
        click.echo(text.read_text("utf-8"), nl=False)


@init.command()
def policy() -> None:
    """Print an audit policy tuned for detection at low volume."""
    from kubewitness.policy.reading import detection_policy

    with streams.stdout():
        click.echo(detection_policy(), nl=False)
