"""The pictures of docs/course, drawn as SVG: readable in light and dark, and on a phone."""

import math
from collections.abc import Iterable, Sequence
from xml.sax.saxutils import escape

WIDTH = 480
STYLE = """
    :root { --paper: #ffffff; --frame: #d0d7de; --ink: #1f2328; --quiet: #59636e; --fill: #eaeef2 }
    :root { --blue: #0969da; --orange: #bc4c00 }
    @media (prefers-color-scheme: dark) {
      :root { --paper: #0d1117; --frame: #3d444d; --ink: #f0f6fc; --quiet: #9198a1; --fill: #262c36 }
      :root { --blue: #4493f8; --orange: #f0883e }
    }
    text { font: 15px "DejaVu Sans", "Segoe UI", Helvetica, Arial, sans-serif; text-anchor: middle }
    text { fill: var(--ink) }
    .note { fill: var(--quiet); font-size: 13px }
    .left { text-anchor: start }
    rect, circle { stroke: var(--frame); fill: var(--fill) }
    .paper { fill: var(--paper) }
    line, polyline { stroke: var(--ink); stroke-width: 1.6; fill: none }
    .quiet { stroke: var(--quiet); stroke-width: 1; fill: none }
    .blue { fill: var(--blue); stroke: var(--blue) }
    .orange { fill: var(--orange); stroke: var(--orange) }
    polyline.blue, polyline.orange { fill: none }
    .empty { fill: none }
"""
Point = tuple[float, float]


class Drawing:
    """A picture of WIDTH by a height, to which methods add shapes; y grows downwards."""

    def __init__(self, height: int, title: str) -> None:
        self._height, self._title, self._shapes = height, title, list[str]()

    def text(self, x: float, y: float, words: str, kind: str = "") -> None:
        """Add words, whose middle (or left end, of the kind "left") is at x."""
        self._shapes.append(f'<text class="{kind}" x="{x:g}" y="{y:g}">{escape(words)}</text>')

    def box(self, x: float, y: float, width: float, height: float, kind: str = "") -> None:
        """Add a rectangle."""
        size = f'width="{width:g}" height="{height:g}"'
        self._shapes.append(f'<rect class="{kind}" x="{x:g}" y="{y:g}" {size} rx="2"/>')

    def dot(self, x: float, y: float, kind: str = "") -> None:
        """Add a point."""
        self._shapes.append(f'<circle class="{kind}" cx="{x:g}" cy="{y:g}" r="4"/>')

    def path(self, points: Iterable[Point], kind: str = "") -> None:
        """Add a line through points."""
        places = " ".join(f"{x:.4g},{y:.4g}" for x, y in points)
        self._shapes.append(f'<polyline class="{kind}" points="{places}"/>')

    def arrow(self, x: float, y: float, to_x: float, to_y: float, kind: str = "") -> None:
        """Add an arrow."""
        length = math.hypot(to_x - x, to_y - y)
        across, down = (to_x - x) / length * 7, (to_y - y) / length * 7
        head = [(to_x - across - down / 2, to_y - down + across / 2), (to_x, to_y)]
        head.append((to_x - across + down / 2, to_y - down - across / 2))
        self.path([(x, y), (to_x, to_y)], kind)
        self.path(head, kind)

    def matrix(
        self,
        x: float,
        y: float,
        rows: int,
        columns: int,
        name: str = "",
        *,
        cell: int = 16,
        kind: str = "",
        marked: Iterable[tuple[int, int]] = (),
    ) -> None:
        """Add a matrix of cells, some marked with a colour, with its name above."""
        marks = set(marked)
        for i in range(rows):
            for j in range(columns):
                self.box(x + j * cell, y + i * cell, cell, cell, kind if (i, j) in marks else "")
        self.text(x + columns * cell / 2, y - 10, name)

    def bars(self, x: float, y: float, heights: Sequence[float], kind: str, labels: Sequence[str]) -> None:
        """Add bars on a line at y, those below zero downwards, with labels at their ends."""
        for number, (height, label) in enumerate(zip(heights, labels, strict=True)):
            left = x + 38 * number
            self.box(left, y - max(height, 0), 24, abs(height), kind)
            self.text(left + 12, y - height - 6 if height >= 0 else y - height + 16, label, "note")

    def svg(self) -> str:
        """Return the picture."""
        size = f'viewBox="0 0 {WIDTH} {self._height}" width="{WIDTH}" height="{self._height}"'
        frame = (
            f'<rect class="paper" x="0.5" y="0.5" width="{WIDTH - 1}" height="{self._height - 1}" rx="8"/>'
        )
        lines = [f"  <title>{escape(self._title)}</title>", f"  <style>{STYLE}  </style>", f"  {frame}"]
        lines += [f"  {shape}" for shape in self._shapes]
        begin = f'<svg xmlns="http://www.w3.org/2000/svg" {size} role="img">'
        return "\n".join([begin, *lines, "</svg>", ""]).replace(' class=""', "")


