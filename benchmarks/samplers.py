"""Seconds and memory for an epoch of every sampler, beside numpy's and torch's weighted draws.

Run: python benchmarks/samplers.py [--small]
"""
import argparse, platform, resource, threading, time
from pathlib import Path

import numpy as np
import torch
from torch.utils.data import WeightedRandomSampler

from lt_signals.core.counts import long_tail_counts
from lt_signals.data.samplers import make_sampler, samplers


class PeakMemory:
    "Largest resident set of the process inside the context, in GB above what it was before (Linux)."
    def __enter__(self):
        self.before = self.top = self.now()
        self.stop = threading.Event()
        self.thread = threading.Thread(target=self.watch, daemon=True)
        self.thread.start()
        return self

    def __exit__(self, *_):
        self.stop.set()
        self.thread.join()
        self.gb = (self.top - self.before)/1e9

    def now(self): return int(Path('/proc/self/statm').read_text().split()[1])*resource.getpagesize()

    def watch(self):
        while not self.stop.wait(.005): self.top = max(self.top, self.now())


def measure(f):
    "Seconds and peak GB of one call, and its result."
    with PeakMemory() as m:
        t = time.perf_counter()
        res = f()
        t = time.perf_counter() - t
    return t, m.gb, res


def make_labels(n, n_classes, ratio=1000.):
    "About `n` shuffled labels in a long tail of `n_classes`."
    counts = long_tail_counts(10**6, n_classes, ratio)
    counts = np.maximum(counts*(n/counts.sum()), 1).astype(np.int64)
    counts[0] += n - counts.sum()
    y = np.repeat(np.arange(n_classes, dtype=np.int32), counts)
    np.random.default_rng(0).shuffle(y)
    return y, counts


def numpy_choice(labels, counts):
    "What is usually written: a weight a sample, and `choice` with p."
    p = 1/counts[labels]
    return np.random.default_rng(0).choice(len(labels), len(labels), p=p/p.sum())


def torch_weighted(labels, counts):
    w = torch.from_numpy(1/counts[labels])
    try: return len(list(WeightedRandomSampler(w, 10))) and 'works'
    except RuntimeError as e: return str(e).split('\n')[0]


def main(n, n_classes):
    print(f'{platform.processor() or platform.machine()}, {torch.get_num_threads()} torch threads, '
          f'Python {platform.python_version()}, numpy {np.__version__}, torch {torch.__version__}')
    y, counts = make_labels(n, n_classes)
    print(f'{n:,} labels, {n_classes} classes of {counts.max():,} to {counts.min():,}\n')
    t_ref, gb_ref, i = measure(lambda: numpy_choice(y, counts))
    print(f'{"":32}{"s/epoch":>9}{"peak GB":>9}{"faster":>9}')
    print(f'{"numpy choice(p=1/n)":32}{t_ref:9.2f}{gb_ref:9.2f}{1:8.1f}x')
    del i
    for name in samplers:
        t0, gb0, s = measure(lambda: make_sampler(y, name, total_epochs=10))
        s.set_epoch(5)
        t, gb, i = measure(s.epoch_indices)
        error = np.abs(np.bincount(y[i], minlength=n_classes)/n - s.class_probs()).max()
        print(f'{name:32}{t:9.2f}{gb:9.2f}{t_ref/t:8.1f}x   set-up {t0:.1f} s {gb0:.2f} GB, '
              f'error of class shares {error:.1e}')
        del s, i
    print(f'\ntorch WeightedRandomSampler: {torch_weighted(y, counts)}')
    print(f'peak of the whole process: {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss/1e6:.1f} GB')


if __name__ == '__main__':
    a = argparse.ArgumentParser(description=__doc__)
    a.add_argument('--small', action='store_true', help='2 million labels')
    main(2_000_000 if a.parse_args().small else 50_000_000, 1000)
