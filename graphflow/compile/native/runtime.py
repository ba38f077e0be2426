"""Machine code of the workers: how a step starts on all of them, and how they sleep.

`sync` is an array of int64; what different threads write lies on lines of its own.
"""

from __future__ import annotations

import platform

STARTED, FINISHED, SLEEPS = 0, 16, 32  # (48, 64: the barrier's; see module.BARRIER)
JOB, TABLE = 80, 81
YIELD, WAIT, POST = 112, 113, 114  # addresses of sched_yield, sem_wait, sem_post
SEMAPHORES = 128  # 16 words each, one per helper
STOP = 96
HELPERS = 64
WORDS = SEMAPHORES + 16 * HELPERS

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

_SPINS = 6000  # pauses before a helper sleeps: some hundred microseconds

TEXT = f"""{RELAX}
define void @helper(ptr %sync, i64 %worker, i64 %from) {{
entry:
  %started = getelementptr i64, ptr %sync, i64 {STARTED}
  %finished = getelementptr i64, ptr %sync, i64 {FINISHED}
  %sleeps = getelementptr i64, ptr %sync, i64 {SLEEPS}
  %stop = getelementptr i64, ptr %sync, i64 {STOP}
  %jobs = getelementptr i64, ptr %sync, i64 {JOB}
  %tables = getelementptr i64, ptr %sync, i64 {TABLE}
  %waits = getelementptr i64, ptr %sync, i64 {WAIT}
  %number = sub i64 %worker, 1
  %word = mul i64 %number, 16
  %at = add i64 %word, {SEMAPHORES}
  %semaphore = getelementptr i64, ptr %sync, i64 %at
  %bit = shl i64 1, %number
  %other = xor i64 %bit, -1
  br label %idle
idle:
  %done = phi i64 [%from, %entry], [%now, %run]
  br label %spin
spin:
  %spins = phi i64 [0, %idle], [%more, %pause], [0, %slept]
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
  ; say so, look once more, then sleep; whoever takes the flag down owns the wake-up
  %flags = atomicrmw or ptr %sleeps, i64 %bit seq_cst
  %again = load atomic i64, ptr %started seq_cst, align 8
  %halt = load atomic i64, ptr %stop seq_cst, align 8
  %same = icmp eq i64 %again, %done
  %goes = icmp eq i64 %halt, 0
  %still = and i1 %same, %goes
  br i1 %still, label %block, label %retract
retract:
  %before = atomicrmw and ptr %sleeps, i64 %other seq_cst
  %mine = and i64 %before, %bit
  %taken = icmp eq i64 %mine, 0
  br i1 %taken, label %block, label %slept
block:
  %wait = load ptr, ptr %waits
  call i32 %wait(ptr %semaphore)
  br label %slept
slept:
  br label %spin
run:
  %job = load ptr, ptr %jobs
  %table = load ptr, ptr %tables
  call void %job(ptr %table, i64 %worker, ptr %sync)
  %count = atomicrmw add ptr %finished, i64 1 acq_rel
  br label %idle
out:
  ret void
}}

define void @wake(ptr %sync) {{
entry:
  %sleeps = getelementptr i64, ptr %sync, i64 {SLEEPS}
  %flags = atomicrmw xchg ptr %sleeps, i64 0 seq_cst
  %posts = getelementptr i64, ptr %sync, i64 {POST}
  %post = load ptr, ptr %posts
  br label %each
each:
  %left = phi i64 [%flags, %entry], [%rest, %one]
  %none = icmp eq i64 %left, 0
  br i1 %none, label %out, label %one
one:
  %number = call i64 @llvm.cttz.i64(i64 %left, i1 true)
  %lower = sub i64 %left, 1
  %rest = and i64 %left, %lower
  %word = mul i64 %number, 16
  %at = add i64 %word, {SEMAPHORES}
  %semaphore = getelementptr i64, ptr %sync, i64 %at
  call i32 %post(ptr %semaphore)
  br label %each
out:
  ret void
}}

define void @start(ptr %sync, ptr %job, ptr %table, i64 %helpers) {{
entry:
  %started = getelementptr i64, ptr %sync, i64 {STARTED}
  %finished = getelementptr i64, ptr %sync, i64 {FINISHED}
  %sleeps = getelementptr i64, ptr %sync, i64 {SLEEPS}
  %jobs = getelementptr i64, ptr %sync, i64 {JOB}
  %tables = getelementptr i64, ptr %sync, i64 {TABLE}
  %yields = getelementptr i64, ptr %sync, i64 {YIELD}
  store ptr %job, ptr %jobs
  store ptr %table, ptr %tables
  store atomic i64 0, ptr %finished monotonic, align 8
  %before = atomicrmw add ptr %started, i64 1 seq_cst
  %flags = load atomic i64, ptr %sleeps seq_cst, align 8
  %some = icmp ne i64 %flags, 0
  br i1 %some, label %rouse, label %mine
rouse:
  call void @wake(ptr %sync)
  br label %mine
mine:
  call void %job(ptr %table, i64 0, ptr %sync)
  br label %wait
wait:
  %spins = phi i64 [0, %mine], [%more, %next]
  %done = load atomic i64, ptr %finished acquire, align 8
  %all = icmp eq i64 %done, %helpers
  br i1 %all, label %out, label %pause
pause:
  call void @relax()
  %more = add i64 %spins, 1
  %long = icmp ugt i64 %more, 3000
  br i1 %long, label %yield, label %next
yield:
  %function = load ptr, ptr %yields
  call i32 %function()
  br label %next
next:
  br label %wait
out:
  ret void
}}

declare i64 @llvm.cttz.i64(i64, i1)
"""
