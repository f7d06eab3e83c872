"""Figures for Prometheus: counted in every process, written down every second, summed where they are asked for."""