def layer() -> Drawing:
    """Draw a product of matrices and a bias."""
    drawing = Drawing(170, "A row of W and a column of A give one number of Z")
    drawing.matrix(20, 50, 4, 6, "W", kind="blue", marked=[(1, k) for k in range(6)])
    drawing.text(132, 90, "×")
    drawing.matrix(150, 34, 6, 5, "A", kind="orange", marked=[(k, 3) for k in range(6)])
    drawing.text(246, 90, "+")
    drawing.matrix(262, 50, 4, 1, "b", kind="blue", marked=[(1, 0)])
    drawing.text(298, 90, "=")
    drawing.matrix(318, 50, 4, 5, "Z", kind="orange", marked=[(1, 3)])
    drawing.text(240, 155, "rows are units, columns are samples", "note")
    return drawing


def softmax() -> Drawing:
    """Draw logits and their probabilities."""
    drawing = Drawing(200, "Softmax makes probabilities of logits; ReLU makes zeros of what is negative")
    z = [1.0, -0.8, 2.0, 0.3]
    e = [math.exp(value - max(z)) for value in z]
    for x, name, values, kind in (
        (25, "Z", z, "blue"),
        (180, "ReLU", [max(v, 0.0) for v in z], "blue"),
        (335, "softmax", [v / sum(e) for v in e], "orange"),
    ):
        scale = 110 if name == "softmax" else 45
        drawing.path([(x - 6, 140), (x + 132, 140)], "quiet")
        drawing.bars(
            x, 140, [scale * v for v in values], kind, [f"{v:.2f}".rstrip("0").rstrip(".") for v in values]
        )
        drawing.text(x + 65, 24, name)
    return drawing


def cross_entropy() -> Drawing:
    """Draw the loss by the probability of the label."""
    drawing = Drawing(230, "The loss of a sample is the negative logarithm of the probability of its class")
    axes = (60, 190)
    drawing.arrow(*axes, 450, 190)
    drawing.arrow(*axes, 60, 20)

    def place(a: float) -> Point:
        return 60 + 360 * a, 190 + 40 * math.log(a)

    drawing.path([place(n / 100) for n in range(2, 101)], "orange")
    for a, words in ((0.1, "0.1: loss 2.30"), (0.5, "0.5: loss 0.69"), (0.9, "0.9: loss 0.11")):
        x, y = place(a)
        drawing.dot(x, y, "blue")
        drawing.text(x + 8, y - 10, words, "note left" if a < 0.9 else "note")
    drawing.text(255, 215, "probability of the label's class", "note")
    return drawing


def backpropagation() -> Drawing:
    """Draw what is computed forward and backward."""
    drawing = Drawing(230, "Forward from X to A2, and backward from dZ2 to dW1")
    names = (("X", "Z1", "A1", "Z2", "A2"), (40, 140, 240, 340, 440))
    for name, x in zip(*names, strict=True):
        drawing.box(x - 24, 40, 48, 34)
        drawing.text(x, 62, name)
    for x, word in ((40, "W1, b1"), (140, "ReLU"), (240, "W2, b2"), (340, "softmax")):
        drawing.arrow(x + 26, 57, x + 73, 57, "blue")
        drawing.text(x + 50, 30, word, "note")
    for name, x in (("dZ1", 140), ("dA1", 240), ("dZ2", 340)):
        drawing.box(x - 24, 120, 48, 34)
        drawing.text(x, 142, name)
    for x in (240, 340):
        drawing.arrow(x - 26, 137, x - 73, 137, "orange")
    drawing.path([(440, 76), (440, 137), (400, 137)], "orange")
    drawing.arrow(440, 137, 367, 137, "orange")
    drawing.text(410, 158, "− Y", "note")
    drawing.text(290, 112, "W2ᵀ", "note")
    drawing.text(190, 112, "Z1 > 0", "note")
    for x, words in ((140, "dW1 = dZ1 Xᵀ / m"), (340, "dW2 = dZ2 A1ᵀ / m")):
        drawing.arrow(x, 156, x, 184, "orange")
        drawing.text(x, 205, words)
    return drawing


