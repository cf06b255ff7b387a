"""Where the time of a full PIS run goes, and the same run with masks made by numpy, image by image.

A run: 3 orders x 5 percentages (and no perturbation) on synthetic constellations by ResNet-18 with heads for modulation and SNR, then all
scores with 1,000 bootstrap samples, for all samples, by modulation and by SNR. The forward passes should take 90 % of it or more. The
per-image implementation sorts the pixels of each image with numpy, once for each order, as one would write it at first; it feeds the same
network, so that what differs is everything else. Times are of wall clock on a GPU, of the processor on a CPU.

Run: python benchmarks/pis.py [--size 64] [--samples 256] [--batch 64] [--threads N] [--device cuda]
"""
import argparse, os, platform, time, warnings

warnings.simplefilter('ignore')
import numpy as np
import torch
from torch import nn

from lt_signals.data.loaders import SignalDL
from lt_signals.synth.channel import awgn_channel
from lt_signals.synth.frame_sets import synth_modulations
from lt_signals.explain.domains import Pixels
from lt_signals.explain.measure import ORDERS, PERCENT, Probe
from lt_signals.models.multitask import create_multitask
from lt_signals.tasks.amc import grid_of

MODS, SNRS = ['BPSK', 'QPSK', '8PSK', '16QAM', '64QAM', '4ASK', 'GMSK', 'FM'], [-6., 2., 10., 18.]


class Timed(nn.Module):
    "A network, and the seconds it spends in forward passes and in drawing its images."
    def __init__(self, net, clock):
        super().__init__()
        self.net, self.clock, self.forward_s, self.draw_s, self.calls = net, clock, 0., 0., 0

    def images(self, x):
        t = self.clock()
        out = self.net.backbone.images(x)
        self.draw_s += self.clock() - t
        return out

    def forward(self, x):
        t = self.clock()
        out = self.net(x)
        self.forward_s += self.clock() - t
        self.calls += 1
        return out


def numpy_hits(model, dl, seed=0):
    "The run as one would write it: an image at a time, masks by `numpy.argsort`; accuracy of each condition."
    rng, hits = np.random.default_rng(seed), {}
    for x, *ys in dl:
        images = model.images(x).cpu().numpy()
        for order, p in [('none', 0)] + [(o, p) for o in ORDERS for p in PERCENT]:
            new = images.copy()
            for image in new:
                flat = image.reshape(-1)
                at = np.flatnonzero(flat)
                key = dict(top=-flat[at], bottom=flat[at]).get(order, 0) + 0*at
                first = np.lexsort([rng.random(len(at)), key])
                flat[at[first[:round(len(at)*p/100)]]] = 0
            with torch.inference_mode(): out = model(torch.from_numpy(new).to(x.device))
            right = [(z.argmax(1) == y).cpu().numpy() for z, y in zip(out.values(), ys)]
            hits.setdefault((order, p), []).append(np.stack(right))
    return {k: np.concatenate(v, 1).mean(1) for k, v in hits.items()}


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument('--size', type=int, default=64, help='pixels a side')
    p.add_argument('--length', type=int, default=1024, help='samples a frame')
    p.add_argument('--samples', type=int, default=256)
    p.add_argument('--batch', type=int, default=64)
    p.add_argument('--device', default='cuda' if torch.cuda.is_available() else 'cpu')
    p.add_argument('--threads', type=int, default=os.cpu_count())
    p.add_argument('--impute', nargs='+', default=['blackout', 'noisy_linear'])
    args = p.parse_args()
    torch.set_num_threads(args.threads)
    on_gpu = args.device.startswith('cuda')

    def clock():
        if on_gpu: torch.cuda.synchronize()
        return time.perf_counter() if on_gpu else time.process_time()

    store = synth_modulations(MODS, SNRS, -(-args.samples//32), args.length, awgn_channel())
    dl = SignalDL(store.to(args.device), bs=args.batch, targets=grid_of(store))
    net = create_multitask('resnet18', dict(modulation=8, snr=4), image_size=args.size).to(args.device).eval()

    def timed(f):
        "Seconds of `f(model)`, and the model that kept count."
        model = Timed(net, clock).eval()
        t = clock()
        res = f(model)
        return clock() - t, model, res

    def full(model, impute):
        pis = Probe(model, domain=Pixels(impute)).measure(dl)
        t = clock()
        for by in (None, 'modulation', 'snr'): pis.table(by)
        return pis, clock() - t

    Timed(net, clock)(next(iter(dl))[0])  # warm
    machine = torch.cuda.get_device_name() if on_gpu else f'{platform.machine()} CPU, {args.threads} thread(s)'
    print(f'{machine}; {len(store)} images of {args.size}x{args.size}, ResNet-18, {len(ORDERS)} orders x {len(PERCENT)} percentages')
    rows = {}
    for impute in args.impute:
        total, model, (pis, tables) = timed(lambda m: full(m, impute))
        rows[f'this package, {impute}'] = total, model, tables
    total, model, numpy_acc = timed(lambda m: numpy_hits(m, dl))
    rows['numpy, image by image'] = total, model, 0.
    assert np.allclose(numpy_acc['none', 0], [pis.accuracy[t] for t in ('modulation', 'snr')], atol=1e-6)
    print(f'{"":30} total s  forward   draw  masks+hits  scores')
    for name, (total, m, tables) in rows.items():
        rest = total - m.forward_s - m.draw_s - tables
        print(f'{name:30} {total:7.2f}' + ''.join(f'{100*v/total:{w}.1f} %' for v, w in (
            (m.forward_s, 6), (m.draw_s, 5), (rest, 9), (tables, 6))))
    rest = {k: t - m.forward_s - m.draw_s - s for k, (t, m, s) in rows.items()}
    ours, theirs = rest['this package, blackout'], rest['numpy, image by image']
    print(f'masking and hits: numpy takes {theirs/ours:.1f} times as long as blackout here')
    share = rows['this package, blackout'][1].forward_s/rows['this package, blackout'][0]
    print(f'forward passes: {100*share:.1f} % of the run (goal: 90 %)')


if __name__ == '__main__': main()
