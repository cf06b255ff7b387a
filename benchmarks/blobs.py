"""BlobDetector on synthetic wideband scenes: share of the signals found, false positives and speed, beside what one would write at first.

The plain way: scipy.signal.spectrogram, a threshold some dB over the median, a 3×3 closing, scipy.ndimage.label, bounding boxes of at
least as many cells. Both see the same scenes, windows and overlap. A signal is found when a box of its own overlaps it with IoU ≥ .3.

Run: python benchmarks/blobs.py [--scenes 256] [--hour] [--small]     --small: eight scenes in turns, a row in benchmarks/speed.json
"""
import argparse, platform, time

import numpy as np
import pandas as pd
import psutil
import torch
from scipy import ndimage, signal

from lt_signals.synth.scenes import Scenes
from lt_signals.views.boxes import detection_scores, match_boxes
from lt_signals.views.blobs import BlobDetector
from lt_signals.views.streams import Stream
from lt_signals.views.boxes import make_boxes
from turns import one_thread, store, take_turns

FS, N_FFT, HOP, CELLS, SECONDS = 1e6, 256, 128, 16, 2**18/1e6


def plain(x, over_db):
    "Boxes of one recording, complex (time,)."
    _, t, p = signal.spectrogram(x, FS, 'hann', N_FFT, N_FFT - HOP, return_onesided=False, detrend=False)
    db = 10*np.log10(np.fft.fftshift(p, 0) + 1e-30)
    labels, _ = ndimage.label(ndimage.binary_closing(db > np.median(db) + over_db, np.ones((3, 3))), np.ones((3, 3)))
    sizes = np.bincount(labels.ravel())[1:]
    return [dict(t_start=(k.start*HOP + N_FFT/2 - HOP/2)/FS, t_stop=((k.stop - 1)*HOP + N_FFT/2 + HOP/2)/FS,
                 f_low=(f.start - N_FFT/2 - .5)*FS/N_FFT, f_high=(f.stop - N_FFT/2 - .5)*FS/N_FFT)
            for (f, k), n in zip(ndimage.find_objects(labels), sizes) if n >= CELLS]


def run(scenes, n, ways, batch=8):
    "Boxes and seconds of processor time of each way, and the true boxes."
    found, seconds, known = {k: [] for k in ways}, dict.fromkeys(ways, 0.), []
    for first in range(0, n, batch):
        x, boxes = scenes.take(range(first, first + batch))
        known.append(boxes.assign(block=boxes.block + first))
        for name, way in ways.items():
            t = time.process_time()
            b = way(x)
            seconds[name] += time.process_time() - t
            found[name].append(b.assign(block=b.block + first))
    return {k: pd.concat(v, ignore_index=True) for k, v in found.items()}, seconds, pd.concat(known, ignore_index=True)


def plain_batch(over_db):
    def way(x):
        z = torch.complex(x[:, 0], x[:, 1]).numpy()
        return make_boxes([r | dict(block=i) for i, row in enumerate(z) for r in plain(row, over_db)])
    return way


def ours(x, **kwargs):
    detector = BlobDetector(n_fft=N_FFT, hop=HOP, min_cells=CELLS, **kwargs)
    return detector(detector.spectrogram(x, FS))


def table(found, seconds, known, n):
    print(f'{"":28}{"recall":>8}{"mean":>7}{"false positives per second":>40}{"samples/s of":>16}')
    print(f'{"":28}{"≥ 6 dB":>8}{"IoU":>7}{"all":>10}{"part of one":>15}{"of noise":>15}{"processor":>16}')
    for k, b in found.items():
        s = detection_scores(b, known, n*SECONDS)
        print(f'{k:28}{s["recall"]:8.3f}{s["mean_iou"]:7.2f}{s["false_per_s"]:10.2f}{s["part_per_s"]:15.2f}{s["noise_per_s"]:15.2f}'
              f'{n*2**18/seconds[k]/1e6:14.1f} M')


