"""Machine code of the workers: how a step starts on all of them, how they meet, and how they sleep.

Who waits spins first, then lets other threads run, then sleeps: on a machine with nothing else to
do a meeting takes less than a microsecond, and on a busy one the waiting thread leaves its core
to the one that it waits for.

`sync` is an array of int64; what different threads write lies on lines of its own.
"""

from __future__ import annotations

import platform

STARTED, FINISHED, SLEEPS, ARRIVED, SENSE = 0, 16, 32, 48, 64
JOB, TABLE = 80, 81
YIELD, WAIT, POST = 112, 113, 114  # addresses of sched_yield, sem_wait, sem_post
SEMAPHORES = 128  # 16 words each, one per worker
STOP = 96
HELPERS = 63
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

_SPINS = 6000  # pauses before a helper that has nothing to do sleeps: some hundred microseconds
_PATIENCE = 3000  # pauses before one that waits within a step lets others run
_YIELDS = 300  # so often, then it sleeps; with nothing else to run that is a further 100 us

# Waiting.  `park` says that the worker sleeps, looks once more at the word that it waits for, and
# sleeps; whoever takes the flag down owns the wake-up.  It may return early: look again.
MEETING = f"""{RELAX}
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

# Workers of a step meet: the last to arrive turns the sense.
BARRIER = f"""{MEETING}
define internal void @barrier(ptr %sync, i64 %workers, i64 %worker) noinline {{
entry:
  %arrived = getelementptr i64, ptr %sync, i64 {ARRIVED}
  %sense = getelementptr i64, ptr %sync, i64 {SENSE}
  %old = load atomic i64, ptr %sense acquire, align 8
  %before = atomicrmw add ptr %arrived, i64 1 acq_rel
  %count = add i64 %before, 1
  %last = icmp eq i64 %count, %workers
  br i1 %last, label %open, label %wait
open:
  store atomic i64 0, ptr %arrived monotonic, align 8
  %turned = add i64 %old, 1
  store atomic i64 %turned, ptr %sense seq_cst, align 8
  call void @rouse(ptr %sync)
  ret void
wait:
  call void @await(ptr %sync, i64 %worker, ptr %sense, i64 %old)
  ret void
}}
"""

TEXT = f"""{MEETING}
define void @helper(ptr %sync, i64 %worker, i64 %from) {{
entry:
  %started = getelementptr i64, ptr %sync, i64 {STARTED}
  %finished = getelementptr i64, ptr %sync, i64 {FINISHED}
  %stop = getelementptr i64, ptr %sync, i64 {STOP}
  %jobs = getelementptr i64, ptr %sync, i64 {JOB}
  %tables = getelementptr i64, ptr %sync, i64 {TABLE}
  br label %idle
idle:
  %done = phi i64 [%from, %entry], [%now, %run]
  br label %spin
spin:
  %spins = phi i64 [0, %idle], [%more, %pause], [0, %sleep]
  %now = load atomic i64, ptr %started acquire, align 8
  %ended = load atomic i64, ptr %stop acquire, align 8
  %quit = icmp ne i64 %ended, 0
  br i1 %quit, label %out, label %look
look:
  %new = icmp ne i64 %now, %done
  br i1 %new, label %run, label %pause
pause:
  call void @relax()
  %more = add i64 %spins, 1
  %tired = icmp ugt i64 %more, {_SPINS}
  br i1 %tired, label %sleep, label %spin
sleep:
  call void @park(ptr %sync, i64 %worker, ptr %started, i64 %done)
  br label %spin
run:
  %job = load ptr, ptr %jobs
  %table = load ptr, ptr %tables
  call void %job(ptr %table, i64 %worker, ptr %sync)
  %count = atomicrmw add ptr %finished, i64 1 seq_cst
  call void @rouse(ptr %sync)
  br label %idle
out:
  ret void
}}

define void @wake(ptr %sync) {{
  call void @rouse(ptr %sync)
  ret void
}}

define void @start(ptr %sync, ptr %job, ptr %table, i64 %helpers) {{
entry:
  %started = getelementptr i64, ptr %sync, i64 {STARTED}
  %finished = getelementptr i64, ptr %sync, i64 {FINISHED}
  %jobs = getelementptr i64, ptr %sync, i64 {JOB}
  %tables = getelementptr i64, ptr %sync, i64 {TABLE}
  store ptr %job, ptr %jobs
  store ptr %table, ptr %tables
  store atomic i64 0, ptr %finished monotonic, align 8
  %before = atomicrmw add ptr %started, i64 1 seq_cst
  call void @rouse(ptr %sync)
  call void %job(ptr %table, i64 0, ptr %sync)
  br label %wait
wait:
  %done = load atomic i64, ptr %finished acquire, align 8
  %all = icmp eq i64 %done, %helpers
  br i1 %all, label %out, label %more
more:
  call void @await(ptr %sync, i64 0, ptr %finished, i64 %done)
  br label %wait
out:
  ret void
}}
"""
