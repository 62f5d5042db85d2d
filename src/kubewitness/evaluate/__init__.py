"""Measuring detection on labelled logs: the library behind ``kubewitness evaluate``."""
