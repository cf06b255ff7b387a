"""An epoch of every sampler: beside weighted draws of torch and numpy, and seconds and memory at fifty million labels.

The peers draw as many independent samples of equal classes: torch's WeightedRandomSampler (which stops at 2**24 labels), numpy's `choice` with p, and the
two that someone who knows numpy writes: cumulated weights and `searchsorted`, and a class first, then one of its samples (of arrays prepared before).

Run: python benchmarks/samplers.py [--small]     --small: half a million labels in turns, rows in benchmarks/speed.json
"""
import argparse, platform, resource, threading, time
from pathlib import Path

import numpy as np
import torch
from torch.utils.data import WeightedRandomSampler

from lt_signals.core.counts import long_tail_counts
from lt_signals.data.samplers import make_sampler, samplers
from turns import one_thread, store, take_turns


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


def peers(labels, counts):
    "Ways to draw an epoch of equal classes, each with what it needs prepared: {name: function}."
    n, rng = len(labels), np.random.default_rng(0)
    weights = 1/counts[labels]
    p, cumulated = weights/weights.sum(), np.cumsum(weights)/weights.sum()
    by_class, start = np.argsort(labels, kind='stable'), np.r_[0, counts.cumsum()[:-1]]
    in_torch = WeightedRandomSampler(torch.from_numpy(weights), n)
    def class_first():
        c = rng.integers(0, len(counts), n)
        return by_class[start[c] + rng.integers(0, counts[c])]
    return {'torch WeightedRandomSampler': lambda: np.fromiter(in_torch, np.int64, n), 'numpy choice(p)': lambda: rng.choice(n, n, p=p),
            'numpy searchsorted': lambda: np.searchsorted(cumulated, rng.random(n)), 'numpy, a class first': class_first}


def in_turns(n=500_000, n_classes=1000, rounds=8):
    "Rows: our samplers that draw equal classes, beside the peers."
    one_thread()
    y, counts = make_labels(n, n_classes)
    for name in ('class_uniform', 'inv_freq'):
        s = make_sampler(y, name)
        store(f'sampler {name}, an epoch of {n:,}', take_turns({'ours': s.epoch_indices, **peers(y, counts)}, rounds, 1),
              fair='numpy, a class first')


def main(n, n_classes):
    print(f'{platform.processor() or platform.machine()}, {torch.get_num_threads()} torch threads, '
          f'Python {platform.python_version()}, numpy {np.__version__}, torch {torch.__version__}')
    y, counts = make_labels(n, n_classes)
    print(f'{n:,} labels, {n_classes} classes of {counts.max():,} to {counts.min():,}\n')
    print(f'{"":32}{"s/epoch":>9}{"peak GB":>9}')
    for name in samplers:
        t0, gb0, s = measure(lambda: make_sampler(y, name, total_epochs=10))
        s.set_epoch(5)
        t, gb, i = measure(s.epoch_indices)
        error = np.abs(np.bincount(y[i], minlength=n_classes)/n - s.class_probs()).max()
        print(f'{name:32}{t:9.2f}{gb:9.2f}   set-up {t0:.1f} s {gb0:.2f} GB, '
              f'error of class shares {error:.1e}')
        del s, i
    print(f'peak of the whole process: {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss/1e6:.1f} GB')


if __name__ == '__main__':
    a = argparse.ArgumentParser(description=__doc__)
    a.add_argument('--small', action='store_true', help='half a million labels, in turns with the peers')
    in_turns() if a.parse_args().small else main(50_000_000, 1000)
