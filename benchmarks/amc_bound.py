"""How well modulations can be told apart at all: the maximum-likelihood classifier in noise alone, beside a trained network.

The classes are the linear digital modulations of RML2018.01A, 16 of the 17 (OQPSK is not linear). The classifier knows gain,
phase, timing, pulse and noise level of each frame and averages over the unknown symbols, so no network can do better in noise
alone, and with offsets and multipath a network has a harder task. SNR is, as in `synth_modulations`, the power of the signal
over that of the noise in the whole sampled band: with S samples per symbol, the matched filter gains 10 log10(S) dB, and a
frame of L samples holds L/S symbols, those that its edges cut aside. S is 8 unless told otherwise, as in `awgn_channel`; the
default channel draws 4 to 12.

`--run FOLDER` puts a finished run of `lts_train task=amc` beside it: its recall at each SNR, the mean over its linear classes,
beside the limit for these classes and the length of its signals. If the run knows other modulations too, it can name these as
well, which the limit cannot.

`--store` writes rows for the page of networks: this limit, and what is left of it for a receiver that must find phase, carrier offset (to .005 cycles
a sample) and timing itself (`hybrid_bound`), which tells how much of a network's distance is its own. Finished rows are not computed again.

Run: python benchmarks/amc_bound.py [--trials 50] [--lengths 128 1024] [--sps 8] [--run FOLDER] [--threads 1]
     python benchmarks/amc_bound.py --store [--frames 20] [--small]
"""
import argparse, math, os, platform, time
from pathlib import Path

import numpy as np
import torch

from lt_signals.synth.modulations import modulations
from lt_signals.io.rml2018 import digital_classes
from lt_signals.core.rows import machine_name, Rows
from lt_signals.synth.bound import hybrid_bound, ml_bound, unknowns
from lt_signals.runs.results import load_run

SNRS = np.arange(-20, 31, 2)


def linear(names): return [n for n in names if modulations.info[n]['kind'] == 'linear']


