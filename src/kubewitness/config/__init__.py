"""What ``kubewitness serve`` is told: one file, the environment, and flags."""
