"""Views that show the photo as it is: what random numbers cannot change, both frameworks must compute alike."""

from __future__ import annotations

from train.configs.schema import AugmentConfig

STILL = AugmentConfig(
    flip=False,
    rotation_deg=0.0,
    zoom=(1.0, 1.0),
    aspect=0.0,
    shift=0.0,
    brightness=0.0,
    contrast=0.0,
    saturation=0.0,
    white_balance=0.0,
)
