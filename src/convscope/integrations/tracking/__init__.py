"""Trainings in the tools that people watch them with: MLflow and TensorBoard. Nothing else leaves this machine."""
