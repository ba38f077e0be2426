"""Machine code of the workers: how they take shares of a step, how they meet, how they sleep.

A step is a number of phases, and each phase as many shares as a plan was cut in.  What a phase
does is ordered share by share: no share needs anything of another one in the same phase.  Each
worker takes the share of its own number first, which keeps the data in its core's cache; when
that is done it takes what others have not begun yet.  So a thread that the system keeps from
running holds up only what it has begun, and the bits of a result do not depend on who computes.

Who waits spins first, then lets other threads run, then sleeps: on a machine with nothing else to
do a meeting takes less than a microsecond, and on a busy one the waiting thread leaves its core
to the one that it waits for.

The turn of a team counts phases of all steps; it is odd while a step runs.  A share is taken by
raising its word from an earlier turn to this one.  Turns never come back, so a thread that has
slept between looking and taking takes nothing: its turn is over only when all shares are taken.

`sync` is an array of int64; what different threads write lies on lines of its own.
"""

from __future__ import annotations

import platform

TURN, DONE, SLEEPS, STOP = 0, 16, 32, 48
JOB, TABLE, BASE, END = 64, 65, 66, 67  # of the step: its code, addresses, first and last turn
YIELD, WAIT, POST = 80, 81, 82  # addresses of sched_yield, sem_wait, sem_post
HELPERS = 63
TAKEN = 96  # 16 words for each share: the last turn in which it was taken
SEMAPHORES = TAKEN + 16 * (HELPERS + 1)  # 16 words each, one per worker
WORDS = SEMAPHORES + 16 * (HELPERS + 1)

# What a spinning thread executes, so that its sibling on the core gets on.
_RELAX = {
    "x86_64": ("call void @llvm.x86.sse2.pause()", "declare void @llvm.x86.sse2.pause()"),
    "AMD64": ("call void @llvm.x86.sse2.pause()", "declare void @llvm.x86.sse2.pause()"),
    "aarch64": ("call void @llvm.aarch64.hint(i32 1)", "declare void @llvm.aarch64.hint(i32)"),
    "arm64": ("call void @llvm.aarch64.hint(i32 1)", "declare void @llvm.aarch64.hint(i32)"),
}
_call, _declaration = _RELAX.get(platform.machine(), ("", ""))
RELAX = (
    f"define internal void @relax() alwaysinline {{\n  {_call}\n  ret void\n}}\n{_declaration}\n"
)

_PATIENCE = 3000  # pauses before one that waits lets others run: a hundred microseconds
_YIELDS = 300  # so often, then it sleeps; with nothing else to run that is a further 100 us

# Waiting.  `park` says that the worker sleeps, looks once more at the word that it waits for, and
# sleeps; whoever takes the flag down owns the wake-up.  It may return early: look again.
_WAITING = f"""{RELAX}
define internal void @park(ptr %sync, i64 %worker, ptr %watched, i64 %old) noinline {{
entry:
  %sleeps = getelementptr i64, ptr %sync, i64 {SLEEPS}
  %word = mul i64 %worker, 16
  %at = add i64 %word, {SEMAPHORES}
  %semaphore = getelementptr i64, ptr %sync, i64 %at
  %bit = shl i64 1, %worker
  %other = xor i64 %bit, -1
  %flags = atomicrmw or ptr %sleeps, i64 %bit seq_cst
  %now = load atomic i64, ptr %watched seq_cst, align 8
  %same = icmp eq i64 %now, %old
  br i1 %same, label %block, label %retract
retract:
  %before = atomicrmw and ptr %sleeps, i64 %other seq_cst
  %mine = and i64 %before, %bit
  %taken = icmp eq i64 %mine, 0
  br i1 %taken, label %block, label %out
block:
  %waits = getelementptr i64, ptr %sync, i64 {WAIT}
  %wait = load ptr, ptr %waits
  %result = call i32 %wait(ptr %semaphore)
  br label %out
out:
  ret void
}}

define internal void @rouse(ptr %sync) {{
entry:
  %sleeps = getelementptr i64, ptr %sync, i64 {SLEEPS}
  %some = load atomic i64, ptr %sleeps seq_cst, align 8
  %any = icmp ne i64 %some, 0
  br i1 %any, label %take, label %out
take:
  %flags = atomicrmw xchg ptr %sleeps, i64 0 seq_cst
  %posts = getelementptr i64, ptr %sync, i64 {POST}
  %post = load ptr, ptr %posts
  br label %each
each:
  %left = phi i64 [%flags, %take], [%rest, %one]
  %none = icmp eq i64 %left, 0
  br i1 %none, label %out, label %one
one:
  %number = call i64 @llvm.cttz.i64(i64 %left, i1 true)
  %lower = sub i64 %left, 1
  %rest = and i64 %left, %lower
  %word = mul i64 %number, 16
  %at = add i64 %word, {SEMAPHORES}
  %semaphore = getelementptr i64, ptr %sync, i64 %at
  %result = call i32 %post(ptr %semaphore)
  br label %each
out:
  ret void
}}

declare i64 @llvm.cttz.i64(i64, i1)

; until the word is another one than `old`
define internal void @await(ptr %sync, i64 %worker, ptr %watched, i64 %old) noinline {{
entry:
  br label %look
look:
  %spins = phi i64 [0, %entry], [%more, %again], [0, %asleep]
  %now = load atomic i64, ptr %watched acquire, align 8
  %same = icmp eq i64 %now, %old
  br i1 %same, label %pause, label %out
pause:
  call void @relax()
  %more = add i64 %spins, 1
  %long = icmp ugt i64 %more, {_PATIENCE}
  br i1 %long, label %yield, label %again
yield:
  %longer = icmp ugt i64 %more, {_PATIENCE + _YIELDS}
  br i1 %longer, label %asleep, label %let
let:
  %at = getelementptr i64, ptr %sync, i64 {YIELD}
  %function = load ptr, ptr %at
  %result = call i32 %function()
  br label %again
asleep:
  call void @park(ptr %sync, i64 %worker, ptr %watched, i64 %old)
  br label %look
again:
  br label %look
out:
  ret void
}}
"""


