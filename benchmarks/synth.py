"""Frames of `synth_frames`: beside vectorised scipy, and frames a second of 24 modulations at 1,024 samples.

The peer makes QAM frames of a whole batch at once: random symbols, `scipy.signal.upfirdn` with a root-raised-cosine pulse, and for the full channel a
multipath filter, carrier and phase of each frame (`oaconvolve` along the time axis), then noise. All its frames share samples per symbol, roll-off and timing,
where each of ours has its own, so it does less.

Run: python benchmarks/synth.py [--threads 1 2] [--device cpu] [--seconds 10] [--small]     --small: the peer alone, rows in benchmarks/speed.json
"""
import argparse, platform, time

import numpy as np
import torch
from scipy import signal

from lt_signals.synth.frames import BLOCK, synth_frames
from lt_signals.synth.channel import awgn_channel
from lt_signals.synth.modulations import modulations
from lt_signals.io.rml2018 import rml2018_classes
from turns import one_thread, store, take_turns


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


def rrc(sps, rolloff, span=12):
    "Taps of a root-raised-cosine pulse, float32 (span*sps + 1,)."
    t = (np.arange(span*sps + 1) - span*sps/2)/sps + 1e-6
    h = (np.sin(np.pi*t*(1 - rolloff)) + 4*rolloff*t*np.cos(np.pi*t*(1 + rolloff)))/(np.pi*t*(1 - (4*rolloff*t)**2))
    return (h/np.sqrt(sps)).astype(np.float32)


def scipy_frames(full, frames=BLOCK, length=1024, snr_db=10., side=4):
    "A function that makes QAM frames of `side`**2 points with scipy, float32 (frames, 2, length)."
    rng = np.random.default_rng(0)
    def normal(*shape): return rng.standard_normal((*shape, 2), dtype=np.float32).view(np.complex64)[..., 0]/np.float32(2**.5)
    def make():
        sps = int(rng.integers(4, 13)) if full else 8
        taps = rrc(sps, rng.uniform(.1, .4) if full else .35)
        level = np.arange(1 - side, side, 2, dtype=np.float32)/np.float32((2*(side**2 - 1)/3)**.5)
        points = level[rng.integers(0, side, (2, frames, length//sps + 14))]
        x = signal.upfirdn(taps, points[0] + 1j*points[1], sps, axis=1)
        x = x[:, 6*sps:][:, :length]
        if full:
            x = signal.oaconvolve(x, normal(frames, 6)*np.exp(-np.arange(6, dtype=np.float32)), 'full', axes=1)[:, :length]
            turn = 2*np.pi*(rng.uniform(-.005, .005, (frames, 1))*np.arange(length) + rng.random((frames, 1)))
            x = x*np.exp(1j*turn).astype(np.complex64)
        x = x/np.sqrt(np.mean(np.abs(x)**2, 1, keepdims=True)) + normal(frames, length)*np.float32(10**(-snr_db/20))
        x = x/np.sqrt(np.mean(np.abs(x)**2, 1, keepdims=True))
        return np.stack([x.real, x.imag], 1).astype(np.float32)
    return make


def beside_scipy(rounds=15):
    "Rows: 16QAM with noise alone, and through the full channel."
    one_thread()
    for label, full, channel in (('noise alone', False, awgn_channel()), ('full channel', True, None)):
        peer = scipy_frames(full)
        assert peer().shape == synth_frames('16QAM', 10., 0, BLOCK, channel=channel)[0].shape == (BLOCK, 2, 1024)
        store(f'synthesis, {BLOCK} frames of 16QAM, {label}', take_turns({
            'ours': lambda: synth_frames('16QAM', 10., 0, BLOCK, channel=channel), 'scipy, a batch at once': peer}, rounds),
            fair='scipy, a batch at once')


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
    a.add_argument('--small', action='store_true', help='beside scipy alone')
    a = a.parse_args()
    if a.small: beside_scipy()
    else: main(a.threads if a.device == 'cpu' else [1], a.device, a.seconds)
