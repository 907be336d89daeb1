"""Quantization: fine-tuning, rounding, calibration and temperature."""
