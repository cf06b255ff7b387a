"""Recognise real 433 MHz devices as a user does: `lts_train` on files, then `lts_predict` on others; what noise is taken for; weak windows.

A third of the files of each class is held out for the test, a tenth of the others watches the training; no file is on both sides. Recall is the
mean over classes with at least two training files. By file: one answer of the run for each held-out file (`by=recording`). By window: those that pass
the gate, by how far they are below the strongest of their file: to 5 dB (`top`), 5 to 10 (`lower`), beyond (`faint`). `rejected`: share of the
windows up to 5 dB below, of known devices, that the run calls unknown (accept=.95), and of the classes with many, medium and few training
signals; `rejected_all`: of windows of all levels. `named_…`: share of 256 windows of noise, of each shape in `noise_shapes` and three levels, that get the name of a device. The noise is
made with other seeds than the run's own.

`run`: windows down to 5 dB below the strongest train; `run, all levels`: down to 20 dB, and noise down to 0 dB is added to half of the others.
`neighbours`: 5 nearest neighbours of spectrum, amplitudes and rhythm, on the same files. The recordings are found through LTS_DATA or in
../shared/data. Rows (method, seed) that are in the results file are not computed again. Run:
  python benchmarks/rtl433.py [--methods run neighbours] [--seeds 0 1 2 3 4] [--threads 1] [--out benchmarks/rtl433.json]
"""
import argparse, tempfile, time, warnings
from pathlib import Path

warnings.simplefilter('ignore')
import numpy as np
import pandas as pd
import torch
from sklearn.neighbors import KNeighborsClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from lt_signals.core.counts import class_groups
from lt_signals.core.files import shared_data
from lt_signals.core.rows import machine_name, Rows
from lt_signals.evaluation.no_signal import make_noise, noise_shapes
from lt_signals.evaluation.predictions import vote
from lt_signals.io.readers import open_signals
from lt_signals.runs.experiment import run_experiment
from lt_signals.runs.prepare import run_loaders
from lt_signals.runs.recognizer import Recognizer
from lt_signals.tasks.config import make_run_config

WINDOW, RATE = 4096, 250e3
LEVELS = dict(top=(0, 5), lower=(5, 10), faint=(10, np.inf))  # dB below the strongest window of a file


