"""Frames a second of `synth_frames`: 24 modulations, 1,024 samples, full channel and noise alone.

Per second of the clock, and per second of processor time, which other programs disturb less.
Run: python benchmarks/synth.py [--threads 1 2] [--device cpu] [--seconds 10]
"""
import argparse, platform, time

import numpy as np
import torch

from lt_signals.synth.frames import BLOCK, synth_frames
from lt_signals.synth.channel import awgn_channel
from lt_signals.synth.modulations import modulations
from lt_signals.io.rml2018 import rml2018_classes


def sync(device):
    if device.startswith('cuda'): torch.cuda.synchronize()


def per_frame(name, channel, device, frames, seconds):
    "Median seconds per frame of one modulation by the clock, and of the processor."
    def timed():
        t = time.perf_counter(), time.process_time()
        synth_frames(name, 10., 0, frames, channel=channel, device=device)
        sync(device)
        return time.perf_counter() - t[0], time.process_time() - t[1]
    timed(), timed()
    times, end = [], time.perf_counter() + seconds
    while time.perf_counter() < end or len(times) < 5: times.append(timed())
    return np.median(times, 0)/frames


def main(threads, device, seconds):
    frames = BLOCK if device == 'cpu' else 16*BLOCK
    what = torch.cuda.get_device_name() if device.startswith('cuda') else platform.machine()
    print(f'{what}, torch {torch.__version__}, batches of {frames} frames of 1,024 samples')
    kinds = {'all 24': rml2018_classes}
    for k in rml2018_classes: kinds.setdefault(modulations.info[k]['kind'], []).append(k)
    for n in threads:
        torch.set_num_threads(n)
        print(f'\n{f"threads: {n}":34}' + ''.join(f'{k:>10}' for k in kinds))
        for label, channel in (('full channel', None), ('noise alone', awgn_channel())):
            t = {k: per_frame(k, channel, device, frames, seconds/24) for k in rml2018_classes}
            for i, unit in enumerate(['frames/s', 'frames/s of processor']):
                row = [len(v)/sum(t[k][i] for k in v) for v in kinds.values()]
                print(f'{label + ", " + unit:34}' + ''.join(f'{r:10,.0f}' for r in row))


if __name__ == '__main__':
    a = argparse.ArgumentParser(description=__doc__.split('\n')[0])
    a.add_argument('--threads', type=int, nargs='+', default=[1, 2], help='numbers of CPU threads')
    a.add_argument('--device', default='cpu', help='cpu, cuda, …')
    a.add_argument('--seconds', type=float, default=10., help='time for a row')
    a = a.parse_args()
    main(a.threads if a.device == 'cpu' else [1], a.device, a.seconds)
