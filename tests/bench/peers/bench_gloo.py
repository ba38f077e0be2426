"""PyTorch's all-reduce over gloo: python bench_gloo.py WORKERS BYTES.

"run N" on standard input is answered with the median seconds of N all-reduces.
"""

import multiprocessing
import os
import statistics
import sys
import tempfile
import time


def work(rank, world, size, path, pipe):
    import torch
    import torch.distributed as dist

    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{path}", rank=rank, world_size=world)
    own = torch.randn(size // 4)
    dist.all_reduce(own)
    pipe.send("ready")
    while (count := pipe.recv()) is not None:
        times = []
        for _ in range(count):
            own.fill_(1.0)
            dist.barrier()
            start = time.perf_counter()
            dist.all_reduce(own)
            times.append(time.perf_counter() - start)
        pipe.send(statistics.median(times))
    dist.destroy_process_group()


def main():
    world, size = map(int, sys.argv[1:])
    os.environ.setdefault("GLOO_SOCKET_IFNAME", "lo")
    context = multiprocessing.get_context("spawn")
    with tempfile.TemporaryDirectory() as folder:
        pipes = []
        for rank in range(world):
            mine, theirs = context.Pipe()
            arguments = rank, world, size, f"{folder}/store", theirs
            context.Process(target=work, args=arguments, daemon=True).start()
            pipes.append(mine)
        for pipe in pipes:
            pipe.recv()
        print("ready", flush=True)
        for line in sys.stdin:
            for pipe in pipes:
                pipe.send(int(line.split()[1]))
            first, *_ = [pipe.recv() for pipe in pipes]
            print(first, flush=True)
        for pipe in pipes:
            pipe.send(None)


if __name__ == "__main__":
    main()
