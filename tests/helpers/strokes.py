"""From the image of a handwritten digit to the strokes of a pen: thinned to lines, and the lines traced."""

import itertools

import numpy as np
from PIL import Image

ZOOM = 4
"""The image is enlarged before it is thinned, so that the lines are smooth."""
INK = 100
"""From this level on, of 255, a pixel is ink."""
CLOSE = 2.0
"""Pixels of the enlarged image by which a stroke may miss the line that it follows."""
SHORTEST = 4
"""Pixels of a line, below which it is a spur that thinning has left."""

_AROUND = ((-1, 0), (-1, 1), (0, 1), (1, 1), (1, 0), (1, -1), (0, -1), (-1, -1))


def strokes(image):
    """Return lists of (x, y) points in pixels of `image`, (side, side) uint8, edge coordinates."""
    side = image.shape[0] * ZOOM
    enlarged = Image.fromarray(image).resize((side, side), Image.Resampling.BICUBIC)
    lines = _lines(_thinned(np.asarray(enlarged) >= INK))
    long = [line for line in lines if len(line) >= SHORTEST] or lines
    return [[((x + 0.5) / ZOOM, (y + 0.5) / ZOOM) for y, x in _corners(line)] for line in long]


def _thinned(ink):
    """Return the skeleton of a boolean image: Zhang and Suen 1984, A fast parallel algorithm."""
    ink = np.pad(ink, 1)
    while True:
        before = ink.sum()
        for first in (True, False):
            n, ne, e, se, s, sw, w, nw = (np.roll(ink, (-y, -x), (0, 1)) for y, x in _AROUND)
            ring = (n, ne, e, se, s, sw, w, nw, n)
            count = sum(part.astype(int) for part in ring[:-1])
            rises = sum((~a & b).astype(int) for a, b in itertools.pairwise(ring))
            sides = ~(n & e & s) & ~(e & s & w) if first else ~(n & e & w) & ~(n & s & w)
            ink = ink & ~((count >= 2) & (count <= 6) & (rises == 1) & sides)
        if ink.sum() == before:
            return ink[1:-1, 1:-1]


def _lines(skeleton):
    """Return lists of (y, x): walks along the skeleton, from ends first, straight on at crossings."""
    every = set(map(tuple, np.argwhere(skeleton).tolist()))
    left, lines = set(every), []
    while left:
        start = min(left, key=lambda place: (len(_near(place, left)), place))
        left.discard(start)
        # A line that leaves another, or ends at it, takes the pixel of that crossing too.
        line = [*_near(start, every - left)[:1], start]
        while near := _near(line[-1], left):
            line.append(min(near, key=lambda place: _turn(line, place)))
            left.discard(line[-1])
        line += _near(line[-1], every - left - set(line[-3:]))[:1]
        lines.append(line)
    return lines


def _corners(line):
    """Return the points of a line that it can be drawn by: Douglas and Peucker 1973."""
    places = np.array(line, float)
    along = places[-1] - places[0]
    away = places - places[0]
    length = np.hypot(*along)
    # From a closed line's ends, which are one, what is farthest away is farthest from the line too.
    distances = (
        np.abs(along[0] * away[:, 1] - along[1] * away[:, 0]) / length if length > 2 else (np.hypot(*away.T))
    )
    farthest = int(np.argmax(distances))
    if distances[farthest] <= CLOSE or not 0 < farthest < len(line) - 1:
        return [line[0], line[-1]]
    return _corners(line[: farthest + 1])[:-1] + _corners(line[farthest:])


def _near(place, among):
    y, x = place
    return [(y + dy, x + dx) for dy, dx in _AROUND if (y + dy, x + dx) in among]


def _turn(line, place):
    """Return how far going on to `place` turns from the direction of the last pixels of a line."""
    here = np.array(line[-1])
    ahead = here - np.array(line[max(0, len(line) - 6)])
    step = np.array(place) - here
    return float(-(ahead @ step) / (np.linalg.norm(step) or 1.0)), place
