"""The port `certmgr.scopes.ProcessView` in memory: processes and cgroups that a test arranges."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

from certmgr.scopes import Cgroup, Process, ProcessKey


@dataclass(kw_only=True)
class FakeProcesses:
    table: dict[int, Process] = field(default_factory=dict)
    cgroups: dict[str, Cgroup] = field(default_factory=dict)

    def process(self, pid: int) -> Process | None:
        return self.table.get(pid)

    def cgroup(self, path: str) -> Cgroup | None:
        return self.cgroups.get(path)

    def add(
        self,
        pid: int,
        *,
        parent: int = 1,
        session: int | None = None,
        cgroup: str | None = "/",
        start: int = 100,
    ) -> Process:
        process = Process(
            key=ProcessKey(pid, start + pid),
            parent=parent,
            session=pid if session is None else session,
            cgroup=cgroup,
        )
        self.table[pid] = process
        return process

    def add_cgroup(self, path: str, *, is_leaf: bool = True, populated: bool = True, inode: int = 7) -> None:
        self.cgroups[path] = Cgroup(path=path, inode=inode, is_leaf=is_leaf, populated=populated)

    def end(self, pid: int) -> None:
        """The process ends; its children go to init."""
        del self.table[pid]
        for child in [each for each in self.table.values() if each.parent == pid]:
            self.table[child.key.pid] = replace(child, parent=1)
