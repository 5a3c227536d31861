"""Trainings and studies as jobs of SLURM."""
