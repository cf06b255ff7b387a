"""Recognise real 433 MHz devices: nearest neighbours, SpectrumEnvelopeNet, and both together, on the same held-out files.

No file is on both sides; sessions are, as most devices were recorded in one session only (`--by session` holds whole
sessions out, where a class has several). Recall is the mean over classes with at least three files, by window and by file
(mean log-probability of its windows). The recordings are found through LTS_DATA or in ../shared/data.

Run: python benchmarks/rtl433.py [--window 4096] [--seeds 0 1 2] [--by file] [--threads 1]
"""
import argparse, os, platform, time, warnings

import numpy as np
import torch
from sklearn.neighbors import KNeighborsClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from lt_signals.core.random import setup_seed, seed_stream
from lt_signals.core.files import shared_data
from lt_signals.io.readers import open_signals
from lt_signals.data.dataloaders import build_dataloaders
from lt_signals.data.splits import Split, stratified_split
from lt_signals.evaluation.metrics import class_scores, class_tally
from lt_signals.evaluation.predictions import group_labels, predict, vote
from lt_signals.training.classifier_stages import Stage1
from lt_signals.training.learner import classifier_learner
from lt_signals.training.fit import fit_stages

AUGMENT = [{'RandomTimeShift': dict(max_shift=256, p=.5, circular=True)}, {'CarrierOffset': dict(max_offset=.44, p=.8)},
           {'PhaseRotation': {}}, {'IQSwap': dict(p=.5)}, {'RandomAmplitude': dict(scale_range=(-6, 6), db=True, p=1.)},
           {'RandomNoiseSNR': dict(snr_range=(5, 30), p=.5)}]


def hold_out(store, seed, by='file', share=1/3):
    "Test files (or sessions), drawn at random within each class, and a few windows of the others to watch the training by."
    unit = store.meta['capture' if by == 'file' else 'group'].to_numpy()
    with warnings.catch_warnings():
        warnings.simplefilter('ignore')  # a class with one file is in the training part only
        _, _, test = stratified_split(group_labels(store.labels, unit), (1 - share, 0., share), seed=seed)
    held = np.isin(unit, np.unique(unit)[test])
    train = np.flatnonzero(~held)
    watch = seed_stream(seed, 'watch').random(len(train)) < .05
    return Split(train[~watch], train[watch], np.flatnonzero(held))


def scores(probs, store, test):
    "Macro recall of windows and of files, over the classes with at least three files."
    y, file = store.labels[test], store.meta.capture.to_numpy()[test]
    all_files = group_labels(store.labels, store.meta.capture.to_numpy())
    scored = np.bincount(all_files, minlength=store.n_classes) >= 3
    votes = vote(probs.clamp_min(1e-3), file)

    def recall(guess, truth):
        tally = class_tally(torch.as_tensor(guess), torch.as_tensor(truth), store.n_classes).numpy()
        return class_scores(*tally)[1][scored & (tally[1] > 0)].mean()

    truth, guess = group_labels(y, file), votes.probs.argmax(1).numpy()
    wrong = [f'{f} as {store.classes[g]}' for f, g, t in zip(votes.groups, guess, truth) if g != t and scored[t]]
    return recall(probs.argmax(1), y), recall(guess, truth), wrong


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


def neighbours(store, split, seed, args):
    "5 nearest neighbours, weighted by distance."
    f, train = features(store.take(np.arange(len(store)))), np.concatenate(split[:2])
    knn = make_pipeline(StandardScaler(), KNeighborsClassifier(5, weights='distance'))
    knn.fit(f[train], store.labels[train])
    probs = torch.full((len(split.test), store.n_classes), 0.)
    probs[:, knn.classes_] = torch.as_tensor(knn.predict_proba(f[split.test]), dtype=torch.float32)
    return probs


def network(store, split, seed, args):
    "SpectrumEnvelopeNet with augmentation, sqrt sampling and smoothed labels."
    setup_seed(seed)
    dls = build_dataloaders(store, split=split, batch_size=64, augment=AUGMENT, seed=seed,
                            device='cpu' if args.cpu else None)
    learn = classifier_learner(dls, 'SpectrumEnvelopeNet', loss_options=dict(label_smoothing=.05))
    epochs = max(round(args.steps/len(dls.train)), 1)
    stage = Stage1(epochs=epochs, lr=2e-3, weight_decay=.02, sampler='sqrt', warmup_epochs=epochs/10, monitor='valid_loss')
    with learn.no_bar(), learn.no_logging(): fit_stages(learn, [stage], seed=seed)
    return predict(learn, dls.test).probs


methods = dict(neighbours=neighbours, network=network)


def main(args):
    folder = shared_data('rtl433')
    if folder is None: raise SystemExit('The rtl433 recordings are not here: set LTS_DATA to the folder that holds rtl433/.')
    torch.set_num_threads(args.threads)
    print(f'{os.cpu_count()} CPUs ({platform.machine()}), {torch.get_num_threads()} torch threads, '
          f'Python {platform.python_version()}, torch {torch.__version__}')
    store = open_signals(folder, window=args.window, hop=args.window//2, range_db=args.range_db,
                         sample_rate=250e3, in_memory=True)
    print(f'{store.meta.capture.nunique()} files, {store.n_classes} classes, {len(store):,} windows of '
          f'{args.window} samples ({args.window/250:.1f} ms); a third of the {args.by}s of each class held out\n')
    print(f'{"method":22}{"seed":>5}{"window recall":>15}{"file recall":>13}{"seconds":>9}')
    results = {}
    for seed in args.seeds:
        split, probs = hold_out(store, seed, args.by), {}
        for name in ('neighbours', 'network', 'mean of both'):
            t = time.perf_counter()
            probs[name] = methods[name](store, split, seed, args) if name in methods else sum(probs.values())/2
            window, file, wrong = scores(probs[name], store, split.test)
            results.setdefault(name, []).append((window, file))
            print(f'{name:22}{seed:5}{window:15.3f}{file:13.3f}{time.perf_counter() - t:9.0f}', flush=True)
            if args.verbose: print(*(f'    {w}\n' for w in wrong), sep='', end='')
    print()
    for name, r in results.items():
        (w, f), (dw, df) = np.mean(r, 0), np.std(r, 0)
        print(f'{name:22} mean{w:10.3f} ± {dw:.3f}{f:8.3f} ± {df:.3f}')


if __name__ == '__main__':
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument('--window', type=int, default=4096, help='samples a window')
    p.add_argument('--seeds', type=int, nargs='+', default=[0, 1, 2], help='seeds of split and training')
    p.add_argument('--by', choices=('file', 'session'), default='file', help='what is never on both sides')
    p.add_argument('--range_db', type=float, default=5., help='drop windows further below the strongest of their file')
    p.add_argument('--steps', type=int, default=600, help='training steps of 64 windows, about')
    p.add_argument('--threads', type=int, default=1, help='threads of torch')
    p.add_argument('--cpu', action='store_true', help='train on the CPU even where there is a GPU')
    p.add_argument('--verbose', action='store_true', help='name the files that were mistaken')
    main(p.parse_args())