def update() -> Drawing:
    """Draw steps down a parabola, with falling learning rates."""
    drawing = Drawing(220, "Each step goes against the gradient; the learning rates fall")

    def place(w: float) -> Point:
        return 240 + 90 * w, 190 - 30 * w * w

    drawing.path([place(n / 20) for n in range(-46, 47)])
    w, points = -2.2, []
    for rate in (0.8, 0.6, 0.4, 0.2):
        points.append(place(w))
        w -= rate * 0.75 * w
    points.append(place(w))
    drawing.path(points, "orange")
    for x, y in points:
        drawing.dot(x, y, "orange")
    drawing.text(330, 40, "loss", "note")
    drawing.text(240, 210, "W", "note")
    return drawing


def epoch() -> Drawing:
    """Draw the blocks of a batch and the tree of their sums."""
    drawing = Drawing(250, "A batch is cut into blocks of 1,024; their gradients are added in a tree")
    xs = [55.0, 155.0, 255.0, 355.0, 430.0]
    for number, x in enumerate(xs):
        drawing.box(
            x - (45 if number < 4 else 25), 40, 90 if number < 4 else 50, 30, "blue" if number % 2 else ""
        )
        drawing.text(x, 30, "1,024" if number < 4 else "the rest", "note")
    pairs = [
        (55.0, 155.0, 75, 115),
        (255.0, 355.0, 75, 115),
        (105.0, 305.0, 120, 160),
        (205.0, 430.0, 165, 205),
    ]
    for left, right, top, y in pairs:
        middle = (left + right) / 2
        drawing.arrow(left, top, middle - 8, y - 6, "orange")
        drawing.arrow(right, top if right < 430 else 75, middle + 8, y - 6, "orange")
        drawing.text(middle, y + 5, "+")
    drawing.text(317, 236, "times 1/m, then one update", "note")
    return drawing


def batches() -> Drawing:
    """Draw the sorting of random words, and the batches of the order."""
    drawing = Drawing(210, "Sorting the words of an epoch gives the order; batches are cut from it")
    words = ["c4", "1f", "9a", "e0", "07", "55", "b2", "3d"]
    order = sorted(range(8), key=words.__getitem__)
    for place, (word, sample) in enumerate(zip(words, order, strict=True)):
        x = 130 + 42 * place
        drawing.box(x - 18, 30, 36, 26)
        drawing.text(x, 48, word)
        drawing.text(x, 74, str(place), "note")
        drawing.box(
            x - 18,
            120,
            36,
            26,
            "orange empty" if place < 3 else "blue empty" if place < 6 else "orange empty",
        )
        drawing.text(x, 138, str(sample))
    for y, name in ((48, "words"), (74, "positions"), (138, "order")):
        drawing.text(14, y, name, "left" if name != "positions" else "note left")
    drawing.arrow(277, 82, 277, 112)
    drawing.text(330, 101, "sorted", "note")
    for x, name in ((172, "batch 0"), (298, "batch 1"), (403, "the last")):
        drawing.text(x, 172, name, "note")
    drawing.text(280, 196, "8 samples in batches of 3: 3, 3 and 2", "note")
    return drawing


def momentum() -> Drawing:
    """Draw the ways of plain steps and of momentum in a long valley."""
    drawing = Drawing(250, "In a long valley plain steps zigzag and crawl; momentum gathers speed")

    def place(x: float, y: float) -> Point:
        return 400 + 85 * x, 140 + 62 * y

    for level in (0.25, 0.6, 1.0):
        circle = [n * math.pi / 36 for n in range(73)]
        drawing.path(
            [
                place(4.4 * level * math.cos(t), 1.35 * level * math.sin(t))
                for t in circle
                if 4.4 * level * math.cos(t) < 0.9
            ],
            "quiet",
        )
    for mu, kind, rate in ((0.0, "blue", 0.9), (0.8, "orange", 0.25)):
        x, y, across, down = -4.2, 1.2, 0.0, 0.0
        points = [place(x, y)]
        for _ in range(14):
            across, down = mu * across + 0.1 * x, mu * down + 2 * y
            x, y = x - rate * across * 0.8, y - rate * down
            points.append(place(x, y))
        drawing.path(points, kind)
        for point in points:
            drawing.dot(*point, kind)
    drawing.text(60, 26, "plain steps", "left")
    drawing.dot(44, 21, "blue")
    drawing.text(210, 26, "momentum", "left")
    drawing.dot(194, 21, "orange")
    return drawing


