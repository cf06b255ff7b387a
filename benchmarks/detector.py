"""F1 of a detector of signals against the number of labelled crops, comparing (phase 1) and classifying (phase 2), over seeds; and what both cost.

Crops are the blobs that a low threshold finds in synthetic wideband scenes: bursts of many modulations from 3 to 30 dB, false alarms of noise, clicks,
steady carriers and sweeps; one signal to ten others, in training and in the test. The labels of a smaller number are part of those of the next larger
one. Every seed has scenes of its own, for training and (others again) for the test; threshold and epoch are chosen on a fifth of the labels, where that
holds two signals or more. Latency: from a crop to its score, one crop at a time and 256 at a time, in the same process.

With `--recordings`, a folder of raw recordings of devices (a folder a device; `labels.csv` with the columns path and capture tells the session of each
file), the crops are those of the recordings, labelled by `energy_labels`. Half of the files, or of the sessions, are for training, the others for the test.

Finished (data, labels, phase, seed) are kept in the results file and not run again. Run:
  python benchmarks/detector.py [--labels 25 50 ...] [--phases siamese direct] [--seeds 0 1 2] [--out benchmarks/detector.json]
  python benchmarks/detector.py --recordings FOLDER --sample-rate 250e3 [--hold-out files sessions] --labels 25 100 500
"""
import argparse, os, time, warnings
from functools import cache
from itertools import product
from pathlib import Path

warnings.simplefilter('ignore')
import numpy as np
import pandas as pd
import torch

from lt_signals.core.random import seed_stream
from lt_signals.core.rows import machine_name, Rows
from lt_signals.views.crops import CropStore, energy_labels
from lt_signals.views.streams import find_crops
from lt_signals.synth.scene_crops import scene_crops
from lt_signals.data.splits import stratified_split
from lt_signals.synth.scenes import Scenes
from lt_signals.views.blobs import BlobDetector
from lt_signals.views.streams import open_streams
from lt_signals.tasks.detector import train_detector

LABELS = [25, 50, 100, 250, 500, 1000]
OTHERS = 10  # crops without signal for each signal


def make_crops(seed, part, n_signals):
    "Labelled crops with at least so many signals, and `OTHERS` times as many others."
    scenes = Scenes(clicks=100., sweeps=(1, 4), tones=(0, 3), seed=1000*seed + part)
    stores, count = [], np.zeros(2, int)
    while (count < [OTHERS*n_signals, n_signals]).any():
        stores.append(scene_crops(scenes, range(4*len(stores), 4*len(stores) + 4)))
        count += stores[-1].class_counts
    crops = torch.cat([s.take(np.arange(len(s))) for s in stores])
    return CropStore(crops, np.concatenate([s.labels for s in stores]), meta=pd.concat([s.meta for s in stores], ignore_index=True))


@cache
def read_crops(folder, sample_rate):
    "Crops of recordings, labelled by their energy; `meta.session` where `labels.csv` tells it."
    store = find_crops(open_streams(folder, sample_rate=sample_rate), BlobDetector(gap_time=.02, floor='bin'))
    meta = store.meta.assign(kind='noise', files=store.meta.capture)
    if (table := Path(folder)/'labels.csv').exists():
        meta['sessions'] = pd.read_csv(table).set_index('path').capture[meta.capture].to_numpy()
    labels = energy_labels(meta)
    return CropStore(store.take(np.arange(len(store))), labels, meta=meta).subset(np.flatnonzero(labels >= 0))


def halves(args, seed, hold_out):
    "Crops to train on, and crops to test on."
    if hold_out is None:
        most = round(max(args.labels)/(OTHERS + 1)) + 1
        pool, test = make_crops(seed, 0, most), make_crops(seed, 1, args.test_signals)
        return pool, test.subset(draw(test.labels, args.test_signals*(OTHERS + 1), seed, 1))
    store = read_crops(args.recordings, args.sample_rate)
    split = stratified_split(store.labels, (.5, 0, .5), store.meta[hold_out].to_numpy(), seed)
    return store.subset(split.train), store.subset(split.test)


def draw(y, n, seed, part):
    "`n` crops, one signal to `OTHERS` others; of a larger `n`, those of a smaller one and more."
    rng = seed_stream(seed, 'labels', part)
    signal, other = (rng.permutation(np.flatnonzero(y == k)) for k in (1, 0))
    k = round(n/(OTHERS + 1))
    return np.r_[signal[:k], other[:n - k]]


