"""Where the time of a full PIS run goes, beside the same run with masks made batch by batch in torch, and image by image in numpy.

A run: 3 orders x 5 percentages (and no perturbation) on synthetic constellations by ResNet-18 with heads for modulation and SNR, then all
scores with 1,000 bootstrap samples, for all samples, by modulation and by SNR. The forward passes should take 90 % of it or more. The peers rank the pixels
anew for each order and percentage, of a batch with `torch.argsort`, or of an image with `numpy.lexsort`; all feed the same network, so that what differs is
everything else, and that is what the rows compare. Times are of wall clock on a GPU, of the processor on a CPU.

Run: python benchmarks/pis.py [--size 64] [--samples 256] [--batch 64] [--device cuda] [--rounds 3] [--small]
"""
import argparse, platform, time, warnings

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
from turns import one_thread, store

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


def torch_hits(model, dl, seed=0):
    "The run with masks of whole batches, as one who knows torch writes it; accuracy of each condition."
    g, hits = torch.Generator(dl.device).manual_seed(seed), {}
    for x, *ys in dl:
        images = model.images(x)
        for order, p in [('none', 0)] + [(o, p) for o in ORDERS for p in PERCENT]:
            flat = images.flatten(1)
            lit = flat != 0
            key = dict(top=-flat, bottom=flat).get(order, torch.rand(flat.shape, generator=g, device=flat.device))
            place = torch.where(lit, key, torch.inf).argsort(1).argsort(1)
            gone = place < (lit.sum(1, keepdim=True)*p/100).round()
            with torch.inference_mode(): out = model(torch.where(gone, 0., flat).view_as(images))
            hits.setdefault((order, p), []).append(torch.stack([z.argmax(1) == y for z, y in zip(out.values(), ys)]))
    return {k: torch.cat(v, 1).float().mean(1).cpu().numpy() for k, v in hits.items()}


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument('--size', type=int, default=64, help='pixels a side')
    p.add_argument('--length', type=int, default=1024, help='samples a frame')
    p.add_argument('--samples', type=int, default=256)
    p.add_argument('--batch', type=int, default=64)
    p.add_argument('--device', default='cuda' if torch.cuda.is_available() else 'cpu')
    p.add_argument('--rounds', type=int, default=3)
    p.add_argument('--small', action='store_true', help='128 images of 32x32')
    p.add_argument('--impute', default='blackout')
    args = p.parse_args()
    if args.small: args.size, args.samples = 32, 128
    one_thread()
    on_gpu = args.device.startswith('cuda')

    def clock():
        if on_gpu: torch.cuda.synchronize()
        return time.perf_counter() if on_gpu else time.process_time()

    frames = synth_modulations(MODS, SNRS, -(-args.samples//32), args.length, awgn_channel())
    dl = SignalDL(frames.to(args.device), bs=args.batch, targets=grid_of(frames))
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
    machine = torch.cuda.get_device_name() if on_gpu else f'{platform.machine()} CPU, one thread'
    print(f'{machine}; {len(frames)} images of {args.size}x{args.size}, ResNet-18, {len(ORDERS)} orders x {len(PERCENT)} percentages')
    ways = {'ours': lambda m: full(m, args.impute), 'torch, batch by batch': lambda m: (torch_hits(m, dl), 0.),
            'numpy, image by image': lambda m: (numpy_hits(m, dl), 0.)}
    print(f'{"":30} total s  forward   draw  masks+hits  scores')
    rest = {k: [] for k in ways}
    for _ in range(args.rounds):
        for name, way in ways.items():
            total, m, (res, tables) = timed(way)
            rest[name].append(total - m.forward_s - m.draw_s - tables)
            print(f'{name:30} {total:7.2f}' + ''.join(f'{100*v/total:{w}.1f} %' for v, w in (
                (m.forward_s, 6), (m.draw_s, 5), (rest[name][-1], 9), (tables, 6))))
            if name == 'ours': pis = res
            else: assert np.allclose(res['none', 0], [pis.accuracy[t] for t in ('modulation', 'snr')], atol=1e-6)
    store(f'PIS, masks and hits, {args.impute}', {k: np.array(v) for k, v in rest.items()}, fair='torch, batch by batch', goal=1.,
          device=args.device, size=args.size)


if __name__ == '__main__': main()
