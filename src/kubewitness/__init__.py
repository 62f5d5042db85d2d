"""kubewitness: reads Kubernetes audit logs and testifies."""

__version__ = "0.1.0"
