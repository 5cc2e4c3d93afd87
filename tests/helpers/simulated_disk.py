"""A disk that keeps a journal, from which the states are made that a power cut may leave.

What a file or folder holds for certain is what was synced. Of later writes any part may be there, of later
names any of them, in whatever order they were made.
"""

import os
import shutil
from pathlib import Path


class File:
    """Its content, and what of it was synced."""

    def __init__(self, content=b"", synced=b""):
        self.content, self.synced = content, synced


class Folder:
    """Its files and folders by name, those that were synced, and the changes since: new ones by name."""

    def __init__(self):
        self.names, self.synced, self.changes = {}, {}, []

    def put(self, changes):
        """Give names to files and folders, or take them away, in one step."""
        for name, node in changes.items():
            self.names.pop(name, None)
            if node is not None:
                self.names[name] = node
        self.changes.append(changes)


class Disk:
    """Takes the place of ``files.change`` for all below a folder."""

    def __init__(self, root, random):
        self.root, self._random, self.lies, self.has_failed = root, random, False, False
        self.has_lied, self.tree = False, self.read(root)

    def read(self, path):
        """Return what a folder holds, as synced."""
        folder = Folder()
        for each in sorted(path.iterdir()):
            is_file = each.is_file() or each.is_symlink()
            content = each.read_bytes() if each.is_file() and not each.is_symlink() else b""
            folder.names[each.name] = File(content, content) if is_file else self.read(each)
        folder.synced = dict(folder.names)
        return folder

    def find(self, path):
        """Return the file or folder of a path, None if there is none."""
        node = self.tree
        for name in Path(path).relative_to(self.root).parts:
            node = node.names.get(name) if isinstance(node, Folder) else None
        return node

    def _find_open(self, descriptor):
        return self.find(Path(f"/proc/self/fd/{descriptor}").readlink())

    def perform(self, call, arguments, options, part=1.0):
        """Do what ``files.change`` is asked for, of a write only a part, and write it into the journal."""
        name, owner = call.__name__, getattr(call, "__self__", None)
        if name == "fsync":  # which a power cut alone tells from nothing
            return self._sync(self._find_open(arguments[0]))
        if name == "write":
            data = arguments[0][: int(len(arguments[0]) * part)]
            self._find_open(owner.fileno()).content += data
            call(data)
            return owner.flush()
        path = Path(owner if isinstance(owner, Path) else arguments[0])
        folder = self.find(path.parent)
        was_there, result = os.path.lexists(path), call(*arguments, **options)
        if name in ("open", "touch") and not was_there:
            folder.put({path.name: File()})
        if name == "mkdir":
            self._make(path)
        if name in ("rename", "replace"):
            folder.put({path.name: None, Path(arguments[0]).name: folder.names[path.name]})
        if name in ("unlink", "rmtree") and was_there and not os.path.lexists(path):
            self._remove(folder, path.name)
        return result

    def _make(self, path):
        if self.find(path) is None:
            self._make(path.parent)
            self.find(path.parent).put({path.name: Folder()})

    def _remove(self, folder, name):
        node = folder.names.get(name)
        for each in [*node.names] if isinstance(node, Folder) else ():
            self._remove(node, each)
        folder.put({name: None})

    def _sync(self, node):
        if self.lies:
            return
        if isinstance(node, Folder):
            node.synced, node.changes = dict(node.names), []
        else:
            node.synced = node.content

    def cut_power(self):
        """Leave one of the states that the disk may be in after a power cut."""
        self.has_lied |= self.lies
        self.lies = False
        for path in self.root.iterdir():
            shutil.rmtree(path) if path.is_dir() else path.unlink()
        self._settle(self.tree, self.root, self._random.choice((0.0, 0.5, 0.9, 1.0)))

    def _settle(self, folder, path, share):
        """Write a folder, with about a share of its changes."""
        names = dict(folder.synced)
        for change in folder.changes:
            if self._random.random() < share:
                for name, node in change.items():
                    names.pop(name, None)
                    if node is not None:
                        names[name] = node
        for name, node in names.items():
            if isinstance(node, Folder):
                path.joinpath(name).mkdir()
                self._settle(node, path / name, share)
            else:
                path.joinpath(name).write_bytes(self._tear(node))
        folder.names, folder.synced, folder.changes = names, dict(names), []

    def _tear(self, file):
        """Return what is left of a file: of the bytes that were not synced all, some, none, or zeros."""
        added = len(file.content) - len(file.synced)
        kept = self._random.choice((0, added, self._random.randrange(added + 1)))
        zeros = b"\0" * self._random.choice((0, added - kept))
        file.content = file.synced = file.content[: len(file.synced) + kept] + zeros
        return file.content