# Words of `sync` by name, at the start of a function.
def _words(**names: int) -> str:
    return "\n".join(f"  %{n} = getelementptr i64, ptr %sync, i64 {at}" for n, at in names.items())


TEXT = f"""{_WAITING}
; take shares of the turn until none is left: one's own first, then those that follow
define internal void @work(ptr %sync, i64 %worker, i64 %workers, i64 %now) {{
entry:
{_words(turn=TURN, done=DONE, jobs=JOB, tables=TABLE, bases=BASE, ends=END)}
  br label %look
look:
  %tried = phi i64 [0, %entry], [%more, %next]
  %sum = add i64 %worker, %tried
  %share = urem i64 %sum, %workers
  %word = mul i64 %share, 16
  %at = add i64 %word, {TAKEN}
  %taken = getelementptr i64, ptr %sync, i64 %at
  %before = load atomic i64, ptr %taken acquire, align 8
  %free = icmp slt i64 %before, %now
  br i1 %free, label %take, label %next
take:
  %pair = cmpxchg ptr %taken, i64 %before, i64 %now acq_rel acquire
  %mine = extractvalue {{ i64, i1 }} %pair, 1
  br i1 %mine, label %run, label %next
run:
  %job = load ptr, ptr %jobs
  %table = load ptr, ptr %tables
  %base = load i64, ptr %bases
  %passed = sub i64 %now, %base
  %phase = lshr i64 %passed, 1
  call void %job(ptr %table, i64 %share, i64 %phase)
  %end = load i64, ptr %ends
  %old = atomicrmw add ptr %done, i64 1 acq_rel
  %count = add i64 %old, 1
  %last = icmp eq i64 %count, %workers
  br i1 %last, label %advance, label %next
advance:
  store atomic i64 0, ptr %done monotonic, align 8
  %over = icmp eq i64 %now, %end
  %step = select i1 %over, i64 1, i64 2
  %then = add i64 %now, %step
  store atomic i64 %then, ptr %turn seq_cst, align 8
  call void @rouse(ptr %sync)
  br label %out
next:
  %more = add i64 %tried, 1
  %left = icmp slt i64 %more, %workers
  br i1 %left, label %look, label %out
out:
  ret void
}}

define void @helper(ptr %sync, i64 %worker, i64 %workers) {{
entry:
{_words(turn=TURN, stop=STOP)}
  br label %look
look:
  %now = load atomic i64, ptr %turn acquire, align 8
  %ended = load atomic i64, ptr %stop acquire, align 8
  %quit = icmp ne i64 %ended, 0
  br i1 %quit, label %out, label %begun
begun:
  %odd = trunc i64 %now to i1
  br i1 %odd, label %help, label %wait
help:
  call void @work(ptr %sync, i64 %worker, i64 %workers, i64 %now)
  br label %wait
wait:
  call void @await(ptr %sync, i64 %worker, ptr %turn, i64 %now)
  br label %look
out:
  ret void
}}

define void @start(ptr %sync, ptr %job, ptr %table, i64 %phases, i64 %workers) {{
entry:
{_words(turn=TURN, jobs=JOB, tables=TABLE, bases=BASE, ends=END)}
  %before = load atomic i64, ptr %turn acquire, align 8
  %first = add i64 %before, 1
  %twice = mul i64 %phases, 2
  %beyond = add i64 %before, %twice
  %end = sub i64 %beyond, 1
  store ptr %job, ptr %jobs
  store ptr %table, ptr %tables
  store i64 %first, ptr %bases
  store i64 %end, ptr %ends
  store atomic i64 %first, ptr %turn seq_cst, align 8
  call void @rouse(ptr %sync)
  br label %look
look:
  %now = load atomic i64, ptr %turn acquire, align 8
  %odd = trunc i64 %now to i1
  br i1 %odd, label %run, label %out
run:
  call void @work(ptr %sync, i64 0, i64 %workers, i64 %now)
  call void @await(ptr %sync, i64 0, ptr %turn, i64 %now)
  br label %look
out:
  ret void
}}

; let all who sleep look again
define void @wake(ptr %sync) {{
entry:
{_words(turn=TURN)}
  %before = atomicrmw add ptr %turn, i64 2 seq_cst
  call void @rouse(ptr %sync)
  ret void
}}
"""