def settings(seed, all_levels, out='experiments'):
    "Fields of `lts_train`."
    noise = (0, 30) if all_levels else (5, 30)
    return {
        'exp_name': 'rtl433', 'seed': seed, 'out_dir': out, 'progress': False, 'visualization.enabled': False,
        'data.path': str(shared_data('rtl433')), 'data.val_ratio': .1, 'data.test_ratio': 1/3,
        'data.options': dict(sample_rate=RATE, window=WINDOW, hop=WINDOW//2, range_db=20. if all_levels else 5.),
        'data.augment': [{'RandomTimeShift': dict(max_shift=256, p=.5, circular=True)}, {'CarrierOffset': dict(max_offset=.44, p=.8)},
                         {'PhaseRotation': {}}, {'IQSwap': dict(p=.5)}, {'RandomAmplitude': dict(scale_range=(-6, 6), db=True, p=1.)},
                         {'RandomNoiseSNR': dict(snr_range=noise, p=.5)}],
        'model.name': 'SpectrumEnvelopeNet', 'sampling.name': 'sqrt', 'stage2.enabled': False, 'openset.score': 'knn',
        'training.epochs': 8, 'training.weight_decay': .02, 'training.label_smoothing': .05}


def recall(truth, guess, scored):
    "Mean over the classes that are scored and there; None where none is."
    right = pd.Series(np.asarray(truth) == np.asarray(guess)).groupby(np.asarray(truth)).mean()
    right = right[[c for c in right.index if c in scored]]
    return float(right.mean()) if len(right) else None


def by_level(truth, guess, below, scored):
    "Recall of the windows at each distance below the strongest."
    at = {k: (below >= low) & (below < high) for k, (low, high) in LEVELS.items()}
    return {k: recall(truth[i], guess[i], scored) for k, i in at.items()}


class Held:
    "The held-out files of a seed, with windows of all levels."
    def __init__(self, seed, all_levels):
        self.cfg = make_run_config(settings(seed, all_levels))
        dls, _ = run_loaders(self.cfg, torch.device('cpu'))
        store, capture = dls.store, dls.store.meta['capture'].to_numpy()
        self.dls, self.counts = dls, dict(zip(store.classes, dls.class_counts))
        train = dls.train.indices
        files = pd.Series(capture[train]).groupby(store.labels[train]).nunique()
        self.scored = {store.classes[k] for k, n in files.items() if n >= 2}
        label = dict(zip(capture, np.asarray(store.classes)[store.labels]))
        self.files = {f: label[f] for f in np.unique(capture[dls.test.indices])}
        self.store = open_signals(shared_data('rtl433'), sample_rate=RATE, window=WINDOW, hop=WINDOW//2)
        at = self.store.meta['capture'].isin(self.files).to_numpy()
        self.store = self.store.subset(np.flatnonzero(at))
        self.capture = self.store.meta['capture'].to_numpy()
        level = self.store.meta['level_db']
        self.below = (level.groupby(self.capture).transform('max') - level).to_numpy()
        self.truth = np.asarray(self.store.classes)[self.store.labels]


def run(seed, all_levels, folder):
    "Train by `lts_train`'s fields; ask the run what the held-out files are."
    held = Held(seed, all_levels)
    r = Recognizer.from_run(run_experiment(settings(seed, all_levels, str(folder))).path, 'cpu')
    root = shared_data('rtl433')
    said = pd.concat([r.predict(root/f, by='recording', sample_rate=RATE).assign(file=f) for f in held.files], ignore_index=True)
    t = r.predict(held.store, by='window')
    top = held.below < 5
    group = dict(zip(held.counts, class_groups(list(held.counts.values()))))
    groups, no = np.array([str(group[c]) for c in held.truth]), t['known'].eq(False).fillna(False).to_numpy(bool)
    rejected = {f'rejected_{g}': float(no[top & (groups == g)].mean()) for g in ('many', 'medium', 'few') if (top & (groups == g)).any()}
    said_no = said['known'].eq(False).fillna(False).to_numpy(bool)
    return dict(file=recall(said.file.map(held.files), said['class'], held.scored), files_rejected=float(said_no.mean()),
                **by_level(held.truth, t['class'].to_numpy(), held.below, held.scored),
                rejected=float(no[top].mean()), rejected_all=float(no.mean()), **rejected, **noise_named(r, seed))


def noise_named(r, seed):
    "Share of windows of each shape of noise that get the name of a device."
    res = {}
    for shape in noise_shapes:
        x = make_noise(shape, 256, WINDOW, 10_000 + seed)*np.resize([.001, .03, .5], 256)[:, None]
        said = r.predict(x.astype(np.complex64), sample_rate=RATE)
        res[f'named_{shape}'] = float((said['class'].ne('no signal') & said['known'].ne(False).fillna(True)).mean())
    return res


def features(x):
    "64-band log spectrum, amplitude quantiles, on/off changes and envelope spectrum of windows (n, 2, time)."
    z = x[:, 0].numpy() + 1j*x[:, 1].numpy()
    n, length = z.shape
    power = np.abs(np.fft.fftshift(np.fft.fft(z*np.hanning(length)), axes=1))**2
    bands = np.log(power.reshape(n, 64, -1).mean(2) + 1e-6)
    a = np.abs(z).reshape(n, -1, 8).mean(2)
    q = np.quantile(a, [.05, .25, .5, .75, .95], axis=1).T
    on = a > (q[:, :1] + q[:, -1:])/2
    rhythm = np.abs(np.fft.rfft(a - a.mean(1, keepdims=True)))[:, 1:33]/(a.std(1, keepdims=True) + 1e-3)
    return np.column_stack([bands, q, a.std(1), a.mean(1), a.max(1), on.mean(1),
                            np.log1p((on[:, 1:] != on[:, :-1]).sum(1)), np.log(rhythm + .01)])


def neighbours(seed, folder):
    "5 nearest neighbours, weighted by distance, of windows to 5 dB below; votes of these make the answer for a file."
    held = Held(seed, False)
    store, train = held.dls.store, np.concatenate([held.dls.train.indices, held.dls.valid.indices])
    def of(s, i): return np.concatenate([features(s.take(j).cpu().as_subclass(torch.Tensor)) for j in np.array_split(i, len(i)//4096 + 1)])
    knn = make_pipeline(StandardScaler(), KNeighborsClassifier(5, weights='distance')).fit(of(store, train), store.labels[train])
    probs = torch.as_tensor(knn.predict_proba(of(held.store, np.arange(len(held.store)))))
    names = np.asarray(store.classes)[knn.classes_]
    top = held.below < 5
    v = vote(probs[top].clamp_min(1e-3), held.capture[top])
    truth = [held.files[f] for f in v.groups]
    return dict(file=recall(truth, names[v.probs.argmax(1)], held.scored),
                **by_level(held.truth, names[probs.argmax(1)], held.below, held.scored))


METHODS = {'run': lambda seed, folder: run(seed, False, folder), 'run, all levels': lambda seed, folder: run(seed, True, folder),
           'neighbours': neighbours}


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument('--methods', nargs='+', default=list(METHODS), choices=METHODS)
    p.add_argument('--seeds', nargs='+', type=int, default=[0, 1, 2, 3, 4], help='seeds of split and training')
    p.add_argument('--threads', type=int, default=1, help='threads of torch')
    p.add_argument('--out', default=str(Path(__file__).with_suffix('.json')))
    args = p.parse_args()
    if shared_data('rtl433') is None: raise SystemExit('The rtl433 recordings are not here: set LTS_DATA to the folder that holds rtl433/.')
    torch.set_num_threads(args.threads)
    rows = Rows(args.out, device=machine_name())
    for seed in args.seeds:
        for method in args.methods:
            if rows.find('rtl433', method, seed): continue
            t = time.perf_counter()
            with tempfile.TemporaryDirectory() as folder: scores = METHODS[method](seed, Path(folder))
            rows.add('rtl433', method, seed, scores, seconds=round(time.perf_counter() - t, 1))
            print(f'{method:16} seed {seed} ' + ' '.join(f'{k} {100*v:.1f}' for k, v in scores.items() if v is not None), flush=True)


if __name__ == '__main__': main()