def dropout() -> Drawing:
    """Draw a mask, which is the same forward and backward."""
    drawing = Drawing(210, "What is dropped forward is dropped backward; the rest is multiplied by s")
    numbers = [(7 * n * n + 3 * n + 5) % 16 for n in range(35)]
    dropped = [(n // 7, n % 7) for n, number in enumerate(numbers) if number < 5]
    kept = [(i, j) for i in range(5) for j in range(7) if (i, j) not in dropped]
    drawing.matrix(30, 50, 5, 7, "forward: A · s or 0", cell=20, kind="blue", marked=kept)
    drawing.matrix(310, 50, 5, 7, "backward: dA · s or 0", cell=20, kind="orange", marked=kept)
    drawing.text(240, 105, "same mask", "note")
    drawing.arrow(185, 115, 298, 115)
    drawing.text(240, 185, "rows are units, columns are samples; grey is dropped", "note")
    return drawing


def batch_norm() -> Drawing:
    """Draw the values of a unit before and after."""
    drawing = Drawing(220, "The values of a unit in a batch, before and after batch normalisation")
    values = [0.2, 0.7, 1.0, 1.1, 1.5, 1.6, 2.4, 2.9]
    mean = sum(values) / 8
    deviation = math.sqrt(sum((v - mean) ** 2 for v in values) / 8)
    hat = [(v - mean) / deviation for v in values]
    for y, name, points in (
        (50, "z", values),
        (110, "normal", hat),
        (170, "scaled", [0.5 * v + 1 for v in hat]),
    ):
        drawing.path([(100, y), (460, y)], "quiet")
        drawing.path([(230, y - 6), (230, y + 6)], "quiet")
        drawing.text(50, y + 5, name)
        for v in points:
            drawing.dot(230 + 70 * v, y, "blue")
        middle = 230 + 70 * sum(points) / 8
        drawing.path([(middle, y - 14), (middle, y + 14)], "orange")
    drawing.text(230, 205, "0", "note")
    drawing.text(380, 205, "orange: the mean", "note")
    return drawing


def sums() -> Drawing:
    """Draw two orders of one sum."""
    drawing = Drawing(230, "The same three numbers, added in two orders")
    a, b, c = 0.1, 0.2, 0.3
    for x, numbers, inner, outer in (
        (120, ("0.1", "0.2", "0.3"), a + b, (a + b) + c),
        (360, ("0.3", "0.2", "0.1"), b + c, a + (b + c)),
    ):
        side = 1 if x < 240 else -1
        left, middle, right = x - 60 * side, x, x + 95 * side
        for place, number in zip((left, middle, right), numbers, strict=True):
            drawing.text(place, 35, number)
        for start, end in ((left, -8), (middle, 8)):
            drawing.arrow(start, 45, (left + middle) / 2 + end * side, 85, "blue")
        drawing.text((left + middle) / 2, 106, str(inner), "note")
        drawing.arrow((left + middle) / 2, 118, x - 8 * side, 158, "orange")
        drawing.arrow(right, 45, x + 8 * side, 158, "orange")
        drawing.text(x, 182, str(outer))
    drawing.text(240, 214, "each + rounds to 53 bits", "note")
    return drawing


def draw() -> dict[str, str]:
    """Return the pictures by their names."""
    pictures = {
        "layer": layer,
        "softmax": softmax,
        "cross-entropy": cross_entropy,
        "backpropagation": backpropagation,
        "update": update,
        "epoch": epoch,
        "batches": batches,
        "momentum": momentum,
        "dropout": dropout,
        "batch-norm": batch_norm,
        "sums": sums,
    }
    return {name: picture().svg() for name, picture in pictures.items()}
