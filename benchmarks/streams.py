"""An endless stream of 24 modulations through the full channel: signals a second, beside blocks of a written set, and beside a training step.

`synth_frames` makes blocks of 256 frames of one class and SNR, which is the least that these frames cost; a stream makes each signal of its own number,
mixed as batches need them, filled up to whole vectors. The step of ResNet1D on the same processor says what share of training the stream takes.
Run: python benchmarks/streams.py [--small] [--device cuda]
"""
import argparse

import numpy as np
import torch

from lt_signals.io.rml2018 import rml2018_classes
from lt_signals.models.base import create_model
from lt_signals.data.loaders import SignalDL
from lt_signals.synth.frames import synth_frames
from lt_signals.synth.streams import emitter_stream, modulation_stream
from turns import one_thread, store, take_turns


def blocks(n, device):
    "Frames of all classes in blocks, as `synth_modulations` makes them."
    for name in rml2018_classes: synth_frames(name, 10., 0, n//24, device=device)


def step(model, x, y, opt):
    "A training step."
    torch.nn.functional.cross_entropy(model(x), y).backward()
    opt.step()
    opt.zero_grad()


def main(n, rounds, device):
    one_thread()
    cuda = device != 'cpu'
    stream = modulation_stream(n_per=(max(1, n//24//26), 0, 0), device=device)
    rows, count = np.arange(len(stream)), len(stream)
    model = create_model('ResNet1D', num_classes=24, in_channels=2).to(device)
    opt = torch.optim.Adam(model.parameters(), fused=True)
    bs = 64 if not cuda else 1024
    x, y = torch.randn(bs, 2, 1024, device=device), torch.randint(0, 24, (bs,), device=device)
    messages = emitter_stream(n_max=64, imbalance_ratio=1, n_classes=4, device=device)
    def all_of(s, n):
        def go():
            for _ in SignalDL(s, np.arange(n), bs=256, shuffle=True, prefetch=0): pass
        return go
    ways = {'ours': all_of(stream, count), 'synth_frames, in blocks of a class': lambda: blocks(count, device),
            'step of ResNet1D': lambda: step(model, x, y, opt), 'emitters': all_of(messages, 256)}
    t = take_turns(ways, rounds, cuda=cuda)
    per = {'ours': count, 'synth_frames, in blocks of a class': count//24*24, 'step of ResNet1D': bs, 'emitters': 256}
    for k in t: print(f'{k:40}{per[k]/np.median(t[k]):12,.0f} signals/s')
    t = {k: v/per[k]*1000 for k, v in t.items()}  # of 1,000 signals
    store('stream, 1,000 frames of 24 modulations', {k: v for k, v in t.items() if k != 'emitters'},
          fair='synth_frames, in blocks of a class', device=device)


if __name__ == '__main__':
    a = argparse.ArgumentParser(description=__doc__.split('\n')[0])
    a.add_argument('--small', action='store_true', help='few rounds')
    a.add_argument('--device', default='cpu', help='cpu, cuda, …')
    a = a.parse_args()
    main(3072 if a.device == 'cpu' else 49_152, 5 if a.small else 15, a.device)
