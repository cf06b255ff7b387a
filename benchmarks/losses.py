"""Forward and backward pass of each loss beside `F.cross_entropy`, at (4096, 1000) in float32.

All losses take turns, in an order drawn anew each round, so that they share the state of the memory allocator and the load
of the machine; a ratio is the median over the rounds of a loss's time over that of `F.cross_entropy` in the same round. The
second row shows how much of it is noise.

Run: python benchmarks/losses.py [--device cuda] [--threads 1] [--rounds 60]
"""
import argparse, os, platform, random, time
from statistics import median

import torch
import torch.nn.functional as F
import torchvision
from torchvision.ops import sigmoid_focal_loss

from lt_signals.losses.base import create_loss, losses

BATCH, CLASSES, LIMIT = 4096, 1000, 1.5
BASE = 'F.cross_entropy'
VARIANTS = {'ClassBalanced, focal': ('ClassBalanced', dict(base='focal')),
            'ClassBalanced, sigmoid focal': ('ClassBalanced', dict(base='sigmoid_focal'))}
# what is no cross-entropy of (adjusted) logits: sigmoids of every class, a matrix of costs, several losses at once
OTHER = ('SigmoidFocal', 'ClassBalanced, sigmoid focal', 'CostSensitiveExpected', 'Combined', 'DistancePenalizedSNR', 'OrdinalSNR',
         'torchvision focal')


def candidates(counts, y, device):
    "{name: function of the logits}"
    res = {BASE: lambda z: F.cross_entropy(z, y), f'{BASE} again': lambda z: F.cross_entropy(z, y)}
    named = {n: (n, losses.info[n].get('example', {})) for n in losses
             if not losses.info[n].get('multilabel')} | VARIANTS
    for label, (name, options) in named.items():
        loss = create_loss(name, counts, CLASSES, **options).to(device)
        loss.set_epoch(5, 10)
        res[label] = lambda z, loss=loss: loss(z, y)
    hot = F.one_hot(y, CLASSES).float()
    res['torchvision focal'] = lambda z: sigmoid_focal_loss(z, hot, reduction='sum')/len(z)
    return res


def seconds(loss, z):
    "One forward and backward pass."
    wait = torch.cuda.synchronize if z.is_cuda else lambda: None
    z = z.detach().requires_grad_()
    wait()
    start = time.perf_counter()
    loss(z).backward()
    wait()
    return time.perf_counter() - start


def main(device, rounds, threads):
    if threads: torch.set_num_threads(threads)
    rng = torch.Generator().manual_seed(0)
    z = (20*torch.rand(BATCH, CLASSES, generator=rng) - 10).to(device)
    y = torch.randint(CLASSES, (BATCH,), generator=rng).to(device)
    counts = (1000*100**-(torch.arange(CLASSES)/(CLASSES - 1))).long()
    todo = candidates(counts, y, device)
    times, order = {k: [] for k in todo}, random.Random(0)
    for k in range(rounds + 5):
        for name in order.sample([*todo], len(todo)):
            t = seconds(todo[name], z)
            if k >= 5: times[name].append(t)  # the first five rounds are warm-up

    name = torch.cuda.get_device_name(device) if z.is_cuda else f'{os.cpu_count()} CPUs ({platform.machine()})'
    print(f'{name}, {torch.get_num_threads()} torch threads, Python {platform.python_version()}, '
          f'torch {torch.__version__}, torchvision {torchvision.__version__}')
    print(f'forward and backward at ({BATCH}, {CLASSES}), float32, median of {rounds} rounds\n')
    print(f'{"loss":32}{"ms":>8}{"ratio":>8}')
    ratios = {k: median(a/b for a, b in zip(times[k], times[BASE])) for k in todo}
    for k in todo: print(f'{k:32}{1e3*median(times[k]):8.2f}{ratios[k]:8.2f}')
    worst = max((k for k in todo if k not in OTHER), key=ratios.get)
    print(f'\nclosed forms of cross-entropy (wanted: at most {LIMIT}x): at most {ratios[worst]:.2f}x, {worst}')


if __name__ == '__main__':
    a = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    a.add_argument('--device', default='cpu', help='cpu, cuda, ...')
    a.add_argument('--rounds', type=int, default=60, help='timed rounds')
    a.add_argument('--threads', type=int, default=0, help="torch threads; 0 is torch's own choice")
    main(**vars(a.parse_args()))
