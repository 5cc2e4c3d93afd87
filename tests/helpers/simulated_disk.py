"""A disk that keeps a journal, from which the states are made that a power cut may leave.

What a file or folder holds for certain is what was synced. Of later writes any part may be there, of later
names any of them, in whatever order they were made.
"""

import os
import shutil
from pathlib import Path


class Node:
    """A file or folder: bytes, or nodes by name; what of it was synced, and the changes of names since."""

    def __init__(self, content):
        self.content = content
        self.sync()

    def sync(self):
        self.synced, self.changes = self.content, []

    def put(self, changes):
        """Give names to nodes, or with None take them away, in one step."""
        self.content = {name: node for name, node in {**self.content, **changes}.items() if node}
        self.changes.append(changes)


class Disk:
    """Takes the place of ``files.change`` for all below a folder, which first holds what a node does."""

    def __init__(self, root, random, node):
        self.root, self._random, self.tree, self.lies, self.has_lied = root, random, node, False, False
        self.restart(1)

    def find(self, path):
        """Return the node of a path, or of an open file; None if there is none."""
        path = os.readlink(f"/proc/self/fd/{path}") if isinstance(path, int) else os.path.abspath(path)  # noqa: PTH100, PTH115
        node = self.tree
        for name in filter(None, path.removeprefix(f"{self.root}").split("/")):
            node = node and node.content.get(name)
        return node

    def perform(self, call, arguments, options, part=1):
        """Do what ``files.change`` is asked for, of a write only a part, and write it into the journal."""
        name, owner = call.__name__, getattr(call, "__self__", None)
        if name == "fsync":  # which a power cut alone tells from nothing
            return None if self.lies else self.find(arguments[0]).sync()
        if name == "write":
            data = arguments[0][: int(len(arguments[0]) * part)]
            self.find(owner.fileno()).content += data
            return call(data), owner.flush()
        path = owner if isinstance(owner, Path) else arguments[0]
        folder, node, result = self.find(path.parent), self.find(path), call(*arguments, **options)
        if name in ("rename", "replace"):
            folder.put({path.name: None, arguments[0].name: node})
        elif node and not os.path.lexists(path):
            self._remove(folder, path.name)
        elif not node and os.path.lexists(path):
            folder.put({path.name: Node({} if name == "mkdir" else b"")})
        return result

    def _remove(self, folder, name):
        node = folder.content.get(name)
        for each in node.content if node and isinstance(node.content, dict) else ():
            self._remove(node, each)
        folder.put({name: None})

    def restart(self, share):
        """Leave a state that the disk may be in after a power cut, with a share of what was not synced."""
        self.has_lied, self.lies = self.has_lied or self.lies, False
        shutil.rmtree(self.root / "runs", ignore_errors=True)
        self.tree = self._settle(self.tree, self.root, share)

    def _settle(self, node, path, share):
        """Return the state of a node, and write it to a path."""
        if isinstance(node.content, bytes):
            end = node.content[len(node.synced) :]
            kept = len(end) if self._random.random() < share else self._random.randrange(len(end) + 1)
            settled = node.synced + end[:kept] + bytes(self._random.choice((0, len(end) - kept)))
            path.write_bytes(settled)
            return Node(settled)
        settled = Node(node.synced)
        for change in node.changes:
            settled.put(change if self._random.random() < share else {})
        path.mkdir(exist_ok=True)
        return Node({name: self._settle(each, path / name, share) for name, each in settled.content.items()})
