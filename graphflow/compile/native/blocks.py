"""LLVM IR of loops and branches, in one function."""

from __future__ import annotations

from collections.abc import Callable

from graphflow.compile.native.scalars import Emitter, Name


class Blocks(Emitter):
    """Appends blocks, too.

    Attributes:
      block: the label of the one that is being written, from which a `phi` comes.
      rooms: memory of the function, for its first block.
    """

    def __init__(self, contracts: bool = True) -> None:
        super().__init__(contracts)
        self.block = "entry"
        self.rooms: list[str] = []
        self._labels = 0

    def fresh_label(self, name: str) -> str:
        self._labels += 1
        return f"{name}{self._labels}"

    def begin(self, label: str) -> None:
        self.label(label)
        self.block = label

    def room(self, count: int, kind: str) -> str:
        """Memory for so many values, until the function returns."""
        name = self.fresh("room")
        self.rooms.append(f"{name} = alloca [{count} x {kind}], align 64")
        return name

    def loop(self, first: str, last: str, body: Callable[[str], None]) -> None:
        """for i in first..last: body(i)."""
        head, inside, step, done = [self.fresh_label(n) for n in ("head", "body", "next", "done")]
        index, came = self.fresh("i"), self.block
        self.line(f"br label %{head}")
        self.begin(head)
        following = self.fresh("n")
        self.line(f"{index} = phi i64 [{first}, %{came}], [{following}, %{step}]")
        more = self.emit("i1", f"icmp slt i64 {index}, {last}")
        self.line(f"br i1 {more.text}, label %{inside}, label %{done}")
        self.begin(inside)
        body(index)
        self.line(f"br label %{step}")
        self.begin(step)
        self.line(f"{following} = add nsw nuw i64 {index}, 1")
        self.line(f"br label %{head}")
        self.begin(done)

    def when(self, condition: Name, body: Callable[[], None]) -> None:
        """if condition: body()."""
        work, done = self.fresh_label("work"), self.fresh_label("done")
        self.line(f"br i1 {condition.text}, label %{work}, label %{done}")
        self.begin(work)
        body()
        self.line(f"br label %{done}")
        self.begin(done)
