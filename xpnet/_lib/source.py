"""The digest of the package's source."""

import hashlib
from functools import cache
from pathlib import Path


@cache
def digest_source() -> str:
    """Return the SHA-256 of the package's Python files: their names and sizes, line ends as LF."""
    content, root = hashlib.sha256(), Path(__file__).resolve().parents[1]
    for name in sorted(path.relative_to(root).as_posix() for path in root.rglob("*.py")):
        text = (root / name).read_bytes().replace(b"\r\n", b"\n")
        content.update(f"{name} {len(text)}\n".encode() + text)
    return content.hexdigest()