def latency(detector, x):
    "Milliseconds for one crop, and for each of 256, from crops to scores; the least of some tries, so that other programs count little."
    def least(crops, times):
        detector.score(crops)
        took = []
        for _ in range(times):
            t = time.perf_counter()
            detector.score(crops)
            took.append(time.perf_counter() - t)
        return 1e3*min(took)
    return dict(one_ms=round(least(x[:1], 100), 3), each_of_256_ms=round(least(x[:256], 10)/256, 4))


def run_seed(seed, args, hold_out, rows):
    "Yield a row for every number of labels and phase that has none yet."
    data = f'{Path(args.recordings).name}, {hold_out} held out' if hold_out else 'scenes'
    todo = [(n, p) for n in args.labels for p in args.phases if not rows.find(data, p, seed, labels=n)]
    if not todo: return
    pool, test = halves(args, seed, hold_out)
    test_x, kind = test.take(np.arange(len(test))), test.meta.kind.to_numpy()
    for n, phase in todo:
        labelled, cpu, t = pool.subset(draw(pool.labels, n, seed, 0)), time.process_time(), time.perf_counter()
        detector = train_detector(labelled, phase=phase, seed=seed, device=args.device, **(dict(epochs=args.epochs) if args.epochs else {}))
        took = dict(seconds=round(time.perf_counter() - t, 1), cpu_seconds=round(time.process_time() - cpu, 1))
        scores, report = detector.evaluate(test), detector.report['phases'][phase]
        false = kind[(test.labels == 0) & (detector.score(test_x) >= detector.threshold)]
        scores = {k: round(v, 4) for k, v in scores.items()}
        tested = {k: scores.pop(k) for k in ('n', 'n_signals')}
        scores |= dict(false_alarms={str(k): int((false == k).sum()) for k in sorted(set(false))}, valid_f1=round(report['f1'], 4), **latency(detector, test_x))
        print(f'{data}, seed {seed} {n:5} labels {phase:8} F1 {100*scores["f1"]:5.1f}  precision {100*scores["precision"]:5.1f}  '
              f'recall {100*scores["recall"]:5.1f}  AP {100*scores["average_precision"]:5.1f}   one crop {scores["one_ms"]:.2f} ms   {took["seconds"]:.0f} s', flush=True)
        yield dict(data=data, method=phase, seed=seed, settings=dict(labels=n), scores=scores, signals=int(labelled.class_counts[1]), **tested,
                   threshold=round(detector.threshold, 4), held_out=detector.report['held_out'], epochs=len(report['history']),
                   best_epoch=report['best_epoch'], **took)


def table(rows):
    "Mean F1 (and its spread) by number of labels and phase, and the latencies side by side."
    lines = ['| crops | labels | ' + ' | '.join(f'{p}: F1 | one crop, ms | each of 256, ms' for p in ('siamese', 'direct')) + ' |', '|---|---:|' + '---:|'*6]
    for data, n in sorted({(r['data'], r['settings']['labels']) for r in rows}):
        cells = []
        for p in ('siamese', 'direct'):
            mine = [r['scores'] for r in rows if (r['data'], r['settings']['labels'], r['method']) == (data, n, p)]
            f1 = [100*r['f1'] for r in mine]
            cells += [f'{np.mean(f1):.1f} ± {np.std(f1):.1f}', *(f'{np.mean([r[k] for r in mine]):.3g}' for k in ('one_ms', 'each_of_256_ms'))] if mine else ['–']*3
        lines.append(f'| {data} | {n} | ' + ' | '.join(cells) + ' |')
    return '\n'.join(lines)


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument('--labels', nargs='+', type=int, default=LABELS)
    p.add_argument('--phases', nargs='+', default=['siamese', 'direct'], choices=['siamese', 'direct'])
    p.add_argument('--seeds', nargs='+', type=int, default=[0, 1, 2])
    p.add_argument('--test-signals', type=int, default=200)
    p.add_argument('--recordings', help='folder of raw recordings, instead of scenes')
    p.add_argument('--sample-rate', type=float, default=250e3, help='of the recordings, Hz')
    p.add_argument('--hold-out', nargs='+', default=['files'], choices=['files', 'sessions'], help='what of the recordings is held out')
    p.add_argument('--epochs', type=int, help='fewer than by default, to try the script')
    p.add_argument('--out', default=str(Path(__file__).with_suffix('.json')))
    p.add_argument('--device', default='cuda' if torch.cuda.is_available() else 'cpu')
    p.add_argument('--threads', type=int, default=os.cpu_count())
    args = p.parse_args()
    torch.set_num_threads(args.threads)
    rows = Rows(args.out, device=machine_name(args.device))
    for seed, hold_out in product(args.seeds, args.hold_out if args.recordings else [None]):
        for r in run_seed(seed, args, hold_out, rows): rows.add(**r)
    print(table(rows))


if __name__ == '__main__': main()