def by(found, known, key, label):
    "Recall in groups."
    match = match_boxes(found, known)
    got = known.assign(got=np.isin(np.arange(len(known)), match))
    got = got[got.kind == 'signal']
    groups = got.groupby(key(got), observed=True).got.agg(['mean', 'size'])
    print(f'\n{label}: ' + ', '.join(f'{k}: {m:.2f} of {n:.0f}' for k, m, n in groups.itertuples()))
    return got


def hour():
    "One hour at 250 kS/s, made of four scenes over and over, streamed through the detector."
    x, _ = Scenes(n_samples=2**22, sample_rate=250e3, duration=(.01, .5), signals=(30, 60)).take(range(4))
    x = x.movedim(1, 2).reshape(-1, 2).numpy()
    stream = Stream(lambda start, count: np.take(x, np.arange(start, start + count), 0, mode='wrap'), 3600*250_000, 250e3)
    def resident(): return psutil.Process().memory_info().rss/2**20
    before, t, marks, n = resident(), time.process_time(), {}, 0
    for i, b in enumerate(BlobDetector().stream(stream)):
        n += len(b)
        if i in (1, 10, 100, 1000): marks[i] = resident() - before
    marks[i] = resident() - before
    print(f'\none hour at 250 kS/s, {stream.n:,} samples: {n:,} boxes, {time.process_time() - t:.0f} s of processor time')
    print('resident memory beyond that before, MB: ' + ', '.join(f'{m:.1f} after block {k:,}' for k, m in marks.items()))


def small(rounds=10):
    "A row: eight scenes, from samples to boxes."
    one_thread()
    x, _ = Scenes(snr_db=(0., 30.)).take(range(8))
    peer = 'scipy spectrogram, closing and label'
    ways = {'ours': lambda: ours(x), peer: lambda: plain_batch(8)(x)}
    store('detector, 8 scenes of 2**18 samples', take_turns(ways, rounds, warm=1), fair=peer, goal=2.5)


def main(n, with_hour):
    scenes = Scenes(snr_db=(0., 30.))
    print(f'{platform.machine()}, Python {platform.python_version()}, torch {torch.__version__}, {torch.get_num_threads()} threads')
    print(f'{n} of these, {SECONDS:.3f} s each: {scenes}\n')
    ways = {'BlobDetector': ours, 'BlobDetector, 75 % overlap': lambda x: BlobDetector(hop=64)(BlobDetector(hop=64).spectrogram(x, FS)),
            **{f'plain, {k} dB': plain_batch(k) for k in (6, 8, 10, 12)}}
    found, seconds, known = run(scenes, n, ways)
    table(found, seconds, known, n)
    got = by(found['BlobDetector'], known, lambda t: pd.cut(t.snr_db, [0, 3, 6, 9, 12, 15, 20, 30]), 'BlobDetector by SNR in dB')
    strong = got[got.snr_db >= 6]
    worst = strong.groupby('label').got.agg(['mean', 'size']).sort_values('mean').head(4)
    print('worst modulations from 6 dB on: ' + ', '.join(f'{k} {m:.2f} of {c:.0f}' for k, m, c in worst.itertuples()))
    for name, kw in {'no clicks': dict(clicks=0), '200 clicks per second': dict(clicks=200),
                     'up to 60 dB': dict(snr_db=(6., 60.)), 'crowded, 15 to 25 bursts': dict(signals=(15, 25))}.items():
        f, s, k = run(Scenes(seed=1, **dict(snr_db=(0., 30.)) | kw), max(8, n//4), {'ours': ours})
        r = detection_scores(f['ours'], k, max(8, n//4)*SECONDS)
        print(f'{name:28}recall {r["recall"]:.3f}, false positives per second {r["false_per_s"]:.2f}, of them of noise {r["noise_per_s"]:.2f}')
    if with_hour: hour()


if __name__ == '__main__':
    a = argparse.ArgumentParser(description=__doc__.split('\n')[0])
    a.add_argument('--scenes', type=int, default=256, help='number of scenes, a multiple of 8')
    a.add_argument('--hour', action='store_true', help='also stream one hour through, and report its memory')
    a.add_argument('--small', action='store_true', help='beside scipy, in turns')
    a = a.parse_args()
    small() if a.small else main(a.scenes, a.hour)
