"""A disk that keeps a journal, from which the states are made that a power cut may leave.

What a file or folder holds for certain is what was synced. Of later writes any part may be there, of later
names any of them, in whatever order they were made.
"""

import os
import shutil
from pathlib import Path


class File:
    """Its content, and the beginning of it that was synced."""

    def __init__(self, content=b"", synced=b""):
        self.content, self.synced = content, synced

    def sync(self):
        self.synced = self.content


class Folder:
    """Its files and folders by name, those that were synced, and the changes since: new ones by name."""

    def __init__(self):
        self.names, self.synced, self.changes = {}, {}, []

    def sync(self):
        self.synced, self.changes = dict(self.names), []

    def put(self, changes):
        """Give names to files and folders, or with None take them away, in one step."""
        self.names = _apply(changes, self.names)
        self.changes.append(changes)


def _apply(changes, names):
    return {name: node for name, node in (names | changes).items() if node is not None}


class Disk:
    """Takes the place of ``files.change`` for all below a folder."""

    def __init__(self, root, random):
        self.root, self._random, self.tree = root, random, self.read(root)
        self.lies, self.has_lied, self.has_failed = False, False, False

    def read(self, path):
        """Return what a folder or file holds, as synced."""
        if path.is_symlink() or path.is_file():
            return File(*[b"" if path.is_symlink() else path.read_bytes()] * 2)
        folder = Folder()
        folder.put({each.name: self.read(each) for each in sorted(path.iterdir())})
        folder.sync()
        return folder

    def find(self, path):
        """Return the file or folder of a path, or of an open file; None if there is none."""
        path, node = Path(f"/proc/self/fd/{path}").readlink() if isinstance(path, int) else path, self.tree
        for name in str(path).removeprefix(f"{self.root}").split("/")[1:]:
            node = node.names.get(name) if isinstance(node, Folder) else None
        return node

    def perform(self, call, arguments, options, part=1.0):
        """Do what ``files.change`` is asked for, of a write only a part, and write it into the journal."""
        name, owner = call.__name__, getattr(call, "__self__", None)
        if name == "fsync":  # which a power cut alone tells from nothing
            return None if self.lies else self.find(arguments[0]).sync()
        if name == "write":
            data = arguments[0][: int(len(arguments[0]) * part)]
            self.find(owner.fileno()).content += data
            return call(data), owner.flush()
        path = owner if isinstance(owner, Path) else arguments[0]
        folder, was_there, result = self.find(path.parent), os.path.lexists(path), call(*arguments, **options)
        if name in ("open", "touch") and not was_there:
            folder.put({path.name: File()})
        if name == "mkdir" and not was_there:
            folder.put({path.name: Folder()})
        if name in ("rename", "replace"):
            folder.put({path.name: None, arguments[0].name: folder.names[path.name]})
        if name in ("unlink", "rmtree") and was_there and not os.path.lexists(path):
            self._remove(folder, path.name)
        return result

    def _remove(self, folder, name):
        node = folder.names.get(name)
        for each in [*node.names] if isinstance(node, Folder) else ():
            self._remove(node, each)
        folder.put({name: None})

    def cut_power(self):
        """Leave one of the states that the disk may be in after a power cut."""
        self.has_lied, self.lies = self.has_lied or self.lies, False
        shutil.rmtree(self.root)
        self._settle(self.tree, self.root, self._random.choice((0.0, 0.5, 0.9, 1.0)))

    def _settle(self, folder, path, share):
        """Write a folder, with about a share of its changes."""
        path.mkdir()
        folder.names = folder.synced
        for changes in folder.changes:
            if self._random.random() < share:
                folder.names = _apply(changes, folder.names)
        for name, node in folder.names.items():
            if isinstance(node, Folder):
                self._settle(node, path / name, share)
            else:
                path.joinpath(name).write_bytes(self._tear(node))
        folder.sync()

    def _tear(self, file):
        """Return what is left of a file: of the bytes that were not synced all, some, none, or zeros."""
        added = len(file.content) - len(file.synced)
        kept = self._random.choice((0, added, self._random.randrange(added + 1)))
        zeros = b"\0" * self._random.choice((0, added - kept))
        file.content = file.content[: len(file.synced) + kept] + zeros
        file.sync()
        return file.content
