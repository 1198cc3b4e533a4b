"""How far two colours are apart for readers with and without colour blindness.

In: colours as hex codes. Out: distances in CIE Lab (CIE 1976), in which 2.3 can just be told apart
side by side. Each kind of colour blindness is simulated at full severity, so readers who have it to
a lesser degree see more than is required here.
"""

from __future__ import annotations

import matplotlib.colors
import numpy as np

# How each kind of colour blindness sees linear RGB: Machado, Oliveira and Fernandes (2009).
SIGHT = {
    "full": np.eye(3),
    "protanopia": np.array(
        [[0.152, 1.053, -0.205], [0.115, 0.786, 0.099], [-0.004, -0.048, 1.052]]
    ),
    "deuteranopia": np.array(
        [[0.367, 0.861, -0.228], [0.280, 0.673, 0.047], [-0.012, 0.043, 0.969]]
    ),
    "tritanopia": np.array(
        [[1.256, -0.077, -0.179], [-0.078, 0.931, 0.148], [0.005, 0.691, 0.304]]
    ),
}
TO_XYZ = np.array([[0.4339, 0.3762, 0.1899], [0.2126, 0.7152, 0.0722], [0.0177, 0.1095, 0.8728]])


def linear(color: str) -> np.ndarray:
    """Return a colour's linear RGB."""
    rgb = np.array(matplotlib.colors.to_rgb(color))
    return np.where(rgb <= 0.04045, rgb / 12.92, ((rgb + 0.055) / 1.055) ** 2.4)


def lab(color: str, sight: str) -> np.ndarray:
    """Return a hex colour in CIE Lab, as seen with ``sight``."""
    x, y, z = np.cbrt(TO_XYZ @ np.clip(SIGHT[sight] @ linear(color), 0, 1))
    return np.array([116 * y - 16, 500 * (x - y), 200 * (y - z)])


def distance(first: str, second: str) -> float:
    """Return how far two colours are apart for the reader who sees them closest together."""
    distances = []
    for sight in SIGHT:
        distances.append(np.linalg.norm(lab(first, sight) - lab(second, sight)))
    return min(distances)


def contrast(first: str, second: str) -> float:
    """Return the contrast of two colours as WCAG defines it, from 1 to 21; text needs 4.5."""
    luminances = [TO_XYZ[1] @ linear(color) for color in (first, second)]
    return (max(luminances) + 0.05) / (min(luminances) + 0.05)
