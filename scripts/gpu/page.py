"""The page of what scripts/gpu_check.py found, finished or not."""

from typing import Any

PIXELS, PARAMETERS = 784, 784 * 10 + 10 + 10 * 10 + 10
"""Of an image, in bytes, and of the default network."""
SLOW = 4.0
"""A float64 matrix product that takes so many times as long as one in float32 is slow."""
BATCHES = (60_000, 1024, 128)
SHOWN = 20
"""Failed tests of a library."""
SPEED = (
    "Microseconds a step, 784-10-10, the median of several runs. PyTorch written by hand is eager; JAX is "
    "compiled, its products in JAX's default precision: operands of 10 bits (TF32) where the card has them."
)
FLOOR = (
    "The floor: a step reads each pixel once, a byte, and reads and writes {:,} float32 parameters, at the "
    "{:,.0f} GB/s that copying a large array on the card reads and writes."
)


def page(evidence: dict[str, Any], expected: dict[int, str], file: str) -> str:
    """Return the page."""
    about, stages = evidence["card"], evidence["stages"]
    where = evidence["environment"]
    lines = [
        f"# {about['name']}: {verdict(stages)}",
        "",
        f"By `python scripts/gpu_check.py`; all figures are in `{file}`.",
        "",
        f"- {about['memory_gib']} GiB, driver {about['driver']}, CUDA {about['cuda']}",
        f"- {where['python']}, {where['platform']}",
    ]
    for name, probe in evidence["libraries"].items():
        state = probe["version"] if probe["usable"] else f"not usable: {probe['reason']}"
        lines.append(f"- {name} {state}")
    for name, section in SECTIONS.items():
        if name in stages:
            lines += ["", f"## {name}", "", *_head(stages[name]), ""]
            lines += section(stages[name]["parts"], expected)
    return "\n".join([*lines, ""])


def verdict(stages: dict[str, Any]) -> str:
    """Return whether all stages that there are agree, and which are missing or unfinished."""
    if any(stage["failures"] for stage in stages.values()):
        return "NOT all agree"
    finished = [name for name in SECTIONS if stages.get(name, {}).get("complete")]
    return "all agree" if len(finished) == len(SECTIONS) else f"agree so far: {', '.join(finished)}"


def floor(batch: int, bandwidth: float) -> float:
    """Return the seconds that a step takes at least: pixels once, parameters read and written, in float32."""
    return (PIXELS * batch + 2 * 4 * PARAMETERS) / bandwidth


def _head(stage: dict[str, Any]) -> list[str]:
    git = stage["git"]
    commit = "unknown" if git is None else git["commit"] + " with changes" * git["dirty"]
    state = "" if stage["complete"] else "; **not finished**"
    lines = [f"{stage['date']}, commit {commit}{state}"]
    if stage["failures"]:
        lines += ["", *(f"- {failure}" for failure in stage["failures"])]
    return lines


def _fingerprints(parts: dict[str, Any], expected: dict[int, str]) -> list[str]:
    marks = sorted(expected)
    lines = [
        f"| default run | {' | '.join(f'after {epochs}' for epochs in marks)} | seconds |",
        f"|---|{'---|' * len(marks)}---:|",
    ]
    for title, part in parts.items():
        runs = {epochs: part[str(epochs)] for epochs in marks if str(epochs) in part}
        cells = [
            "-" if x not in runs else "same" if runs[x]["fingerprint"] == expected[x] else "DIFFERS"
            for x in marks
        ]
        seconds = max((run["seconds"] for run in runs.values()), default="-")
        lines.append(f"| {title} | {' | '.join(cells)} | {seconds} |")
    return lines


def _parity(parts: dict[str, Any], _: object) -> list[str]:
    return [line for part in parts.values() for line in ("```", part.get("output", "").strip("\n"), "```")]


def _speed(parts: dict[str, Any], _: object) -> list[str]:
    lines = [SPEED, "", f"| | {' | '.join(f'batch of {size:,}' for size in BATCHES)} |"]
    lines.append(f"|---|{'---:|' * len(BATCHES)}")
    for title, part in parts.items():
        for arithmetic in ("native", "reproducible", None):
            steps = [step for step in part["steps"] if step.get("arithmetic") == arithmetic]
            label = title if arithmetic is None else f"xpnet on {title}, {arithmetic}"
            if steps:
                lines.append(_row(label, {step["batch"]: step["seconds"] for step in steps}))
    widths = [part["bandwidth"] for part in parts.values() if "bandwidth" in part]
    if widths:
        lines.append(_row("floor", {size: floor(size, max(widths)) for size in BATCHES}))
        lines += ["", FLOOR.format(PARAMETERS, max(widths) / 1e9)]
    return [*lines, "", _float64_note(parts)]


def _row(title: str, times: dict[int, float]) -> str:
    cells = [f"{1e6 * times[size]:,.1f}" if size in times else "-" for size in BATCHES]
    return f"| {title} | {' | '.join(cells)} |"


def _float64_note(parts: dict[str, Any]) -> str:
    """Return what the card's float64 means for the reproducible arithmetic."""
    ratios = {name: part["products"]["ratio"] for name, part in parts.items() if "products" in part}
    if not ratios:
        return "float64: not measured."
    times = ", ".join(f"{ratio} times ({name})" for name, ratio in ratios.items())
    text = f"A float64 matrix product takes {times} as long as one in float32"
    slow = max(ratios.values()) >= SLOW
    return f"{text}{': slow, and the reproducible arithmetic needs float64' * slow}."


def _suite(parts: dict[str, Any], _: object) -> list[str]:
    lines = []
    for name, part in parts.items():
        lines.append(f"- {name}: {part.get('last_line', 'not finished')}")
        failed = [x for x in part.get("output", "").split("\n") if x.startswith(("FAILED", "ERROR"))]
        lines += [f"  - `{line}`" for line in failed[:SHOWN]]
    return lines


SECTIONS = {"fingerprints": _fingerprints, "parity": _parity, "speed": _speed, "suite": _suite}