def limit(names, snrs, length, sps, trials):
    "Accuracy and recall of 64QAM and 256QAM of the ideal classifier at each SNR; symbols per frame."
    n = max(round(length/sps), 1)
    res = ml_bound(names, np.asarray(snrs) + 10*math.log10(sps), n, max(trials*128//n, 1) if n < 128 else trials)
    return res, n


def table(heads, snrs, columns):
    "Percent, a row an SNR."
    print(f'{"SNR (dB)":>9}' + ''.join(f'{h:>{max(len(h) + 2, 9)}}' for h in heads))
    for i, snr in enumerate(snrs):
        print(f'{snr:9g}' + ''.join(f'{100*c[i]:{max(len(h) + 2, 9)}.1f}' for h, c in zip(heads, columns)))
    print(f'{"mean":>9}' + ''.join(f'{100*np.mean(c):{max(len(h) + 2, 9)}.1f}' for h, c in zip(heads, columns)))


def dense(names, res):
    "Mean recall of 64QAM and 256QAM."
    at = [names.index(n) for n in ('64QAM', '256QAM') if n in names]
    return res.confusion.diagonal(0, 1, 2)[:, at].mean(1) if at else None


def bounds(lengths, sps, trials):
    "The limit for frames of several lengths."
    names, heads, columns = linear(digital_classes), [], []
    print(f'{len(names)} linear modulations: {", ".join(names)}')
    for length in lengths:
        start = time.perf_counter()
        res, n = limit(names, SNRS, length, sps, trials)
        print(f'{length} samples are {n} symbols of {sps:g} samples ({time.perf_counter() - start:.0f} s)')
        heads += [f'{length} samples', '64/256-QAM']
        columns += [res.accuracy, dense(names, res)]
    print('\naccuracy of the ideal classifier in noise alone, and its mean recall of 64-QAM and 256-QAM, percent')
    table(heads, SNRS, columns)


def beside(folder, sps, trials, length):
    "The limit beside a run."
    results = load_run(folder)
    amc, shape = results['stages'][-1].get('amc'), results.get('shape', ())
    if not (amc and amc['modulation'] and amc['by_snr']):
        raise SystemExit(f'{folder}: not a run of task=amc that learned modulations')
    names, snrs = linear(n for n in amc['classes'] if n in modulations), amc['snr_values']
    length = length or (shape[-1] if len(shape) == 2 else None)
    if length is None: raise SystemExit(f'{folder}: trained on images; tell the length of the signals: --length 1024')
    res, n = limit(names, snrs, length, sps, trials)
    recall = np.array(amc['modulation']['recall_by_snr'], dtype=float)[[amc['classes'].index(c) for c in names]]
    heads, columns = ['limit', 'run'], [res.accuracy, recall.mean(0)]
    if (best := dense(names, res)) is not None:
        at = [names.index(c) for c in ('64QAM', '256QAM') if c in names]
        heads, columns = [*heads, 'limit QAM', 'run QAM'], [*columns, best, recall[at].mean(0)]
    print(f'\n{folder}: {len(names)} linear of {len(amc["classes"])} classes, {length} samples ({n} symbols of {sps:g})')
    print('mean recall, percent; QAM: of 64-QAM and 256-QAM')
    table(heads, snrs, columns)


KINDS = {'known': (), 'phase': unknowns[:1], 'phase, offset': unknowns[:2], 'all': unknowns}  # what the receiver is not told


def store(frames, sps, out, small):
    "Rows of the limit, told everything or less, for frames of 1,024 samples."
    names, snrs, n = linear(digital_classes), np.arange(0, 31, 4.), round(1024/sps)
    if small: names, snrs, n, frames = names[:4], snrs[:2], 32, 4
    rows = Rows(out, device=machine_name())
    for kind, unknown in KINDS.items():
        if rows.find(f'{len(names)} linear, {n} symbols', kind, 0, frames=frames): continue
        start = time.process_time()
        res = hybrid_bound(names, snrs + 10*math.log10(sps), n, frames, unknown, offset=.005*sps)
        recall = {c: [round(float(v), 4) for v in res.confusion[:, i, i]] for i, c in enumerate(names)}
        rows.add(f'{len(names)} linear, {n} symbols', kind, 0, dict(snr_db=snrs.tolist(), accuracy=res.accuracy.round(4).tolist(), recall=recall), dict(frames=frames),
                 seconds=round(time.process_time() - start, 1))
        print(f'{kind:14} ' + ' '.join(f'{s:g} dB {100*a:.1f}' for s, a in zip(snrs, res.accuracy)) + f'   {time.process_time() - start:.0f} s', flush=True)


def main(args):
    if args.threads: torch.set_num_threads(args.threads)
    print(f'{os.cpu_count()} CPUs ({platform.machine()}), {torch.get_num_threads()} torch threads, '
          f'Python {platform.python_version()}, torch {torch.__version__}; {args.trials} frames of 128 symbols '
          'a modulation and SNR, more of shorter ones')
    if args.store: store(args.frames, args.sps, args.out, args.small)
    elif args.run is None: bounds(args.lengths, args.sps, args.trials)
    else: beside(args.run, args.sps, args.trials, args.length)


if __name__ == '__main__':
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument('--lengths', type=int, nargs='+', default=[128, 1024], help='samples of a frame')
    p.add_argument('--sps', type=float, default=8., help='samples per symbol')
    p.add_argument('--trials', type=int, default=50, help='frames of 128 symbols of each modulation at each SNR')
    p.add_argument('--run', help='folder of a finished run of task=amc')
    p.add_argument('--length', type=int, help='samples of the signals of that run, where it saw images')
    p.add_argument('--store', action='store_true', help='write the rows of the page')
    p.add_argument('--frames', type=int, default=20, help='with --store: frames of each modulation at each SNR')
    p.add_argument('--small', action='store_true', help='with --store: a toy')
    p.add_argument('--out', default=str(Path(__file__).with_suffix('.json')), help='with --store: file of the rows')
    p.add_argument('--threads', type=int, default=0, help="torch threads; 0 is torch's own choice")
    main(p.parse_args())
